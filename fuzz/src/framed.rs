//! Any bytes as a value of Avro or of Protobuf, behind the id of its schema: a document or a fault; and where the library that writes such values finds a
//! text, the same one. The schemas come from a registry on this machine, asked as any other is.

use super::super::{at_once, record};
use super::{MAX_BYTES, decode};
use apache_avro::types::Value as Avro;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use tamis::corpus::{Class, Document, Fault};
use tamis::decode::{Decoder, Format, Registry, Settings};

const PLAIN_AVRO: &str = r#"{"type": "record", "name": "Document", "fields": [
    {"name": "id", "type": "long"}, {"name": "text", "type": ["null", "string"]},
    {"name": "language", "type": {"type": "enum", "name": "Language", "symbols": ["en", "de"]}},
    {"name": "parts", "type": {"type": "array", "items": "string"}}, {"name": "score", "type": "double"}
]}"#;
const DEEP_AVRO: &str = r#"{"type": "record", "name": "Document", "namespace": "a.b", "fields": [
    {"name": "skipped", "type": {"type": "map", "values": {"type": "array", "items": ["null", "double"]}}},
    {"name": "nothing", "type": {"type": "array", "items": "null"}}, {"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 3}},
    {"name": "id", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "text", "type": ["string", "null", "bytes", "boolean", "float"]},
    {"name": "parts", "type": {"type": "array", "items": "Document"}}, {"name": "next", "type": ["null", "Document"]}
]}"#;
const PLAIN_PROTO: &str = r#"syntax = "proto3";
message Document { string text = 1; sint64 document_id = 2; Language language = 3; repeated string parts = 4; }
enum Language { NONE = 0; en = 1; de = 2; }"#;
const DEEP_PROTO: &str = r#"syntax = "proto3"; package a.b; import "google/protobuf/wrappers.proto";
message First { string text = 1; }
message Document { map<string, Body> parts = 1; message Body { google.protobuf.StringValue text = 2; Document inner = 3; }
  google.protobuf.StringValue text = 2; sint64 document_id = 3; repeated int32 numbers = 6; oneof either { string language = 8; Body right = 9; }
  Document inner = 10; bytes raw = 11; map<int32, string> named = 12; }"#;

/// Schemas by their ids, with their kinds.
const SCHEMAS: [(&str, &str); 4] =
    [(PLAIN_AVRO, "AVRO"), (DEEP_AVRO, "AVRO"), (PLAIN_PROTO, "PROTOBUF"), (DEEP_PROTO, "PROTOBUF")];

/// A registry that knows these schemas, for as long as the process runs.
static REGISTRY: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || listener.incoming().flatten().for_each(|asked| drop(answer(asked))));
    format!("http://{address}")
});

