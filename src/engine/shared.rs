//! Owns what callers and the devices' threads share: the one queue, its way in, who holds a batch of it, and the counts.
//!
//! Each device has two threads and holds at most two batches: one that runs, and one that was drawn ahead. Drawn ahead is only what would
//! make a full batch now, with a full one left for every device that has nothing; else the rows wait, because rows that come meanwhile
//! may join them. A device that holds nothing takes what there is.

use super::Error;
use super::batch::{Request, Row};
use super::queue::{Budget, Queue};
use crate::telemetry::metrics;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Rows that may wait for the devices; callers with more wait outside.
pub(super) const ROWS_WAITING_MAX: u32 = 8192;

/// The queue's state.
struct State {
    queue: Queue,
    /// Batches that each device has drawn and not yet run.
    held: Vec<usize>,
    /// No new rows; waiting ones are still run.
    closing: bool,
    /// Nothing runs any more, and why.
    gone: Option<String>,
    /// Threads that have not ended.
    threads: usize,
}

impl State {
    /// The next batch for this device, which then holds it; `None` if there is none for it now.
    fn draw(&mut self, device: usize, budget: Budget) -> Option<Vec<Row>> {
        let idle = self.held.iter().filter(|held| **held == 0).count();
        let held = self.held.get_mut(device)?;
        let ahead = *held > 0;
        if ahead && self.queue.tokens() < budget.tokens.saturating_mul(idle + 1) {
            return None;
        }
        let rows = self.queue.take(budget)?;
        *held += 1;
        Some(rows)
    }
}

/// What one device has done since the start.
#[derive(Default)]
struct Tally {
    /// Forward passes that have ended, well or not.
    passes: AtomicU64,
    /// Of those that ended well: tokens of their rows, padding left out, and the time they took.
    row_tokens: AtomicU64,
    run_nanos: AtomicU64,
}

/// What callers and the devices' threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub(super) permits: Arc<Semaphore>,
    tallies: Vec<Tally>,
}

impl Shared {
    /// For so many devices, and so many threads in all.
    pub(super) fn new(devices: usize, threads: usize) -> Self {
        let state = State { queue: Queue::default(), held: vec![0; devices], closing: false, gone: None, threads };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            permits: Arc::new(Semaphore::new(ROWS_WAITING_MAX as usize)),
            tallies: (0..devices).map(|_| Tally::default()).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A forward pass of a device has ended, well or not.
    pub(super) fn count_pass(&self, device: usize) {
        if let Some(tally) = self.tallies.get(device) {
            tally.passes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A forward pass of a device over rows of `tokens` tokens has taken `spent`.
    pub(super) fn count_run(&self, device: usize, tokens: usize, spent: Duration) {
        if let Some(tally) = self.tallies.get(device) {
            tally.row_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
            tally.run_nanos.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Forward passes of each device.
    pub(super) fn passes(&self) -> impl Iterator<Item = u64> + '_ {
        self.tallies.iter().map(|tally| tally.passes.load(Ordering::Relaxed))
    }

    /// Time inside each device's run.
    pub(super) fn busy(&self) -> impl Iterator<Item = Duration> + '_ {
        self.tallies.iter().map(|tally| Duration::from_nanos(tally.run_nanos.load(Ordering::Relaxed)))
    }

    /// Tokens of all rows that were run.
    pub(super) fn row_tokens(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.row_tokens.load(Ordering::Relaxed)).sum()
    }

    /// Blocks until this device has a batch, and holds it until [`Shared::release`]; `None` once closed and drained, or gone.
    pub(super) fn next_batch(&self, device: usize, budget: Budget) -> Option<Vec<Row>> {
        let mut state = self.lock();
        loop {
            if state.gone.is_some() {
                return None;
            }
            if let Some(rows) = state.draw(device, budget) {
                metrics::device_backlog(state.queue.rows());
                return Some(rows);
            }
            if state.closing && state.queue.rows() == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The device no longer holds one of its batches.
    pub(super) fn release(&self, device: usize) {
        if let Some(held) = self.lock().held.get_mut(device) {
            *held = held.saturating_sub(1);
        }
        self.changed.notify_all();
    }

    /// Adds a request that has at least one pass; the ticket withdraws it.
    pub(super) fn push(&self, request: Arc<Request>) -> Result<u64, Error> {
        let mut state = self.lock();
        if state.closing || state.gone.is_some() {
            return Err(gone(&state));
        }
        let ticket = state.queue.push(request);
        metrics::device_backlog(state.queue.rows());
        // Whom it concerns depends on what they hold, so all are woken: two threads a device.
        self.changed.notify_all();
        Ok(ticket)
    }

    /// Takes back what is left of a request.
    pub(super) fn withdraw(&self, ticket: u64) {
        self.lock().queue.withdraw(ticket);
    }

    /// Refuses new rows; waiting ones are still run.
    pub(super) fn close(&self) {
        self.permits.close();
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Drops all rows: whoever waits for one is told that the engine is gone. The first reason stays.
    pub(super) fn end(&self, why: &str) {
        self.permits.close();
        let mut state = self.lock();
        state.gone.get_or_insert_with(|| why.to_owned());
        state.queue.clear();
        self.changed.notify_all();
    }

    /// A thread has ended: after a failure nothing runs any more, else nothing does once all have ended.
    pub(super) fn leave(&self, failure: Option<&str>) {
        let left = {
            let mut state = self.lock();
            state.threads = state.threads.saturating_sub(1);
            state.threads
        };
        match failure {
            Some(why) => self.end(why),
            None if left == 0 => self.end("it is closed"),
            None => {}
        }
    }

    /// Why nothing can be scored any more, if so.
    pub(super) fn gone(&self) -> Option<String> {
        self.lock().gone.clone()
    }

    /// The same as an error.
    pub(super) fn refusal(&self) -> Error {
        gone(&self.lock())
    }
}

fn gone(state: &State) -> Error {
    Error::Gone { why: state.gone.clone().unwrap_or_else(|| "it is closed".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;

    const BUDGET: Budget = Budget { tokens: 100, positions: usize::MAX, batch_cost: 0 };

    /// As many rows of ten tokens as `rows` say wait for so many devices.
    fn waiting(devices: usize, rows: usize) -> State {
        let mut state =
            State { queue: Queue::default(), held: vec![0; devices], closing: false, gone: None, threads: 0 };
        state.queue.push(request(10, rows));
        state
    }

    fn drawn(state: &mut State, device: usize) -> Option<usize> {
        state.draw(device, BUDGET).map(|rows| rows.len())
    }

    #[test]
    fn a_batch_is_drawn_ahead_only_where_it_is_full() {
        let mut state = waiting(1, 29);
        assert_eq!((drawn(&mut state, 0), drawn(&mut state, 0)), (Some(10), Some(10)));
        assert_eq!(drawn(&mut state, 0), None, "rows that come meanwhile may join the nine");
        state.held[0] = 0;
        assert_eq!(drawn(&mut state, 0), Some(9), "a device that has nothing takes what there is");
    }

    #[test]
    fn nothing_is_drawn_ahead_that_another_device_could_run_now() {
        let mut state = waiting(2, 29);
        assert_eq!(drawn(&mut state, 0), Some(10));
        assert_eq!(drawn(&mut state, 0), None, "one batch and nine rows are left, and the other device has nothing");
        assert_eq!((drawn(&mut state, 1), drawn(&mut state, 0)), (Some(10), None));
        state.held[1] = 0;
        assert_eq!(drawn(&mut state, 1), Some(9));
    }
}
