//! Owns the scoring of a document: windows, cache, passes, pooled signals.

use super::cost::Meter;
use super::early::Calibrated;
use super::model::Prepared;
use super::partial::Partial;
use super::plan::{Pass, Plan, Window, groups};
use super::recall;
use super::recipe::Recipe;
use super::stop::Stopping;
use super::sums::{LAYOUT, Making, Sums};
use super::tail::{Output, Pooled, Tail};
use super::turns::Turns;
use super::{Error, Model, NelboSettings, Settings, Stop};
use crate::cache::{Cache, Key};
use crate::corpus::{Document, Fault, Signals};
use crate::engine::{Needs, Passes, Precision, Reading};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Windows of one document in the engine at once, so that one long document can't fill the queue.
pub(super) const WINDOWS_IN_FLIGHT: usize = 8;
/// Windows of one document asked of the cache at once.
pub(super) const LOOKUP_WINDOWS: usize = 64;
/// What the numbers were computed in: float32 on the device, log-softmax and sums in float64.
const PRECISION: &str = "f32";
/// The same, where rows of several lengths never share a batch: scores kept from a time when they did must not be taken for these.
const PRECISION_APART: &str = "f32, lengths apart";

/// One score of one model, under the names of one `[signals.X]` table or several. Cheap to share by reference; scoring is
/// `&self`.
pub struct Scorer {
    pub(super) model: Arc<Model>,
    pub(super) cache: Cache,
    pub(super) recipe: Recipe,
    pub(super) needs: Needs,
    pub(super) outputs: Vec<Output>,
    /// Of all outputs.
    names: Vec<Arc<str>>,
    pub(super) stopping: Option<Stopping>,
    /// For scores that stop by a table.
    pub(super) calibrated: Option<Calibrated>,
    pub(super) turns: Turns,
    pub(super) meter: Meter,
    identity_bytes: [u8; 32],
    identity: String,
}

/// One scored token of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its bytes in the original text.
    pub span: Range<usize>,
    /// The window it was scored in, from 0.
    pub window: usize,
    /// −log p, nats.
    pub nll: f64,
}

impl Scorer {
    /// A pseudo-log-likelihood whose signals are named `<name>.…`.
    ///
    /// # Errors
    /// The settings contradict themselves, window and special tokens don't fit the model's positions, or the model was loaded
    /// without what they need.
    pub fn build(name: &str, settings: &Settings, model: Arc<Model>, cache: Cache) -> Result<Self, Error> {
        settings.check(name)?;
        settings.shape().fits(name, model.tokenizer())?;
        let stopping = settings.stopping();
        if settings.stop == Stop::Certified && model.is_quantised() {
            let why = format!(
                "\"certified\" is not for models.{}: it is quantised to int8, so that a loss depends on the rows that share its batch, and nothing can be \
                 promised; use the model in single precision, or stop = \"never\"",
                model.name()
            );
            return Err(Error::Settings { name: name.to_owned(), key: "stop", why });
        }
        let scorer = Self::of(name, settings.recipe(), settings.tails(), settings.needs(), model, cache)?;
        let calibrated = Calibrated::read(name, stopping.as_ref(), &scorer.identity)?;
        Ok(Self { stopping, calibrated, ..scorer })
    }

    /// A bound whose signals are named `<name>.…`.
    ///
    /// # Errors
    /// As [`Scorer::build`].
    pub fn nelbo(name: &str, settings: &NelboSettings, model: Arc<Model>, cache: Cache) -> Result<Self, Error> {
        settings.check(name)?;
        settings.shape().fits(name, model.tokenizer())?;
        Self::of(name, settings.recipe(), NelboSettings::TAILS.to_vec(), Needs::default(), model, cache)
    }

