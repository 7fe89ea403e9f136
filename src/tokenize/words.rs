//! Owns words: which UAX #29 segment of the original text each token belongs to.
//!
//! In: the text and its encoding. Out: a number for each token. Invariants: numbers never decrease, and are those of segments of the text
//! (white space and punctuation are segments too). Linear in the text's length.

use super::Encoding;
use unicode_segmentation::UnicodeSegmentation;

/// For each token, the number of the word-boundary segment (UAX #29) in which it starts. A token over two segments belongs to the first;
/// pieces of one character, which share its span, belong together.
#[must_use]
pub fn segments(text: &str, encoding: &Encoding) -> Vec<u32> {
    let mut ends = text.split_word_bounds().scan(0, |at, segment| {
        *at += segment.len();
        Some(*at)
    });
    let (mut number, mut end) = (0, ends.next().unwrap_or(0));
    let mut numbers = Vec::with_capacity(encoding.spans.len());
    for &(start, _) in &encoding.spans {
        while start as usize >= end
            && let Some(next) = ends.next()
        {
            number += 1;
            end = next;
        }
        numbers.push(number);
    }
    numbers
}
