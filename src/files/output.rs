//! Owns output files: what is appended to them, compressed or not, and how long the committed part of each is.
//!
//! Invariants: what one step appends to a file is a whole frame or member, so that the file cut at any committed length is valid; what was appended is
//! flushed to the disk before its length is told; a file that tamis did not begin is never touched.

use super::checkpoint::{Checkpoint, sync_directory};
use super::error::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How outputs are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Zstandard; a frame for each commit.
    Zstd,
    /// gzip; a member for each commit.
    Gzip,
}

impl Compression {
    /// What the names of such files end with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The levels that there are, and the one that is taken unless another is asked for.
    #[must_use]
    pub fn levels(self) -> Option<(std::ops::RangeInclusive<u32>, u32)> {
        match self {
            Self::None => None,
            Self::Zstd => Some((1..=19, 3)),
            Self::Gzip => Some((1..=9, 6)),
        }
    }

    fn encode(self, bytes: Vec<u8>, level: Option<u32>) -> io::Result<Vec<u8>> {
        let level = level.or_else(|| self.levels().map(|(_, usual)| usual)).unwrap_or_default();
        match self {
            Self::None => Ok(bytes),
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), i32::try_from(level).unwrap_or_default())?;
                encoder.include_checksum(true)?;
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
        }
    }
}

/// Write JSON lines to files, one file for each route: `<dir>/<route's stem>.jsonl`, with `.zst` or `.gz` behind it. A line is the record's JSON object as it came, with
/// one member more, `"tamis"`, which holds what became of it; a dead letter is `{"raw": …}` or `{"raw_base64": …}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSettings {
    /// The directory of the outputs, of `tamis.checkpoint` and of `tamis.lock`. Created if absent; one worker at a time.
    pub dir: PathBuf,
    /// How they are compressed. Each commit is a frame or member of its own, so a longer `delivery.commit_interval_ms` compresses better.
    pub compression: Compression,
    /// How hard: zstd takes 1 to 19, 3 if left out; gzip 1 to 9, 6 if left out; without compression there is none.
    pub level: Option<u32>,
}

impl OutputSettings {
    /// The file of the route with this stem.
    #[must_use]
    pub fn file_name(&self, stem: &str) -> String {
        format!("{stem}.jsonl{}", self.compression.suffix())
    }
}

/// The open outputs of one worker.
#[derive(Debug)]
pub struct Outputs {
    dir: PathBuf,
    compression: Compression,
    level: Option<u32>,
    files: BTreeMap<String, File>,
    lengths: BTreeMap<String, u64>,
}

impl Outputs {
    /// The outputs called `names` in the directory of `checkpoint`. Of every output there that is ours, what was not committed is cut off.
    ///
    /// # Errors
    /// An output that is shorter than what was committed, or a file there that is not ours.
    pub fn open(settings: &OutputSettings, names: &[String], checkpoint: &mut Checkpoint) -> Result<Self, Error> {
        let dir = checkpoint.dir().to_owned();
        let mut lengths = checkpoint.outputs();
        for (name, committed) in &lengths {
            cut(&dir.join(name), *committed)?;
        }
        for name in names.iter().filter(|name| !lengths.contains_key(*name)).collect::<Vec<_>>() {
            foreign(&dir.join(name))?;
            lengths.insert(name.clone(), 0);
        }
        // From now on these names are ours: what a kill leaves in them is cut off, not taken for somebody else's.
        checkpoint.commit(&[], &lengths)?;
        let (compression, level) = (settings.compression, settings.level);
        Ok(Self { dir, compression, level, files: BTreeMap::new(), lengths })
    }

