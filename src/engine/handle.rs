//! Owns the engine's handle: loading, the bounded way in, the answer, and the end.

use super::batch::{Answer, Request};
use super::load::{self, Export, Loaded, Standing};
#[cfg(test)]
use super::queue::Budget;
use super::rows::{self, OnePass};
use super::shared::{ROWS_WAITING_MAX, Shared};
use super::{Error, Needs, Passes, Reading, Settings, device, devices, heap, model};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Threads of each device: one runs a batch, the other answers for the last one and prepares the next.
const HANDS: usize = 2;

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

/// Tells everybody that a device's thread has ended, also when it ends by a panic.
struct EndOfThread {
    shared: Arc<Shared>,
    failure: Option<String>,
    /// A message says that one thread has ended; it is closed once all have.
    finished: watch::Sender<()>,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.shared.leave(self.failure.as_deref());
        let _ = self.finished.send(());
    }
}

/// Takes a request's rows back when its caller goes away.
struct Withdraw<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.shared.withdraw(self.ticket);
    }
}

/// A loaded model on its devices. Dropping it abandons what waits; [`Engine::close`] drains first.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    finished: watch::Receiver<()>,
    vocabulary: Vocabulary,
    fingerprint: [u8; 32],
    /// Files that the manifest names, if there is one.
    verified: Option<usize>,
    /// Of each device, its name and how the model runs there; at least one.
    devices: Vec<(String, Standing)>,
    standing: Standing,
    /// The most scored positions of a row that every device takes.
    positions: usize,
    width: usize,
}

/// What one device of a model has done since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// As in the settings; a second one of the same name is `cpu#2`.
    pub device: String,
    /// What runs the model there: `cpu` or `cuda`.
    pub provider: &'static str,
    /// Forward passes that have ended, well or not.
    pub passes: u64,
    /// Time inside the device's run, of passes that ended well.
    pub busy: Duration,
}

impl Engine {
    /// Checks the model's files, loads them onto the devices, one after the other, and runs a worst-case batch on each, so that a model
    /// that is too large fails here. Blocks for as long as that takes (seconds a device).
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
        R: FnOnce(Vec<u8>) -> Result<Vec<u8>, String> + Clone,
    {
        let verified = model::verify(&settings.path, &settings.manifest_sha256)?;
        let fingerprint = model::fingerprint(&settings.path, &export.weights)?;
        let loaded = devices::each(settings, |one| load::load(one, &vocabulary, needs, export.clone()))?;
        Self::start(loaded, vocabulary, fingerprint, verified)
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
        let loaded = devices::each(settings, |one| rows::load(one, &vocabulary, pass, graph.as_deref(), tolerance))?;
        drop(graph);
        Self::start(loaded, vocabulary, fingerprint, verified)
    }

