//! Owns what can go wrong while loading or using a tokenizer, as facts.

use crate::corpus::{Class, Fault, Stage};
use std::path::PathBuf;

/// Why a tokenizer can't be loaded, or a text can't be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the model directory can't be read.
    #[error("{}: can't be read ({why}); a model directory holds model.onnx, tokenizer.json, tokenizer_config.json and config.json", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file of the model directory is not what it should be.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The tokenizer names no mask token, so nothing can be masked.
    #[error("{}: no mask token in tokenizer_config.json or special_tokens_map.json: this is not a masked language model", dir.display())]
    NoMaskToken {
        /// The model directory.
        dir: PathBuf,
    },
    /// A special token that the settings name is not in the vocabulary.
    #[error("{}: the {role} token {token:?} is not in the vocabulary of tokenizer.json", dir.display())]
    UnknownSpecial {
        /// The model directory.
        dir: PathBuf,
        /// Which one: `mask`, `pad`.
        role: &'static str,
        /// Its text.
        token: String,
    },
    /// The special tokens around a text can't be told from the text's own tokens.
    #[error("{}: the post-processor of tokenizer.json does not wrap a text in a fixed prefix and suffix", dir.display())]
    NoTemplate {
        /// The model directory.
        dir: PathBuf,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer refused the text: {why}")]
    Refused {
        /// What the tokenizer said.
        why: String,
    },
    /// The text is longer than spans can address.
    #[error("the text is {bytes} bytes long; at most 4294967295 can be tokenised")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(Stage::Tokenize, Class::Tokenizer, error.to_string())
    }
}
