//! A document in, its model signals out: pseudo-log-likelihoods, what follows from them, and a bound.
//!
//! Owns: `[signals.X]` of kind `pll` and `nelbo`, and those of one pass (`head/`); a loaded model (tokenizer and engine, checked against each other); masking, raw
//! sums and their cache keys, pooling. In: a document. Out: signals.
//! Invariants: special tokens are never masked and never counted; each content token is scored once, but where a masking says
//! otherwise; nothing is truncated; sums are pooled, perplexities never averaged; a document without tokens has no number at all;
//! the same content always gets the same number, but for estimates of scores that stop early, which are marked as such.
//! Must not know: thresholds (only that some numbers are edges), verdicts, Kafka, how rows become batches.
//!
//! Salazar et al. 2020, "Masked Language Model Scoring", eq. 1 (PLL) and eq. 3 (PPPL); the other scores' papers stand with them
//! in `plan.rs`, `settings.rs` and `docs/scores.md`.

mod audit;
mod calibration;
mod card;
mod certificate;
mod compile;
mod cost;
mod draws;
mod early;
mod error;
mod head;
mod health;
mod inspect;
mod measure;
mod model;
mod partial;
mod plan;
mod recall;
mod recipe;
mod score;
mod sequential;
mod settings;
mod stop;
mod sums;
mod tail;
mod turns;

pub use calibration::{Losses, Record, Stratum, Table, TableError, Trial, upper_bound};
pub use card::Card;
pub use certificate::{Cell, Certificate};
pub use compile::{Compiled, compile};
pub use error::Error;
pub use head::{
    Activation, EmbeddingSettings, Head, HeadScorer, Pool, Pooling, PromptSettings, SequenceSettings, TokenSettings,
};
pub use health::Health;
pub use inspect::{Inspection, Kind, Pace, Special, Vocabulary, inspect};
pub use measure::Measure;
pub use model::{Model, Task};
pub use score::{Scorer, Token};
pub use settings::{Extra, Masking, NelboSettings, Settings, Shape, WordsBy};
pub use stop::Stop;

/// `bytes` of the cache read as what is known of a window of `tokens` tokens, and written again; `None` where they are a miss. For those alone who fuzz
/// it (`fuzz/`): any other way to it leads through a store on disk and a model.
#[doc(hidden)]
#[must_use]
pub fn reread(bytes: &[u8], tokens: usize, ranks: bool, odds: bool) -> Option<Vec<u8>> {
    let sums = sums::Sums::from_bytes(bytes, tokens, crate::engine::Needs { ranks, odds });
    sums.map(sums::Sums::to_bytes).or_else(|| Some(partial::Partial::from_bytes(bytes, tokens)?.to_bytes()))
}
