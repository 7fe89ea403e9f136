//! Owns the opening of an input: what kind of data it holds, told by its first bytes, and the stream of what is in it.
//!
//! Invariants: every frame and every member is read; a window larger than 128 MiB is refused instead of allocated; a name that promises
//! compressed data and holds none is an error, and so is compressed data of a kind that tamis does not read.

use super::error::Error;
use super::gzip::Members;
use crate::telemetry::Progress;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

const BUFFER: usize = 1 << 17;
/// 128 MiB: what `zstd` itself decompresses without being asked twice.
const WINDOW_LOG: u32 = 27;

/// First bytes of formats that people keep text in and that tamis does not read.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
];
const PARQUET: &[u8] = b"PAR1";
const NOT_HERE: &str = "which `tamis score --input` reads, and [source.files] does not: its positions count lines; score it, or write it as lines of JSON";
const NOT_BUILT: &str = "which this tamis was built without; build it with `cargo build --release --features parquet`, or write the file as lines of JSON";

/// An open input.
pub struct Opened {
    /// What it holds, decompressed.
    pub reader: Box<dyn BufRead + Send>,
    /// Its size on disk, in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since the Unix epoch; 0 where the file system does not say.
    pub modified_ns: u64,
}

/// Opens `path` and finds out how to read it. `progress` hears of every byte that is read from disk.
///
/// # Errors
/// [`Error::Input`] and [`Error::Kind`]. What is wrong further inside comes as an error of the reader: see [`why`].
pub fn open(path: &Path, progress: &Progress) -> Result<Opened, Error> {
    let failed = |error| Error::Input { path: path.to_owned(), error };
    let wrong = |why: String| Error::Kind { path: path.to_owned(), why };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_dir() {
        return Err(wrong("is a directory; name the files in it, as in \"dir/*.jsonl\"".to_owned()));
    }
    let mut raw = BufReader::with_capacity(BUFFER, Counted { file, progress: progress.clone() });
    let head = raw.fill_buf().map_err(failed)?;
    let reader: Box<dyn BufRead + Send> = match kind(path, head).map_err(wrong)? {
        Kind::Plain => Box::new(raw),
        Kind::Gzip => Box::new(BufReader::with_capacity(BUFFER, Members::new(raw))),
        Kind::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(raw).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
    };
    Ok(Opened { reader, size: facts.len(), modified_ns: modified_ns(&facts) })
}

/// Whether the file at `path` is one of Parquet: by its first bytes, or by its name where it has none. A pipe is judged by its name alone,
/// because what is read from it here would be missing to whoever reads it then. Blocking.
#[must_use]
pub fn is_parquet(path: &Path) -> bool {
    let by_name = || path.extension().is_some_and(|kind| kind == "parquet");
    if !path.metadata().is_ok_and(|facts| facts.is_file()) {
        return by_name();
    }
    let mut head = [0; PARQUET.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_ok() { head == *PARQUET } else { by_name() }
}

/// When a file was last changed, in nanoseconds since the Unix epoch; 0 where the file system does not say.
pub(super) fn modified_ns(facts: &Metadata) -> u64 {
    let since = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Zstd,
}

/// No line of JSON or of UTF-8 text begins with the first bytes of gzip or zstd, so those bytes decide, whatever the name; a name that promises more is
/// held to it.
fn kind(path: &Path, head: &[u8]) -> Result<Kind, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let promised = match extension {
        "gz" => Some("gzip"),
        "zst" | "zstd" => Some("zstd"),
        _ => None,
    };
    let skippable =
        promised == Some("zstd") && head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18";
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Kind::Gzip);
    }
    if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
        return Ok(Kind::Zstd);
    }
    if head.starts_with(PARQUET) {
        return Err(format!("holds parquet data, {}", if cfg!(feature = "parquet") { NOT_HERE } else { NOT_BUILT }));
    }
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(format!(
            "holds {name} data, which tamis does not read; decompress it, or compress it with zstd or gzip"
        ));
    }
    match promised {
        Some(_) if head.is_empty() => {
            Err("is empty, which a compressed file never is: it was cut off; get it again, or remove it".to_owned())
        }
        Some(name) => {
            Err(format!("is named .{extension} but does not begin with {name} data; rename it or get it again"))
        }
        None => Ok(Kind::Plain),
    }
}

