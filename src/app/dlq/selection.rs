//! Owns which dead letters are meant: what a person picks, and what a replay leaves whatever was picked.
//!
//! In: a dead letter. Out: a choice. Pure. Invariants: the same terms choose the same of the same letters whenever they are asked, because a group's notes hold
//! them to say which letters went back; so nothing here looks at a clock, and a new filter is absent from old notes.

use crate::kafka::SourceSettings;
use crate::sink::DeadLetter;
use serde::{Deserialize, Serialize};

/// What a person picks. Each filter that is given must fit; of several values of one, any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Stages of the road, as dead letters name them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// Classes of faults, as dead letters name them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Part of the message, upper or lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the record came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Span>,
    /// Records of this moment or later, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Records before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// The record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// These dead letters, by partition and offset on their own topic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<(i32, i64)>,
}

/// A part of the source: a topic, one of its partitions, offsets in that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The topic.
    pub topic: String,
    /// The partition; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The first offset; from the beginning where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The last offset; to the end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?}: write TOPIC, TOPIC/PARTITION, TOPIC/PARTITION/OFFSET or TOPIC/PARTITION/FIRST-LAST");
        let mut parts = text.split('/');
        let topic = parts.next().filter(|topic| !topic.is_empty()).ok_or_else(wrong)?.to_owned();
        let partition = parts.next().map(str::parse).transpose().map_err(|_| wrong())?;
        let (from, to) = match parts.next().map(|range| range.split_once('-').unwrap_or((range, range))) {
            None => (None, None),
            Some((from, to)) => (Some(from.parse().map_err(|_| wrong())?), Some(to.parse().map_err(|_| wrong())?)),
        };
        if parts.next().is_some() || from > to {
            return Err(wrong());
        }
        Ok(Self { topic, partition, from, to })
    }
}

impl Span {
    fn holds(&self, letter: &DeadLetter) -> bool {
        let (lane, offset) = (&letter.source.lane, letter.source.offset);
        *self.topic == *lane.topic
            && self.partition.is_none_or(|partition| partition == lane.partition)
            && self.from.is_none_or(|from| offset >= from)
            && self.to.is_none_or(|to| offset <= to)
    }
}

impl Selection {
    /// Whether no filter is given, so that every dead letter is meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this letter is meant.
    #[must_use]
    pub fn fits(&self, letter: &DeadLetter) -> bool {
        let among = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == is);
        let at = letter.record.timestamp_ms;
        let place = (letter.record.origin.lane.partition, letter.record.origin.offset);
        among(&self.stages, &letter.stage)
            && among(&self.classes, &letter.class)
            && self.reason.as_ref().is_none_or(|part| letter.message.to_lowercase().contains(&part.to_lowercase()))
            && self.source.as_ref().is_none_or(|span| span.holds(letter))
            && self.since_ms.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until_ms.is_none_or(|until| at.is_some_and(|at| at < until))
            && self.key.as_ref().is_none_or(|key| letter.record.key.as_deref() == Some(key.as_bytes()))
            && (self.letters.is_empty() || self.letters.contains(&place))
    }
}

/// What a replay sends: what was picked, less what it leaves in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    /// What a person picked.
    #[serde(default)]
    pub(super) selection: Selection,
    /// Records that went back this often stay.
    pub(super) max_replays: u32,
    /// What the pipeline reads, patterns as they are written: records of other topics stay, whatever a header says.
    pub(super) topics: Vec<String>,
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// It goes back.
    Send,
    /// It was not picked.
    NotPicked,
    /// It went back too often.
    TooOften,
    /// It came from a topic that the pipeline does not read.
    Foreign,
    /// Headers of its record are lost; it goes back if its class is asked for by name.
    LacksHeaders,
}

impl Terms {
    pub(super) fn choose(&self, letter: &DeadLetter) -> Choice {
        let names_the_class = self.selection.classes.contains(&letter.class);
        let source = SourceSettings { topics: self.topics.clone(), ..SourceSettings::default() };
        if !self.selection.fits(letter) {
            Choice::NotPicked
        } else if !source.reads(&letter.source.lane.topic) {
            Choice::Foreign
        } else if letter.replays >= self.max_replays {
            Choice::TooOften
        } else if letter.lacks_headers() && !names_the_class {
            Choice::LacksHeaders
        } else {
            Choice::Send
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::corpus::{Lane, Origin, Record};

    pub(crate) fn letter(class: &str, offset: i64) -> DeadLetter {
        let lane = |topic: &str| Lane { topic: topic.into(), partition: 1 };
        DeadLetter {
            record: Record {
                origin: Origin { lane: lane("dead"), offset },
                key: Some(b"k1".to_vec()),
                value: None,
                timestamp_ms: Some(1_000),
                headers: Vec::new(),
                defect: None,
            },
            source: Origin { lane: lane("raw"), offset: 40 + offset },
            stage: "decode".into(),
            class: class.into(),
            message: "The value is no JSON".into(),
            attempt: 1,
            policy: String::new(),
            scorer: String::new(),
            replays: 0,
        }
    }

    #[test]
    fn every_filter_that_is_given_must_fit() {
        let letter = letter("bad-json", 7);
        let fits = |change: fn(&mut Selection)| {
            let mut selection = Selection::default();
            change(&mut selection);
            selection.fits(&letter)
        };
        assert!(fits(|_| {}) && fits(|s| s.classes = vec!["device".into(), "bad-json".into()]));
        assert!(!fits(|s| s.classes = vec!["device".into()]) && !fits(|s| s.stages = vec!["score".into()]));
        assert!(fits(|s| s.reason = Some("NO json".into())) && !fits(|s| s.reason = Some("yaml".into())));
        assert!(fits(|s| s.key = Some("k1".into())) && !fits(|s| s.key = Some("k".into())));
        assert!(fits(|s| s.since_ms = Some(1_000)) && !fits(|s| s.until_ms = Some(1_000)));
        assert!(fits(|s| s.letters = vec![(0, 7), (1, 7)]) && !fits(|s| s.letters = vec![(1, 8)]));
        for (text, is_in) in [
            ("raw", true),
            ("raw/1", true),
            ("raw/1/47", true),
            ("raw/1/40-46", false),
            ("ra", false),
            ("raw/0", false),
        ] {
            let selection = Selection { source: Some(text.parse().unwrap()), ..Selection::default() };
            assert_eq!(selection.fits(&letter), is_in, "{text}");
        }
        for text in ["", "raw/x", "raw/1/9-3", "raw/1/2/3", "/1"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_go_round_in_circles_or_elsewhere_stays() {
        let terms = |change: fn(&mut Terms)| {
            let mut terms = Terms { selection: Selection::default(), max_replays: 2, topics: vec!["^r.*".into()] };
            change(&mut terms);
            terms
        };
        let mut letter = letter("header-name", 7);
        assert_eq!(terms(|_| {}).choose(&letter), Choice::LacksHeaders);
        assert_eq!(terms(|t| t.selection.classes = vec!["header-name".into()]).choose(&letter), Choice::Send);
        letter.class = "device".into();
        assert_eq!(terms(|_| {}).choose(&letter), Choice::Send);
        assert_eq!(terms(|t| t.topics = vec!["other".into()]).choose(&letter), Choice::Foreign);
        letter.replays = 2;
        assert_eq!(terms(|_| {}).choose(&letter), Choice::TooOften);
        assert_eq!(terms(|t| t.max_replays = 3).choose(&letter), Choice::Send);
    }
}
