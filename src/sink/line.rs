//! Owns the line that stands for a judged record in an output file: the record as it came, and under the key `tamis` what became of it.
//!
//! Invariants: one line, one JSON object; of a JSON object every byte is kept (numbers are not read and written again), only line breaks between its parts
//! become spaces; no byte of a record is lost, whatever it was.

use super::Imprint;
use crate::corpus::{Judged, Record, Route};
use crate::decode::Format;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The line for `judged`, its newline included. `format` is how records hold their documents.
pub(super) fn line(judged: &Judged, format: Format, imprint: &Imprint) -> Vec<u8> {
    let facts = Value::Object(facts(judged, imprint)).to_string();
    let mut line = match (judged, format) {
        (Judged::Document { record, .. }, Format::Json) => spliced(record.value.as_deref().unwrap_or_default(), &facts),
        (Judged::Document { record, document, .. }, Format::Text) => {
            let id = document.id.as_ref().map(|id| format!("\"id\":{},", Value::from(id.as_str()))).unwrap_or_default();
            // The record, not the document: what was measured may be normalised. It was decoded, so it is UTF-8.
            let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            format!("{{{id}\"text\":{},\"tamis\":{facts}}}", Value::from(text)).into_bytes()
        }
        (Judged::Document { record, document, .. }, Format::Avro | Format::Protobuf | Format::JsonSchema) => {
            let id = document.id.as_ref().map(|id| format!("\"id\":{},", Value::from(id.as_str()))).unwrap_or_default();
            let raw = STANDARD.encode(record.value.as_deref().unwrap_or_default());
            format!(
                "{{{id}\"text\":{},\"raw_base64\":\"{raw}\",\"tamis\":{facts}}}",
                Value::from(document.text.as_str())
            )
            .into_bytes()
        }
        (Judged::Tombstone { .. }, _) => format!("{{\"tamis\":{facts}}}").into_bytes(),
        (Judged::Dead { record, .. }, _) => dead(record.value.as_deref(), &facts),
    };
    line.push(b'\n');
    line
}

/// The JSON value with the facts as its last member; a value that is no object becomes a member itself.
fn spliced(value: &[u8], facts: &str) -> Vec<u8> {
    let value = value.strip_prefix(b"\xef\xbb\xbf").unwrap_or(value).trim_ascii();
    let mut line = Vec::with_capacity(value.len() + facts.len() + 24);
    match value.strip_prefix(b"{").and_then(|value| value.strip_suffix(b"}")) {
        Some(members) => {
            line.push(b'{');
            line.extend_from_slice(members);
            if !members.trim_ascii().is_empty() {
                line.push(b',');
            }
        }
        None => {
            line.extend_from_slice(b"{\"value\":");
            line.extend_from_slice(value);
            line.push(b',');
        }
    }
    // JSON has no line breaks inside strings, so these stand between its parts.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.extend_from_slice(b"\"tamis\":");
    line.extend_from_slice(facts.as_bytes());
    line.push(b'}');
    line
}

fn dead(value: Option<&[u8]>, facts: &str) -> Vec<u8> {
    let raw = match value {
        None => "\"raw\":null".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("\"raw\":{}", Value::from(text)),
            Err(_) => format!("\"raw_base64\":\"{}\"", STANDARD.encode(bytes)),
        },
    };
    format!("{{{raw},\"tamis\":{facts}}}").into_bytes()
}

/// What became of the record.
fn facts(judged: &Judged, imprint: &Imprint) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut say = |name: &str, value: Value| drop(facts.insert(name.to_owned(), value));
    match judged {
        Judged::Document { signals, verdict, .. } => {
            say("verdict", Route::from(verdict.decision).as_str().into());
            say("status", verdict.status.as_str().into());
            say("reasons", json!(verdict.reasons));
            say("signals", json!(signals));
            let estimated: Value = signals.estimates().map(|name| &**name).collect();
            if estimated.as_array().is_some_and(|names| !names.is_empty()) {
                say("estimated", estimated);
            }
            if !verdict.skipped.is_empty() {
                say("skipped", verdict.skipped.iter().map(|name| &**name).collect());
            }
        }
        Judged::Tombstone { .. } => say("verdict", "tombstone".into()),
        Judged::Dead { fault, attempt, .. } => {
            say("verdict", Route::DeadLetter.as_str().into());
            say("status", "undecodable".into());
            let (stage, class) = (fault.stage.as_str(), fault.class.as_str());
            say("error", json!({"stage": stage, "class": class, "message": fault.message, "attempt": attempt}));
        }
    }
    say("policy", imprint.policy.as_str().into());
    say("scorer", imprint.scorer.as_str().into());
    let record = judged.record();
    say("source", record.origin.to_string().into());
    envelope(record, &mut say);
    facts
}

