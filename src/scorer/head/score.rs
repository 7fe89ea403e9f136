//! Owns the scoring of a document by a head: identity, windows, cache keys, one pass each, signals.

use super::kind::{Kind, Row, Window};
use super::labels::COUNTS;
use super::settings::Head;
use crate::cache::{Cache, Key};
use crate::corpus::{Document, Fault, Signals};
use crate::scorer::cost::{self, Meter};
use crate::scorer::model::Prepared;
use crate::scorer::score::{self, LOOKUP_WINDOWS, WINDOWS_IN_FLIGHT};
use crate::scorer::{Error, Model, Task};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Changes with the meaning of a window's raw numbers; part of every key.
const LAYOUT: u8 = 1;

/// A head of one model, under the name of one `[signals.X]` table. Scoring is `&self`.
pub struct HeadScorer {
    model: Arc<Model>,
    cache: Cache,
    meter: Meter,
    kind: Kind,
    window_tokens: usize,
    /// Of the numbers that the kind makes of a document, `values` of them, then of [`COUNTS`] and, for a prompt, what is left out.
    names: Vec<Arc<str>>,
    values: usize,
    /// Of everything that a window's raw numbers depend on but its ids.
    raw_identity: [u8; 32],
    identity: String,
}

impl HeadScorer {
    /// A head whose signals are named `<name>.…`. `model` was loaded for [`Head::task`].
    ///
    /// # Errors
    /// The settings contradict themselves or the model: its positions, its labels.
    pub async fn build(name: &str, settings: Head<'_>, model: Arc<Model>, cache: Cache) -> Result<Self, Error> {
        settings.check(name)?;
        settings.shape().fits(name, model.tokenizer())?;
        let kind = Kind::new(name, settings, &model).await?;
        let raw_identity = raw_identity(&kind, settings.task(), &model);
        let names: Vec<Arc<str>> =
            settings.signal_tails().into_iter().map(|tail| Arc::from(format!("{name}.{tail}"))).collect();
        let values = names.iter().position(|tail| **tail == *format!("{name}.{}", COUNTS[0])).unwrap_or(names.len());
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tamis head\0").update(&raw_identity);
        for part in [kind.describe(), format!("window {}", settings.shape().window_tokens)] {
            hasher.update(part.as_bytes()).update(b"\0");
        }
        settings.signal_tails().iter().for_each(|tail| _ = hasher.update(tail.as_bytes()).update(b"\0"));
        let identity = hasher.finalize().to_hex().to_string();
        let window_tokens = settings.shape().window_tokens;
        let meter = Meter::default();
        Ok(Self { model, cache, meter, kind, window_tokens, names, values, raw_identity, identity })
    }

    /// Names of all signals that a document may get.
    #[must_use]
    pub fn signal_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Hexadecimal hash of everything that a score depends on but the text. Thresholds belong to it.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Forward passes for a window.
    #[must_use]
    pub fn passes_a_window(&self) -> usize {
        1
    }

    /// Device seconds that a document is expected to take, as [`crate::scorer::Scorer::cost_seconds`].
    #[must_use]
    pub fn cost_seconds(&self) -> f64 {
        self.meter.seconds(cost::guess(1, self.window_tokens), &self.model)
    }

    /// Scores a document; what a window gave comes from the cache where it has it. A document without tokens has counts and no numbers.
    /// Cancel-safe: dropping the future takes waiting rows back.
    ///
    /// # Errors
    /// The tokenizer refuses the text, the device fails on it alone, or the engine is gone.
    pub async fn score(&self, document: &Document) -> Result<Signals, Fault> {
        self.meter.document();
        let prepared = self.model.prepare(&document.text, self.window_tokens, None).await.map_err(Fault::from)?;
        let windows = self.windows(&prepared).await?;
        let unk = self.model.tokenizer().unk_id();
        let tokens: usize = windows.iter().map(|window| window.tokens).sum();
        let unknown = prepared.ids.iter().take(tokens).filter(|id| unk == Some(**id)).count();
        let mut signals = Signals::new();
        #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let unk_rate = (tokens > 0).then(|| unknown as f64 / tokens as f64);
        let (values, counts) = self.names.split_at(self.values);
        for (name, value) in values.iter().zip(self.kind.numbers(&windows)?) {
            signals.number(Arc::clone(name), value);
        }
        if let [tokens_name, windows_name, rate_name, rest @ ..] = counts {
            signals.count(Arc::clone(tokens_name), tokens as u64);
            signals.count(Arc::clone(windows_name), windows.len() as u64);
            unk_rate.into_iter().for_each(|rate| signals.number(Arc::clone(rate_name), rate));
            let left_out = prepared.ids.len() - tokens;
            rest.iter().for_each(|name| signals.count(Arc::clone(name), left_out as u64));
        }
        Ok(signals)
    }