    fn of(
        name: &str,
        recipe: Recipe,
        tails: Vec<Tail>,
        needs: Needs,
        model: Arc<Model>,
        cache: Cache,
    ) -> Result<Self, Error> {
        if model.needs().union(needs) != model.needs() {
            let key = if needs.odds { "corrected" } else { "extra" };
            let why = format!("models.{} was loaded without what it needs", model.name());
            return Err(Error::Settings { name: name.to_owned(), key, why });
        }
        let identity_bytes = identity(&recipe, &model);
        let output = Output::new(name, tails);
        Ok(Self {
            recipe,
            needs,
            names: output.names().collect(),
            outputs: vec![output],
            stopping: None,
            calibrated: None,
            turns: Turns::default(),
            meter: Meter::default(),
            identity: identity_bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            identity_bytes,
            model,
            cache,
        })
    }

    /// Takes over the signals of a scorer of the same identity that stops alike, so that passes are run once for both; gives back any other.
    pub fn absorb(&mut self, other: Self) -> Option<Self> {
        if self.stopping != other.stopping
            || self.identity_bytes != other.identity_bytes
            || !Arc::ptr_eq(&self.model, &other.model)
        {
            return Some(other);
        }
        self.needs = self.needs.union(other.needs);
        self.outputs.extend(other.outputs);
        self.names.extend(other.names);
        None
    }

