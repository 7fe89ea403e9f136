//! Owns a window's raw sums, their bytes in the cache, and how windows are pooled into signals.

use crate::corpus::Signals;
use std::sync::Arc;

/// Changes with the meaning or the layout of the bytes below; part of the scorer's identity.
pub(super) const LAYOUT: u8 = 1;
const BYTES: usize = 1 + 3 * 8;

/// What is known of one window, or of all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sums {
    /// Σ −log p over the scored tokens, nats.
    pub(super) nll: f64,
    /// Scored tokens.
    pub(super) tokens: u64,
    /// Those of them that are the unknown token.
    pub(super) unknown: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.nll += other.nll;
        self.tokens += other.tokens;
        self.unknown += other.unknown;
    }

    /// Layout byte, then three little-endian words.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let words = [self.nll.to_bits(), self.tokens, self.unknown];
        std::iter::once(LAYOUT).chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    /// Reads bytes back; `None` for another layout, a damaged value, or a window of another length.
    pub(super) fn from_bytes(bytes: &[u8], tokens: usize) -> Option<Self> {
        let (layout, rest) = bytes.split_first()?;
        if bytes.len() != BYTES || *layout != LAYOUT {
            return None;
        }
        let mut words = rest.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes).unwrap_or_default());
        let sums = Self { nll: f64::from_bits(words.next()?), tokens: words.next()?, unknown: words.next()? };
        let sound = sums.nll.is_finite() && sums.tokens == tokens as u64 && sums.unknown <= sums.tokens;
        sound.then_some(sums)
    }
}

/// Names of a score's signals, made once.
pub(super) struct Names {
    nll_token: Arc<str>,
    pppl: Arc<str>,
    nll_word: Arc<str>,
    bpb: Arc<str>,
    tokens: Arc<str>,
    windows: Arc<str>,
    worst_decile: Arc<str>,
    unk_rate: Arc<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |tail: &str| Arc::from(format!("{prefix}.{tail}"));
        Self {
            nll_token: name("nll_token"),
            pppl: name("pppl"),
            nll_word: name("nll_word"),
            bpb: name("bpb"),
            tokens: name("tokens"),
            windows: name("windows"),
            worst_decile: name("worst_decile"),
            unk_rate: name("unk_rate"),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<str>> {
        [
            &self.nll_token,
            &self.pppl,
            &self.nll_word,
            &self.bpb,
            &self.tokens,
            &self.windows,
            &self.worst_decile,
            &self.unk_rate,
        ]
        .map(Arc::clone)
        .to_vec()
    }
}

/// Pools `windows` by sums. `words` counts UAX #29 segments that hold an alphanumeric, `bytes` those of the original text.
/// Without tokens there are counts and no numbers; what overflows or divides by nothing is absent.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn pool(names: &Names, windows: &[Sums], words: usize, bytes: usize) -> Signals {
    let mut signals = Signals::new();
    let mut total = Sums::default();
    windows.iter().for_each(|window| total.add(window));
    signals.count(Arc::clone(&names.tokens), total.tokens);
    signals.count(Arc::clone(&names.windows), windows.len() as u64);
    if total.tokens == 0 {
        return signals;
    }
    let per_token = total.nll / total.tokens as f64;
    signals.number(Arc::clone(&names.nll_token), per_token);
    signals.number(Arc::clone(&names.pppl), per_token.exp());
    signals.number(Arc::clone(&names.nll_word), total.nll / words as f64);
    signals.number(Arc::clone(&names.bpb), total.nll / (bytes as f64 * std::f64::consts::LN_2));
    signals.number(Arc::clone(&names.worst_decile), worst_decile(windows));
    signals.number(Arc::clone(&names.unk_rate), total.unknown as f64 / total.tokens as f64);
    signals
}

/// Token-weighted mean over the worst ceil(n/10) windows, nats a token.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn worst_decile(windows: &[Sums]) -> f64 {
    let mean = |sums: &Sums| sums.nll / sums.tokens as f64;
    let mut worst = windows.to_vec();
    worst.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    worst.truncate(windows.len().div_ceil(10));
    let mut total = Sums::default();
    worst.iter().for_each(|window| total.add(window));
    mean(&total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(signals: &Signals, name: &str) -> Option<f64> {
        signals.get(name).and_then(crate::corpus::SignalValue::as_number)
    }

    #[test]
    fn bytes_round_trip_and_anything_else_is_a_miss() {
        let sums = Sums { nll: 12.5, tokens: 5, unknown: 1 };
        let bytes = sums.to_bytes();
        assert_eq!(Sums::from_bytes(&bytes, 5), Some(sums));
        assert_eq!(Sums::from_bytes(&bytes, 6), None);
        assert_eq!(Sums::from_bytes(&bytes[1..], 5), None);
        assert_eq!(Sums::from_bytes(&[], 5), None);
        let mut other = bytes.clone();
        other[0] = LAYOUT + 1;
        assert_eq!(Sums::from_bytes(&other, 5), None);
        assert_eq!(Sums::from_bytes(&Sums { nll: f64::NAN, ..sums }.to_bytes(), 5), None);
    }

    #[test]
    fn windows_are_pooled_by_sums() {
        let windows = [Sums { nll: 10.0, tokens: 10, unknown: 0 }, Sums { nll: 10.0, tokens: 2, unknown: 1 }];
        let signals = pool(&Names::new("p"), &windows, 4, 50);
        assert_eq!(number(&signals, "p.nll_token"), Some(20.0 / 12.0));
        assert_eq!(number(&signals, "p.nll_word"), Some(5.0));
        assert_eq!(number(&signals, "p.worst_decile"), Some(5.0));
        assert_eq!(number(&signals, "p.unk_rate"), Some(1.0 / 12.0));
        let byte_perplexity = (20.0_f64 / 50.0).exp();
        assert!(
            (number(&signals, "p.bpb").unwrap().exp2() - byte_perplexity).abs() < 1e-12,
            "2^bpb is byte perplexity"
        );
    }

    #[test]
    fn nothing_has_counts_and_no_number() {
        let signals = pool(&Names::new("p"), &[], 0, 0);
        let names: Vec<String> = signals.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["p.tokens", "p.windows"]);
    }

    #[test]
    fn without_words_or_within_no_range_a_number_is_absent() {
        let signals = pool(&Names::new("p"), &[Sums { nll: 2000.0, tokens: 1, unknown: 0 }], 0, 3);
        assert_eq!(number(&signals, "p.nll_word"), None);
        assert_eq!(number(&signals, "p.pppl"), None);
        assert_eq!(number(&signals, "p.nll_token"), Some(2000.0));
    }
}
