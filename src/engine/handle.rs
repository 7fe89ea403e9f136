//! Owns the engine's handle: loading, the bounded way in, the answer, and the end.

use super::batch::{Request, Row};
use super::load::{self, Loaded};
use super::onnx::Head;
use super::queue::{Budget, Queue};
use super::{Error, Settings, device, model};
use crate::telemetry::metrics;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};

/// Rows that may wait for the device; callers with more wait outside.
const ROWS_WAITING_MAX: u32 = 8192;
/// What the engine must know of the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Replaces a masked position.
    pub mask_id: u32,
    /// Fills rows up to the longest.
    pub pad_id: u32,
    /// One more than the greatest id that rows hold.
    pub size: usize,
    /// Tokens of the longest row, specials included; `usize::MAX` for no bound.
    pub max_positions: usize,
}

/// A window and the rows to make of it.
#[derive(Debug, Clone)]
pub struct Passes {
    /// The window's ids, wrapped in its special tokens, `[T]`.
    pub ids: Arc<[u32]>,
    /// One row for each group: its positions in `ids` are masked together, and scored. No group may be empty.
    pub groups: Vec<Vec<u32>>,
}

/// The queue's state, shared by callers and the device's thread.
struct State {
    queue: Queue,
    /// No new rows; waiting ones are still run.
    closing: bool,
    /// Nothing runs any more, and why.
    gone: Option<String>,
}

/// What callers and the device's thread share.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    permits: Arc<Semaphore>,
    passes: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::new(State { queue: Queue::default(), closing: false, gone: None }),
            changed: Condvar::new(),
            permits: Arc::new(Semaphore::new(ROWS_WAITING_MAX as usize)),
            passes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A forward pass has ended, well or not.
    pub(super) fn count_pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks until there is a batch; `None` once closed and drained, or gone.
    pub(super) fn next_batch(&self, budget: Budget) -> Option<Vec<Row>> {
        let mut state = self.lock();
        loop {
            if state.gone.is_some() {
                return None;
            }
            if let Some(rows) = state.queue.take(budget) {
                metrics::device_backlog(state.queue.rows());
                return Some(rows);
            }
            if state.closing {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, request: Arc<Request>) -> Result<u64, Error> {
        let mut state = self.lock();
        if state.closing || state.gone.is_some() {
            return Err(gone(&state));
        }
        let ticket = state.queue.push(request);
        metrics::device_backlog(state.queue.rows());
        self.changed.notify_one();
        Ok(ticket)
    }

    fn close(&self) {
        self.permits.close();
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Drops all rows: whoever waits for one is told that the engine is gone.
    fn end(&self, why: &str) {
        self.permits.close();
        let mut state = self.lock();
        state.gone.get_or_insert_with(|| why.to_owned());
        state.queue.clear();
        self.changed.notify_all();
    }
}

fn gone(state: &State) -> Error {
    Error::Gone { why: state.gone.clone().unwrap_or_else(|| "it is closed".to_owned()) }
}

/// Tells everybody that the device's thread has ended, also when it ends by a panic.
struct EndOfThread {
    shared: Arc<Shared>,
    why: String,
    /// Its drop is the signal.
    _finished: watch::Sender<()>,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.shared.end(&self.why);
    }
}

/// Takes a request's rows back when its caller goes away.
struct Withdraw<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.withdraw(self.ticket);
    }
}

/// A loaded model on its device. Dropping it abandons what waits; [`Engine::close`] drains first.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    finished: watch::Receiver<()>,
    vocabulary: Vocabulary,
    fingerprint: [u8; 32],
    provider: &'static str,
    head: Head,
}

impl Engine {
    /// Checks the model's files, loads them onto the device and runs a worst-case batch, so that a model that is too large
    /// fails here. Blocks for as long as that takes (seconds).
    ///
    /// `rewrite` gets the bytes of `model.onnx` and returns the same model with inputs `mask_index` (int64 `[M,2]`: row,
    /// position) and `target_ids` (int64 `[M]`), and the output `logprob` (float32 `[M]`) in place of the logits. If it can't,
    /// or if what it returned scores a random batch differently, the model runs as it is, and a warning says why.
    ///
    /// # Errors
    /// The library or the device is absent, a file is missing, damaged or not a masked language model, or memory is too small.
    pub fn load<R>(settings: &Settings, vocabulary: Vocabulary, rewrite: R) -> Result<Self, Error>
    where
        R: FnOnce(Vec<u8>) -> Result<Vec<u8>, String> + Send + 'static,
    {
        model::verify(&settings.path)?;
        let fingerprint = model::fingerprint(&settings.path)?;
        let (settings, known) = (settings.clone(), vocabulary.clone());
        Self::start(move || load::load(&settings, &known, rewrite), vocabulary, fingerprint)
    }

