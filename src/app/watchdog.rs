//! Owns the watchdog: a thread that ends the process when documents are in flight and nothing moves.
//!
//! Progress is a forward pass, a verdict, a delivery, a change of partitions. Invariants: nothing in flight is no stall; time in which this thread
//! itself did not run (the machine slept, the process was stopped) counts for a moment only, so that waking up is no stall either; a thread and
//! not a task, because the runtime may be what hangs.

use super::assemble::facts;
use super::failure::Failure;
use super::stop;
use crate::cli::Exit;
use crate::scorer::Model;
use crate::telemetry::Board;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const LONGEST_TICK: Duration = Duration::from_secs(1);

/// The running watchdog; it ends when this is dropped.
pub(super) struct Watchdog {
    /// Its drop is the signal.
    _alive: SyncSender<()>,
}

impl Watchdog {
    /// Watches from now on. `stall_exit_ms` is the longest standstill; 0: none is too long, yet the board still hears of the device's progress.
    pub(super) fn start(board: Board, models: Vec<Arc<Model>>, stall_exit_ms: u64) -> Result<Self, Failure> {
        let (alive, ended) = sync_channel(1);
        let longest = (stall_exit_ms > 0).then(|| Duration::from_millis(stall_exit_ms));
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watch(&board, &models, longest, &ended))
            .map_err(|error| Failure::new(Exit::Unavailable, format!("could not start a thread: {error}")))?;
        Ok(Self { _alive: alive })
    }
}

fn watch(board: &Board, models: &[Arc<Model>], longest: Option<Duration>, ended: &Receiver<()>) {
    let tick = longest.map_or(LONGEST_TICK, |longest| (longest / 4).clamp(Duration::from_millis(1), LONGEST_TICK));
    let mut quiet = Quiet::default();
    let mut passes = 0;
    let mut before = Instant::now();
    while ended.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let now_passes = models.iter().map(|model| model.passes()).sum();
        if passes != now_passes {
            passes = now_passes;
            board.touch_progress();
            board.set_models(facts(models.iter().map(Arc::as_ref)));
        }
        let (in_flight, mark) = board.pulse();
        let since = before.elapsed().min(tick * 2);
        before = Instant::now();
        let stalled = quiet.note(in_flight, mark, since);
        if longest.is_some_and(|longest| stalled > longest) {
            let seconds = stalled.as_secs();
            tracing::error!(
                in_flight,
                seconds,
                "documents are in flight and nothing has moved, ending so that a fresh start can help"
            );
            stop::end(Exit::Unavailable);
        }
    }
}

/// How long nothing has moved.
#[derive(Debug, Default)]
struct Quiet {
    mark: u64,
    lasted: Duration,
}

impl Quiet {
    /// Notes what is seen `since` the last look; says for how long nothing has moved.
    fn note(&mut self, in_flight: usize, mark: u64, since: Duration) -> Duration {
        if in_flight == 0 || mark != self.mark {
            *self = Self { mark, lasted: Duration::ZERO };
        } else {
            self.lasted += since;
        }
        self.lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_documents_that_do_not_move_make_a_stall() {
        let mut quiet = Quiet::default();
        for _ in 0..100 {
            assert_eq!(quiet.note(0, 7, SECOND), Duration::ZERO, "an idle topic");
        }
        for mark in 0..100 {
            assert_eq!(quiet.note(3, 1_000 + mark, SECOND), Duration::ZERO, "a long document whose rows move");
        }
        assert_eq!(quiet.note(3, 1_099, SECOND), SECOND);
        assert_eq!(quiet.note(3, 1_099, SECOND), 2 * SECOND);
        assert_eq!(quiet.note(0, 1_099, SECOND), Duration::ZERO, "what stood still is gone");
    }
}
