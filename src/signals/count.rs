//! Owns the counts that the rates are made of: one pass over scalars, one over words, one over sentences, one over lines.

use crate::sentences::Sentences;
use std::collections::HashSet;
use unicode_segmentation::UnicodeSegmentation;

/// The commonest English function words. Closed and short on purpose: a sign of running English prose, not a language detector.
const ENGLISH_FUNCTION_WORDS: [&str; 36] = [
    "the", "of", "and", "to", "a", "in", "is", "it", "that", "was", "for", "on", "with", "as", "he", "be", "at", "by",
    "i", "this", "had", "not", "are", "but", "from", "or", "have", "an", "they", "which", "you", "were", "his", "we",
    "there", "their",
];

/// Counts over one text. Terms are defined at [`super::TextSignals`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) visible: u64,
    pub(super) letters: u64,
    pub(super) digits: u64,
    pub(super) upper: u64,
    pub(super) words: u64,
    pub(super) word_bytes: u64,
    pub(super) distinct_words: u64,
    pub(super) function_words: u64,
    pub(super) sentences: u64,
    pub(super) lines: u64,
    pub(super) dup_lines: u64,
}

impl Counts {
    pub(super) fn of(text: &str) -> Self {
        let mut counts = Self::default();
        counts.scalars(text);
        counts.word_segments(text);
        counts.sentences = Sentences::of(text).iter().filter(|sentence| holds_a_word(sentence)).count() as u64;
        counts.line_ends(text);
        counts
    }

    fn scalars(&mut self, text: &str) {
        for scalar in text.chars().filter(|scalar| !scalar.is_whitespace()) {
            self.visible += 1;
            self.letters += u64::from(scalar.is_alphabetic());
            self.digits += u64::from(scalar.is_numeric());
            // Letters only, so that the rate can't pass 1 (circled capitals are upper case, and alphabetic too).
            self.upper += u64::from(scalar.is_uppercase() && scalar.is_alphabetic());
        }
    }

    fn word_segments(&mut self, text: &str) {
        let mut seen: HashSet<String> = HashSet::new();
        let mut lower = String::new();
        for word in text.unicode_words() {
            self.words += 1;
            self.word_bytes += word.len() as u64;
            lower.clear();
            lower.extend(word.chars().flat_map(char::to_lowercase));
            self.function_words += u64::from(ENGLISH_FUNCTION_WORDS.contains(&lower.as_str()));
            if !seen.contains(&lower) {
                seen.insert(lower.clone());
            }
        }
        self.distinct_words = seen.len() as u64;
    }

    fn line_ends(&mut self, text: &str) {
        let mut seen: HashSet<&str> = HashSet::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.lines += 1;
            self.dup_lines += u64::from(!seen.insert(line));
        }
    }
}

/// Whether a sentence holds an alphanumeric scalar; then it holds a word.
fn holds_a_word(sentence: &str) -> bool {
    sentence.unicode_words().next().is_some()
}
