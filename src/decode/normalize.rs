//! Owns the normalisation of a text before it is measured: what looks alike to a reader made alike to a model. Off unless asked for.
//!
//! In: a decoded text. Out: the text that signals are measured on; the record itself is never touched. Invariants: a text of ASCII alone comes out
//! as it went in; the result is at most [`GROWTH_MAX`] times as long, in bytes, and never longer than asked for: what would be is given up on the way, before it
//! takes the memory.
//! Must not know: tokenizers, languages.
//!
//! What it closes is what a reader can't see: marks without width, full-width and mathematical letters (NFKC, Unicode Standard Annex #15), and letters
//! of other scripts that pass for Latin ones (Unicode Technical Standard #39, confusables). Words that are really there, such as stuffed keywords
//! or fluent boilerplate around junk, are no matter of letters and stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_script::{Script, UnicodeScript as _};
use unicode_security::skeleton;

/// How much longer NFKC makes a text at most, in bytes of UTF-8 (U+FDFA, which stands for a phrase).
#[cfg(test)]
const GROWTH_MAX: usize = 11;
/// Letters of phonetic transcription, Latin by script, of which some pass for plain ones.
const PHONETIC: std::ops::RangeInclusive<char> = '\u{0250}'..='\u{02AF}';
/// Zero-width joiner and non-joiner: they spell words in some scripts, and nothing in others.
const JOINERS: [char; 2] = ['\u{200C}', '\u{200D}'];
/// The first letter that is neither Latin, Greek nor Cyrillic, in the order of Unicode's blocks.
const BEYOND_CYRILLIC: char = '\u{0530}';

/// `document.normalize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// The text is measured as it is.
    #[default]
    None,
    /// Marks without width are left out, and compatibility forms are made plain: NFKC.
    Nfkc,
    /// The same, and letters of other scripts that stand for Latin ones become those.
    Lookalikes,
}

impl Normalize {
    /// A name for what is done, part of the identity of what is measured; another version means another result. `None` where nothing is done.
    #[must_use]
    pub(super) fn identity(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Nfkc => Some("nfkc-1"),
            Self::Lookalikes => Some("lookalikes-2"),
        }
    }

    /// The text to be measured; `None` where compatibility forms make it longer than `max_bytes`. A text to which nothing is done comes back whatever
    /// its length.
    pub(super) fn apply(self, text: String, max_bytes: usize) -> Option<String> {
        if self == Self::None || text.is_ascii() {
            return Some(text);
        }
        // What stood apart only by a mark may compose now, so it is normalised again.
        let mut plain = String::with_capacity(text.len().min(max_bytes));
        for letter in without_marks(text.nfkc()).nfkc() {
            if plain.len() + letter.len_utf8() > max_bytes {
                return None;
            }
            plain.push(letter);
        }
        drop(text);
        plain.shrink_to_fit();
        match self {
            Self::None | Self::Nfkc => Some(plain),
            Self::Lookalikes => Some(unmasked(plain)),
        }
    }
}

/// The letters without what nobody sees.
fn without_marks(letters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let mut last = '\0';
    letters.filter(move |letter| {
        let spells = JOINERS.contains(letter) && last >= BEYOND_CYRILLIC;
        let stays = spells || !is_invisible(*letter);
        if stays {
            last = *letter;
        }
        stays
    })
}

/// Whether a character takes no place and spells nothing: format controls, fillers, selectors, tags. (Emoji lose the selector of their colours.)
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