    /// Names of all signals that a document may get.
    #[must_use]
    pub fn signal_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether passes may end before all have run, so that it matters what signals are compared with.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.stopping.is_some()
    }

    /// Hexadecimal hash of everything that a score depends on but the text: model, tokenizer, masking and its parameters, window,
    /// precision, layout. Thresholds belong to it.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Forward passes for a full window, at most: what a score costs, whatever the model.
    #[must_use]
    pub fn passes_a_window(&self) -> usize {
        self.recipe.plan.passes_at_most(self.recipe.window_tokens)
    }

    /// Scores a document. A text that was scored a while ago is not even tokenised. Windows come from the cache where it has them; the others go to the engine, at most eight at once,
    /// and into the cache as they finish. Cancel-safe: dropping the future takes waiting rows back.
    ///
    /// # Errors
    /// The tokenizer refuses the text, the device fails on it alone, or the engine is gone.
    pub async fn score(&self, document: &Document) -> Result<Signals, Fault> {
        self.meter.document();
        let bytes = document.text.len();
        let key = recall::key(&self.identity_bytes, &document.text);
        let known = self.cache.recall(&key).and_then(|known| recall::read(&known, self.needs));
        if let Some((words, windows)) = known {
            self.cache.recalled(windows.len());
            return Ok(Pooled { windows: &windows, words, bytes, early: None }.signals(&self.outputs));
        }
        let prepared = self.prepare(&document.text).await?;
        let windows = self.window_sums(&prepared).await?;
        if let Some(known) = recall::write(prepared.words, &windows) {
            self.cache.remember(key, known);
        }
        Ok(Pooled { windows: &windows, words: prepared.words, bytes, early: None }.signals(&self.outputs))
    }

    /// The surprisal of every token that is scored, past the cache: for explanations and tests. Holds all of them in memory. A
    /// token that several passes score gets their mean; one that a sample leaves out is left out.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub async fn surprisals(&self, text: &str) -> Result<Vec<Token>, Fault> {
        let prepared = self.prepare(text).await?;
        let spans = self.model.tokenizer().encode(text).map_err(Error::from)?.spans;
        let mut tokens = Vec::with_capacity(prepared.ids.len());
        for (number, range) in prepared.windows.iter().enumerate() {
            let scores = surprisals(&self.model, self.recipe.plan, &prepared.window(range)).await?;
            for (at, nll) in range.clone().zip(scores) {
                let (from, to) = spans[at];
                let (id, span) = (prepared.ids[at], from as usize..to as usize);
                tokens.extend(nll.map(|nll| Token { id, span, window: number, nll }));
            }
        }
        Ok(tokens)
    }

    /// Under which keys the cache keeps what is known about the windows of `text`, in order.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub async fn keys(&self, text: &str) -> Result<Vec<Key>, Fault> {
        let prepared = self.prepare(text).await?;
        Ok(prepared.windows.iter().map(|range| self.key(&prepared.window(range))).collect())
    }

    pub(super) async fn prepare(&self, text: &str) -> Result<Prepared, Error> {
        self.model.prepare(text, self.recipe.window_tokens, self.recipe.plan.words()).await
    }

    /// Raw sums of every window, in order.
    pub(super) async fn window_sums(&self, prepared: &Prepared) -> Result<Vec<Sums>, Error> {
        let mut done = Vec::with_capacity(prepared.windows.len());
        for ranges in prepared.windows.chunks(LOOKUP_WINDOWS) {
            let windows: Vec<Window<'_>> = ranges.iter().map(|range| prepared.window(range)).collect();
            let keys: Vec<Key> = windows.iter().map(|window| self.key(window)).collect();
            let stored = self.cache.get_many(&keys).await;
            let read = |at: usize, window: &Window<'_>| {
                Sums::from_bytes(stored.get(at)?.as_deref()?, window.ids.len(), self.needs)
            };
            let mut sums: Vec<Option<Sums>> = windows.iter().enumerate().map(|(at, window)| read(at, window)).collect();
            self.fill(&windows, &keys, &stored, &mut sums).await?;
            done.extend(sums.into_iter().flatten());
        }
        Ok(done)
    }

    /// Scores the windows whose sums are missing, a bounded number at once.
    async fn fill(
        &self,
        windows: &[Window<'_>],
        keys: &[Key],
        stored: &[Option<Vec<u8>>],
        sums: &mut [Option<Sums>],
    ) -> Result<(), Error> {
        let mut missing = (0..windows.len()).filter(|at| sums[*at].is_none()).collect::<Vec<_>>().into_iter();
        let mut running: JoinSet<Result<(usize, Sums), Error>> = JoinSet::new();
        loop {
            while running.len() < WINDOWS_IN_FLIGHT
                && let Some(at) = missing.next()
            {
                let partial = stored.get(at).and_then(|stored| self.part(stored.as_deref()?, &windows[at]));
                running.spawn(self.sum(at, &windows[at], partial));
            }
            let Some(finished) = running.join_next().await else { return Ok(()) };
            let (at, window) = finished??;
            self.cache.put_many(vec![(keys[at], window.to_bytes())]).await;
            sums[at] = Some(window);
        }
    }

    /// The losses that a score that stopped early left in the cache, if sums can be made with them: they are log-probabilities alone.
    fn part(&self, bytes: &[u8], window: &Window<'_>) -> Option<Partial> {
        Partial::from_bytes(bytes, window.ids.len()).filter(|_| self.needs == Needs::default())
    }

    /// The sums of one window, as a task of its own; `at` is handed back with them. Passes whose losses are in `partial` are not run again: the sums
    /// are the same numbers in the same order.
    fn sum(
        &self,
        at: usize,
        window: &Window<'_>,
        partial: Option<Partial>,
    ) -> impl Future<Output = Result<(usize, Sums), Error>> + Send + 'static {
        let (model, wrapped) = (Arc::clone(&self.model), wrap(&self.model, window.ids));
        let (passes, making) = (self.recipe.plan.passes(window), self.making(window));
        let is_known = |pass: &Pass| partial.as_ref().is_some_and(|partial| partial.has(pass));
        let missing: Vec<Pass> = passes.iter().filter(|pass| !is_known(pass)).cloned().collect();
        self.meter.rows(missing.len(), wrapped.len());
        async move {
            let readings = if missing.is_empty() { Vec::new() } else { read(&model, &missing, wrapped).await? };
            let readings = match partial {
                Some(partial) => partial.completed(&passes, readings),
                None => readings,
            };
            Ok((at, Sums::of(&passes, &readings, making)))
        }
    }

    /// What the sums of `window` are made with.
    pub(super) fn making(&self, window: &Window<'_>) -> Making {
        let (unk, vocabulary) = (self.model.tokenizer().unk_id(), self.model.tokenizer().vocab_size());
        Making {
            tokens: window.ids.len(),
            unknown: window.ids.iter().filter(|id| unk == Some(**id)).count() as u64,
            shift: self.recipe.correction.map(|correction| correction.shift(vocabulary)),
            clip: self.recipe.clip_nats,
            sampled: matches!(self.recipe.plan, Plan::Sampled { .. }),
        }
    }

    /// A window's key: the identity, the wrapped ids, the span of them that is scored, and the words where they matter, for equal
    /// ids may come from texts with different words.
    pub(super) fn key(&self, window: &Window<'_>) -> Key {
        let (before, after) = self.model.tokenizer().template();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.identity_bytes);
        for id in before.iter().chain(window.ids).chain(after) {
            hasher.update(&id.to_le_bytes());
        }
        for edge in [before.len(), before.len() + window.ids.len()] {
            hasher.update(&(edge as u64).to_le_bytes());
        }
        for group in self.recipe.plan.words().map(|by| groups(window.words, by)).into_iter().flatten() {
            hasher.update(&(group.len() as u64).to_le_bytes());
        }
        Key(*hasher.finalize().as_bytes())
    }
}

