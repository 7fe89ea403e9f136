//! Any names and values as a record's headers, in the client library's own memory: copied whole, or the record is marked. And any headers as those of a
//! dead letter: none, or one that goes back as the record that it was made of.

use super::record;
use tamis::corpus::{Header, Record};
use tamis::kafka::fuzzing;
use tamis::sink::DeadLetter;

/// What the sink adds, in its order.
const ADDED: [&str; 5] = ["tamis-verdict", "tamis-policy", "tamis-scorer", "tamis-source", "tamis-error"];
const REPLAY: &str = "tamis-replay";

type Pairs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub(super) fn run(data: &[u8]) {
    let pairs = pairs(data);
    let (found, defect) = fuzzing::taken_out(&pairs);
    copied(&pairs, &found, defect.as_deref());
    // What can be passed on comes out as it went in.
    if defect.is_none() {
        assert_eq!(fuzzing::passed_on(&found), (found.clone(), None));
    }
    letters(found);
}

/// Pieces of a length byte and as many bytes: name, value, name, value. Length 255 is no value at all; from 250 down, names of the sink's own.
fn pairs(data: &[u8]) -> Pairs {
    let mut rest = data;
    let mut next = || -> Option<Option<Vec<u8>>> {
        let [length, behind @ ..] = rest else { return None };
        rest = behind;
        match length {
            255 => Some(None),
            250 => Some(Some(REPLAY.into())),
            245..250 => Some(Some(ADDED[usize::from(length - 245)].into())),
            length => {
                let (piece, behind) = rest.split_at(usize::from(*length).min(rest.len()));
                rest = behind;
                Some(Some(piece.to_vec()))
            }
        }
    };
    let mut pairs = Vec::new();
    while let Some(name) = next() {
        pairs.push((name.unwrap_or_default(), next().flatten()));
    }
    pairs
}

fn copied(pairs: &Pairs, found: &[Header], defect: Option<&str>) {
    // Where there is no value, a NUL ends the name unseen: docs/adr/0004-rdkafka.md.
    let seen = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
        Some(_) => name.clone(),
        None => name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
    };
    let passable = |name: &[u8]| !name.contains(&0) && std::str::from_utf8(name).is_ok();
    let expected: Vec<_> = pairs.iter().map(|pair| (seen(pair), pair.1.clone())).collect();
    assert_eq!(defect.is_some(), !expected.iter().all(|(name, _)| passable(name)), "{defect:?}");
    let kept = expected.iter().filter(|(name, _)| passable(name));
    let found: Vec<_> = found.iter().map(|header| (header.name.clone().into_bytes(), header.value.clone())).collect();
    assert!(kept.eq(found.iter()), "{found:?} of {pairs:?}");
}

fn letters(headers: Vec<Header>) {
    let bare = Record { timestamp_ms: Some(5), ..record(Some(b"k".to_vec()), b"v".to_vec()) };
    if let Some(letter) = DeadLetter::read(Record { headers: headers.clone(), ..bare.clone() }) {
        back(&letter, &bare);
    }
    // Buried by the sink, whatever it came with, it goes back with that, but for the marks of earlier replays.
    let said =
        ["dead-letter", "p", "s", "in/raw/3/41", r#"{"stage":"decode","class":"bad-json","message":"no","attempt":1}"#];
    let added =
        ADDED.iter().zip(said).map(|(name, said)| Header { name: (*name).to_owned(), value: Some(said.into()) });
    let buried = Record { headers: headers.iter().cloned().chain(added).collect(), ..bare.clone() };
    let letter = DeadLetter::read(buried).expect("a dead letter of the sink");
    let own: Vec<Header> = headers.into_iter().filter(|header| header.name != REPLAY).collect();
    let mut returned = back(&letter, &bare);
    returned.pop();
    assert_eq!(returned, own);
    assert_eq!(letter.source.to_string(), "in/raw/3/41");
}

/// The headers of what goes back; the rest of it is as it was, and the last header counts one more.
fn back(letter: &DeadLetter, bare: &Record) -> Vec<Header> {
    let back = letter.back(99);
    assert_eq!((back.key.as_deref(), back.value.as_deref()), (bare.key.as_deref(), bare.value.as_deref()));
    assert_eq!((back.timestamp_ms, &back.source), (bare.timestamp_ms, &letter.source));
    let mark = back.headers.last().expect("a mark");
    let again = serde_json::from_slice::<serde_json::Value>(mark.value.as_deref().unwrap_or_default());
    let count = again.ok().and_then(|mark| mark.get("count")?.as_u64());
    assert_eq!((mark.name.as_str(), count), (REPLAY, Some(u64::from(letter.replays.saturating_add(1)))));
    assert_eq!(back.headers.iter().filter(|header| header.name == REPLAY).count(), 1);
    back.headers.to_vec()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let said = |said: &str| [&[u8::try_from(said.len()).unwrap_or(0)], said.as_bytes()].concat();
    let letter = [
        said("trace"),
        said("1"),
        vec![245],
        said("dead-letter"),
        vec![248],
        said("in/raw/3/41"),
        vec![249],
        said(r#"{"stage":"decode","class":"bad-json","message":"no JSON","attempt":1}"#),
        vec![250],
        said(r#"{"count":4294967295,"at_ms":1,"from":"a/0/1"}"#),
    ];
    vec![
        b"\x04name\x05value\x03nul\x00\xff\x02\xff\xfe\x00".to_vec(),
        b"\x03a\0b\x01x\x03c\0d\xff".to_vec(),
        letter.concat(),
    ]
}