/// What an error of a reader means, and what to do.
#[must_use]
pub fn why(error: &io::Error) -> String {
    let said = error.to_string();
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return format!("the compressed data end too early ({said}): the file was cut off; get it again");
    }
    if said.contains("too much memory") {
        return "it was compressed with a window of more than 128 MiB (zstd --long or --ultra); compress it again with --long=27 at most".to_owned();
    }
    said
}

/// Tells how many bytes were read.
struct Counted {
    file: File,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                // Here and not further up: a decompressor that hears of a signal may forget where it was.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let read = read?;
                    self.progress.bytes_read(read as u64);
                    return Ok(read);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn frame(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> (Vec<u8>, Result<(), String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let progress = Progress::default();
        let mut text = Vec::new();
        match open(&path, &progress) {
            Err(error) => (text, Err(error.to_string())),
            Ok(mut opened) => {
                let outcome = opened.reader.read_to_end(&mut text);
                (text, outcome.map(drop).map_err(|error| why(&error)))
            }
        }
    }

    #[test]
    fn looking_at_a_pipe_takes_nothing_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        // A child process would hold the locks of other tests' files open until it has become another program.
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let writes = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "all of it\n")
        });
        assert!(!is_parquet(&path));
        let mut text = String::new();
        open(&path, &Progress::default()).unwrap().reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "all of it\n");
        writes.join().unwrap().unwrap();
    }

    #[test]
    fn every_frame_is_read_whatever_the_name() {
        let skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec();
        let bytes = [frame(b"one\n"), skippable.clone(), frame(b""), frame(b"two\n")].concat();
        for name in ["a.zst", "a.jsonl", "a.gz"] {
            assert_eq!(read(name, &bytes), (b"one\ntwo\n".to_vec(), Ok(())), "{name}");
        }
        assert_eq!(read("a.zst", &[skippable, frame(b"x")].concat()), (b"x".to_vec(), Ok(())));
        assert_eq!(read("a.jsonl", b"plain"), (b"plain".to_vec(), Ok(())));
        assert_eq!(read("empty.jsonl", b""), (Vec::new(), Ok(())));
    }

    #[test]
    fn what_is_cut_off_or_followed_by_garbage_is_told_after_what_was_readable() {
        let whole = [frame(b"one\n"), frame(b"two\n")].concat();
        let (text, outcome) = read("a.zst", &whole[..whole.len() - 1]);
        assert!(text.starts_with(b"one\n") && outcome.unwrap_err().contains("cut off"));
        let (text, outcome) = read("a.zst", &[whole, b"garbage".to_vec()].concat());
        assert!(text == b"one\ntwo\n" && outcome.is_err());
    }

    #[test]
    fn names_and_kinds_that_do_not_fit_are_told() {
        for (name, bytes, told) in [
            ("a.gz", b"".as_slice(), "is empty"),
            ("a.zst", b"", "is empty"),
            ("a.gz", b"{}", "does not begin with gzip data"),
            ("a.zst", b"{}", "does not begin with zstd data"),
            ("a.jsonl", b"\xfd7zXZ\0rest", "holds xz data"),
            ("a.parquet", b"PAR1", "holds parquet data"),
        ] {
            let (_, outcome) = read(name, bytes);
            assert!(outcome.clone().unwrap_err().contains(told), "{name}: {outcome:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path(), &Progress::default()).err().unwrap().to_string().contains("is a directory"));
    }

    #[test]
    fn a_window_too_large_is_refused_and_not_allocated() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(b"small, but not to whoever believes the header").unwrap();
        let (text, outcome) = read("a.zst", &encoder.finish().unwrap());
        assert!(text.is_empty() && outcome.clone().unwrap_err().contains("128 MiB"), "{outcome:?}");
    }
}
