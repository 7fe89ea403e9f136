//! Where sentences begin (UAX #29), in time and memory linear in the text.
//!
//! Owns: sentence boundaries. In: a text. Out: byte offsets, or the sentences themselves. Invariants: they are those of `unicode-segmentation`, which stay
//! the definition; a text of n bytes takes time in proportion to n, whatever it holds.
//! Must not know: any other room.
//!
//! Why not that crate alone: behind a full stop (class ATerm) with closing marks and white space (`ATerm Close* Sp*`) rule SB8 asks whether a small letter
//! comes before anything else that tells, and the crate asks anew at each of those marks and spaces, up to the text's end: one full stop before a megabyte of spaces takes
//! hours. Such a tail holds no boundary, and to the rules it is one mark and one space. So the crate is given a shadow of the text in which long tails
//! are that short, and what was left out is added to its offsets again. Every full stop ends the search of the one before, so with short tails
//! no part of a text is searched more often than a tail has characters.

use std::borrow::Cow;
use std::collections::HashMap;
use unicode_segmentation::UnicodeSegmentation;

/// All characters of the class ATerm; `tests.rs` holds the list to the crate.
const FULL_STOPS: [char; 4] = ['.', '\u{2024}', '\u{FE52}', '\u{FF0E}'];
/// Tails of up to this many characters are left as they are: nearly every text is its own shadow.
const TAIL_MAX: usize = 16;

/// A text whose sentences can be asked for.
#[derive(Debug)]
pub struct Sentences<'a> {
    text: &'a str,
    shadow: Cow<'a, str>,
    gaps: Vec<Gap>,
}

/// Where the shadow lacks something.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Byte of the shadow before which it is left out.
    at: usize,
    /// How many bytes are left out up to there, this gap's and all before it.
    left_out: usize,
}

impl<'a> Sentences<'a> {
    /// The sentences of `text`. Copies it only where it holds a long tail.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let (mut shadow, mut gaps, mut copied) = (String::new(), Vec::new(), 0);
        let mut known = HashMap::new();
        for (at, stop) in text.match_indices(FULL_STOPS) {
            let start = at + stop.len();
            let tail = Tail::of(&text[start..], &mut known);
            if tail.scalars <= TAIL_MAX {
                continue;
            }
            shadow.push_str(&text[copied..start]);
            shadow.extend(tail.close.into_iter().chain(tail.space));
            copied = start + tail.bytes;
            gaps.push(Gap { at: shadow.len(), left_out: copied - shadow.len() });
        }
        if gaps.is_empty() {
            return Self { text, shadow: Cow::Borrowed(text), gaps };
        }
        shadow.push_str(&text[copied..]);
        Self { text, shadow: Cow::Owned(shadow), gaps }
    }

    /// The byte at which each sentence begins, ascending. A text that is not empty has one at 0.
    pub fn starts(&self) -> impl Iterator<Item = usize> + '_ {
        let (mut gaps, mut left_out) = (self.gaps.iter().peekable(), 0);
        // Of an empty text the crate's iterator must not be asked how long it is: that underflows.
        let shadow = Some(&*self.shadow).filter(|shadow| !shadow.is_empty());
        shadow.into_iter().flat_map(UnicodeSegmentation::split_sentence_bound_indices).map(move |(at, _)| {
            while let Some(gap) = gaps.next_if(|gap| gap.at <= at) {
                left_out = gap.left_out;
            }
            at + left_out
        })
    }

    /// The sentences, which together are the text.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + '_ {
        let mut from = 0;
        self.starts().skip(1).chain([self.text.len()]).filter_map(move |to| {
            let sentence = self.text.get(from..to).filter(|sentence| !sentence.is_empty());
            from = to;
            sentence
        })
    }
}

/// What follows a full stop without ending its sentence: `Close* Sp*`, and characters that count as part of the one before.
#[derive(Default)]
struct Tail {
    bytes: usize,
    scalars: usize,
    /// The first of class Close.
    close: Option<char>,
    /// The first of class Sp; behind it a mark of class Close is no part of the tail any more.
    space: Option<char>,
}

impl Tail {
    fn of(text: &str, known: &mut Known) -> Self {
        let mut tail = Self::default();
        for scalar in text.chars() {
            match class(scalar, known) {
                Class::Close if tail.space.is_none() => tail.close = tail.close.or(Some(scalar)),
                Class::Space => tail.space = tail.space.or(Some(scalar)),
                Class::Attached => {}
                Class::Close | Class::Other => break,
            }
            tail.bytes += scalar.len_utf8();
            tail.scalars += 1;
        }
        tail
    }
}

/// What a character is to a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Class Close.
    Close,
    /// Class Sp.
    Space,
    /// Class Extend or Format, which rule SB5 takes for part of what stands before it.
    Attached,
    /// Any other.
    Other,
}

fn class(scalar: char, known: &mut Known) -> Class {
    match scalar {
        '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' => Class::Close,
        ' ' | '\t' | '\u{b}' | '\u{c}' => Class::Space,
        _ if scalar.is_ascii() => Class::Other,
        _ => known.get(&scalar).copied().unwrap_or_else(|| {
            let class = observed(scalar);
            if class != Class::Other {
                known.insert(scalar, class);
            }
            class
        }),
    }
}

/// Characters of tails that were observed already: three thousand at most.
type Known = HashMap<char, Class>;

/// The class that shows in what the crate does with a character in four small texts: its tables are its own.
fn observed(scalar: char) -> Class {
    let are = |before: &str, after: &str, sentences: usize| {
        let mut text = String::with_capacity(before.len() + scalar.len_utf8() + after.len());
        text.extend([before, scalar.encode_utf8(&mut [0; 4]), after]);
        text.split_sentence_bounds().count() == sentences
    };
    // Within a sentence it ends none, and behind a question mark (class STerm) it puts the end off, not away.
    if !are("1", "A", 1) || !are("?", "A", 2) {
        return Class::Other;
    }
    match (are("?", ")", 1), are("? ", "", 1)) {
        (true, true) => Class::Attached,
        (true, false) => Class::Close,
        (false, true) => Class::Space,
        (false, false) => Class::Other,
    }
}

#[cfg(test)]
mod tests;