/// The text with letters of other scripts made Latin, in words where they can only be meant to pass for Latin: those that hold Latin letters too,
/// and, in a text that is mostly Latin, words of two letters and more that could be Latin letter by letter. A mark on a letter does not end a word.
fn unmasked(text: String) -> String {
    let (mut latin, mut foreign, mut has_foreign) = (0_usize, 0_usize, false);
    for word in text.split(|letter| !spells(letter)) {
        // A word of both counts as Latin: that is what it is meant to be taken for.
        let (all, others) = (letters(word).count(), letters(word).filter(|letter| is_foreign(*letter)).count());
        has_foreign |= others > 0;
        if others < all { latin += all } else { foreign += all }
    }
    if !has_foreign {
        return text;
    }
    let mostly_latin = latin > foreign;
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|letter| !spells(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let is_mixed = word.chars().any(|letter| letter.is_ascii()) || (mostly_latin && passes(word));
        for letter in word.chars() {
            out.push(if is_mixed { lookalike(letter).unwrap_or(letter) } else { letter });
        }
        let gap = after.find(spells).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    // A letter that is Latin now may compose with the mark behind it. Latin letters are shorter, and composed ones too.
    let mut out: String = out.nfc().collect();
    out.shrink_to_fit();
    out
}

/// Whether a character is part of a word.
fn spells(letter: char) -> bool {
    letter.is_alphabetic() || is_combining_mark(letter)
}

/// A word's letters, without the marks on them.
fn letters(word: &str) -> impl Iterator<Item = char> {
    word.chars().filter(|letter| letter.is_alphabetic())
}

/// Whether every letter of a word of two and more has a Latin lookalike.
fn passes(word: &str) -> bool {
    letters(word).count() > 1 && letters(word).all(|letter| lookalike(letter).is_some())
}

fn is_foreign(letter: char) -> bool {
    !letter.is_ascii() && (letter.script() != Script::Latin || PHONETIC.contains(&letter))
}

/// The one Latin letter that this letter of another script passes for.
fn lookalike(letter: char) -> Option<char> {
    if !is_foreign(letter) {
        return None;
    }
    let mut buffer = [0; 4];
    let mut prototype = skeleton(letter.encode_utf8(&mut buffer));
    let found = prototype.next().filter(char::is_ascii_alphabetic)?;
    if prototype.next().is_some() {
        return None;
    }
    // The tables know one prototype for capital i and small l, which is l.
    Some(if found == 'l' && letter.is_uppercase() { 'I' } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(how: Normalize, text: &str) -> String {
        how.apply(text.to_owned(), usize::MAX).unwrap()
    }

    fn lookalikes(text: &str) -> String {
        apply(Normalize::Lookalikes, text)
    }

    #[test]
    fn marks_without_width_and_wide_letters_become_what_a_reader_sees() {
        for (masked, seen) in [
            ("vi\u{200B}ag\u{AD}ra\u{FEFF}", "viagra"),
            ("\u{202E}free\u{202C} \u{2066}money\u{2069}", "free money"),
            ("ｆｒｅｅ　ｍｏｎｅｙ", "free money"),
            ("𝐟𝐫𝐞𝐞 𝒎𝒐𝒏𝒆𝒚", "free money"),
            ("e\u{200B}\u{301}", "é"),
            ("\u{FDFA}", "صلى الله عليه وسلم"),
        ] {
            assert_eq!(apply(Normalize::Nfkc, masked), seen);
            assert_eq!(apply(Normalize::None, masked), masked);
        }
    }

    #[test]
    fn letters_that_pass_for_latin_ones_become_those_among_latin_letters() {
        assert_eq!(
            lookalikes("Тhе hоuѕе аnd іtѕ gаrdеn асrоѕѕ thе rіvеr"),
            "The house and its garden across the river"
        );
        assert_eq!(lookalikes("Тhe сommittee mеt οn Tuesdаy"), "The committee met on Tuesday");
        assert_eq!(
            lookalikes("Іt is a сорсе of the people who live here"),
            "It is a copce of the people who live here"
        );
    }

    #[test]
    fn a_letter_made_latin_composes_with_its_mark_and_the_word_goes_on_behind_it() {
        // Found by fuzzing: Hebrew samekh with an acute became two characters, and one in a second round.
        assert_eq!(lookalikes("A\u{5E1}\u{301}"), "A\u{f3}");
        assert_eq!(lookalikes("A\u{5E1}\u{301}\u{440}\u{301}\u{440}"), "A\u{f3}\u{1e55}p");
    }

    #[test]
    fn words_of_other_scripts_stay_what_they_are() {
        for text in [
            "Он сказал, что это роса.",
            "The word он means he, and α-helix keeps its letter; 5 μm and 3 Ω too.",
            "ο κόσμος είναι όμορφος",
            "می\u{200C}خواهم",
            "naïve café, Straße, kadın, œuvre",
            "日本語のテキスト",
        ] {
            assert_eq!(lookalikes(text), text.nfkc().collect::<String>());
        }
    }

    proptest! {
        #[test]
        fn ascii_stays_as_it_is_growth_is_bounded_and_twice_is_as_once(
            text in prop_oneof!["\\PC{0,40}", "[aA \u{301}\u{300}\u{5e1}\u{440}\u{43e}\u{44f}\u{3bf}\u{3ac}\u{200b}]{0,12}"], ascii in "[ -~]{0,40}") {
            for how in [Normalize::Nfkc, Normalize::Lookalikes] {
                let once = apply(how, &text);
                prop_assert!(once.len() <= GROWTH_MAX * text.len().max(1));
                prop_assert_eq!(apply(how, &once), once.clone());
                prop_assert_eq!(apply(how, &ascii), ascii.clone());
            }
        }

        #[test]
        fn letter_by_letter_is_the_same_as_text_by_text(text in "[a\u{301}\u{323}\u{200b}-\u{200d}\u{ad}\u{34f}\u{fdfa}\u{645}\u{ac00}\u{1100}\u{1161}]{0,12}", any in any::<String>()) {
            for text in [text, any] {
                let mut plain = String::new();
                for letter in text.nfkc() {
                    let spells = JOINERS.contains(&letter) && plain.chars().next_back().is_some_and(|last| last >= BEYOND_CYRILLIC);
                    if spells || !is_invisible(letter) {
                        plain.push(letter);
                    }
                }
                prop_assert_eq!(apply(Normalize::Nfkc, &text), plain.nfkc().collect::<String>());
            }
        }

        #[test]
        fn what_is_too_long_is_given_up_and_nothing_else(text in "[a\u{fdfa}\u{fb03}\u{ff21}\u{410}]{1,12}", max_bytes in 0_usize..60) {
            for how in [Normalize::Nfkc, Normalize::Lookalikes] {
                let (plain, nfkc) = (apply(how, &text), apply(Normalize::Nfkc, &text));
                let fits = text.is_ascii() || nfkc.len() <= max_bytes;
                prop_assert_eq!(how.apply(text.clone(), max_bytes), fits.then_some(plain));
            }
        }
    }
}
