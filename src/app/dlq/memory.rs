//! Owns which dead letters went back already, by which terms: the notes that a replay's group keeps beside its positions.
//!
//! In: what the group keeps. Out: where to begin, whether a letter went back, and the notes to keep next. Pure. Invariants: a letter counts as
//! replayed exactly if some terms that chose it were replayed beyond it; positions that somebody moved by hand, which have no note, remember nothing; a
//! note that can't be read is refused, not ignored.

use super::selection::{Choice, Terms};
use crate::kafka::{Kept, Span};
use crate::sink::DeadLetter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kafka's default for `offset.metadata.max.bytes`.
const NOTE_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    terms: Terms,
    next: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    tamis_replay: u32,
    replayed: Vec<Entry>,
}

/// The most digits of a position.
const POSITION_DIGITS: usize = 19;

/// The version of the notes' form.
const FORM: u32 = 1;

/// What went back already.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<i32, Vec<Entry>>);

impl Memory {
    /// What the group keeps, as far as the topic that it is about still has it.
    pub(super) fn of(kept: BTreeMap<i32, Kept>, spans: &BTreeMap<i32, Span>) -> Result<Self, String> {
        let mut memory = BTreeMap::new();
        for (partition, kept) in kept.into_iter().filter(|(_, kept)| !kept.note.is_empty()) {
            let note: Note = serde_json::from_str(&kept.note).map_err(|error| error.to_string())?;
            if note.tamis_replay != FORM {
                return Err(format!("their form is {}, this program's is {FORM}", note.tamis_replay));
            }
            // A position behind the end is of a topic that was deleted and made anew; one before the beginning remembers nothing that is left.
            let is_about_it = |entry: &Entry| {
                spans.get(&partition).is_some_and(|span| span.begin < entry.next && entry.next <= span.end)
            };
            memory.insert(partition, note.replayed.into_iter().filter(is_about_it).collect());
        }
        Ok(Self(memory))
    }

    /// Where these terms begin in each partition that they came to before.
    pub(super) fn beginnings(&self, terms: &Terms) -> BTreeMap<i32, i64> {
        let of = |entries: &[Entry]| entries.iter().find(|entry| entry.terms == *terms).map(|entry| entry.next);
        self.0.iter().filter_map(|(partition, entries)| Some((*partition, of(entries)?))).collect()
    }

    /// Whether this letter went back by some terms.
    pub(super) fn holds(&self, letter: &DeadLetter) -> bool {
        let (lane, offset) = (&letter.record.origin.lane, letter.record.origin.offset);
        let entries = self.0.get(&lane.partition).map_or(&[][..], Vec::as_slice);
        entries.iter().any(|entry| offset < entry.next && entry.terms.choose(letter) == Choice::Send)
    }

    /// Whether notes fit beside the positions wherever these terms come to. A note is longest at the beginning, where nothing is included in what
    /// was done yet, but for the digits of its position, which are most at the end.
    pub(super) fn fits(&self, terms: &Terms, spans: &BTreeMap<i32, Span>) -> bool {
        let begin: BTreeMap<i32, i64> = spans.iter().map(|(partition, span)| (*partition, span.begin)).collect();
        let digits = |text: &String| text.len() + POSITION_DIGITS <= NOTE_BYTES;
        self.notes(terms, &begin).is_some_and(|notes| notes.values().all(digits))
    }

    /// The notes to keep when these terms have come to `next`. `None` where they don't fit beside a position.
    pub(super) fn notes(&self, terms: &Terms, next: &BTreeMap<i32, i64>) -> Option<BTreeMap<i32, String>> {
        let note = |(partition, next): (&i32, &i64)| {
            let others = self.0.get(partition).into_iter().flatten();
            let others = others.filter(|entry| entry.terms != *terms && !includes(terms, *next, entry)).cloned();
            let own = Entry { terms: terms.clone(), next: *next };
            let note = Note { tamis_replay: FORM, replayed: others.chain([own]).collect() };
            let text = serde_json::to_string(&note).ok().filter(|text| text.len() <= NOTE_BYTES)?;
            Some((*partition, text))
        };
        next.iter().map(note).collect()
    }
}

