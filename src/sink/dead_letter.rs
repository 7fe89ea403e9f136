//! Owns what a dead letter on a Kafka topic says, and the record that it was made of.
//!
//! In: a record of the dead letters' topic. Out: its facts, and the record as it goes back to where it came from. Invariants: key, value, timestamp and
//! the headers that the record came with go back byte for byte; what the sink added when it buried the record stays behind; how often a record went
//! back is written on it. Must not know: who reads the topic, or which letters are chosen.

use crate::corpus::{Class, Header, Lane, Origin, Record};
use crate::kafka::Output;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;

/// What the sink adds to a dead letter, behind the record's own headers: each once.
const ADDED: [&str; 5] = ["tamis-verdict", "tamis-policy", "tamis-scorer", "tamis-source", "tamis-error"];
/// On a record that went back: how often, when, and which dead letter it was.
const REPLAY: &str = "tamis-replay";

/// A record that could not be judged, as it lies on the dead letters' topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record on the dead letters' topic.
    pub record: Record,
    /// Where the record came from.
    pub source: Origin,
    /// The stage of the road at which it failed, as [`crate::corpus::Stage::as_str`] says it; other versions may know others.
    pub stage: String,
    /// The class of the fault, as [`Class::as_str`] says it.
    pub class: String,
    /// One sentence for a person.
    pub message: String,
    /// The attempt that failed, from 1.
    pub attempt: u64,
    /// Hash of the rules then in force.
    pub policy: String,
    /// Identity of the scorers then in force.
    pub scorer: String,
    /// How often the record went back to its source before.
    pub replays: u32,
}

#[derive(Deserialize)]
struct Fault {
    stage: String,
    class: String,
    message: String,
    #[serde(default)]
    attempt: u64,
}

#[derive(Deserialize)]
struct Replayed {
    count: u32,
}

impl DeadLetter {
    /// The dead letter that `record` is; `None` for one that lacks the headers of a dead letter.
    #[must_use]
    pub fn read(record: Record) -> Option<Self> {
        if last(&record, "tamis-verdict")? != "dead-letter" {
            return None;
        }
        let fault: Fault = serde_json::from_str(last(&record, "tamis-error")?).ok()?;
        let source = origin(last(&record, "tamis-source")?)?;
        let word = |name| last(&record, name).unwrap_or_default().to_owned();
        let (policy, scorer) = (word("tamis-policy"), word("tamis-scorer"));
        let replayed = last(&record, REPLAY).and_then(|text| serde_json::from_str::<Replayed>(text).ok());
        let replays = replayed.map_or(0, |replayed| replayed.count);
        let Fault { stage, class, message, attempt } = fault;
        Some(Self { source, stage, class, message, attempt, policy, scorer, replays, record })
    }

    /// Whether headers of the record are missing from its dead letter, because the client library can't carry them.
    #[must_use]
    pub fn lacks_headers(&self) -> bool {
        self.class == Class::HeaderName.as_str()
    }

    /// The record on its way back: to the topic and, while there is one of that number, the partition that it came from.
    #[must_use]
    pub fn back(&self, now_ms: u64) -> Output<'static> {
        let record = &self.record;
        let mut headers = self.own_headers();
        let said = json!({"count": self.replays.saturating_add(1), "at_ms": now_ms, "from": record.origin.to_string()});
        headers.push(Header { name: REPLAY.to_owned(), value: Some(said.to_string().into_bytes()) });
        Output {
            topic: Arc::clone(&self.source.lane.topic),
            source: self.source.clone(),
            key: record.key.clone().map(Cow::Owned),
            value: record.value.clone().map(Cow::Owned),
            headers: Cow::Owned(headers),
            added: Vec::new(),
            timestamp_ms: record.timestamp_ms,
        }
    }

    /// The headers without those at the end that the sink added, and without the marks of earlier replays.
    fn own_headers(&self) -> Vec<Header> {
        let mut own = self.record.headers.clone();
        let mut left = ADDED.to_vec();
        while let Some(at) = own.last().and_then(|header| left.iter().position(|name| *name == header.name)) {
            left.swap_remove(at);
            own.pop();
        }
        own.retain(|header| header.name != REPLAY);
        own
    }
}

/// The last header of this name, if it is text.
fn last<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let header = record.headers.iter().rev().find(|header| header.name == name)?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}

/// `topic/partition/offset`; a file's name may hold slashes.
fn origin(text: &str) -> Option<Origin> {
    let mut parts = text.rsplitn(3, '/');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some(Origin { lane: Lane { topic: Arc::from(parts.next()?), partition }, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }

    fn buried(own: &[Header]) -> Record {
        let added = [
            header("tamis-verdict", "dead-letter"),
            header("tamis-policy", "p"),
            header("tamis-scorer", "s"),
            header("tamis-source", "in/raw/3/41"),
            header("tamis-error", r#"{"stage":"decode","class":"bad-json","message":"no JSON","attempt":1}"#),
        ];
        Record {
            origin: Origin { lane: Lane { topic: "dead".into(), partition: 1 }, offset: 7 },
            key: Some(b"\xff".to_vec()),
            value: Some(b"{".to_vec()),
            timestamp_ms: Some(5),
            headers: [own, &added].concat(),
            defect: None,
        }
    }

    #[test]
    fn a_record_goes_back_as_it_came_with_a_mark() {
        let own = [
            header("trace", "1"),
            header("tamis-verdict", "forged"),
            header("tamis-source", "before/0/1"),
            Header { name: "none".into(), value: None },
        ];
        let letter = DeadLetter::read(buried(&own)).unwrap();
        assert_eq!((letter.source.to_string().as_str(), letter.class.as_str()), ("in/raw/3/41", "bad-json"));
        let back = letter.back(99);
        assert_eq!((&*back.topic, back.source.lane.partition, back.timestamp_ms), ("in/raw", 3, Some(5)));
        assert_eq!(back.key.as_deref(), Some(&b"\xff"[..]));
        assert_eq!(back.headers[..4], own, "what it came with, forged or not");
        assert_eq!(back.headers[4], header(REPLAY, r#"{"count":1,"at_ms":99,"from":"dead/1/7"}"#));
        assert_eq!(back.headers.len(), 5);
        // Buried again, it says that it went back once, and the mark is not doubled.
        let again = DeadLetter::read(buried(&back.headers)).unwrap();
        assert_eq!(again.replays, 1);
        assert_eq!(again.back(100).headers[4], header(REPLAY, r#"{"count":2,"at_ms":100,"from":"dead/1/7"}"#));
    }

    #[test]
    fn what_is_no_dead_letter_is_none() {
        assert!(DeadLetter::read(Record { headers: Vec::new(), ..buried(&[]) }).is_none());
        let passed = [buried(&[]).headers, vec![header("tamis-verdict", "pass")]].concat();
        assert!(DeadLetter::read(Record { headers: passed, ..buried(&[]) }).is_none());
        let lost = [buried(&[]).headers, vec![header("tamis-source", "nowhere")]].concat();
        assert!(DeadLetter::read(Record { headers: lost, ..buried(&[]) }).is_none());
    }
}