    /// Appends to each output, by name, and flushes it to the disk. Gives the lengths to commit.
    ///
    /// # Errors
    /// [`Error::Write`]; nothing more may be written then, and the next start cuts off what was.
    pub fn append(&mut self, texts: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, u64>, Error> {
        let mut lengths = BTreeMap::new();
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            let path = self.dir.join(&name);
            let failed = |error| Error::Write { path: path.clone(), error };
            let bytes = self.compression.encode(text, self.level).map_err(failed)?;
            let file = match self.files.get_mut(&name) {
                Some(file) => file,
                None => self.files.entry(name.clone()).or_insert(begin(&self.dir, &path).map_err(failed)?),
            };
            file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
            let length = self.lengths.entry(name.clone()).or_default();
            *length += bytes.len() as u64;
            lengths.insert(name, *length);
        }
        Ok(lengths)
    }
}

/// Opens an output at its end. One that is new gets its place in the directory on disk, too.
fn begin(dir: &Path, path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    sync_directory(dir)?;
    Ok(file)
}

fn length(path: &Path) -> Result<u64, Error> {
    match fs::metadata(path) {
        Ok(facts) => Ok(facts.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::Directory { path: path.to_owned(), error }),
    }
}

/// Every reason why outputs called `names` can't be gone on with in `dir`, where these `lengths` were committed.
pub(super) fn problems(dir: &Path, names: &[String], lengths: &BTreeMap<String, u64>) -> Vec<Error> {
    let ours = lengths.iter().map(|(name, committed)| kept(&dir.join(name), *committed).map(drop));
    let new = names.iter().filter(|name| !lengths.contains_key(*name)).map(|name| foreign(&dir.join(name)));
    ours.chain(new).filter_map(Result::err).collect()
}

/// Refuses a file that is not ours.
fn foreign(path: &Path) -> Result<(), Error> {
    if length(path)? > 0 { Err(Error::OutputForeign { path: path.to_owned() }) } else { Ok(()) }
}

/// The length of an output, which must hold what was committed.
fn kept(path: &Path, committed: u64) -> Result<u64, Error> {
    let found = length(path)?;
    if found < committed { Err(Error::OutputLost { path: path.to_owned(), committed, found }) } else { Ok(found) }
}

