//! Owns what a score costs: a guess from its settings, then what the device was seen to take for it.
//!
//! In: rows that were asked of the engine, documents that asked. Out: device seconds a document. Invariants: costs order scores and nothing else: no
//! verdict depends on them; what the cache answers costs nothing.

use super::{Model, Scorer};
use std::sync::atomic::{AtomicU64, Ordering};

/// Documents after which what was seen counts, and the guess no more.
const LEARNED_AFTER: u64 = 32;
/// What a row's token is taken to need before the device has run one: as all scores are taken alike, only their ratio matters.
const SECONDS_A_ROW_TOKEN: f64 = 1e-5;
/// Special tokens of a row, about.
const SPECIALS: usize = 2;
/// The document that a guess is about, tokens.
const GUESSED_TOKENS: usize = 512;

/// Counts of one scorer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    documents: AtomicU64,
    row_tokens: AtomicU64,
}

impl Meter {
    /// A document is being scored.
    pub(super) fn document(&self) {
        self.documents.fetch_add(1, Ordering::Relaxed);
    }

    /// The device was asked for `rows` rows of `tokens` tokens, special ones included.
    pub(super) fn rows(&self, rows: usize, tokens: usize) {
        self.row_tokens.fetch_add((rows * tokens) as u64, Ordering::Relaxed);
    }

    /// Device seconds a document by `model`; `guess` is how many row tokens it needs as long as too little was seen.
    pub(super) fn seconds(&self, guess: usize, model: &Model) -> f64 {
        let row_token = model.engine().seconds_a_row_token().unwrap_or(SECONDS_A_ROW_TOKEN);
        self.row_tokens_a_document(guess) * row_token
    }

    /// Row tokens a document, once enough were seen; before, `guess`.
    #[allow(clippy::cast_precision_loss, reason = "a mean of large counts")]
    fn row_tokens_a_document(&self, guess: usize) -> f64 {
        let documents = self.documents.load(Ordering::Relaxed);
        if documents < LEARNED_AFTER {
            return guess as f64;
        }
        self.row_tokens.load(Ordering::Relaxed) as f64 / documents as f64
    }
}

impl Scorer {
    /// Device seconds that a document is expected to take: the rows that documents were seen to need, early ends and the cache included, times what the
    /// model's device was seen to need for a row's token. Until 32 documents were scored, the rows of one document of 512 tokens.
    #[must_use]
    pub fn cost_seconds(&self) -> f64 {
        self.meter.seconds(guess(self.passes_a_window(), self.recipe.window_tokens), &self.model)
    }
}

/// Row tokens that a document of 512 tokens takes, at `passes` for each window of `window` tokens: small windows make few passes each, but many.
pub(super) fn guess(passes: usize, window: usize) -> usize {
    passes * (window + SPECIALS) * GUESSED_TOKENS / window.max(1)
}

/// A cost in powers of two of a microsecond, so that scores that cost about the same keep their order.
#[allow(clippy::cast_possible_truncation, reason = "a logarithm within -64 and 64")]
pub(super) fn class(seconds: f64) -> i32 {
    (seconds * 1e6).max(1e-6).log2().clamp(-64.0, 64.0).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_by_the_document_and_not_by_the_window() {
        // "single" in windows of 16 makes more rows of a document than "strided" by 7 in windows of 128.
        assert!(guess(16, 16) > guess(7, 128));
        assert!(guess(1, 128) < guess(7, 128));
    }

    #[test]
    fn a_guess_counts_until_enough_was_seen() {
        let meter = Meter::default();
        for _ in 0..31 {
            meter.document();
            meter.rows(2, 10);
        }
        assert_eq!(meter.row_tokens_a_document(700), 700.0);
        meter.document();
        meter.rows(2, 10);
        assert_eq!(meter.row_tokens_a_document(700), 20.0);
        (0..32).for_each(|_| meter.document());
        assert_eq!(meter.row_tokens_a_document(700), 10.0, "what the cache answered costs nothing");
    }
}