impl Prepared {
    pub(super) fn window(&self, range: &Range<usize>) -> Window<'_> {
        let words = self.word_numbers.get(range.clone()).unwrap_or_default();
        Window { ids: &self.ids[range.clone()], words }
    }
}

/// A window's ids between the model's special tokens.
pub(super) fn wrap(model: &Model, ids: &[u32]) -> Arc<[u32]> {
    let (before, after) = model.tokenizer().template();
    [before, ids, after].concat().into()
}

/// What the engine reads in `passes` over the window `wrapped`: pass by pass, in the order of scored tokens.
pub(super) async fn read(model: &Model, passes: &[Pass], wrapped: Arc<[u32]>) -> Result<Vec<Reading>, Error> {
    Ok(model.engine().score(asked(model, passes, wrapped)).await?)
}

/// `passes` over the window `wrapped`, as the engine takes them.
pub(super) fn asked(model: &Model, passes: &[Pass], wrapped: Arc<[u32]>) -> Passes {
    let before = u32::try_from(model.tokenizer().template().0.len()).unwrap_or(u32::MAX);
    let place = |rank: &u32| before.saturating_add(*rank);
    let mut asked = Passes::over(wrapped);
    for pass in passes {
        if pass.masked == pass.scored {
            asked.mask(pass.masked.iter().map(place));
        } else {
            asked.mask_and_score(pass.masked.iter().map(place), pass.scored.iter().map(place));
        }
    }
    asked
}

/// −log p (nats) of each of a window's tokens, in order: the mean over the passes that score it, or `None` where none does.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) async fn surprisals(model: &Model, plan: Plan, window: &Window<'_>) -> Result<Vec<Option<f64>>, Error> {
    let passes = plan.passes(window);
    let readings = read(model, &passes, wrap(model, window.ids)).await?;
    let mut sums = vec![(0.0, 0_u32); window.ids.len()];
    for (rank, reading) in passes.iter().flat_map(|pass| &pass.scored).zip(readings) {
        let sum = &mut sums[*rank as usize];
        *sum = (sum.0 - reading.logprob, sum.1 + 1);
    }
    Ok(sums.into_iter().map(|(sum, passes)| (passes > 0).then(|| sum / f64::from(passes))).collect())
}

/// What the model's numbers are computed in: part of every identity.
pub(super) fn precision(model: &Model) -> String {
    let standing = model.engine().standing();
    let lengths = if standing.padded { PRECISION } else { PRECISION_APART };
    // What was not converted has the identity that it had before there were conversions.
    match standing.precision == Precision::AsExported.as_str() {
        true => lengths.to_owned(),
        false => format!("{lengths}, converted to {}", standing.precision),
    }
}

fn identity(recipe: &Recipe, model: &Model) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tamis score\0").update(&[LAYOUT]);
    hasher.update(&model.engine().fingerprint()).update(&model.tokenizer().fingerprint());
    for part in [recipe.describe(), precision(model)] {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    *hasher.finalize().as_bytes()
}
