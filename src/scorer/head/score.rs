//! Owns the scoring of a document by a head: windows, cache, one pass each, what becomes of the numbers, pooled signals.

use super::labels::{self, COUNTS};
use super::settings::{Activation, Head, Pool, SequenceSettings, TokenSettings};
use crate::cache::{Cache, Key};
use crate::corpus::{Document, Fault, Signals};
use crate::engine::Passes;
use crate::scorer::model::Prepared;
use crate::scorer::recipe::softplus;
use crate::scorer::score::{self, LOOKUP_WINDOWS, WINDOWS_IN_FLIGHT};
use crate::scorer::{Error, Model};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Changes with the meaning of a window's raw numbers; part of every key.
const LAYOUT: u8 = 1;

/// A head of one model, under the name of one `[signals.X]` table. Scoring is `&self`.
pub struct HeadScorer {
    model: Arc<Model>,
    cache: Cache,
    kind: Kind,
    window_tokens: usize,
    /// Of the numbers that the kind makes of a document, then of [`COUNTS`].
    names: Vec<Arc<str>>,
    /// Of everything that a window's raw numbers depend on but its ids.
    raw_identity: [u8; 32],
    identity: String,
}

/// What is read of a window, and what becomes of it.
#[derive(Debug, Clone)]
enum Kind {
    /// Raw: the logits `[L]`.
    Sequence { activation: Activation, pool: Pool },
    /// Raw: how many tokens are flagged, Σ softplus(z), max z, where z are a token's log-odds of being flagged. `flags` says for each label
    /// whether it flags; empty for a single logit.
    Tokens { flags: Vec<bool> },
}

/// A window of a document: how many tokens it has, and its raw numbers.
struct Window {
    tokens: usize,
    raw: Vec<f64>,
}

impl HeadScorer {
    /// A head whose signals are named `<name>.…`. `model` was loaded for [`Head::pass`].
    ///
    /// # Errors
    /// The settings contradict themselves or the model: its positions, its labels.
    pub async fn build(name: &str, settings: Head<'_>, model: Arc<Model>, cache: Cache) -> Result<Self, Error> {
        settings.check(name)?;
        settings.shape().fits(name, model.tokenizer())?;
        let kind = match settings {
            Head::Sequence(settings) => sequence(name, settings, &model)?,
            Head::Tokens(settings) => tokens(name, settings, &model)?,
        };
        let raw_identity = raw_identity(&kind, &model);
        let names: Vec<Arc<str>> =
            settings.signal_tails().into_iter().map(|tail| Arc::from(format!("{name}.{tail}"))).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tamis head\0").update(&raw_identity);
        for part in [kind.describe(), format!("window {}", settings.shape().window_tokens)] {
            hasher.update(part.as_bytes()).update(b"\0");
        }
        settings.signal_tails().iter().for_each(|tail| _ = hasher.update(tail.as_bytes()).update(b"\0"));
        let identity = hasher.finalize().to_hex().to_string();
        Ok(Self { model, cache, kind, window_tokens: settings.shape().window_tokens, names, raw_identity, identity })
    }

    /// Names of all signals that a document may get.
    #[must_use]
    pub fn signal_names(&self) -> Vec<Arc<str>> {
        self.names.clone()
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

    /// Scores a document; what a window gave comes from the cache where it has it. A document without tokens has counts and no numbers.
    /// Cancel-safe: dropping the future takes waiting rows back.
    ///
    /// # Errors
    /// The tokenizer refuses the text, the device fails on it alone, or the engine is gone.
    pub async fn score(&self, document: &Document) -> Result<Signals, Fault> {
        let prepared = self.model.prepare(&document.text, self.window_tokens, None).await.map_err(Fault::from)?;
        let windows = self.windows(&prepared).await?;
        let unk = self.model.tokenizer().unk_id();
        let unknown = prepared.encoding.ids.iter().filter(|id| unk == Some(**id)).count();
        let tokens: usize = windows.iter().map(|window| window.tokens).sum();
        let mut signals = Signals::new();
        let mut numbers = self.kind.numbers(&windows);
        #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let unk_rate = (tokens > 0).then(|| unknown as f64 / tokens as f64);
        let (values, counts) = self.names.split_at(self.names.len().saturating_sub(COUNTS.len()));
        for (name, value) in values.iter().zip(numbers.drain(..)) {
            signals.number(Arc::clone(name), value);
        }
        if let [tokens_name, windows_name, rate_name] = counts {
            signals.count(Arc::clone(tokens_name), tokens as u64);
            signals.count(Arc::clone(windows_name), windows.len() as u64);
            unk_rate.into_iter().for_each(|rate| signals.number(Arc::clone(rate_name), rate));
        }
        Ok(signals)
    }

    /// The keys under which the cache holds what it knows of `text`.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub async fn keys(&self, text: &str) -> Result<Vec<Key>, Fault> {
        let prepared = self.model.prepare(text, self.window_tokens, None).await.map_err(Fault::from)?;
        let ids = |range: &std::ops::Range<usize>| score::wrap(&self.model, &prepared.encoding.ids[range.clone()]);
        Ok(prepared.windows.iter().map(|range| self.key(&ids(range))).collect())
    }