/// Whether all that `entry` remembers is remembered by `terms` up to `next`, too: they pick everything of at least the same.
fn includes(terms: &Terms, next: i64, entry: &Entry) -> bool {
    let no_class_by_name = entry.terms.selection.classes.is_empty();
    terms.selection.is_everything()
        && no_class_by_name
        && terms.topics == entry.terms.topics
        && terms.max_replays >= entry.terms.max_replays
        && next >= entry.next
}

#[cfg(test)]
mod tests {
    use super::super::selection::Selection;
    use super::super::selection::tests::letter;
    use super::*;

    fn terms(class: Option<&str>) -> Terms {
        let selection = Selection { classes: class.map(str::to_owned).into_iter().collect(), ..Selection::default() };
        Terms { selection, max_replays: 3, topics: vec!["raw".into()] }
    }

    fn kept(notes: BTreeMap<i32, String>) -> Memory {
        let kept = notes.into_iter().map(|(partition, note)| (partition, Kept { next: 0, note })).collect();
        Memory::of(kept, &BTreeMap::from([(1, Span { begin: 2, end: 100 })])).unwrap()
    }

    #[test]
    fn a_letter_that_went_back_by_one_selection_does_not_go_back_by_another() {
        let device = kept(Memory::default().notes(&terms(Some("device")), &[(1, 50)].into()).unwrap());
        assert_eq!(device.beginnings(&terms(Some("device"))), [(1, 50)].into());
        assert!(device.beginnings(&terms(None)).is_empty());
        assert!(device.holds(&letter("device", 49)) && !device.holds(&letter("device", 50)));
        assert!(!device.holds(&letter("bad-json", 10)), "it was passed by, not sent");
        let both = kept(device.notes(&terms(Some("bad-json")), &[(1, 20)].into()).unwrap());
        assert!(both.holds(&letter("bad-json", 10)) && both.holds(&letter("device", 49)));
        assert!(!both.holds(&letter("bad-json", 30)));
    }

    #[test]
    fn notes_shrink_where_everything_went_back_and_are_refused_where_they_grow_too_long() {
        let mut memory = Memory::default();
        let mut reason = terms(None);
        let mut remembered = 0;
        // The longest first, so that at last not one letter more fits.
        for length in (0..40).rev() {
            for n in 0.. {
                reason.selection.reason = Some(format!("{n:02}{}", "-".repeat(length)));
                let Some(notes) = memory.notes(&reason, &[(1, 50)].into()) else { break };
                memory = kept(notes);
                remembered += 1;
            }
        }
        assert!((10..100).contains(&remembered), "{remembered}");
        let notes = memory.notes(&terms(None), &[(1, 50)].into()).unwrap();
        assert!(notes[&1].len() < 200, "{notes:?}");
        // Until everything is through, the others' memory has to stand beside it.
        assert!(memory.notes(&terms(None), &[(1, 49)].into()).is_none());
        let spans = BTreeMap::from([(1, Span { begin: 2, end: 100 })]);
        assert!(!memory.fits(&terms(None), &spans) && Memory::default().fits(&terms(None), &spans));
    }

    #[test]
    fn positions_without_a_note_and_of_another_topic_of_that_name_remember_nothing() {
        let memory = kept([(1, String::new())].into());
        assert!(!memory.holds(&letter("device", 3)));
        let anew = kept(Memory::default().notes(&terms(None), &[(1, 101)].into()).unwrap());
        assert!(!anew.holds(&letter("device", 3)) && anew.beginnings(&terms(None)).is_empty());
        let strange = BTreeMap::from([(1, Kept { next: 5, note: "{}".into() })]);
        assert!(Memory::of(strange, &BTreeMap::new()).is_err());
    }
}
