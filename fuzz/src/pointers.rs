//! Any text as JSON pointers, on any JSON: refused, or followed as serde_json follows them.

use super::{at_once, record, tree};
use serde_json::Value;
use tamis::corpus::{Class, Document, Fault};
use tamis::decode::{Decoder, Settings};

/// One line of four pointers with tabs between them, then the value.
pub(super) fn run(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (line, value) = (&data[..end], &data[end + 1..]);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let mut pointers = line.split('\t').map(str::to_owned);
    let mut next = || pointers.next().unwrap_or_default();
    let settings = Settings { text: next(), id: next(), language: next(), source: next(), ..Settings::default() };
    let problems = settings.problems();
    let decoder = match Decoder::new(&settings) {
        Ok(decoder) => decoder,
        Err(error) => return assert_eq!(problems.first(), Some(&error), "what is refused is told"),
    };
    assert!(problems.is_empty(), "{problems:?}");
    let found = at_once(decoder.decode(&record(None, value.to_vec())));
    if let Some(tree) = tree(value) {
        compare(&settings, &tree, &found);
    }
}

/// What serde_json's own pointers lead to is what must have been found. (serde_json refuses some values that are skipped here, deep ones for one; of
/// these nothing is known.)
pub(super) fn compare(settings: &Settings, tree: &Value, found: &Result<Document, Fault>) {
    let named = |pointer: &str| if pointer.is_empty() { None } else { tree.pointer(pointer) };
    let string = |pointer: &str| named(pointer).and_then(Value::as_str).map(str::to_owned);
    let id = match named(&settings.id) {
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        other => other.and_then(Value::as_str).map(str::to_owned),
    };
    match (tree.pointer(&settings.text), found) {
        (Some(Value::String(text)), Ok(document)) => {
            assert_eq!(&document.text, text);
            assert_eq!(document.id, id, "the id at {:?}", settings.id);
            assert_eq!(document.language, string(&settings.language), "the language at {:?}", settings.language);
            assert_eq!(document.source, string(&settings.source), "the source at {:?}", settings.source);
        }
        (None | Some(Value::Null), Err(fault)) => assert_eq!(fault.class, Class::MissingText, "{fault}"),
        (Some(Value::String(text)), Err(fault)) => panic!("{text:?} is there, yet {fault}"),
        (Some(_), Err(fault)) => assert_eq!(fault.class, Class::TextNotString, "{fault}"),
        (other, Ok(document)) => panic!("{other:?} is no text, yet {document:?} was found"),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "/text\t/id\t/language\t/source\n{\"text\":\"a\",\"id\":1,\"language\":\"en\",\"source\":\"b\"}",
        "/a/0/~1b~0\t\t/a/1\n{\"a\":[{\"/b~\":\"x\"},\"y\"]}",
        "\t/\t/0\t/a\n\"the whole value\"",
        "/a\t/a/b\t/a\t/a/b\n{\"a\":{\"b\":\"x\"},\"a\":\"y\",\"c\":[null,true,1e9,-0,18446744073709551615]}",
        "/a/01\t/a/1\t/a/-\t/a/+1\n{\"a\":[1,\"\\ud83d\\ude00\"],\"b\":{}}",
        "text\n{}",
        "/~2\n{}",
    ]
    .into_iter()
    .map(|seed| seed.as_bytes().to_vec())
    .collect()
}
