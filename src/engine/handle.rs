//! Owns the engine's handle: loading, the bounded way in, the answer, and the end.

use super::batch::{Batch, Request, Row};
use super::device::{self, Runner};
use super::onnx::Onnx;
use super::queue::Queue;
use super::{Error, Settings, model};
use crate::telemetry::metrics;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};

/// Rows that may wait for the device; callers with more wait outside.
const ROWS_WAITING_MAX: u32 = 8192;
/// The logits of one batch may take at most this much memory; a wide vocabulary lowers the token budget accordingly.
const LOGITS_BYTES_MAX: usize = 1 << 30;
/// The longest row tried at load where the model sets no bound.
const WARM_UP_TOKENS_MAX: usize = 512;

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

impl Vocabulary {
    /// `rows` rows of `tokens` tokens of the greatest id, the first one masked and scored: a graph too narrow for the
    /// vocabulary fails on it.
    pub(super) fn probe(&self, rows: usize, tokens: usize) -> Batch {
        let (reply, _) = oneshot::channel();
        let Ok(permits) = Arc::new(Semaphore::new(1)).try_acquire_many_owned(0) else {
            return Batch::compose(&[], 0, 0);
        };
        let last = u32::try_from(self.size.saturating_sub(1)).unwrap_or(self.mask_id);
        let request = Arc::new(Request::new(vec![last; tokens].into(), vec![vec![0]], reply, permits));
        Batch::compose(&vec![Row { request, group: 0 }; rows], self.mask_id, self.pad_id)
    }
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
    budget: usize,
}

impl Shared {
    fn new(budget: usize) -> Self {
        Self {
            state: Mutex::new(State { queue: Queue::default(), closing: false, gone: None }),
            changed: Condvar::new(),
            permits: Arc::new(Semaphore::new(ROWS_WAITING_MAX as usize)),
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is a batch; `None` once closed and drained, or gone.
    pub(super) fn next_batch(&self) -> Option<Vec<Row>> {
        let mut state = self.lock();
        loop {
            if state.gone.is_some() {
                return None;
            }
            if let Some(rows) = state.queue.take(self.budget) {
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
}

impl Engine {
    /// Checks the model's files, loads them onto the device and runs a worst-case batch, so that a model that is too large
    /// fails here. Blocks for as long as that takes (seconds).
    ///
    /// # Errors
    /// The library or the device is absent, a file is missing, damaged or not a masked language model, or memory is too small.
    pub fn load(settings: &Settings, vocabulary: Vocabulary) -> Result<Self, Error> {
        model::verify(&settings.path)?;
        let fingerprint = model::fingerprint(&settings.path)?;
        let budget = settings.budget_tokens.max(1).min(LOGITS_BYTES_MAX / (4 * vocabulary.size.max(1)));
        let settings = settings.clone();
        let known = vocabulary.clone();
        let load = move || {
            let onnx = Onnx::load(&settings, known.size)?;
            let provider = onnx.provider();
            metrics::device_provider(provider);
            let mut runner = Runner::Onnx(Box::new(onnx));
            let misfit = |why| Error::Model {
                path: settings.path.join(model::GRAPH),
                why: format!("can't score a single token ({why}); do tokenizer and model belong together?"),
            };
            runner.score(&known.probe(1, 1)).map_err(|failure| misfit(failure.why))?;
            warm_up(&mut runner, &known, budget)?;
            Ok((runner, provider))
        };
        Self::start(load, vocabulary, budget, fingerprint)
    }

    /// Starts the device's thread, which owns what `load` makes, and waits until it is ready.
    fn start<L>(load: L, vocabulary: Vocabulary, budget: usize, fingerprint: [u8; 32]) -> Result<Self, Error>
    where
        L: FnOnce() -> Result<(Runner, &'static str), Error> + Send + 'static,
    {
        let shared = Arc::new(Shared::new(budget));
        let (finish, finished) = watch::channel(());
        let (ready, loaded) = sync_channel(1);
        let end = EndOfThread { shared: Arc::clone(&shared), why: "its thread panicked".to_owned(), _finished: finish };
        let known = vocabulary.clone();
        let body = move || match load() {
            Err(error) => {
                let _ = ready.send(Err(error));
            }
            Ok((mut runner, provider)) => {
                let _ = ready.send(Ok(provider));
                let mut end = end;
                end.why =
                    device::serve(&end.shared, &mut runner, &known).err().unwrap_or_else(|| "it is closed".to_owned());
            }
        };
        let thread = std::thread::Builder::new()
            .name("tamis-device".to_owned())
            .spawn(body)
            .map_err(|error| Error::Thread { why: error.to_string() })?;
        let provider =
            loaded.recv().map_err(|_| Error::Gone { why: "its thread panicked while loading".to_owned() })??;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), finished, vocabulary, fingerprint, provider })
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
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.end("it was dropped");
    }
}

/// Runs the widest and the tallest batch that the budget allows.
fn warm_up(runner: &mut Runner, vocabulary: &Vocabulary, budget: usize) -> Result<(), Error> {
    let longest = vocabulary.max_positions.clamp(1, WARM_UP_TOKENS_MAX);
    for tokens in [longest.min(16), longest] {
        let rows = (budget / tokens).max(1);
        let scored = runner.score(&vocabulary.probe(rows, tokens));
        let wrong = |why: String| Err(Error::WarmUp { rows, tokens, why });
        match scored {
            Err(failure) => return wrong(failure.why),
            Ok(scored) if scored.log_probabilities.iter().any(|score| !score.is_finite()) => {
                return wrong("its log-probabilities are not finite numbers".to_owned());
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
impl Engine {
    /// An engine whose device does what `script` says.
    pub(super) fn scripted(script: device::Script, vocabulary: Vocabulary, budget: usize) -> Self {
        Self::start(move || Ok((Runner::Scripted(script), "cpu")), vocabulary, budget, [0; 32]).unwrap()
    }
}