    /// Every window, in order.
    async fn windows(&self, prepared: &Prepared) -> Result<Vec<Window>, Error> {
        let mut done = Vec::with_capacity(prepared.windows.len());
        for ranges in prepared.windows.chunks(LOOKUP_WINDOWS) {
            let rows: Vec<Arc<[u32]>> =
                ranges.iter().map(|range| score::wrap(&self.model, &prepared.encoding.ids[range.clone()])).collect();
            let keys: Vec<Key> = rows.iter().map(|row| self.key(row)).collect();
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
    fn read(
        &self,
        at: usize,
        row: &Arc<[u32]>,
    ) -> impl Future<Output = Result<(usize, Vec<f64>), Error>> + Send + 'static {
        let (model, kind, row) = (Arc::clone(&self.model), self.kind.clone(), Arc::clone(row));
        async move {
            let (before, after) = model.tokenizer().template();
            let edge = |edge: usize| u32::try_from(edge).unwrap_or(u32::MAX);
            let content = edge(before.len())..edge(row.len().saturating_sub(after.len()));
            let mut passes = Passes::over(row);
            match &kind {
                Kind::Sequence { .. } => passes.mask_and_score([], [0]),
                Kind::Tokens { .. } => passes.mask_and_score([], content),
            }
            let values = model.engine().read(passes).await?;
            Ok((at, kind.raw(&values, model.engine().width())))
        }
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

fn sequence(name: &str, settings: &SequenceSettings, model: &Model) -> Result<Kind, Error> {
    let (card, width) = (model.card(), model.engine().width());
    let wrong = |key, why: String| Error::Settings { name: name.to_owned(), key, why };
    if let Some(why) = labels::mismatch(&settings.labels, width, card) {
        return Err(wrong("labels", why));
    }
    let activation = settings.activation.unwrap_or_else(|| card.activation(width));
    if activation == Activation::Softmax && width == 1 {
        return Err(wrong(
            "activation",
            "softmax of a single label is always 1; use \"sigmoid\" or \"none\"".to_owned(),
        ));
    }
    Ok(Kind::Sequence { activation, pool: settings.pool })
}

fn tokens(name: &str, settings: &TokenSettings, model: &Model) -> Result<Kind, Error> {
    let width = model.engine().width();
    let wrong = |why: String| Error::Settings { name: name.to_owned(), key: "labels", why };
    match settings.labels.is_empty() {
        true if width == 1 => Ok(Kind::Tokens { flags: Vec::new() }),
        true => {
            Err(wrong(format!("the model has {width} logits a token; name its labels, in the order of its logits")))
        }
        false => match labels::mismatch(&settings.labels, width, model.card()) {
            Some(why) => Err(wrong(why)),
            None => {
                let flags = settings.labels.iter().map(|label| settings.flags.contains(label)).collect();
                Ok(Kind::Tokens { flags })
            }
        },
    }
}

/// Model, tokenizer, what is read and in which precision: not the window's length, which shows in the ids.
fn raw_identity(kind: &Kind, model: &Model) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tamis head window\0").update(&[LAYOUT]);
    hasher.update(&model.engine().fingerprint()).update(&model.tokenizer().fingerprint());
    hasher.update(kind.describe_raw().as_bytes()).update(b"\0");
    hasher.update(score::precision(model).as_bytes()).update(b"\0");
    *hasher.finalize().as_bytes()
}

impl Kind {
    /// What a window's raw numbers are, with every parameter that they depend on.
    fn describe_raw(&self) -> String {
        match self {
            Self::Sequence { .. } => "sequence".to_owned(),
            Self::Tokens { flags } => format!("tokens {flags:?}"),
        }
    }

    /// What becomes of them.
    fn describe(&self) -> String {
        match self {
            Self::Sequence { activation, pool } => format!("{} {}", activation.as_str(), pool.as_str()),
            Self::Tokens { .. } => "flagged".to_owned(),
        }
    }

    /// How many raw numbers a window has, of a model with `width` values.
    fn raw_count(&self, width: usize) -> usize {
        match self {
            Self::Sequence { .. } => width,
            Self::Tokens { .. } => 3,
        }
    }

    /// The raw numbers of what the engine read.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn raw(&self, values: &[f32], width: usize) -> Vec<f64> {
        match self {
            Self::Sequence { .. } => values.iter().map(|value| f64::from(*value)).collect(),
            Self::Tokens { flags } => {
                let odds: Vec<f64> = values.chunks(width.max(1)).map(|logits| log_odds(logits, flags)).collect();
                let flagged = odds.iter().filter(|odds| **odds > 0.0).count();
                let nll = odds.iter().map(|odds| softplus(*odds)).sum();
                vec![flagged as f64, nll, odds.into_iter().fold(f64::MIN, f64::max)]
            }
        }
    }

    /// A document's numbers, in the order of their names; none without windows.
    fn numbers(&self, windows: &[Window]) -> Vec<f64> {
        if windows.is_empty() {
            return Vec::new();
        }
        match self {
            Self::Sequence { activation, pool } => {
                pooled(windows.iter().map(|window| (window.tokens, activation.of(&window.raw))), *pool)
            }
            Self::Tokens { .. } => flagged(windows),
        }
    }
}

/// The log-odds that a token is flagged: of a single logit the logit, of several log Σ exp over the labels that flag less that over
/// the others.
fn log_odds(logits: &[f32], flags: &[bool]) -> f64 {
    if let ([logit], true) = (logits, flags.is_empty()) {
        return f64::from(*logit);
    }
    let sum = |flagged: bool| {
        let logits =
            || logits.iter().zip(flags).filter(|(_, flag)| **flag == flagged).map(|(logit, _)| f64::from(*logit));
        let greatest = logits().fold(f64::NEG_INFINITY, f64::max);
        greatest + logits().map(|logit| (logit - greatest).exp()).sum::<f64>().ln()
    };
    sum(true) - sum(false)
}

/// Windows' numbers for each label as the document's.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn pooled(windows: impl Iterator<Item = (usize, Vec<f64>)>, pool: Pool) -> Vec<f64> {
    let (mut total, mut all) = (0.0, Vec::new());
    for (tokens, numbers) in windows {
        let weight = tokens as f64;
        total += weight;
        let start = if pool == Pool::Max { f64::NEG_INFINITY } else { 0.0 };
        all.resize(numbers.len(), start);
        for (all, number) in all.iter_mut().zip(numbers) {
            *all = match pool {
                Pool::Max => f64::max(*all, number),
                Pool::Mean => *all + weight * number,
            };
        }
    }
    match pool {
        Pool::Max => all,
        Pool::Mean => all.into_iter().map(|sum| sum / total).collect(),
    }
}

