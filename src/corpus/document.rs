//! Owns the document: the text to be judged and what is known about it.

/// A decoded document. `text` may be empty; then it is unscorable, never a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Identifier from the record, if its pointer led to a string or a number.
    pub id: Option<String>,
    /// The text to be measured: as decoded, untrimmed, and normalised only where `document.normalize` asks for it.
    pub text: String,
    /// Language tag as the record gives it (`en`, `de`), used to choose thresholds.
    pub language: Option<String>,
    /// Source label as the record gives it, used to choose thresholds.
    pub source: Option<String>,
}
