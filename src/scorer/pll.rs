//! Owns the pseudo-log-likelihood of a document: windows, cache, passes, pooled signals.

use super::masking::Plan;
use super::model::Prepared;
use super::sums::{self, LAYOUT, Names, Sums};
use super::{Error, Model, Settings};
use crate::cache::{Cache, Key};
use crate::corpus::{Document, Fault, Signals};
use crate::engine::{Engine, Passes};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Windows of one document in the engine at once, so that one long document can't fill the queue.
const WINDOWS_IN_FLIGHT: usize = 8;
/// Windows of one document asked of the cache at once.
const LOOKUP_WINDOWS: usize = 64;
/// What the numbers were computed in: float32 on the device, log-softmax and sums in float64.
const PRECISION: &str = "f32";

/// One `[signals.X]` of kind `pll`, on its model. Cheap to share by reference; scoring is `&self`.
pub struct Scorer {
    model: Arc<Model>,
    cache: Cache,
    plan: Plan,
    window_tokens: usize,
    names: Names,
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
    /// A scorer whose signals are named `<name>.…`.
    ///
    /// # Errors
    /// The settings contradict themselves, or window and special tokens don't fit the model's positions.
    pub fn build(name: &str, settings: &Settings, model: Arc<Model>, cache: Cache) -> Result<Self, Error> {
        settings.check(name)?;
        settings.fits(name, model.tokenizer())?;
        let identity_bytes = identity(settings, &model);
        Ok(Self {
            plan: Plan::new(settings),
            window_tokens: settings.window_tokens,
            names: Names::new(name),
            identity: identity_bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            identity_bytes,
            model,
            cache,
        })
    }

    /// Names of all signals that a document may get.
    #[must_use]
    pub fn signal_names(&self) -> Vec<Arc<str>> {
        self.names.all()
    }

    /// Hexadecimal hash of everything that a score depends on but the text: model, tokenizer, kind, masking, window, stride,
    /// precision, layout. Thresholds belong to it.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Scores a document. Windows come from the cache where it has them; the others go to the engine, at most eight at once,
    /// and into the cache as they finish. Cancel-safe: dropping the future takes waiting rows back.
    ///
    /// # Errors
    /// The tokenizer refuses the text, the device fails on it alone, or the engine is gone.
    pub async fn score(&self, document: &Document) -> Result<Signals, Fault> {
        let prepared = self.model.prepare(&document.text, self.window_tokens).await?;
        let sums = self.window_sums(&prepared).await?;
        Ok(sums::pool(&self.names, &sums, prepared.words, document.text.len()))
    }

