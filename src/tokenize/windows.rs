//! Owns windows: where a long document's tokens are cut.
//!
//! In: the text and its encoding. Out: ranges of token indices. Invariants: every token lies in exactly one window, order is
//! kept, no window is empty or longer than asked for. Linear in the text's length.

use super::Encoding;
use crate::sentences::Sentences;
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;

/// Cuts `encoding` into windows of at most `max_tokens` (at least 1) tokens. What fits in one window is one window, nothing is
/// none. Else, greedily, a window ends at the last sentence start (UAX #29) in its second half, failing that at the last
/// word-boundary (UAX #29) there, failing that when it is full. A boundary counts for the first token that starts at or after it.
#[must_use]
pub fn cut(text: &str, encoding: &Encoding, max_tokens: usize) -> Vec<Range<usize>> {
    let max_tokens = max_tokens.max(1);
    let count = encoding.ids.len();
    if count == 0 {
        return Vec::new();
    }
    if count <= max_tokens {
        return vec![Range { start: 0, end: count }];
    }
    let sentences = marks(encoding, Sentences::of(text).starts());
    let words = marks(encoding, text.split_word_bound_indices().map(|(at, _)| at));
    let mut windows = Vec::with_capacity(count / max_tokens * 2);
    let mut start = 0;
    while count - start > max_tokens {
        let full = start + max_tokens;
        let last = |marks: &[bool]| (start + max_tokens / 2 + 1..=full).rev().find(|at| marks[*at]);
        let end = last(&sentences).or_else(|| last(&words)).unwrap_or(full);
        windows.push(start..end);
        start = end;
    }
    windows.push(start..count);
    windows
}

/// For each token, whether it is the first to start at or after one of `boundaries` (ascending byte offsets).
fn marks(encoding: &Encoding, boundaries: impl Iterator<Item = usize>) -> Vec<bool> {
    let mut marks = vec![false; encoding.spans.len()];
    let mut token = 0;
    for boundary in boundaries {
        while token < marks.len() && (encoding.spans[token].0 as usize) < boundary {
            token += 1;
        }
        match marks.get_mut(token) {
            Some(mark) => *mark = true,
            None => break,
        }
    }
    marks
}
