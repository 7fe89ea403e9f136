//! Text in, token ids out, and where to cut them into windows.
//!
//! Owns: the `tokenizers` crate; the model directory's tokenizer files; windows over token indices; the word that each
//! token belongs to.
//! In: a model directory, a text. Out: ids with byte spans in the original text, ranges of token indices, numbers
//! of words.
//! Invariants: text is text: no text, whatever it says, yields a special id (unknown aside); nothing is truncated, padded or
//! wrapped here, and the same text has the same ids whenever it comes; spans lie in the original text, on character boundaries, and their starts never decrease.
//! Must not know: models, batches, scores.

mod disarm;
mod encode;
mod error;
mod files;
pub mod windows;
pub mod words;

pub use encode::{Encoding, Tokenizer};
pub use error::Error;
pub use files::files;

#[cfg(test)]
mod tests;
