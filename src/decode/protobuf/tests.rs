//! Messages of Protobuf that are documents, and bytes that are none.

use super::super::fields::Extractor;
use super::super::settings::Settings;
use super::*;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, Value};

const SCHEMA: &str = r#"
syntax = "proto3";
package a.b;
import "google/protobuf/wrappers.proto";
message First { string text = 1; }
message Document {
  map<string, Body> bodies = 1;
  message Body { string text = 1; google.protobuf.StringValue wrapped = 2; }
  string text = 2;
  sint64 document_id = 3;
  Language language = 4;
  repeated string parts = 5;
  repeated int32 numbers = 6;
  optional string maybe = 7;
  oneof either { string left = 8; Body right = 9; }
  Document inner = 10;
  bytes raw = 11;
}
enum Language { NONE = 0; en = 1; de = 2; }
"#;

fn schema() -> Schema {
    Schema::parse(SCHEMA, Vec::new()).unwrap()
}

fn root(text: &str, source: &str) -> Extractor {
    let settings =
        Settings { text: text.into(), source: source.into(), id: "/documentId".into(), ..Settings::default() };
    Extractor::new(&settings).unwrap()
}

/// A message of the schema's second type, from its text form in JSON as protobuf has it.
fn framed(fields: &[(&str, Value)]) -> Vec<u8> {
    let of = schema().file.messages().nth(1).unwrap();
    let mut message = DynamicMessage::new(of);
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    // One index, 1, in zig-zag.
    [vec![2, 2], message.encode_to_vec()].concat()
}

fn text(of: &str) -> Value {
    Value::String(of.to_owned())
}

fn body(fields: &[(&str, Value)]) -> Value {
    let of = schema().file.messages().nth(1).unwrap().child_messages().find(|child| child.name() == "Body").unwrap();
    let mut message = DynamicMessage::new(of);
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    Value::Message(message)
}

fn found(pointer: &str, source: &str, bytes: &[u8]) -> Result<Fields, String> {
    schema().extract(root(pointer, source).root(), bytes)
}

#[test]
fn pointers_lead_by_either_name_through_lists_maps_and_messages() {
    let bytes = framed(&[
        ("text", text("outer")),
        ("document_id", Value::I64(-7)),
        ("language", Value::EnumNumber(2)),
        ("parts", Value::List(vec![text("a"), text("b")])),
        ("numbers", Value::List(vec![Value::I32(5), Value::I32(-6)])),
        ("bodies", Value::Map([(prost_reflect::MapKey::String("k".into()), body(&[("text", text("mapped"))]))].into())),
        ("raw", Value::Bytes(vec![0xff].into())),
    ]);
    let fields = found("/text", "/parts/1", &bytes).unwrap();
    assert_eq!((fields.text, fields.source), (Found::String("outer".into()), Found::String("b".into())));
    assert_eq!((fields.id, fields.language), (Found::Integer("-7".into()), Found::String("de".into())));
    assert_eq!(found("/bodies/k/text", "/numbers/1", &bytes).unwrap().text, Found::String("mapped".into()));
    assert_eq!(found("/raw", "/numbers/1", &bytes).unwrap().source, Found::Integer("-6".into()));
    assert_eq!(found("/raw", "/bodies", &bytes).unwrap().text, Found::Other("bytes"));
    assert_eq!(found("/inner/text", "", &bytes).unwrap().text, Found::Nothing);
    assert_eq!(found("", "", &bytes).unwrap().text, Found::Other("an object"));
}

#[test]
fn what_is_absent_is_empty_without_presence_and_nothing_with_it() {
    let bytes = framed(&[("language", Value::EnumNumber(1))]);
    assert_eq!(found("/text", "/left", &bytes).unwrap().text, Found::String(String::new()));
    assert_eq!(found("/maybe", "/text", &bytes).unwrap().text, Found::Nothing);
    assert_eq!(found("/maybe", "/text", &bytes).unwrap().source, Found::Nothing, "an empty name is none");
    assert_eq!(found("/maybe", "", &framed(&[("maybe", text(""))])).unwrap().text, Found::String(String::new()));
}

