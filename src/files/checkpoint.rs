//! Owns the checkpoint: a journal of what is delivered, and the lock on the directory that it stands in.
//!
//! Each line is a check sum and a JSON object: positions of inputs and lengths of outputs as they became true together. Later lines win. A commit
//! appends a line and flushes it to the disk; a start writes the whole anew beside the old and renames it.
//! Invariants: a last line that was cut off did not happen; damage anywhere else is told; outputs are on disk before the line that names
//! their length.

use super::error::Error;
use super::trail::Trail;
use crate::corpus::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Its name in its directory, and its lock's.
const NAME: &str = "tamis.checkpoint";
const LOCK: &str = "tamis.lock";
const VERSION: u32 = 1;
/// A journal above this is written anew, unless its content is as large.
const COMPACT_BYTES: u64 = 8 << 20;

/// How far one input was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Line to go on with, from 0.
    pub next: i64,
    /// Digest of all lines before it, in hexadecimal.
    pub digest: String,
    /// Whether nothing but blank lines followed when it was read.
    pub done: bool,
    /// Its size on disk when it was opened, in bytes.
    pub size: u64,
    /// Its time of change then, in nanoseconds since the Unix epoch.
    pub modified_ns: u64,
}

/// What one line of the journal says, and what all of them say together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    /// Inputs by lane.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, Mark>,
    /// Committed bytes of outputs, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    outputs: BTreeMap<String, u64>,
}

/// What a checkpoint says: marks by lane, and committed lengths by file name.
type Said = (BTreeMap<String, Mark>, BTreeMap<String, u64>);