/// What a record of Kafka has besides its value; lines have none of it.
fn envelope(record: &Record, say: &mut impl FnMut(&str, Value)) {
    let bytes = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    };
    if let Some(key) = &record.key {
        say("key", bytes(key));
    }
    if let Some(timestamp) = record.timestamp_ms {
        say("timestamp_ms", timestamp.into());
    }
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|header| json!([header.name, header.value.as_ref().map(bytes)]));
        say("headers", headers.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Class, Decision, Document, Fault, Header, Lane, Origin, Signals, Stage, Status, Verdict};
    use proptest::prelude::*;

    fn record(value: &[u8]) -> Record {
        let lane = Lane { topic: "in/a.jsonl".into(), partition: 0 };
        let origin = Origin { lane, offset: 7 };
        Record { origin, key: None, value: Some(value.to_vec()), timestamp_ms: None, headers: Vec::new(), defect: None }
    }

    fn passed(record: Record, text: &str) -> Judged {
        let document = Document { id: None, text: text.to_owned(), language: None, source: None };
        let verdict =
            Verdict { decision: Decision::Pass, status: Status::Scored, reasons: Vec::new(), skipped: Vec::new() };
        let mut signals = Signals::new();
        signals.number("t.x", 0.5);
        Judged::Document { record, document, signals, verdict }
    }

    fn imprint() -> Imprint {
        Imprint { policy: "p".into(), scorer: "s".into() }
    }

    fn json_line(value: &[u8]) -> String {
        String::from_utf8(line(&passed(record(value), ""), Format::Json, &imprint())).unwrap()
    }

    const FACTS: &str = r#""tamis":{"verdict":"pass","status":"scored","reasons":[],"signals":{"t.x":0.5},"policy":"p","scorer":"s","source":"in/a.jsonl/0/7"}}"#;

    #[test]
    fn an_object_keeps_its_bytes_and_gains_one_member() {
        for (value, kept) in [
            (r#"{"id": 1.10e400, "text" :"a\n}"}"#, r#"{"id": 1.10e400, "text" :"a\n}","#),
            (
                "\u{feff} {\n  \"a\": 12345678901234567890123,\r\n  \"b\": []\n} \t",
                "{   \"a\": 12345678901234567890123,    \"b\": [] ,",
            ),
            ("{}", "{"),
            ("{ }", "{ "),
            (r#""only text""#, r#"{"value":"only text","#),
        ] {
            assert_eq!(json_line(value.as_bytes()), format!("{kept}{FACTS}\n"), "{value}");
        }
    }

    #[test]
    fn a_text_becomes_a_string_as_it_came_and_not_as_it_was_measured() {
        let judged = passed(record(b"say \"hi\"\t"), "normalised");
        let line = String::from_utf8(line(&judged, Format::Text, &imprint())).unwrap();
        assert_eq!(line, format!("{{\"text\":\"say \\\"hi\\\"\\t\",{FACTS}\n"));
    }

    #[test]
    fn dead_letters_and_deletions_keep_every_byte_of_the_record() {
        let fault = Fault::new(Stage::Decode, Class::BadUtf8, "not UTF-8");
        let parsed =
            |judged: &Judged| -> Value { serde_json::from_slice(&line(judged, Format::Json, &imprint())).unwrap() };
        let mut dead = Judged::Dead { record: record(b"\xff\xfe"), fault, attempt: 1 };
        let told = parsed(&dead);
        assert_eq!(told["raw_base64"], "//4=");
        assert_eq!(
            told["tamis"]["error"],
            json!({"stage": "decode", "class": "bad-utf8", "message": "not UTF-8", "attempt": 1})
        );
        if let Judged::Dead { record, .. } = &mut dead {
            record.value = Some(b"{not\njson".to_vec());
        }
        assert_eq!(parsed(&dead)["raw"], "{not\njson");
        let mut gone = record(b"");
        gone.value = None;
        gone.key = Some(b"k".to_vec());
        gone.timestamp_ms = Some(12);
        gone.headers =
            vec![Header { name: "a".into(), value: Some(b"\xff".to_vec()) }, Header { name: "a".into(), value: None }];
        let told = parsed(&Judged::Tombstone { record: gone })["tamis"].clone();
        assert_eq!(
            (&told["verdict"], &told["key"], &told["timestamp_ms"]),
            (&json!("tombstone"), &json!("k"), &json!(12))
        );
        assert_eq!(told["headers"], json!([["a", {"base64": "/w=="}], ["a", null]]));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,8}".prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[a-z\n\"]{0,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_one_line_that_reads_back(value in value(), pretty in any::<bool>()) {
            let bytes = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let line = json_line(&bytes);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let mut back: Value = serde_json::from_str(&line).unwrap();
            let facts = back.as_object_mut().unwrap().shift_remove("tamis").unwrap();
            prop_assert_eq!(&facts["verdict"], "pass");
            prop_assert_eq!(if value.is_object() { back } else { back["value"].take() }, value);
        }
    }
}
