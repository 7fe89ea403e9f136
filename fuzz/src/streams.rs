//! Any bytes as a file of lines, compressed or not: lines in order within their bound, or an error that says what is wrong; and lines that were
//! compressed by the libraries that people use come out as they went in.

use super::scratch;
use flate2::write::GzEncoder;
use std::io::Write;
use tamis::files::{self, Line, LineReader};
use tamis::telemetry::Progress;

/// Bytes that a line may be longer than its bound: of a longer one the start is kept, which shows that it is too long.
const MARGIN: usize = 5;
/// Lines that are read of one file. A bomb has no end.
const LINES_MAX: usize = 20_000;
const NAMES: [&str; 4] = ["a.jsonl", "a.gz", "a.zst", "a.zstd"];

/// What is done and the file's name, the bound of a line, then its bytes.
pub(super) fn run(data: &[u8]) {
    let [what, bound, bytes @ ..] = data else { return };
    let max = u64::from(*bound) * 3;
    match what >> 2 & 7 {
        0 => compressed(bytes, max, usize::from(*bound), false),
        1 => compressed(bytes, max, usize::from(*bound), true),
        _ => {
            let name = NAMES[usize::from(what & 3)];
            if let Err(error) = read(name, bytes, max) {
                assert!(!error.is_empty());
            }
        }
    }
}

/// Lines and the digest behind each; or what is told.
fn read(name: &str, bytes: &[u8], max: u64) -> Result<Vec<(Line, files::Digest)>, String> {
    let path = scratch(name);
    std::fs::write(&path, bytes).expect("a file");
    let opened = files::open(&path, &Progress::default());
    let _ = std::fs::remove_file(&path);
    let opened = opened.map_err(|error| error.to_string())?;
    assert_eq!(opened.size, bytes.len() as u64);
    let mut reader = LineReader::new(opened.reader, max);
    let mut lines = Vec::new();
    while lines.len() < LINES_MAX {
        let Some(line) = reader.read().map_err(|error| files::why(&error))? else { break };
        assert_eq!(line.number, i64::try_from(lines.len()).expect("few lines"));
        assert!(line.bytes.len() as u64 <= max + MARGIN as u64, "{} bytes of {max}", line.bytes.len());
        assert!(!line.bytes.contains(&b'\n'));
        lines.push((line, reader.digest()));
    }
    Ok(lines)
}

/// The same bytes plain and compressed in two pieces.
fn compressed(bytes: &[u8], max: u64, cut: usize, zstd: bool) {
    let plain = lines(bytes, max);
    let (one, two) = bytes.split_at(cut.min(bytes.len()));
    let pack = |piece: &[u8]| if zstd { zstd::encode_all(piece, 1).expect("memory") } else { gzip(piece) };
    let file = [pack(one), pack(two)].concat();
    // What a file's name says does not matter where its first bytes say it.
    for name in if zstd { ["a.zst", "a.jsonl"] } else { ["a.gz", "a.jsonl"] } {
        let found = read(name, &file, max).expect("a file that is whole");
        assert!(found.iter().map(|(line, _)| &line.bytes).eq(plain.iter()), "{found:?} of {plain:?}");
    }
    // A file that was cut off says so, and is not taken for a shorter one; a cut between its two pieces leaves a whole file.
    let cut = cut % file.len();
    if cut > 0 && cut != pack(one).len() {
        let name = if zstd { "a.zst" } else { "a.gz" };
        assert!(read(name, &file[..cut], max).is_err() || plain.len() >= LINES_MAX, "cut at {cut} of {}", file.len());
    }
}

fn gzip(piece: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(piece).expect("memory");
    encoder.finish().expect("memory")
}

/// The lines of `bytes` as they are promised: no byte-order mark before the first, no carriage return before a newline, a start of those that are too long.
fn lines(bytes: &[u8], max: u64) -> Vec<Vec<u8>> {
    let keep = usize::try_from(max).expect("a small bound") + MARGIN;
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if pieces.last().is_some_and(|last| last.is_empty()) {
        pieces.pop();
    }
    let line = |(number, piece): (usize, &&[u8])| {
        let mut kept = &piece[..piece.len().min(keep)];
        if kept.len() == piece.len() {
            kept = kept.strip_suffix(b"\r").unwrap_or(kept);
        }
        if number == 0 { kept.strip_prefix(b"\xef\xbb\xbf").unwrap_or(kept).to_vec() } else { kept.to_vec() }
    };
    pieces.iter().enumerate().map(line).take(LINES_MAX).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let text = b"\xef\xbb\xbf{\"text\":\"one\"}\r\n\n{\"text\":\"two, which is rather longer than its bound\"}\nthree";
    let zeros = vec![0_u8; 1 << 20];
    let frame = zstd::encode_all(&text[..], 3).expect("memory");
    let skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec();
    let hostile = |name: u8, bytes: Vec<u8>| [vec![8 | name, 9], bytes].concat();
    vec![
        [&[0, 9], &text[..]].concat(),
        [&[4, 9], &text[..]].concat(),
        hostile(0, text.to_vec()),
        hostile(1, [gzip(text), gzip(b""), gzip(b"x"), vec![0; 9]].concat()),
        hostile(2, [skippable, frame.clone(), zstd::encode_all(&b"y"[..], 1).expect("memory")].concat()),
        hostile(3, frame),
        hostile(1, gzip(&zeros)),
        hostile(2, zstd::encode_all(&zeros[..], 1).expect("memory")),
        hostile(0, b"BZh9".to_vec()),
    ]
}