#[test]
fn wrappers_stand_for_what_they_hold_and_of_a_oneof_the_last_counts() {
    let of = schema().file.parent_pool().get_message_by_name("google.protobuf.StringValue").unwrap();
    let mut wrapped = DynamicMessage::new(of);
    let empty = Value::Message(wrapped.clone());
    wrapped.set_field_by_name("value", text("inside"));
    let bytes = framed(&[("right", body(&[("wrapped", Value::Message(wrapped))]))]);
    assert_eq!(found("/right/wrapped", "", &bytes).unwrap().text, Found::String("inside".into()));
    let nothing = framed(&[("right", body(&[("wrapped", empty)]))]);
    assert_eq!(found("/right/wrapped", "", &nothing).unwrap().text, Found::String(String::new()));
    let left = &framed(&[("left", text("left"))])[2..];
    let both = [&bytes, left].concat();
    let fields = found("/left", "/right/wrapped", &both).unwrap();
    assert_eq!((fields.text, fields.source), (Found::String("left".into()), Found::Nothing));
}

/// A message may come in parts ("Encoding", "Last One Wins"): what one part says stays unless a later one says otherwise.
#[test]
fn a_message_that_comes_in_parts_is_one() {
    let document = |parts: &[&[u8]]| [&[2, 2], parts.concat().as_slice()].concat();
    let (inner, empty) = (&[0x52, 6, 0x12, 4, b's', b'p', b'a', b'm'][..], &[0x52, 0][..]);
    let spam = Found::String("spam".into());
    assert_eq!(found("/inner/text", "", &document(&[inner, empty])).unwrap().text, spam);
    assert_eq!(found("/inner/text", "", &document(&[empty, inner, empty])).unwrap().text, spam);
    // Lists go on where the last part's ended.
    let element = |byte: u8| vec![0x52, 3, 0x2a, 1, byte];
    let list = document(&[&element(b'a'), &element(b'b'), &element(b'c')]);
    let fields = found("/inner/parts/0", "/inner/parts/2", &list).unwrap();
    assert_eq!((fields.text, fields.source), (Found::String("a".into()), Found::String("c".into())));
    // A wrapper is a message, too: one without its field takes nothing back.
    let wrapped = document(&[&[0x4a, 8, 0x12, 6, 0x0a, 4, b's', b'p', b'a', b'm'], &[0x4a, 2, 0x12, 0]]);
    assert_eq!(found("/right/wrapped", "", &wrapped).unwrap().text, spam);
    // So is the value of a map's entry, and an entry whose key came before is another one.
    let entry = |body: &[u8]| [&[0x0a, 3 + body.len() as u8, 0x0a, 1, b'k'], body].concat();
    let body = [0x12, 6, 0x0a, 4, b's', b'p', b'a', b'm'];
    let both = entry(&[&body[..], &[0x12, 0]].concat());
    assert_eq!(found("/bodies/k/text", "", &document(&[&both])).unwrap().text, spam);
    let other = document(&[&both, &entry(&[0x12, 0])]);
    assert_eq!(found("/bodies/k/text", "", &other).unwrap().text, Found::String(String::new()));
}

#[test]
fn of_a_oneof_the_last_counts_though_no_pointer_leads_to_it() {
    let (left, right, empty) = (&[0x42, 1, b'l'][..], &[0x4a, 3, 0x0a, 1, b'r'][..], &[0x4a, 0][..]);
    let document = |parts: &[&[u8]]| [&[2, 2], parts.concat().as_slice()].concat();
    assert_eq!(found("/left", "", &document(&[left, right])).unwrap().text, Found::Nothing);
    // In parts it stays one; once something else came between, it begins anew.
    let text = |parts: &[&[u8]]| found("/right/text", "", &document(parts)).unwrap().text;
    assert_eq!(text(&[right, empty]), Found::String("r".into()));
    assert_eq!(text(&[right, left, empty]), Found::String(String::new()));
    assert_eq!(text(&[right, left]), Found::Nothing);
    // A field of another wire type than its own is an unknown one, and overrules nothing.
    assert_eq!(text(&[right, &[0x40, 1]]), Found::String("r".into()));
}

#[test]
fn message_indexes_name_the_type() {
    let first = |indexes: &[u8]| [indexes, &[0x0a, 1, b'x']].concat();
    // Short and long for the first; then a type within the second, with and without the map's own type counted.
    for indexes in [&[0][..], &[2, 0], &[4, 2, 2], &[4, 2, 0]] {
        assert_eq!(found("/text", "", &first(indexes)).unwrap().text, Found::String("x".into()), "{indexes:?}");
    }
    for indexes in [&[2, 8][..], &[4, 2, 8], &[4, 0, 0], &[1], &[2, 1], &[0xff, 0xff, 3], &[]] {
        assert!(found("/text", "", indexes).is_err(), "{indexes:?}");
    }
}

