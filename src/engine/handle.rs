//! Owns the engine's handle: loading, the bounded way in, the answer, and the end.

use super::batch::{Answer, Request, Row};
use super::load::{self, Export, Loaded, Standing};
use super::queue::{Budget, Queue};
use super::rows::{self, OnePass};
use super::{Error, Needs, Passes, Reading, Settings, device, model};
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
    /// Logits of a position, at least `size`: models may have more than their tokenizer has ids. Batches are kept small by it.
    pub width: usize,
    /// Tokens of the longest row, specials included; `usize::MAX` for no bound.
    pub max_positions: usize,
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
    /// Of all passes that ended well: tokens of their rows, padding left out, and the time they took.
    row_tokens: AtomicU64,
    run_nanos: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::new(State { queue: Queue::default(), closing: false, gone: None }),
            changed: Condvar::new(),
            permits: Arc::new(Semaphore::new(ROWS_WAITING_MAX as usize)),
            passes: AtomicU64::new(0),
            row_tokens: AtomicU64::new(0),
            run_nanos: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A forward pass has ended, well or not.
    pub(super) fn count_pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    /// A forward pass over rows of `tokens` tokens has taken `spent`.
    pub(super) fn count_run(&self, tokens: usize, spent: Duration) {
        self.row_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.run_nanos.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
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
    /// Files that the manifest names, if there is one.
    verified: Option<usize>,
    standing: Standing,
    budget: Budget,
    width: usize,
}

impl Engine {
    /// Checks the model's files, loads them onto the device and runs a worst-case batch, so that a model that is too large
    /// fails here. Blocks for as long as that takes (seconds).
    ///
    /// `needs` says what readings hold besides log-probabilities.
    ///
    /// `export.rewrite` gets the bytes of `model.onnx` and returns the same model with inputs `mask_index` (int64 `[M,2]`: row,
    /// position) and `target_ids` (int64 `[M]`), and the output `logprob` (float32 `[M]`) in place of the logits; for
    /// [`Needs::ranks`] also `rank` (int32 `[M]`), `entropy` and `max_logprob`, for [`Needs::odds`] also `log_odds` (float32
    /// `[M]`). If it can't, or if what it returned reads a random batch differently, beyond `export.tolerance_nats`, the model
    /// runs as it is, and a warning says why.
    ///
    /// # Errors
    /// The library or the device is absent, a file is missing, damaged or not a masked language model, or memory is too small.
    pub fn load<R>(settings: &Settings, vocabulary: Vocabulary, needs: Needs, export: Export<R>) -> Result<Self, Error>
    where
        R: FnOnce(Vec<u8>) -> Result<Vec<u8>, String> + Send + 'static,
    {
        let verified = model::verify(&settings.path, &settings.manifest_sha256)?;
        let fingerprint = model::fingerprint(&settings.path, &export.weights)?;
        let (settings, known) = (settings.clone(), vocabulary.clone());
        let mut engine = Self::start(move || load::load(&settings, &known, needs, export), vocabulary, fingerprint)?;
        engine.verified = verified;
        Ok(engine)
    }

