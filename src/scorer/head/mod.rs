//! One-pass heads: what a classifier or an embedding says of a document, one forward pass a window, nothing masked.
//!
//! Owns: the kinds `sequence-classifier`, `token-classifier`, `embedding` (and its head's file) and `prompt`; labels and their names, activations, the pooling of windows; the raw
//! numbers of a window and their cache keys. A kind is a variant of [`Head`] (its settings) and of `kind::Kind` (what is read and what becomes of
//! it); a new one begins there, and the compiler lists the rest.
//! Invariants: the cache holds what the model said, before labels, activations and the pooling of windows, so that changing those costs no device time;
//! labels stand in the pipeline file, and a model with others is refused.

mod file;
mod kind;
mod labels;
mod prompt;
mod score;
mod settings;

pub use score::HeadScorer;
pub use settings::{
    Activation, EmbeddingSettings, Head, Pool, Pooling, PromptSettings, SequenceSettings, TokenSettings,
};
