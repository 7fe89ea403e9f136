//! Values of Avro that are documents, and bytes that are none.

use super::super::fields::Extractor;
use super::super::settings::Settings;
use super::*;
use proptest::prelude::*;

const DOCUMENT: &str = r#"{"type": "record", "name": "Document", "namespace": "a.b", "fields": [
    {"name": "skipped", "type": {"type": "map", "values": {"type": "array", "items": ["null", "double"]}}},
    {"name": "id", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "text", "type": ["null", "string"]},
    {"name": "language", "type": {"type": "enum", "name": "Language", "symbols": ["en", "de"]}},
    {"name": "parts", "type": {"type": "array", "items": "string"}},
    {"name": "next", "type": ["null", "Document"]}
]}"#;

fn root(text: &str, source: &str) -> Extractor {
    let settings = Settings { text: text.to_owned(), source: source.to_owned(), ..Settings::default() };
    Extractor::new(&settings).unwrap()
}

fn long(number: i64) -> Vec<u8> {
    let mut bits = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    bytes.push(bits as u8);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

/// One document of the schema above: nothing skipped, this text, these parts, and what comes next.
fn document(text: &str, parts: &[&str], next: &[u8]) -> Vec<u8> {
    let parts: Vec<u8> = parts.iter().flat_map(|part| string(part)).collect();
    let count = if parts.is_empty() { vec![] } else { long(parts.len() as i64 / 2) };
    [long(0), long(7), long(1), string(text), long(1), count, parts, long(0), next.to_vec()].concat()
}

fn found(schema: &str, extractor: &Extractor, bytes: &[u8]) -> Result<Fields, String> {
    Schema::parse(schema, &[])?.extract(extractor.root(), bytes)
}

#[test]
fn pointers_lead_through_unions_arrays_and_types_that_hold_themselves() {
    let last = document("inner", &[], &long(0));
    let bytes = document("outer", &["a", "b"], &[long(1), last].concat());
    let fields = found(DOCUMENT, &root("/text", "/parts/1"), &bytes).unwrap();
    assert_eq!(fields.text, Found::String("outer".into()));
    assert_eq!((fields.id, fields.language), (Found::Integer("7".into()), Found::String("de".into())));
    assert_eq!(fields.source, Found::String("b".into()));
    let fields = found(DOCUMENT, &root("/next/text", "/parts"), &bytes).unwrap();
    assert_eq!((fields.text, fields.source), (Found::String("inner".into()), Found::Other("an array")));
    assert_eq!(found(DOCUMENT, &root("/next/next/text", ""), &bytes).unwrap().text, Found::Nothing);
    assert_eq!(found(DOCUMENT, &root("/next/next", ""), &bytes).unwrap().text, Found::Null);
}

#[test]
fn blocks_with_a_size_are_stepped_over_or_read() {
    // The map has two blocks, the first with its size in bytes; its arrays are stepped over by none.
    let entry = |key: &str| [string(key), long(1), long(1), 1.5_f64.to_le_bytes().to_vec(), long(0)].concat();
    let first = entry("k");
    let map = [long(-1), long(first.len() as i64), first, long(1), entry("l"), long(0)].concat();
    let rest = document("text", &[], &long(0));
    let bytes = [map, rest[1..].to_vec()].concat();
    for source in ["", "/skipped/k/0"] {
        let fields = found(DOCUMENT, &root("/text", source), &bytes).unwrap();
        assert_eq!(fields.text, Found::String("text".into()));
    }
    assert_eq!(found(DOCUMENT, &root("/text", "/skipped/l/0"), &bytes).unwrap().source, Found::Other("a number"));
}

#[test]
fn references_are_types_by_their_full_names_in_any_order() {
    let body = r#"{"type": "record", "name": "a.Body", "fields": [{"name": "text", "type": "a.Text"}]}"#;
    let text = r#"{"type": "record", "name": "a.Text", "fields": [{"name": "plain", "type": "string"}]}"#;
    let main = r#"{"type": "record", "name": "b.Main", "fields": [{"name": "x", "type": "a.Text"}, {"name": "body", "type": "a.Body"}]}"#;
    for references in [[body, text], [text, body]] {
        let schema = Schema::parse(main, &references.map(str::to_owned)).unwrap();
        let bytes = [string("other"), string("this")].concat();
        let fields = schema.extract(root("/body/text/plain", "").root(), &bytes).unwrap();
        assert_eq!(fields.text, Found::String("this".into()));
    }
    assert!(Schema::parse(main, &[]).is_err(), "a name that nobody defines");
}

#[test]
fn bytes_that_are_no_value_are_told_by_their_place_and_not_by_their_text() {
    let good = document("secret", &[], &long(0));
    let at = root("/text", "");
    for cut in 0..good.len() {
        assert!(found(DOCUMENT, &at, &good[..cut]).unwrap_err().contains("at byte"), "{cut}");
    }
    let spoilt = |place: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        found(DOCUMENT, &at, &bytes).unwrap_err()
    };
    assert!(found(DOCUMENT, &at, &[good.clone(), vec![0]].concat()).unwrap_err().contains("1 bytes follow"));
    assert!(spoilt(2, 9).contains("no such branch"));
    assert!(spoilt(4, 0xff).contains("not UTF-8 at its byte 0"));
    assert!(spoilt(10, 4).contains("no such symbol"));
    assert!(spoilt(1, 0xff).len() < 200);
}