    /// As [`Engine::load`], for a model that is read in one pass, by [`Engine::read`]: the graph of `model.onnx`, or `graph` in its place, whose
    /// weights lie in the same files. `weights` and `tolerance` are those of [`Export`]; the tolerance is relative to values above 1.
    ///
    /// # Errors
    /// As [`Engine::load`], and where the graph's output does not have the shape of `pass`.
    pub fn load_one_pass(
        settings: &Settings,
        vocabulary: Vocabulary,
        pass: OnePass,
        graph: Option<Vec<u8>>,
        weights: &[String],
        tolerance: f64,
    ) -> Result<Self, Error> {
        let verified = model::verify(&settings.path, &settings.manifest_sha256)?;
        let fingerprint = model::fingerprint(&settings.path, weights)?;
        let (settings, known) = (settings.clone(), vocabulary.clone());
        let load = move || rows::load(&settings, &known, pass, graph, tolerance);
        let mut engine = Self::start(load, vocabulary, fingerprint)?;
        engine.verified = verified;
        Ok(engine)
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
            Ok(Loaded { mut runner, standing, budget, width }) => {
                let _ = ready.send(Ok((standing, budget, width)));
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
        let (standing, budget, width) =
            loaded.recv().map_err(|_| Error::Gone { why: "its thread panicked while loading".to_owned() })??;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            finished,
            vocabulary,
            fingerprint,
            verified: None,
            standing,
            budget,
            width,
        })
    }

    /// What is read at the scored positions of `passes`, for the ids that the window has there; pass by pass, in order.
    ///
    /// Waits for a place in the queue, then for the device. Cancel-safe: dropping the future takes its rows back; a batch that
    /// already runs is finished and its scores are dropped.
    ///
    /// # Errors
    /// [`Error::Row`] if the device fails on one of these rows alone; [`Error::Gone`] if it has stopped.
    pub async fn score(&self, passes: Passes) -> Result<Vec<Reading>, Error> {
        Ok(self.answer(passes).await?.readings)
    }

    /// Of a model that is read in one pass: [`Engine::width`] values for each scored position of `passes`, in order.
    ///
    /// # Errors
    /// As [`Engine::score`].
    pub async fn read(&self, passes: Passes) -> Result<Vec<f32>, Error> {
        Ok(self.answer(passes).await?.values)
    }

    /// Values for each scored position: labels of a classifier, numbers of an embedding. 0 for a masked language model.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    async fn answer(&self, mut passes: Passes) -> Result<Answer, Error> {
        passes.check(self.vocabulary.max_positions)?;
        passes.split(self.budget.positions);
        if passes.count() == 0 {
            return Ok(Answer::default());
        }
        let rows = u32::try_from(passes.count()).unwrap_or(ROWS_WAITING_MAX).min(ROWS_WAITING_MAX);
        let Ok(permits) = Arc::clone(&self.shared.permits).acquire_many_owned(rows).await else {
            return Err(gone(&self.shared.lock()));
        };
        let (reply, answer) = oneshot::channel();
        let request = Request::new(passes, reply, permits);
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

    /// Seconds that the device has taken for a token of a row, on average since the start, padding left out; `None` before its first pass.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a mean of large counts")]
    pub fn seconds_a_row_token(&self) -> Option<f64> {
        let tokens = self.shared.row_tokens.load(Ordering::Relaxed);
        let nanos = self.shared.run_nanos.load(Ordering::Relaxed);
        (tokens > 0).then(|| nanos as f64 / 1e9 / tokens as f64)
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

    /// blake3 of the model's graph and weights, those in files of their own included.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// What runs the model: `cpu` or `cuda`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.standing.provider
    }

    /// Where log-probabilities are picked: `hoisted`, within the model and at scored positions only, or `full`, from all logits.
    #[must_use]
    pub fn head(&self) -> &'static str {
        self.standing.head
    }

    /// How many files were found to be as the manifest says; absent without a manifest.
    #[must_use]
    pub fn verified_files(&self) -> Option<usize> {
        self.verified
    }

    /// How the model runs, and why so.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
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
        let budget = Budget { tokens: budget, positions: usize::MAX, batch_cost: 20 };
        let runner = device::Runner::Scripted(script);
        let standing = Standing {
            provider: "cpu",
            head: "full",
            difference_nats: None,
            exact_nats: None,
            why_full: None,
            company_nats: None,
            padded: true,
            batch_tokens: budget.tokens,
            batch_positions: budget.tokens,
            batch_cost_tokens: budget.batch_cost,
        };
        let loaded = Loaded { runner, standing, budget, width: 0 };
        Self::start(move || Ok(loaded), vocabulary, [0; 32]).unwrap()
    }
}
