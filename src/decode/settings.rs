//! Owns the `[document]` table: its keys, defaults and what is wrong with them.

use super::normalize::Normalize;
use super::pointer::Pointer;
use serde::{Deserialize, Serialize};

/// How a record's value holds its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The value is one JSON value; pointers lead to its parts.
    #[default]
    Json,
    /// The whole value is the text.
    Text,
}

/// The `[document]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `json` or `text`.
    pub format: Format,
    /// JSON pointer (RFC 6901) to the text. The empty pointer is the whole value, which must then be a JSON string.
    pub text: String,
    /// JSON pointer to the document's id (a string or an integer); empty: none.
    pub id: String,
    /// JSON pointer to the language tag (a string); empty: none.
    pub language: String,
    /// JSON pointer to the source label (a string); empty: none.
    pub source: String,
    /// What is done to a text before it is measured; the record is passed on as it came.
    pub normalize: Normalize,
    /// Values above this many bytes are dead-lettered undecoded. At least 1.
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Json,
            text: "/text".to_owned(),
            id: "/id".to_owned(),
            language: "/language".to_owned(),
            source: "/source".to_owned(),
            normalize: Normalize::None,
            max_bytes: 10_485_760,
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings; empty when [`super::Decoder::new`] would accept them.
    #[must_use]
    pub fn problems(&self) -> Vec<Error> {
        let pointers = [("text", &self.text), ("id", &self.id), ("language", &self.language), ("source", &self.source)];
        let mut problems: Vec<Error> =
            pointers.into_iter().filter_map(|(key, pointer)| Pointer::parse(key, pointer).err()).collect();
        if self.max_bytes == 0 {
            problems.push(Error::MaxBytes);
        }
        problems
    }
}

/// What is wrong with the `[document]` table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key does not hold a JSON pointer.
    #[error("{pointer:?} is not a JSON pointer: {why}")]
    Pointer {
        /// The key inside `[document]`.
        key: &'static str,
        /// What it holds.
        pointer: String,
        /// Which rule of RFC 6901 it breaks.
        why: &'static str,
    },
    /// `max_bytes` is zero, so that no record could ever be decoded.
    #[error("0 leaves no room for any document; the least is 1")]
    MaxBytes,
}

impl Error {
    /// The key inside `[document]` that is wrong.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Pointer { key, .. } => key,
            Self::MaxBytes => "max_bytes",
        }
    }
}