    /// The keys under which the cache holds what it knows of `text`.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub async fn keys(&self, text: &str) -> Result<Vec<Key>, Fault> {
        let prepared = self.model.prepare(text, self.window_tokens, None).await.map_err(Fault::from)?;
        let row = |range: &Range<usize>| self.kind.row(&self.model, &prepared.ids[range.clone()]);
        let read = prepared.windows.iter().take(self.kind.windows());
        Ok(read.map(|range| self.key(&row(range).ids)).collect())
    }

    /// Every window, in order.
    async fn windows(&self, prepared: &Prepared) -> Result<Vec<Window>, Error> {
        let mut done = Vec::with_capacity(prepared.windows.len());
        let most = self.kind.windows().min(prepared.windows.len());
        for ranges in prepared.windows[..most].chunks(LOOKUP_WINDOWS) {
            let ids = |range: &Range<usize>| &prepared.ids[range.clone()];
            let rows: Vec<Row> = ranges.iter().map(|range| self.kind.row(&self.model, ids(range))).collect();
            let keys: Vec<Key> = rows.iter().map(|row| self.key(&row.ids)).collect();
            let stored = self.cache.get_many(&keys).await;
            let mut raws: Vec<Option<Vec<f64>>> =
                (0..rows.len()).map(|at| self.restored(stored.get(at)?.as_deref()?)).collect();
            let mut missing = (0..rows.len()).filter(|at| raws[*at].is_none()).collect::<Vec<_>>().into_iter();
            let mut running: JoinSet<Result<(usize, Vec<f64>), Error>> = JoinSet::new();
            loop {
                while running.len() < WINDOWS_IN_FLIGHT
                    && let Some(at) = missing.next()
                {
                    running.spawn(self.read(at, &rows[at]));
                }
                let Some(finished) = running.join_next().await else { break };
                let (at, raw) = finished??;
                self.cache.put_many(vec![(keys[at], to_bytes(&raw))]).await;
                raws[at] = Some(raw);
            }
            let made = ranges.iter().zip(raws);
            done.extend(made.filter_map(|(range, raw)| Some(Window { tokens: range.len(), raw: raw? })));
        }
        Ok(done)
    }

    /// The raw numbers of one row, as a task of its own; `at` is handed back with them.
    fn read(&self, at: usize, row: &Row) -> impl Future<Output = Result<(usize, Vec<f64>), Error>> + Send + 'static {
        self.meter.rows(1, row.ids.len());
        let (model, kind, row) = (Arc::clone(&self.model), self.kind.clone(), row.clone());
        async move { Ok((at, kind.read(&model, row).await?)) }
    }

    fn key(&self, row: &[u32]) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.raw_identity);
        row.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes()));
        Key(*hasher.finalize().as_bytes())
    }

    /// Reads a window's raw numbers back; `None` for another layout or a damaged value.
    fn restored(&self, bytes: &[u8]) -> Option<Vec<f64>> {
        let ([LAYOUT], rest) = bytes.split_at_checked(1)? else { return None };
        let (words, rest) = rest.as_chunks::<8>();
        let numbers: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
        let whole = rest.is_empty() && numbers.len() == self.kind.raw_count(self.model.engine().width());
        (whole && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
    }
}

/// Layout byte, then little-endian numbers.
fn to_bytes(raw: &[f64]) -> Vec<u8> {
    std::iter::once(LAYOUT).chain(raw.iter().flat_map(|number| number.to_le_bytes())).collect()
}

/// Model, tokenizer, what is read and in which precision: not the window's length, which shows in the ids.
fn raw_identity(kind: &Kind, task: Task, model: &Model) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tamis head window\0").update(&[LAYOUT]);
    hasher.update(&model.engine().fingerprint()).update(&model.tokenizer().fingerprint());
    hasher.update(kind.describe_raw(task).as_bytes()).update(b"\0");
    hasher.update(score::precision(model).as_bytes()).update(b"\0");
    *hasher.finalize().as_bytes()
}