#[test]
fn bytes_that_are_no_message_are_told_by_their_place_and_not_by_their_text() {
    let good = framed(&[("text", text("secret"))]);
    for cut in 3..good.len() {
        assert!(found("/text", "", &good[..cut]).unwrap_err().contains("at byte"), "{cut}");
    }
    let told = |tail: &[u8]| found("/text", "", &[&[0], tail].concat()).unwrap_err();
    assert!(told(&[0x0a, 1, 0xff]).contains("not UTF-8 at its byte 0"));
    assert!(told(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).contains("ends within"));
    assert!(told(&[0xff; 12]).contains("longer than 64 bits"));
    assert!(told(&[0]).contains("no field of that number"));
    assert!(told(&[0x0c]).contains("group that did not begin"));
    assert!(told(&[0x0e]).contains("no wire type 6"));
    assert!(told(&vec![0x0b; 5_000_000]).contains("groups lie deeper"));
    // Of another wire type than the schema says: an unknown field.
    assert_eq!(found("/text", "", &[0, 0x08, 1]).unwrap().text, Found::String(String::new()));
}

#[test]
fn messages_within_messages_are_walked_as_deep_as_pointers_go() {
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        let length = bytes.len();
        let mut outer = vec![0x52];
        let mut rest = length;
        while rest >= 0x80 {
            outer.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        outer.push(rest as u8);
        bytes = [outer, bytes].concat();
    }
    let bytes = [vec![2, 2], bytes].concat();
    let deep = format!("{}/text", "/inner".repeat(126));
    assert_eq!(found(&deep, "", &bytes).unwrap().text, Found::String(String::new()));
    assert_eq!(found("/text", "", &bytes).unwrap().text, Found::String(String::new()));
}

#[test]
fn imports_are_references_or_googles_and_nothing_else() {
    let other = r#"syntax = "proto3"; package o; message Text { string plain = 1; }"#;
    let main = r#"syntax = "proto3"; import "o/text.proto"; message M { o.Text text = 1; }"#;
    let schema = Schema::parse(main, vec![("o/text.proto".to_owned(), other.to_owned())]).unwrap();
    let fields = schema.extract(root("/text/plain", "").root(), &[0, 0x0a, 3, 0x0a, 1, b'x']).unwrap();
    assert_eq!(fields.text, Found::String("x".into()));
    let missing = Schema::parse(main, Vec::new()).unwrap_err();
    assert!(missing.contains("o/text.proto"), "{missing}");
    let own = r#"syntax = "proto3"; import "/etc/passwd"; message M {}"#;
    assert!(Schema::parse(own, Vec::new()).is_err(), "no file of this machine is opened");
    let circle = r#"syntax = "proto3"; import "o/text.proto"; message M {}"#;
    assert!(Schema::parse(circle, vec![("o/text.proto".to_owned(), circle.to_owned())]).is_err());
    for text in ["", "nonsense", "syntax = \"proto3\"; message M { Unknown x = 1; }"] {
        assert!(
            Schema::parse(text, Vec::new())
                .and_then(|schema| schema.extract(root("/text", "").root(), &[0]).map(drop))
                .is_err()
        );
    }
    let deep = format!("syntax = \"proto3\"; {} {}", "message M {".repeat(100_000), "}".repeat(100_000));
    assert!(Schema::parse(&deep, Vec::new()).unwrap_err().contains("brackets"));
}

proptest! {
    #[test]
    fn any_bytes_end_in_fields_or_words(bytes in proptest::collection::vec(any::<u8>(), 0..200), pointer in "/(text|inner/text|parts/0|bodies/a/text|right/wrapped)") {
        let _ = found(&pointer, "/inner/inner/parts", &bytes);
        let _ = found(&pointer, "/inner/inner/parts", &[vec![2, 2], bytes].concat());
    }

    #[test]
    fn what_prost_writes_is_read_back(of in ".{0,40}", id in any::<i64>(), parts in proptest::collection::vec("[a-z]{0,5}", 0..4)) {
        let list = Value::List(parts.iter().map(|part| text(part)).collect());
        let fields = found("/text", "/parts/0", &framed(&[("text", text(&of)), ("document_id", Value::I64(id)), ("parts", list)])).unwrap();
        prop_assert_eq!(fields.text, Found::String(of));
        prop_assert!(fields.id == Found::Integer(id.to_string()) || id == 0);
        let first = parts.first().filter(|part| !part.is_empty());
        prop_assert_eq!(fields.source, first.map_or(Found::Nothing, |part| Found::String(part.clone())));
    }
}