/// [`TokenSettings::TAILS`] of a document, from its windows' counts and sums.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn flagged(windows: &[Window]) -> Vec<f64> {
    let part = |window: &Window, at: usize| window.raw.get(at).copied().unwrap_or(f64::NAN);
    let sum = |windows: &[&Window], at: usize| windows.iter().map(|window| part(window, at)).sum::<f64>();
    let tokens = |windows: &[&Window]| windows.iter().map(|window| window.tokens).sum::<usize>() as f64;
    let all: Vec<&Window> = windows.iter().collect();
    let mut worst = all.clone();
    let mean = |window: &Window| part(window, 1) / window.tokens as f64;
    worst.sort_by(|one, two| mean(two).total_cmp(&mean(one)));
    worst.truncate(windows.len().div_ceil(10));
    let greatest = all.iter().map(|window| part(window, 2)).fold(f64::MIN, f64::max);
    vec![sum(&all, 0) / tokens(&all), sum(&all, 1) / tokens(&all), greatest, sum(&worst, 1) / tokens(&worst)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(tokens: usize, raw: &[f64]) -> Window {
        Window { tokens, raw: raw.to_vec() }
    }

    #[test]
    fn windows_are_pooled_by_the_rule_that_is_declared() {
        let windows = || [(10, vec![0.2, 0.9]), (30, vec![0.6, 0.1])].into_iter();
        assert_eq!(pooled(windows(), Pool::Max), [0.6, 0.9]);
        let mean = pooled(windows(), Pool::Mean);
        assert!((mean[0] - 0.5).abs() < 1e-12 && (mean[1] - 0.3).abs() < 1e-12, "{mean:?}");
    }

    #[test]
    fn a_tokens_odds_are_those_of_all_labels_that_flag() {
        assert_eq!(log_odds(&[-1.5], &[]), -1.5);
        let odds = log_odds(&[0.0, 3.0_f32.ln(), 2.0_f32.ln()], &[false, true, true]);
        assert!((odds - 5.0_f64.ln()).abs() < 1e-6, "{odds}");
        assert!(log_odds(&[-200.0, 200.0], &[false, true]).is_finite());
    }

    #[test]
    fn flagged_tokens_are_told_by_share_by_sum_and_at_their_worst() {
        let kind = Kind::Tokens { flags: Vec::new() };
        let raw = kind.raw(&[2.0, -1.0, 0.0, -3.0], 1);
        assert_eq!((raw[0], raw[2]), (1.0, 2.0));
        assert!((raw[1] - [2.0, -1.0, 0.0, -3.0].iter().map(|z| softplus(*z)).sum::<f64>()).abs() < 1e-12);
        let numbers = flagged(&[window(4, &[1.0, 2.0, 2.0]), window(6, &[3.0, 9.0, 5.0])]);
        assert_eq!(numbers, [0.4, 1.1, 5.0, 1.5]);
        assert!(kind.numbers(&[]).is_empty());
    }
}
