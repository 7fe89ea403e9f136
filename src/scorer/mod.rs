//! A document in, its model signals out: the pseudo-log-likelihood and what follows from it.
//!
//! Owns: `[signals.X] kind = "pll"`; a loaded model (tokenizer and engine, checked against each other); masking, raw sums and
//! their cache keys, pooling. In: a document. Out: signals.
//! Invariants: special tokens are never masked and never counted; each content token is scored once; nothing is truncated;
//! sums are pooled, perplexities never averaged; a document without tokens has no number at all.
//! Must not know: thresholds, verdicts, Kafka, how rows become batches.
//!
//! Salazar et al. 2020, "Masked Language Model Scoring", eq. 1 (PLL) and eq. 3 (PPPL).

mod card;
mod error;
mod health;
mod inspect;
mod masking;
mod model;
mod pll;
mod settings;
mod sums;

pub use card::Card;
pub use error::Error;
pub use health::Health;
pub use inspect::{Inspection, Pace, Special, Words, inspect};
pub use model::Model;
pub use pll::{Scorer, Token};
pub use settings::{Masking, Settings};