/// Cuts off what was not committed. An output without anything committed is removed: an empty file is no valid gzip file.
fn cut(path: &Path, committed: u64) -> Result<(), Error> {
    let found = kept(path, committed)?;
    let unusable = |error| Error::Directory { path: path.to_owned(), error };
    if found > committed {
        tracing::info!(path = %path.display(), bytes = found - committed, "cutting off what was written and not committed");
        if committed == 0 {
            return fs::remove_file(path).map_err(unusable);
        }
        let file = File::options().write(true).open(path).map_err(unusable)?;
        file.set_len(committed).and_then(|()| file.sync_all()).map_err(unusable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::open as open_input;
    use crate::telemetry::Progress;
    use proptest::prelude::*;
    use std::io::Read;

    fn settings(dir: &Path, compression: Compression) -> OutputSettings {
        OutputSettings { dir: dir.to_owned(), compression, level: None }
    }

    fn opened(settings: &OutputSettings, stem: &str) -> Result<(Checkpoint, Outputs), Error> {
        let mut checkpoint = Checkpoint::open(&settings.dir)?;
        let outputs = Outputs::open(settings, &[settings.file_name(stem)], &mut checkpoint)?;
        Ok((checkpoint, outputs))
    }

    fn text(path: &Path) -> Vec<u8> {
        let mut text = Vec::new();
        if path.exists() {
            open_input(path, &Progress::default()).unwrap().reader.read_to_end(&mut text).unwrap();
        }
        text
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone_and_one_that_was_cut_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), Compression::None);
        let path = dir.path().join("pass.jsonl");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(opened(&settings, "pass"), Err(Error::OutputForeign { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        let (mut checkpoint, mut outputs) = opened(&settings, "pass").unwrap();
        let lengths = outputs.append(BTreeMap::from([("pass.jsonl".to_owned(), b"one\n".to_vec())])).unwrap();
        checkpoint.commit(&[], &lengths).unwrap();
        drop((checkpoint, outputs));
        fs::write(&path, "on").unwrap();
        assert!(matches!(opened(&settings, "pass"), Err(Error::OutputLost { committed: 4, found: 2, .. })));
    }

    #[test]
    fn what_another_compression_left_uncommitted_is_cut_off_too() {
        let dir = tempfile::tempdir().unwrap();
        let before = settings(dir.path(), Compression::Gzip);
        let (_, mut outputs) = opened(&before, "pass").unwrap();
        outputs.append(BTreeMap::from([("pass.jsonl.gz".to_owned(), b"one\n".to_vec())])).unwrap();
        drop(outputs);
        opened(&settings(dir.path(), Compression::None), "pass").unwrap();
        assert!(!dir.path().join("pass.jsonl.gz").exists());
    }

    /// What one step of delivery does before it is killed.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        /// Nothing happens to it.
        Whole,
        /// Killed before it wrote.
        Before,
        /// Killed with this share of what it wrote on disk, in hundredths, and nothing in the checkpoint.
        Torn(usize),
        /// Killed with all on disk but this many bytes of the checkpoint's line.
        Unsaid(u64),
    }

    fn fates() -> impl Strategy<Value = Fate> {
        prop_oneof![
            3 => Just(Fate::Whole),
            1 => Just(Fate::Before),
            2 => (0_usize..=100).prop_map(Fate::Torn),
            2 => (1_u64..60).prop_map(Fate::Unsaid),
        ]
    }

    /// One life: goes on where the checkpoint says, until fate has it. Returns whether all was delivered.
    fn live(settings: &OutputSettings, lines: &[String], fate: &mut impl Iterator<Item = Fate>) -> bool {
        let (mut checkpoint, mut outputs) = opened(settings, "pass").unwrap();
        let trail = checkpoint.trail();
        let name = settings.file_name("pass");
        let mut next = checkpoint.marks().get("in").map_or(0, |mark| usize::try_from(mark.next).unwrap());
        trail.begin("in", 1, 1);
        while next < lines.len() {
            let upto = (next + 3).min(lines.len());
            let batch = lines[next..upto].concat().into_bytes();
            let (dir, journal) = (settings.dir.clone(), checkpoint.path());
            let before = length(&dir.join(&name)).unwrap();
            let fate = fate.next().unwrap_or(Fate::Whole);
            if matches!(fate, Fate::Before) {
                return false;
            }
            let lengths = outputs.append(BTreeMap::from([(name.clone(), batch)])).unwrap();
            if let Fate::Torn(share) = fate {
                let written = length(&dir.join(&name)).unwrap() - before;
                let kept = before + written * share as u64 / 100;
                File::options().write(true).open(dir.join(&name)).unwrap().set_len(kept).unwrap();
                return false;
            }
            let at = i64::try_from(upto).unwrap();
            trail.pass("in", at, [0; 8], upto == lines.len());
            let lane = crate::corpus::Lane { topic: "in".into(), partition: 0 };
            let said = length(&journal).unwrap();
            checkpoint.commit(&[crate::corpus::Position { lane, epoch: 1, next: at }], &lengths).unwrap();
            if let Fate::Unsaid(missing) = fate {
                let kept = length(&journal).unwrap().saturating_sub(missing).max(said);
                File::options().write(true).open(&journal).unwrap().set_len(kept).unwrap();
                return false;
            }
            next = upto;
        }
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        /// Wherever kills come, however much of a step reached the disk: in the end every line is there once, in order.
        #[test]
        fn kills_neither_repeat_nor_lose(
            lines in proptest::collection::vec("[a-z]{0,12}\n", 1..30),
            fates in proptest::collection::vec(fates(), 0..12),
            compression in prop_oneof![Just(Compression::None), Just(Compression::Zstd), Just(Compression::Gzip)],
        ) {
            let dir = tempfile::tempdir().unwrap();
            let settings = settings(dir.path(), compression);
            let mut fate = fates.into_iter();
            while !live(&settings, &lines, &mut fate) {}
            prop_assert!(live(&settings, &lines, &mut fate), "a run more has nothing left to do");
            prop_assert_eq!(text(&dir.path().join(settings.file_name("pass"))), lines.concat().into_bytes());
        }
    }
}