/// The two ways in which a few bytes could stand for much: parts within parts, and parts of no bytes.
#[test]
fn a_few_bytes_never_stand_for_much_work() {
    let at = root("/next/next/next/text", "");
    let node = r#"{"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}"#;
    let deep = found(node, &at, &vec![2; 5_000_000]).unwrap_err();
    assert!(deep.contains("deeper than 128"), "{deep}");
    let empty =
        r#"{"type": "array", "items": {"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}}"#;
    let many = [long(1 << 60), long(0)].concat();
    assert!(found(empty, &at, &many).unwrap_err().contains("more parts than its bytes"));
    let sized = [long(-(1 << 60)), long(1 << 60), long(0)].concat();
    assert!(found(empty, &at, &sized).is_err());
    assert!(found(r#""string""#, &at, &long(i64::MAX)).unwrap_err().contains("ends within"));
    assert!(found(r#""bytes""#, &at, &long(i64::MIN)).unwrap_err().contains("below 0"));
    assert!(found(r#""long""#, &at, &[0xff; 30]).unwrap_err().contains("longer than 64 bits"));
    // What a legal value of parts without bytes needs is granted.
    assert!(found(empty, &at, &[long(90), long(0)].concat()).is_ok());
}

#[test]
fn a_schema_that_is_none_is_refused_in_words() {
    for text in ["", "{", "7", r#"{"type": "nonsense"}"#, r#"{"type": "record", "name": "x"}"#, r#""Unknown""#] {
        assert!(Schema::parse(text, &[]).is_err(), "{text}");
    }
    let deep = format!("{}\"long\"{}", r#"{"type": "array", "items": "#.repeat(200), "}".repeat(200));
    assert!(Schema::parse(&deep, &[]).is_err());
    // A logical type changes nothing of the bytes, whatever it says.
    let uuid = r#"{"type": "record", "name": "R", "fields": [
        {"name": "u", "type": {"type": "fixed", "size": 16, "name": "U", "logicalType": "uuid"}}, {"name": "text", "type": "string"}]}"#;
    let bytes = [vec![0; 16], string("behind it")].concat();
    assert_eq!(found(uuid, &root("/text", "/u"), &bytes).unwrap().text, Found::String("behind it".into()));
}

proptest! {
    #[test]
    fn any_bytes_end_in_fields_or_words(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "/(text|next/text|parts/0|skipped/a)") {
        let _ = found(DOCUMENT, &root(&text, "/next/next/parts"), &bytes);
    }

    #[test]
    fn a_changed_byte_does_no_harm(place in 0_usize..40, byte in any::<u8>()) {
        let mut bytes = document("some text", &["a", "b"], &[long(1), document("inner", &["c"], &long(0))].concat());
        let place = place % bytes.len();
        bytes[place] = byte;
        let _ = found(DOCUMENT, &root("/text", "/next/parts/0"), &bytes);
    }

    #[test]
    fn what_apache_avro_writes_is_read_back(text in ".{0,40}", id in any::<i64>(), parts in proptest::collection::vec("[a-z]{0,5}", 0..4)) {
        use apache_avro::types::{Record, Value};
        let schema = Parsed::parse_str(DOCUMENT).unwrap();
        let mut record = Record::new(&schema).unwrap();
        record.put("skipped", Value::Map([("k".to_owned(), Value::Array(vec![Value::Union(1, Box::new(Value::Double(0.5)))]))].into()));
        record.put("id", Value::TimestampMillis(id));
        record.put("text", Value::Union(1, Box::new(Value::String(text.clone()))));
        record.put("language", Value::Enum(0, "en".into()));
        record.put("parts", Value::Array(parts.iter().map(|part| Value::String(part.clone())).collect()));
        record.put("next", Value::Union(0, Box::new(Value::Null)));
        let bytes = apache_avro::to_avro_datum(&schema, record).unwrap();
        let fields = found(DOCUMENT, &root("/text", "/parts/0"), &bytes).unwrap();
        prop_assert_eq!(fields.text, Found::String(text));
        prop_assert_eq!(fields.id, Found::Integer(id.to_string()));
        prop_assert_eq!(fields.source, parts.first().map_or(Found::Nothing, |part| Found::String(part.clone())));
    }
}
