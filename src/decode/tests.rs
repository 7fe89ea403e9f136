//! Records that are documents, and the many that are not.

use super::*;
use crate::corpus::{Lane, Origin};
use proptest::prelude::*;

fn record(value: impl Into<Vec<u8>>) -> Record {
    let lane = Lane { topic: "t".into(), partition: 0 };
    Record {
        origin: Origin { lane, offset: 0 },
        key: Some(b"key".to_vec()),
        value: Some(value.into()),
        timestamp_ms: None,
        headers: Vec::new(),
        defect: None,
    }
}

fn decoder(change: impl FnOnce(&mut Settings)) -> Decoder {
    let mut settings = Settings::default();
    change(&mut settings);
    Decoder::new(&settings).unwrap()
}

fn json(value: impl Into<Vec<u8>>) -> Result<Document, Fault> {
    decoder(|_| {}).at_once(&record(value))
}

fn class(value: impl Into<Vec<u8>>) -> &'static str {
    json(value).unwrap_err().class.as_str()
}

#[test]
fn all_four_fields() {
    let document = json(r#"{"id":"a","text":"Hé\n \ud83d\ude00 ","language":"fr","source":"web"}"#).unwrap();
    assert_eq!(document.text, "Hé\n 😀 ");
    assert_eq!(document.id.as_deref(), Some("a"));
    assert_eq!(document.language.as_deref(), Some("fr"));
    assert_eq!(document.source.as_deref(), Some("web"));
}

#[test]
fn json_behind_a_schemas_id_is_that_json_and_nothing_else() {
    let framed = decoder(|settings| settings.format = Format::JsonSchema);
    let inside = br#"{"id":"a","text":"Hello"}"#;
    let found = framed.at_once(&record([&[0, 0, 0, 1, 2], &inside[..]].concat())).unwrap();
    assert_eq!(found, json(inside).unwrap());
    let class = |value: &[u8]| framed.at_once(&record(value)).unwrap_err().class;
    assert_eq!([class(inside), class(b"\0\0\0"), class(b"")], [Class::BadFraming; 3]);
    assert_eq!([class(b"\0\0\0\0\x01"), class(b"\0\0\0\0\x01{} {}")], [Class::BadJson; 2]);
    assert_eq!(class(b"\0\0\0\0\x01{\"text\":\"\xff\"}"), Class::BadUtf8);
    assert!(Settings { format: Format::JsonSchema, ..Settings::default() }.problems().is_empty(), "without a registry");
}

#[test]
fn a_text_that_normalising_makes_too_large_is_a_dead_letter() {
    // U+FDFA is a phrase of 33 bytes; the value stays within the bound.
    let phrases = "\u{FDFA}".repeat(100);
    for format in [Format::Json, Format::Text] {
        let decoder = |max_bytes| {
            decoder(|settings| {
                (settings.format, settings.max_bytes, settings.normalize) = (format, max_bytes, Normalize::Nfkc);
            })
        };
        let value = if format == Format::Json { format!("{{\"text\":\"{phrases}\"}}") } else { phrases.clone() };
        let fault = decoder(3_299).at_once(&record(value.as_str())).unwrap_err();
        assert_eq!((fault.class, fault.stage), (Class::TooLarge, Stage::Decode));
        assert_eq!(fault.message, "the normalised text is larger than document.max_bytes = 3299");
        let document = decoder(3_300).at_once(&record(value.as_str())).unwrap();
        assert_eq!((document.text.len(), document.text.capacity()), (3_300, 3_300));
    }
}

#[test]
fn an_id_may_be_an_integer_and_optional_fields_of_another_kind_are_absent() {
    let document = json(r#"{"id":18446744073709551615,"text":"","language":7,"source":null}"#).unwrap();
    assert_eq!(document.id.as_deref(), Some("18446744073709551615"));
    assert_eq!((document.language, document.source, document.text), (None, None, String::new()));
    assert_eq!(json(r#"{"id":-3,"text":"x"}"#).unwrap().id.as_deref(), Some("-3"));
    for id in ["1.5", "123456789012345678901234567890", "true", "[]", "{}", "null"] {
        assert_eq!(json(format!(r#"{{"id":{id},"text":"x"}}"#)).unwrap().id, None, "{id}");
    }
}

#[test]
fn what_is_not_a_document() {
    let golden: [(&[u8], &str); 16] = [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b"{\"text\":\"x\"} trailing", "bad-json"),
        (b"{\"text\":\"x\"}{\"text\":\"y\"}", "bad-json"),
        (b"{'text':'x'}", "bad-json"),
        (b"{\"text\":\"x\",}", "bad-json"),
        (b"{\"text\":\"\\ud800\"}", "bad-json"),
        (b"{\"text\":\"\\ud800\\u0041\"}", "bad-json"),
        (b"{\"text\":\"a\nb\"}", "bad-json"),
        (b"{\"text\":\"\xff\"}", "bad-utf8"),
        (b"{}", "missing-text"),
        (b"[]", "missing-text"),
        (b"\"text\"", "missing-text"),
        (b"{\"text\":null}", "missing-text"),
        (b"{\"text\":5}", "text-not-string"),
        (b"{\"text\":{\"text\":\"x\"}}", "text-not-string"),
    ];
    for (value, expected) in golden {
        assert_eq!(class(value), expected, "{:?}", String::from_utf8_lossy(value));
    }
}

#[test]
fn a_fault_names_the_place_and_never_the_text() {
    let fault = json("{\"text\":\"secret\",\n  oops}").unwrap_err();
    assert!(fault.message.contains("line 2 column 3"), "{}", fault.message);
    let fault = json(b"{\"text\":\"secret\xff\"}").unwrap_err();
    assert!(fault.message.contains("at byte 15"), "{}", fault.message);
    for value in ["{\"text\":\"secret", "{\"text\":\"secret\\x\"}", "\"secret\"", "{\"text\":\"secret\"}secret"] {
        assert!(!json(value).unwrap_err().message.contains("secret"), "{value}");
    }
}

#[test]
fn depth_is_no_danger() {
    let deep = 3_000_000;
    let skipped = format!(r#"{{"x":{}{},"text":"y"}}"#, "[".repeat(deep), "]".repeat(deep));
    assert_eq!(json(skipped).unwrap().text, "y");
    assert_eq!(class("[".repeat(deep)), "bad-json");
    assert_eq!(class(r#"{"text":"#.repeat(500_000)), "bad-json");
    let deepest = "/a".repeat(super::pointer::TOKENS_MAX);
    let long = decoder(|settings| settings.text = deepest.clone());
    let reached = format!("{}{}{}", r#"{"a":"#.repeat(127), r#""found""#, "}".repeat(127));
    assert_eq!(long.at_once(&record(reached)).unwrap().text, "found");
    let nested = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    assert_eq!(long.at_once(&record(nested)).unwrap_err().class, Class::BadJson);
}

#[test]
fn of_duplicate_keys_the_last_wins_with_all_below_it() {
    assert_eq!(json(r#"{"text":"a","text":"b"}"#).unwrap().text, "b");
    assert_eq!(class(r#"{"text":"a","text":null}"#), "missing-text");
    let nested = decoder(|settings| settings.text = "/a/b".to_owned());
    let fault = nested.at_once(&record(r#"{"a":{"b":"x"},"a":{"c":1}}"#)).unwrap_err();
    assert_eq!(fault.class, Class::MissingText);
}

#[test]
fn huge_numbers_are_fine_where_nobody_looks() {
    let value = format!(r#"{{"n":1e999999,"m":{},"text":"x"}}"#, "9".repeat(10_000));
    assert_eq!(json(value).unwrap().text, "x");
}

#[test]
fn a_byte_order_mark_is_dropped_before_json_and_kept_in_text() {
    assert_eq!(json("\u{feff}{\"text\":\"x\"}").unwrap().text, "x");
    let plain = decoder(|settings| settings.format = Format::Text);
    assert_eq!(plain.at_once(&record("\u{feff}x")).unwrap().text, "\u{feff}x");
}

#[test]
fn pointers_lead_into_arrays_escapes_and_the_root() {
    let value = r#"{"a/b":[{"~":"no"},{"~":"yes"}]}"#;
    let inside = decoder(|settings| settings.text = "/a~1b/1/~0".to_owned());
    assert_eq!(inside.at_once(&record(value)).unwrap().text, "yes");
    let root = decoder(|settings| {
        settings.text = String::new();
        settings.id = String::new();
    });
    assert_eq!(root.at_once(&record("\"all\"")).unwrap().text, "all");
    let shared = decoder(|settings| settings.id = "/text".to_owned());
    let document = shared.at_once(&record(r#"{"text":"both"}"#)).unwrap();
    assert_eq!((document.id.as_deref(), &*document.text), (Some("both"), "both"));
}

#[test]
fn a_plain_value_is_the_text_and_its_key_the_id() {
    let plain = decoder(|settings| settings.format = Format::Text);
    let mut given = record("{\"text\":1}\r\n");
    let document = plain.at_once(&given).unwrap();
    assert_eq!((document.text.as_str(), document.id.as_deref()), ("{\"text\":1}\r\n", Some("key")));
    given.key = Some(vec![0xff]);
    assert_eq!(plain.at_once(&given).unwrap().id, None);
    given.value = Some(vec![b'a', 0x80]);
    assert_eq!(plain.at_once(&given).unwrap_err().class, Class::BadUtf8);
}

#[test]
fn size_defects_and_deletions() {
    let small = decoder(|settings| settings.max_bytes = 12);
    assert_eq!(small.at_once(&record(r#"{"text":"x"}"#)).unwrap().text, "x");
    assert_eq!(small.at_once(&record(r#"{"text":"xy"}"#)).unwrap_err().class, Class::TooLarge);
    let mut given = record("{}");
    given.value = None;
    assert_eq!(small.at_once(&given).unwrap_err().class, Class::Bug);
    given.defect = Some("a header's name is not UTF-8".to_owned());
    let fault = small.at_once(&given).unwrap_err();
    assert_eq!((fault.stage, fault.class), (Stage::Read, Class::HeaderName));
}

#[test]
fn every_wrong_setting_is_told() {
    let settings = Settings {
        text: "text".to_owned(),
        id: "/~".to_owned(),
        language: String::new(),
        max_bytes: 0,
        ..Settings::default()
    };
    let keys: Vec<String> = settings.problems().iter().map(Error::key).collect();
    assert_eq!(keys, ["text", "id", "max_bytes"]);
    assert!(Decoder::new(&settings).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = json(value.clone());
        let _ = decoder(|settings| settings.format = Format::Text).at_once(&record(value));
    }

    #[test]
    fn no_near_json_makes_it_panic(value in r#"[\[\]{}:,"0-9a-z\\ue.+ -]{0,64}"#) {
        let _ = json(format!("{{\"text\":{value}"));
    }

    #[test]
    fn it_agrees_with_a_full_parser(text in any::<String>(), extra in any::<String>(), id in any::<i64>()) {
        let value = serde_json::json!({ "x": [extra, { "text": 1 }], "text": text, "id": id });
        let document = json(value.to_string()).unwrap();
        prop_assert_eq!(document.text, text);
        prop_assert_eq!(document.id, Some(id.to_string()));
    }
}