    /// Starts the device's thread, which owns what `load` makes, and waits until it is ready.
    fn start<L>(load: L, vocabulary: Vocabulary, fingerprint: [u8; 32]) -> Result<Self, Error>
    where
        L: FnOnce() -> Result<Loaded, Error> + Send + 'static,
    {
        let shared = Arc::new(Shared::new());
        let (finish, finished) = watch::channel(());
        let (ready, loaded) = sync_channel(1);
        let end = EndOfThread { shared: Arc::clone(&shared), why: "its thread panicked".to_owned(), _finished: finish };
        let known = vocabulary.clone();
        let body = move || match load() {
            Err(error) => {
                let _ = ready.send(Err(error));
            }
            Ok(Loaded { mut runner, provider, head, budget }) => {
                let _ = ready.send(Ok((provider, head)));
                let mut end = end;
                end.why = device::serve(&end.shared, &mut runner, &known, budget)
                    .err()
                    .unwrap_or_else(|| "it is closed".to_owned());
            }
        };
        let thread = std::thread::Builder::new()
            .name("tamis-device".to_owned())
            .spawn(body)
            .map_err(|error| Error::Thread { why: error.to_string() })?;
        let (provider, head) =
            loaded.recv().map_err(|_| Error::Gone { why: "its thread panicked while loading".to_owned() })??;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), finished, vocabulary, fingerprint, provider, head })
    }

    /// Log-probabilities (nats, at most 0) of the original ids at the masked positions, group by group, in order.
    ///
    /// Waits for a place in the queue, then for the device. Cancel-safe: dropping the future takes its rows back; a batch that
    /// already runs is finished and its scores are dropped.
    ///
    /// # Errors
    /// [`Error::Row`] if the device fails on one of these rows alone; [`Error::Gone`] if it has stopped.
    pub async fn score(&self, passes: Passes) -> Result<Vec<f64>, Error> {
        self.check(&passes)?;
        if passes.groups.is_empty() {
            return Ok(Vec::new());
        }
        let rows = u32::try_from(passes.groups.len()).unwrap_or(ROWS_WAITING_MAX).min(ROWS_WAITING_MAX);
        let Ok(permits) = Arc::clone(&self.shared.permits).acquire_many_owned(rows).await else {
            return Err(gone(&self.shared.lock()));
        };
        let (reply, answer) = oneshot::channel();
        let request = Request::new(passes.ids, passes.groups, reply, permits);
        let ticket = self.shared.push(Arc::new(request))?;
        let _withdraw = Withdraw { shared: &self.shared, ticket };
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.why_gone().await),
        }
    }

    /// Why rows were dropped unanswered. A panicking thread drops its rows just before it can say that it ends.
    async fn why_gone(&self) -> Error {
        if self.gone().is_none() {
            let _ = self.finished.clone().changed().await;
        }
        gone(&self.shared.lock())
    }

    fn check(&self, passes: &Passes) -> Result<(), Error> {
        let tokens = passes.ids.len();
        let why = if tokens > self.vocabulary.max_positions {
            format!("{tokens} tokens, but the model has {} positions", self.vocabulary.max_positions)
        } else if passes.groups.iter().any(Vec::is_empty) {
            "an empty group".to_owned()
        } else if passes.groups.iter().flatten().any(|position| *position as usize >= tokens) {
            "a position outside the row".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Request { why })
    }

    /// Refuses new rows, runs the waiting ones, and joins the device's thread within `deadline`. Idempotent.
    ///
    /// # Errors
    /// [`Error::CloseDeadline`]: waiting rows were dropped, and the thread ends by itself after its present batch.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.shared.close();
        let mut finished = self.finished.clone();
        if tokio::time::timeout(deadline, finished.changed()).await.is_err() {
            self.shared.end("it was closed before it could finish");
            return Err(Error::CloseDeadline { seconds: deadline.as_secs() });
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        Ok(())
    }

    /// Why nothing can be scored any more, if so.
    #[must_use]
    pub fn gone(&self) -> Option<String> {
        self.shared.lock().gone.clone()
    }

    /// Forward passes that have ended since the start: while rows wait and this stands still, the device is stuck.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.shared.passes.load(Ordering::Relaxed)
    }

    /// blake3 of the model's graph and weights.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// What runs the model: `cpu` or `cuda`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Where log-probabilities are picked: `hoisted`, within the model and at masked positions only, or `full`, from all logits.
    #[must_use]
    pub fn head(&self) -> &'static str {
        self.head.as_str()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.end("it was dropped");
    }
}

#[cfg(test)]
impl Engine {
    /// An engine whose device does what `script` says.
    pub(super) fn scripted(script: device::Script, vocabulary: Vocabulary, budget: usize) -> Self {
        let budget = Budget { tokens: budget, positions: usize::MAX };
        let runner = device::Runner::Scripted(script);
        let loaded = Loaded { runner, provider: "cpu", head: Head::Full, budget };
        Self::start(move || Ok(loaded), vocabulary, [0; 32]).unwrap()
    }
}
