//! Any bytes as a record's value, in every format: a document or a fault, never a bug; and where another reader of that format finds a document, the same one.

use super::{at_once, pointers, record, tree};
use std::sync::LazyLock;
use tamis::corpus::{Class, Document, Fault};
use tamis::decode::{Decoder, Format, Normalize, Settings};

#[cfg(all(feature = "avro", feature = "protobuf"))]
#[path = "framed.rs"]
mod framed;

const MAX_BYTES: u64 = 1 << 16;

static JSON: LazyLock<[Decoder; 3]> = LazyLock::new(|| decoders(Format::Json));
static FRAMED: LazyLock<[Decoder; 3]> = LazyLock::new(|| decoders(Format::JsonSchema));
static TEXT: LazyLock<[Decoder; 3]> = LazyLock::new(|| decoders(Format::Text));

fn decoders(format: Format) -> [Decoder; 3] {
    let made = |normalize| Settings { format, normalize, max_bytes: MAX_BYTES, ..Settings::default() };
    [Normalize::None, Normalize::Nfkc, Normalize::Lookalikes]
        .map(|kind| Decoder::new(&made(kind)).expect("defaults make sense"))
}

/// Which format and what is done to the text, then the value.
pub(super) fn run(data: &[u8]) {
    let [which, value @ ..] = data else { return };
    let kind = usize::from(which >> 4) % 3;
    match which & 15 {
        0..3 => json(kind, value),
        3..5 => text(kind, value),
        #[cfg(all(feature = "avro", feature = "protobuf"))]
        which => framed::run(which - 5, value),
        #[cfg(not(all(feature = "avro", feature = "protobuf")))]
        _ => {}
    }
}

fn decode(decoder: &Decoder, value: &[u8]) -> Result<Document, Fault> {
    let found = at_once(decoder.decode(&record(Some(value.iter().take(8).copied().collect()), value.to_vec())));
    if let Err(fault) = &found {
        assert!(fault.class != Class::Bug && !fault.message.is_empty(), "{fault}");
        assert_eq!(fault.class == Class::TooLarge, value.len() as u64 > MAX_BYTES, "{fault}");
    }
    found
}

fn json(kind: usize, value: &[u8]) {
    let plain = decode(&JSON[0], value);
    let framed = decode(&FRAMED[0], &[b"\0\0\0\0\x07", value].concat());
    if (value.len() as u64) + 5 <= MAX_BYTES {
        assert_eq!(framed, plain, "behind a schema's id");
    }
    if let Some(tree) = tree(value).filter(|_| value.len() as u64 <= MAX_BYTES) {
        pointers::compare(&Settings::default(), &tree, &plain);
    }
    // Normalising changes the text, and nothing else about the document or about what is wrong.
    match (plain, decode(&JSON[kind], value)) {
        (Ok(plain), Ok(document)) => {
            normalised(&plain.text, &document.text, kind);
            assert_eq!(Document { text: plain.text.clone(), ..document }, plain);
        }
        (Err(plain), Err(fault)) => assert_eq!(plain, fault),
        (plain, found) => panic!("{plain:?}, yet normalised {found:?}"),
    }
}

fn text(kind: usize, value: &[u8]) {
    let found = decode(&TEXT[kind], value);
    match (std::str::from_utf8(value), found) {
        (Ok(text), Ok(document)) => {
            normalised(text, &document.text, kind);
            let key = std::str::from_utf8(&value[..value.len().min(8)]).ok();
            assert_eq!((document.id.as_deref(), document.language, document.source), (key, None, None));
        }
        (Err(_), Err(fault)) => assert!([Class::BadUtf8, Class::TooLarge].contains(&fault.class), "{fault}"),
        (Ok(_), Err(fault)) => assert_eq!(fault.class, Class::TooLarge, "{fault}"),
        (Err(error), Ok(document)) => panic!("{error}, yet {document:?} was found"),
    }
}

/// ASCII is left alone, growth is bounded, and what is normal stays.
fn normalised(text: &str, done: &str, kind: usize) {
    if kind == 0 || text.is_ascii() {
        return assert_eq!(text, done);
    }
    assert!(done.len() <= text.len() * 11, "{text:?} became {done:?}");
    if (done.len() as u64) <= MAX_BYTES {
        let again = decode(&TEXT[kind], done.as_bytes()).expect("text");
        assert_eq!(again.text, done, "{text:?} is not normal after once");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let sample = std::fs::read(super::root().join("pipelines/demo/sample.jsonl")).expect("the sample");
    let mut seeds: Vec<Vec<u8>> = sample
        .split(|byte| *byte == b'\n')
        .take(40)
        .enumerate()
        .map(|(number, line)| [&[[0, 0x10, 0x20][number % 3]], line].concat())
        .collect();
    for which in [3, 0x13, 0x23] {
        let text = "\u{feff}\u{1d413}e\u{301}x\u{200b}t \u{fdfa} \u{456}\u{440}\u{430} \u{915}\u{200d}\u{937} \u{ff21}\u{e0041} na\u{ef}ve";
        seeds.push([&[which], text.as_bytes()].concat());
        let json = format!(
            "{{\"text\":\"{text}\\ud83d\\ude00\\u0000\",\"id\":-7,\"language\":\"en\",\"source\":null,\"x\":[[[{{}}]],1e400]}}"
        );
        seeds.push([&[which & 0xf0], json.as_bytes()].concat());
    }
    #[cfg(all(feature = "avro", feature = "protobuf"))]
    seeds.extend(framed::seeds().into_iter().map(|(which, value)| [vec![which + 5], value].concat()));
    seeds
}
