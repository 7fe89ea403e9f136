//! Schemas from whoever may register some: none may end the process, or keep a thread for ever.

use super::*;
use std::sync::mpsc;
use std::time::Duration;

/// Parses on a stack as large as a blocking task's, and waits for longer than any honest schema takes.
fn parsed(text: String, references: Vec<String>) -> Result<(), String> {
    let (tell, told) = mpsc::sync_channel(1);
    let parse = move || tell.send(Schema::parse(&text, &references).map(drop));
    std::thread::Builder::new().stack_size(2 << 20).spawn(parse).unwrap();
    told.recv_timeout(Duration::from_secs(30)).expect("it is still being parsed")
}

/// A default of an empty record is taken for one of the record that holds it, through a name and an alias for two types.
#[test]
fn a_default_that_leads_to_itself_is_no_end() {
    let circle = r#"{"type": "record", "name": "R", "fields": [
        {"name": "b", "type": {"type": "record", "name": "B", "fields": []}},
        {"name": "a", "type": {"type": "record", "name": "A", "aliases": ["B"], "fields": [{"name": "x", "type": "B", "default": {}}]}},
        {"name": "c", "type": "B", "default": {}}]}"#;
    assert_eq!(parsed(circle.to_owned(), vec![]), Ok(()));
}

#[test]
fn defaults_within_defaults_are_not_multiplied() {
    let twice = |of: usize| {
        let field = |name: &str| format!(r#"{{"name": "{name}", "type": "T{}", "default": {{}}}}"#, of - 1);
        format!(r#"{{"type": "record", "name": "T{of}", "fields": [{}, {}]}}"#, field("a"), field("b"))
    };
    let types = (1..=40).map(|of| format!(r#"{{"name": "f{of}", "type": {}}}"#, twice(of))).collect::<Vec<_>>();
    let zero = r#"{"name": "f0", "type": {"type": "record", "name": "T0", "fields": []}}"#;
    let tower = format!(r#"{{"type": "record", "name": "R", "fields": [{zero}, {}]}}"#, types.join(", "));
    assert_eq!(parsed(tower, vec![]), Ok(()));
}

/// Each is as deep as JSON may be, and each goes on in the next.
#[test]
fn references_may_be_as_deep_as_can_be_written() {
    let reference = |of: usize, depth: usize| {
        let (open, close) = (r#"{"type": "array", "items": "#.repeat(depth), "}".repeat(depth));
        let to = if of == 99 { "long".to_owned() } else { format!("N{}", of + 1) };
        format!(r#"{{"type": "record", "name": "N{of}", "fields": [{{"name": "f", "type": {open}"{to}"{close}}}]}}"#)
    };
    let chain = |depth: usize| {
        parsed(r#"{"type": "array", "items": "N0"}"#.to_owned(), (0..100).map(|of| reference(of, depth)).collect())
    };
    assert_eq!(chain(3), Ok(()));
    assert_eq!(chain(120), Ok(()));
}