    /// Starts the threads of each device.
    fn start(
        loaded: Vec<(String, Loaded)>,
        vocabulary: Vocabulary,
        fingerprint: [u8; 32],
        verified: Option<usize>,
    ) -> Result<Self, Error> {
        heap::Mapping::Serving.set();
        let shared = Arc::new(Shared::new(loaded.len(), loaded.len() * HANDS));
        let (finish, finished) = watch::channel(());
        let (mut threads, mut devices) = (Vec::new(), Vec::new());
        let positions = loaded.iter().map(|(_, one)| one.budget.positions).min().unwrap_or(1);
        let width = loaded.first().map_or(0, |(_, one)| one.width);
        for (number, (name, Loaded { runner, standing, budget, .. })) in loaded.into_iter().enumerate() {
            let runner = Arc::new(Mutex::new(runner));
            for _ in 0..HANDS {
                let failure = Some("its thread panicked".to_owned());
                let mut end = EndOfThread { shared: Arc::clone(&shared), failure, finished: finish.clone() };
                let (runner, known) = (Arc::clone(&runner), vocabulary.clone());
                let body = move || end.failure = device::serve(&end.shared, number, &runner, &known, budget).err();
                let thread = std::thread::Builder::new().name("tamis-device".to_owned()).spawn(body);
                threads.push(thread.map_err(|error| {
                    shared.end("a thread is missing");
                    Error::Thread { why: error.to_string() }
                })?);
            }
            devices.push((name, standing));
        }
        let Some((_, standing)) = devices.first().cloned() else {
            return Err(Error::Gone { why: "it has no device".to_owned() });
        };
        let threads = Mutex::new(threads);
        Ok(Self { shared, threads, finished, vocabulary, fingerprint, verified, devices, standing, positions, width })
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
        passes.split(self.positions);
        if passes.count() == 0 {
            return Ok(Answer::default());
        }
        let rows = u32::try_from(passes.count()).unwrap_or(ROWS_WAITING_MAX).min(ROWS_WAITING_MAX);
        let Ok(permits) = Arc::clone(&self.shared.permits).acquire_many_owned(rows).await else {
            return Err(self.shared.refusal());
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
        self.shared.refusal()
    }

    /// Seconds that the device has taken for a token of a row, on average since the start, padding left out; `None` before its first pass.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a mean of large counts")]
    pub fn seconds_a_row_token(&self) -> Option<f64> {
        let (tokens, busy) = (self.shared.row_tokens(), self.shared.busy().sum::<Duration>());
        (tokens > 0).then(|| busy.as_secs_f64() / tokens as f64)
    }

    /// Refuses new rows, runs the waiting ones, and joins the devices' threads within `deadline`. Idempotent.
    ///
    /// # Errors
    /// [`Error::CloseDeadline`]: waiting rows were dropped, and the threads end by themselves after their present batch.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.shared.close();
        let mut finished = self.finished.clone();
        if tokio::time::timeout(deadline, finished.wait_for(|()| false)).await.is_err() {
            self.shared.end("it was closed before it could finish");
            return Err(Error::CloseDeadline { seconds: deadline.as_secs() });
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
        Ok(())
    }

    /// Why nothing can be scored any more, if so.
    #[must_use]
    pub fn gone(&self) -> Option<String> {
        self.shared.gone()
    }

    /// Forward passes that have ended since the start: while rows wait and this stands still, the device is stuck.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.shared.passes().sum()
    }

    /// blake3 of the model's graph and weights, those in files of their own included.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// What each device has done, in the order of the settings.
    #[must_use]
    pub fn work(&self) -> Vec<Work> {
        let counts = self.shared.passes().zip(self.shared.busy());
        let work = |((device, standing), (passes, busy)): (&(String, Standing), (u64, Duration))| Work {
            device: device.clone(),
            provider: standing.provider,
            passes,
            busy,
        };
        self.devices.iter().zip(counts).map(work).collect()
    }

    /// What runs the model on its first device: `cpu` or `cuda`. Devices of one model are of one kind.
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

    /// How the model runs on its first device, and why so.
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
    /// An engine with a device for each script, which does what that says.
    pub(super) fn scripted(scripts: Vec<device::Script>, vocabulary: Vocabulary, budget: usize) -> Self {
        let budget = Budget { tokens: budget, positions: usize::MAX, batch_cost: 20 };
        let standing = Standing {
            provider: "cpu",
            precision: "as-exported",
            head: "full",
            difference_nats: None,
            exact_nats: None,
            why_full: None,
            fused_attentions: 0,
            why_plain: None,
            bound: false,
            company_nats: None,
            padded: true,
            batch_tokens: budget.tokens,
            batch_positions: budget.tokens,
            batch_cost_tokens: budget.batch_cost,
        };
        let loaded = |(number, script): (usize, device::Script)| {
            let runner = device::Runner::Scripted(script);
            (format!("scripted#{number}"), Loaded { runner, standing: standing.clone(), budget, width: 0 })
        };
        let loaded = scripts.into_iter().enumerate().map(loaded).collect();
        Self::start(loaded, vocabulary, [0; 32], None).unwrap()
    }
}