    /// Every token's surprisal, past the cache: for explanations and tests. Holds all of them in memory.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub async fn surprisals(&self, text: &str) -> Result<Vec<Token>, Fault> {
        let prepared = self.model.prepare(text, self.window_tokens).await?;
        let mut tokens = Vec::with_capacity(prepared.encoding.ids.len());
        for (window, range) in prepared.windows.iter().enumerate() {
            let ids = &prepared.encoding.ids[range.clone()];
            let scores = self.nll(wrap(&self.model, ids), ids.len()).await?;
            for (at, nll) in range.clone().zip(scores) {
                let (from, to) = prepared.encoding.spans[at];
                tokens.push(Token { id: prepared.encoding.ids[at], span: from as usize..to as usize, window, nll });
            }
        }
        Ok(tokens)
    }

    /// Raw sums of every window, in order.
    async fn window_sums(&self, prepared: &Prepared) -> Result<Vec<Sums>, Error> {
        let mut done = Vec::with_capacity(prepared.windows.len());
        for ranges in prepared.windows.chunks(LOOKUP_WINDOWS) {
            let windows: Vec<&[u32]> = ranges.iter().map(|range| &prepared.encoding.ids[range.clone()]).collect();
            let keys: Vec<Key> = windows.iter().map(|ids| self.key(ids)).collect();
            let stored = self.cache.get_many(&keys).await;
            let mut sums: Vec<Option<Sums>> = windows
                .iter()
                .enumerate()
                .map(|(at, ids)| stored.get(at)?.as_deref().and_then(|bytes| Sums::from_bytes(bytes, ids.len())))
                .collect();
            self.fill(&windows, &keys, &mut sums).await?;
            done.extend(sums.into_iter().flatten());
        }
        Ok(done)
    }

    /// Scores the windows whose sums are missing, a bounded number at once.
    async fn fill(&self, windows: &[&[u32]], keys: &[Key], sums: &mut [Option<Sums>]) -> Result<(), Error> {
        let mut missing = (0..windows.len()).filter(|at| sums[*at].is_none()).collect::<Vec<_>>().into_iter();
        let mut running: JoinSet<Result<(usize, Sums), Error>> = JoinSet::new();
        loop {
            while running.len() < WINDOWS_IN_FLIGHT
                && let Some(at) = missing.next()
            {
                running.spawn(self.sum(at, windows[at]));
            }
            let Some(finished) = running.join_next().await else { return Ok(()) };
            let (at, window) = finished??;
            self.cache.put_many(vec![(keys[at], window.to_bytes())]).await;
            sums[at] = Some(window);
        }
    }

    /// The sums of one window, as a task of its own; `at` is handed back with them.
    fn sum(&self, at: usize, ids: &[u32]) -> impl Future<Output = Result<(usize, Sums), Error>> + Send + 'static {
        let (model, plan, wrapped, tokens) = (Arc::clone(&self.model), self.plan, wrap(&self.model, ids), ids.len());
        let unk = model.tokenizer().unk_id();
        let unknown = ids.iter().filter(|id| unk == Some(**id)).count() as u64;
        async move {
            let before = model.tokenizer().template().0.len();
            let scores = nll(model.engine(), plan, wrapped, tokens, before).await?;
            Ok((at, Sums { nll: scores.iter().sum(), tokens: tokens as u64, unknown }))
        }
    }

    async fn nll(&self, wrapped: Arc<[u32]>, tokens: usize) -> Result<Vec<f64>, Error> {
        nll(self.model.engine(), self.plan, wrapped, tokens, self.model.tokenizer().template().0.len()).await
    }

    /// A window's key: the identity, the wrapped ids, and the span of them that is scored.
    fn key(&self, ids: &[u32]) -> Key {
        let (before, after) = self.model.tokenizer().template();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.identity_bytes);
        for id in before.iter().chain(ids).chain(after) {
            hasher.update(&id.to_le_bytes());
        }
        for edge in [before.len(), before.len() + ids.len()] {
            hasher.update(&(edge as u64).to_le_bytes());
        }
        Key(*hasher.finalize().as_bytes())
    }
}

/// A window's ids between the model's special tokens.
pub(super) fn wrap(model: &Model, ids: &[u32]) -> Arc<[u32]> {
    let (before, after) = model.tokenizer().template();
    [before, ids, after].concat().into()
}

/// −log p (nats) of each of the `tokens` content tokens behind `before` special ones, in order.
pub(super) async fn nll(
    engine: &Engine,
    plan: Plan,
    wrapped: Arc<[u32]>,
    tokens: usize,
    before: usize,
) -> Result<Vec<f64>, Error> {
    let scores = engine.score(Passes { ids: wrapped, groups: plan.groups(tokens, before) }).await?;
    Ok(plan.in_token_order(scores).into_iter().map(|score| -score).collect())
}

fn identity(settings: &Settings, model: &Model) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tamis pll\0").update(&[LAYOUT]);
    hasher.update(&model.engine().fingerprint()).update(&model.tokenizer().fingerprint());
    for part in [settings.masking.as_str(), PRECISION] {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    for number in [settings.window_tokens, settings.stride()] {
        hasher.update(&(number as u64).to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}
