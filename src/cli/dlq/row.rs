//! Owns how one dead letter looks: a line of a table, or a JSON object.
//!
//! Invariants: a line of the table is one line whatever a message or key holds; on a terminal it is no wider than that. Must not know: which letters are shown.

use crate::sink::DeadLetter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// How wide a table may be: a terminal's width; elsewhere there is no bound.
pub(super) fn width() -> Option<usize> {
    use std::io::IsTerminal as _;
    let is_terminal = std::io::stdout().is_terminal();
    is_terminal.then(|| ratatui::crossterm::terminal::size().map_or(100, |(columns, _)| usize::from(columns).max(60)))
}

/// The table's first line.
pub(super) fn head(width: Option<usize>) -> String {
    cut(columns(["LETTER", "SOURCE", "TIME", "CLASS", "STAGE", "REPLAYS", "BYTES", "KEY", "MESSAGE"]), width)
}

/// One letter as a line of the table.
pub(super) fn line(letter: &DeadLetter, width: Option<usize>) -> String {
    let record = &letter.record;
    let bytes = record.value.as_ref().map_or_else(|| "null".to_owned(), |value| value.len().to_string());
    let key = record.key.as_deref().map_or_else(|| "-".to_owned(), |key| key.escape_ascii().to_string());
    let at = format!("{}/{}", record.origin.lane.partition, record.origin.offset);
    let cells = [
        at.as_str(),
        &letter.source.to_string(),
        &record.timestamp_ms.map_or_else(|| "-".to_owned(), time),
        &letter.class,
        &letter.stage,
        &letter.replays.to_string(),
        &bytes,
        &key.chars().take(24).collect::<String>(),
        &letter.message,
    ];
    cut(columns(cells), width)
}

/// One letter as a JSON object on a line. `with_value` adds the record's value and headers.
pub(super) fn json(letter: &DeadLetter, with_value: bool) -> String {
    let record = &letter.record;
    let mut said = json!({
        "letter": format!("{}/{}", record.origin.lane.partition, record.origin.offset),
        "topic": &*record.origin.lane.topic,
        "source": letter.source.to_string(),
        "timestamp_ms": record.timestamp_ms,
        "stage": letter.stage,
        "class": letter.class,
        "message": letter.message,
        "attempt": letter.attempt,
        "replays": letter.replays,
        "policy": letter.policy,
        "scorer": letter.scorer,
        "key": record.key.as_deref().map(bytes),
        "value_bytes": record.value.as_ref().map(Vec::len),
    });
    if with_value {
        let headers = record.headers.iter().map(|header| json!([header.name, header.value.as_deref().map(bytes)]));
        said["headers"] = headers.collect();
        said["value"] = record.value.as_deref().map_or(Value::Null, bytes);
    }
    format!("{said}\n")
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

fn time(ms: i64) -> String {
    let since = u64::try_from(ms).ok().map(Duration::from_millis).and_then(|since| UNIX_EPOCH.checked_add(since));
    // Later than the year 9999 has no such form.
    let known = since.filter(|_| ms < 253_402_300_800_000);
    known.map_or_else(|| ms.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

fn columns(cells: [&str; 9]) -> String {
    let [letter, source, time, class, stage, replays, bytes, key, message] = cells;
    format!("{letter:<9} {source:<28} {time:<20} {class:<18} {stage:<8} {replays:>7} {bytes:>9} {key:<16} {message}")
}

/// One line, control characters shown, cut to `width`.
fn cut(line: String, width: Option<usize>) -> String {
    let plain = line.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut line: String = match width {
        Some(width) if line.trim_end().chars().count() > width => {
            plain.take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => plain.collect(),
    };
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Header, Lane, Origin, Record};

    fn letter() -> DeadLetter {
        let lane = |topic: &str| Lane { topic: topic.into(), partition: 0 };
        DeadLetter {
            record: Record {
                origin: Origin { lane: lane("dead"), offset: 7 },
                key: Some(b"\xff\n".to_vec()),
                value: Some(b"secret text".to_vec()),
                timestamp_ms: Some(1_700_000_000_123),
                headers: vec![Header { name: "a".into(), value: None }],
                defect: None,
            },
            source: Origin { lane: lane("raw"), offset: 3 },
            stage: "decode".into(),
            class: "bad-json".into(),
            message: "a\u{1b}[31mred\nmessage".into(),
            attempt: 1,
            policy: "p".into(),
            scorer: "s".into(),
            replays: 2,
        }
    }

    #[test]
    fn a_line_stays_a_line_and_within_the_terminal() {
        let text = line(&letter(), None);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(
            !text.contains('\u{1b}') && text.contains("2023-11-14T22:13:20Z") && text.contains("\\xff\\n"),
            "{text}"
        );
        assert!(text.starts_with("0/7 ") && text.contains(" raw/0/3 ") && !text.contains("secret"));
        assert_eq!(line(&letter(), Some(80)).chars().count(), 81);
    }

    #[test]
    fn values_are_told_only_when_asked_for() {
        let told: Value = serde_json::from_str(&json(&letter(), false)).unwrap();
        assert!(told.get("value").is_none() && told["value_bytes"] == 11 && told["key"]["base64"] == "/wo=");
        let told: Value = serde_json::from_str(&json(&letter(), true)).unwrap();
        assert_eq!((&told["value"], &told["headers"]), (&"secret text".into(), &json!([["a", null]])));
    }
}