/// An open checkpoint; nobody else has it open.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    journal: File,
    bytes: u64,
    compact_above: u64,
    whole: Entry,
    trail: Trail,
    _lock: File,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`, which is created if absent, and locks it for the life of the value.
    ///
    /// # Errors
    /// The directory can't be used or is in use, or the journal is damaged.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let unusable = |error| Error::Directory { path: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(unusable)?;
        let lock_path = dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Taken { path: lock_path }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let (path, whole) = (dir.join(NAME), whole(dir)?);
        let (journal, bytes) = rewrite(dir, &whole).map_err(|error| Error::Directory { path, error })?;
        let trail = Trail::default();
        Ok(Self { dir: dir.to_owned(), journal, bytes, compact_above: threshold(bytes), whole, trail, _lock: lock })
    }

    /// What the checkpoint in `dir` says, without opening it: how far inputs were delivered, by lane, and the committed lengths of outputs, by
    /// name.
    ///
    /// # Errors
    /// The journal can't be read, or is damaged.
    pub(super) fn read(dir: &Path) -> Result<Said, Error> {
        let Entry { inputs, outputs, .. } = whole(dir)?;
        Ok((inputs, outputs))
    }

    /// The files that a checkpoint in `dir` consists of.
    #[must_use]
    pub fn files(dir: &Path) -> [PathBuf; 2] {
        [dir.join(NAME), dir.join(LOCK)]
    }

    /// Where the positions are kept.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far each input was delivered, by lane.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<String, Mark> {
        self.whole.inputs.clone()
    }

    /// The committed lengths of the outputs that are ours, by file name.
    pub(super) fn outputs(&self) -> BTreeMap<String, u64> {
        self.whole.outputs.clone()
    }

    /// The trail that the reader leaves for this checkpoint.
    #[must_use]
    pub fn trail(&self) -> Trail {
        self.trail.clone()
    }

    /// Makes `positions` and the lengths of `outputs` true together, on disk. Positions of lanes that are no files here are passed over.
    ///
    /// # Errors
    /// [`Error::Write`]; whether it became true shows at the next start, and nothing more may be written in this one.
    pub fn commit(&mut self, positions: &[Position], outputs: &BTreeMap<String, u64>) -> Result<(), Error> {
        let marks =
            positions.iter().filter_map(|position| Some((position.lane.topic.to_string(), self.trail.mark(position)?)));
        let entry = Entry { version: VERSION, inputs: marks.collect(), outputs: outputs.clone() };
        let line = line(&entry);
        let written = self.journal.write_all(&line).and_then(|()| self.journal.sync_data());
        written.map_err(|error| Error::Write { path: self.path(), error })?;
        self.bytes += line.len() as u64;
        self.whole.inputs.extend(entry.inputs);
        self.whole.outputs.extend(entry.outputs);
        if self.bytes > self.compact_above {
            let (journal, bytes) =
                rewrite(&self.dir, &self.whole).map_err(|error| Error::Write { path: self.path(), error })?;
            (self.journal, self.bytes, self.compact_above) = (journal, bytes, threshold(bytes));
        }
        Ok(())
    }
}

fn threshold(bytes: u64) -> u64 {
    COMPACT_BYTES.max(bytes.saturating_mul(2))
}

/// Writes `whole` as the only line of a new journal, which takes the old one's place in one step.
fn rewrite(dir: &Path, whole: &Entry) -> io::Result<(File, u64)> {
    let (path, fresh) = (dir.join(NAME), dir.join(format!("{NAME}.new")));
    let line = line(&Entry { version: VERSION, ..whole.clone() });
    let mut file = File::create(&fresh)?;
    file.write_all(&line)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    sync_directory(dir)?;
    Ok((file, line.len() as u64))
}

/// Flushes a directory, so that names made in it survive a power cut.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn line(entry: &Entry) -> Vec<u8> {
    // A map with text keys and numbers always has a form in JSON.
    let json = serde_json::to_string(entry).unwrap_or_default();
    format!("{} {json}\n", sum(json.as_bytes())).into_bytes()
}

fn sum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// What the journal in `dir` says.
fn whole(dir: &Path) -> Result<Entry, Error> {
    let path = dir.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => replay(&path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::default()),
        Err(error) => Err(Error::Directory { path, error }),
    }
}

/// What all lines say together.
fn replay(path: &Path, bytes: &[u8]) -> Result<Entry, Error> {
    let mut whole = Entry::default();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        match parse(line) {
            Ok(entry) => {
                whole.inputs.extend(entry.inputs);
                whole.outputs.extend(entry.outputs);
            }
            // The first line was in place, whole, before the journal had its name.
            Err(why) if lines.peek().is_none() && index > 0 => {
                tracing::info!(why, "the last step was not finished and is done again");
            }
            Err(why) => return Err(Error::Checkpoint { path: path.to_owned(), line: index + 1, why }),
        }
    }
    Ok(whole)
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (expected, json) = text.strip_suffix('\n').and_then(|line| line.split_once(' ')).ok_or("cut off")?;
    if sum(json.as_bytes()) != expected {
        return Err("its check sum does not fit".to_owned());
    }
    let version =
        serde_json::from_str::<serde_json::Value>(json).map_err(|error| error.to_string())?["version"].clone();
    if version != VERSION {
        return Err(format!("it is of version {version}; this tamis knows {VERSION}"));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Lane;
    use proptest::prelude::*;

    fn position(lane: &str, next: i64) -> Position {
        Position { lane: Lane { topic: lane.into(), partition: 0 }, epoch: 1, next }
    }

    fn outputs(length: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("pass.jsonl".to_owned(), length)])
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart_and_only_one_may_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert!(matches!(Checkpoint::open(dir.path()), Err(Error::Taken { .. })));
        let trail = checkpoint.trail();
        trail.begin("a", 10, 20);
        trail.pass("a", 1, [1; 8], false);
        trail.pass("a", 3, [3; 8], true);
        checkpoint.commit(&[position("a", 1), position("a topic of Kafka", 9)], &outputs(5)).unwrap();
        let mark =
            |next, digit, done| Mark { next, digest: format!("0{digit}").repeat(8), done, size: 10, modified_ns: 20 };
        assert_eq!(checkpoint.marks()["a"], mark(1, 1, false));
        checkpoint.commit(&[position("a", 3)], &outputs(7)).unwrap();
        drop(checkpoint);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.marks(), BTreeMap::from([("a".to_owned(), mark(3, 3, true))]));
        assert_eq!((checkpoint.outputs().get("pass.jsonl"), checkpoint.outputs().get("fail.jsonl")), (Some(&7), None));
    }

    #[test]
    fn damage_before_the_last_line_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
        for length in 0..4 {
            checkpoint.commit(&[], &outputs(length)).unwrap();
        }
        let path = checkpoint.path();
        drop(checkpoint);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 30;
        bytes[second] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { line: 2, .. }), "{error}");
    }

    #[test]
    fn a_journal_that_grows_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint.compact_above = 1_000;
        for length in 0..100 {
            checkpoint.commit(&[], &outputs(length)).unwrap();
            checkpoint.compact_above = 1_000;
        }
        let size = fs::metadata(checkpoint.path()).unwrap().len();
        assert_eq!(size, checkpoint.bytes);
        assert!(size < 1_200);
        drop(checkpoint);
        assert_eq!(Checkpoint::open(dir.path()).unwrap().outputs(), outputs(99));
    }

    proptest! {
        /// Wherever the journal is cut, it says what was true after some number of commits, never a mixture.
        #[test]
        fn a_cut_journal_is_one_of_its_earlier_states(cut in 0_usize..2_000) {
            let dir = tempfile::tempdir().unwrap();
            let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
            let trail = checkpoint.trail();
            trail.begin("a", 1, 1);
            for step in 1..=10_i64 {
                trail.pass("a", step, [0; 8], step == 10);
                checkpoint.commit(&[position("a", step)], &outputs(step.unsigned_abs() * 3)).unwrap();
            }
            let path = checkpoint.path();
            drop(checkpoint);
            let bytes = fs::read(&path).unwrap();
            let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let cut = first + cut % (bytes.len() - first + 1);
            fs::write(&path, &bytes[..cut]).unwrap();
            let after = Checkpoint::open(dir.path()).unwrap();
            let commits = bytes[first..cut].iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(after.outputs().get("pass.jsonl").copied().unwrap_or(0), commits as u64 * 3);
            prop_assert_eq!(after.marks().get("a").map_or(0, |mark| mark.next), i64::try_from(commits).unwrap());
        }
    }
}