fn answer(mut asked: TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && asked.read(&mut byte)? == 1 {
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/schemas/ids/"));
    let id = path.map(|path| path.split('?').next().unwrap_or_default().parse::<usize>());
    let (status, body) = match id.and_then(Result::ok).and_then(|id| SCHEMAS.get(id)) {
        Some((schema, kind)) => ("200 OK", serde_json::json!({"schema": schema, "schemaType": kind})),
        None => ("404 Not Found", serde_json::json!({"error_code": 40_403, "message": "none"})),
    };
    let body = body.to_string();
    write!(
        asked,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// For each schema, a decoder of its format.
static DECODERS: LazyLock<[Decoder; 4]> = LazyLock::new(|| {
    let made = |format, id: &str, source: &str| {
        let registry = Some(Registry { url: REGISTRY.clone(), ..Registry::default() });
        let (id, source) = (id.to_owned(), source.to_owned());
        let settings = Settings { format, registry, id, source, max_bytes: MAX_BYTES, ..Settings::default() };
        Decoder::new(&settings).expect("a registry that can be asked")
    };
    [
        made(Format::Avro, "/id", "/parts/1"),
        made(Format::Avro, "/next/id", "/parts/1/text"),
        made(Format::Protobuf, "/documentId", "/parts/1"),
        made(Format::Protobuf, "/inner/documentId", "/parts/x/inner/named/5"),
    ]
});

/// Which schema, and whether the value is without a frame; then the value.
pub(super) fn run(which: u8, value: &[u8]) {
    let schema = usize::from(which) % SCHEMAS.len();
    if usize::from(which) >= 2 * SCHEMAS.len() {
        // As it is: of a frame with an id of its own choice nothing is asked, or it would be asked for.
        let asks = matches!(value, [0, _, _, _, _, ..]);
        if !asks {
            let fault =
                at_once(DECODERS[schema].decode(&record(None, value.to_vec()))).expect_err("a value without a frame");
            assert!([Class::BadFraming, Class::TooLarge].contains(&fault.class), "{fault}");
        }
        return;
    }
    let id = u32::try_from(schema).expect("few schemas").to_be_bytes();
    let index: &[u8] = if schema == 2 { &[0] } else { &[] };
    let found = decode(&DECODERS[schema], &[&[0], &id[..], index, value].concat());
    if let Err(fault) = &found {
        let own = [
            Class::BadAvro,
            Class::BadProtobuf,
            Class::BadUtf8,
            Class::MissingText,
            Class::TextNotString,
            Class::TooLarge,
        ];
        assert!(own.contains(&fault.class), "{fault}");
    }
    match schema {
        0 => avro(value, &found),
        2 => protobuf(value, &found),
        _ => {}
    }
}

static AVRO: LazyLock<apache_avro::Schema> = LazyLock::new(|| {
    apache_avro::util::max_allocation_bytes(1 << 20);
    apache_avro::Schema::parse_str(PLAIN_AVRO).expect("a schema")
});

/// Where Apache's reader finds a record, so must ours, and the same one.
fn avro(value: &[u8], found: &Result<Document, Fault>) {
    let mut rest = value;
    let Ok(Avro::Record(fields)) = apache_avro::from_avro_datum(&AVRO, &mut rest, None) else { return };
    // Apache's reader takes no notice of what is left, nor of a block's size in bytes.
    let tolerated = |fault: &Fault| !rest.is_empty() || fault.message.contains("has a size below 0");
    let [(_, Avro::Long(id)), (_, Avro::Union(_, text)), (_, Avro::Enum(_, language)), (_, Avro::Array(parts)), _] =
        fields.as_slice()
    else {
        panic!("{fields:?}")
    };
    match (&**text, found) {
        (_, Err(fault)) if tolerated(fault) => {}
        (Avro::String(text), Ok(document)) => {
            assert!(rest.is_empty(), "{rest:?} is left");
            assert_eq!((&document.text, &document.id), (text, &Some(id.to_string())));
            assert_eq!(document.language.as_ref(), Some(language));
            let part = parts.get(1).map(|part| if let Avro::String(part) = part { part.as_str() } else { "?" });
            assert_eq!(document.source.as_deref(), part);
        }
        (Avro::Null, Err(fault)) => assert_eq!(fault.class, Class::MissingText, "{fault}"),
        (text, found) => panic!("Apache's reader finds {text:?}, ours {found:?}"),
    }
}

struct Own;

impl FileResolver for Own {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "own.proto" {
            File::from_source(name, PLAIN_PROTO)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

static MESSAGE: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Own);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.open_file("own.proto").expect("a schema");
    compiler.descriptor_pool().get_message_by_name("Document").expect("a message")
});

/// Where prost-reflect's reader finds a message, so must ours, and the same one.
fn protobuf(value: &[u8], found: &Result<Document, Fault>) {
    let Ok(message) = DynamicMessage::decode(MESSAGE.clone(), value) else { return };
    let document = match found {
        Ok(document) => document,
        Err(fault) if fault.class == Class::TooLarge => return,
        Err(fault) => panic!("prost-reflect finds {message:?}, yet {fault}"),
    };
    let field = |name: &str| message.get_field_by_name(name).expect("a field").into_owned();
    assert_eq!(Some(document.text.as_str()), field("text").as_str());
    // A field that is its kind's default may have been written or not, which prost-reflect does not tell.
    if message.has_field_by_name("document_id") {
        assert_eq!(document.id, field("document_id").as_i64().map(|id| id.to_string()));
    }
    if message.has_field_by_name("language") {
        let number = field("language").as_enum_number();
        let known = [(1, "en"), (2, "de")].into_iter().find(|(known, _)| Some(*known) == number);
        assert_eq!(document.language.as_deref(), known.map(|(_, name)| name));
    }
    let parts = field("parts");
    let part = parts.as_list().and_then(|parts| parts.get(1)).and_then(|part| part.as_str());
    assert_eq!(document.source.as_deref(), part.filter(|part| !part.is_empty()));
}

/// The schema's number, and a value of it.
pub(super) fn seeds() -> Vec<(u8, Vec<u8>)> {
    vec![
        (0, b"\x0e\x02\x08text\x02\x04\x02a\x02b\x00\0\0\0\0\0\0\xf0\x3f".to_vec()),
        (0, b"\x0e\x00\x00\x03\x08\x02a\x02b\x00\0\0\0\0\0\0\xf0\x3f".to_vec()),
        (1, b"\x02\x02k\x02\x00\x00\x00\x04\x00abc\x02\x00\x08text\x00\x00".to_vec()),
        (1, b"\x00\x00abc\x02\x00\x02t\x00\x02\x00\x00abc\x04\x00\x02u\x00\x00".to_vec()),
        (2, b"\x0a\x04text\x10\x0d\x18\x01\x22\x01a\x22\x01b".to_vec()),
        (2, b"\x4b\x4c\x1a\x01x\x18\x05\x0a\x01t".to_vec()),
        (
            3,
            b"\x02\x02\x12\x06\x0a\x04text\x0a\x0e\x0a\x01x\x12\x09\x1a\x07\x62\x05\x08\x05\x12\x01z\x42\x02en\x52\x02\x18\x09"
                .to_vec(),
        ),
        (3, b"\x04\x02\x00\x12\x04\x0a\x02aa".to_vec()),
        (8, b"{\"text\":1}".to_vec()),
        (9, b"\x00\x00".to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_documents_of_each_schema_for_the_other_readers_too() {
        let texts = |schema: u8| {
            let values = seeds().into_iter().filter(move |(which, _)| *which == schema);
            let id = [0, 0, 0, 0, schema];
            let index: &[u8] = if schema == 2 { &[0] } else { &[] };
            let decoded =
                values.map(move |(_, value)| decode(&DECODERS[usize::from(schema)], &[&id, index, &value].concat()));
            decoded.flatten().map(|document| document.text).collect::<Vec<_>>()
        };
        assert_eq!((texts(0), texts(1)), (vec!["text".into()], vec!["text".into(), "t".to_owned()]));
        assert_eq!((texts(2), texts(3)), (vec!["text".into(), "t".to_owned()], vec!["text".into(), "aa".to_owned()]));
        let read = |schema: u8, reads: fn(&[u8]) -> bool| {
            seeds().iter().any(|(which, value)| *which == schema && reads(value))
        };
        assert!(read(0, |mut value| apache_avro::from_avro_datum(&AVRO, &mut value, None).is_ok()));
        assert!(read(2, |value| DynamicMessage::decode(MESSAGE.clone(), value).is_ok()));
    }
}
