//! Text signals: cheap numbers that catch what a fluency score can't (boilerplate, lists, shouting, number tables).
//!
//! Owns: `kind = "text"` signals and their exact definitions. In: a document's text. Out: numbers under `<name>.`, where `<name>` is
//! the signal table's name in the pipeline file.
//! Invariants: pure CPU, no state between documents; a rate without a denominator is absent, never 0; every rate lies
//! in 0..=1; time and memory are linear in the text; a long text keeps no thread of the runtime.
//! Must not know: models, rules, records.

mod count;
mod texts;

use crate::corpus::Signals;
use count::Counts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
pub use texts::Texts;

/// A `[signals.X]` table with `kind = "text"`. It has no keys yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}

/// Measures text signals under one name. Cheap to share.
///
/// A *word* is a UAX#29 word segment that holds an alphanumeric scalar; a *sentence* likewise a UAX#29 sentence that holds one;
/// a *line* is what `\n` or `\r\n` ends, trimmed of white space, if anything is left; a *visible* scalar is a Unicode scalar
/// value that is not white space. Words are compared after Unicode lower-casing, lines as they are.
///
/// | signal | definition | absent when |
/// |---|---|---|
/// | `.bytes` | UTF-8 bytes of the text | never |
/// | `.words` | words | never |
/// | `.letter_rate` | alphabetic scalars / visible scalars | nothing visible |
/// | `.digit_rate` | numeric scalars (categories Nd, Nl, No) / visible scalars | nothing visible |
/// | `.upper_rate` | upper-case scalars / alphabetic scalars | no letters |
/// | `.word_bytes` | bytes of all words / words | no words |
/// | `.sentence_words` | words / sentences | no words |
/// | `.distinct_word_rate` | distinct words / words; falls with length in any language | no words |
/// | `.english_function_rate` | words in a list of 36 English function words / words; low for other languages | no words |
/// | `.dup_line_rate` | lines equal to an earlier line / lines | no lines |
#[derive(Debug, Clone)]
pub struct TextSignals {
    names: [Arc<str>; SUFFIXES.len()],
}

const SUFFIXES: [&str; 10] = [
    "bytes",
    "words",
    "letter_rate",
    "digit_rate",
    "upper_rate",
    "word_bytes",
    "sentence_words",
    "distinct_word_rate",
    "english_function_rate",
    "dup_line_rate",
];

impl TextSignals {
    /// Signals that will be called `<name>.<suffix>`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { names: SUFFIXES.map(|suffix| Arc::from(format!("{name}.{suffix}"))) }
    }

    /// The names that [`Self::measure`] can yield, in the order of the table above.
    #[must_use]
    pub fn signal_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Adds the signals of `text` to `signals`. Takes time linear in the text; some tens of milliseconds a megabyte.
    pub fn measure(&self, text: &str, signals: &mut Signals) {
        let counts = Counts::of(text);
        let [
            bytes,
            words,
            letter_rate,
            digit_rate,
            upper_rate,
            word_bytes,
            sentence_words,
            distinct_word_rate,
            english_function_rate,
            dup_line_rate,
        ] = &self.names;
        signals.count(bytes.clone(), text.len() as u64);
        signals.count(words.clone(), counts.words);
        let ratios = [
            (letter_rate, counts.letters, counts.visible),
            (digit_rate, counts.digits, counts.visible),
            (upper_rate, counts.upper, counts.letters),
            (word_bytes, counts.word_bytes, counts.words),
            (sentence_words, counts.words, counts.sentences),
            (distinct_word_rate, counts.distinct_words, counts.words),
            (english_function_rate, counts.function_words, counts.words),
            (dup_line_rate, counts.dup_lines, counts.lines),
        ];
        for (name, part, whole) in ratios {
            if whole > 0 {
                #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
                signals.number(name.clone(), part as f64 / whole as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
