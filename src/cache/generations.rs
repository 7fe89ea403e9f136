//! Owns the store's directory: two generations, each a sled database of its own, the older dropped whole when the younger is half full.
//!
//! Invariants: at most two generations exist; a hit in the older one is copied to the younger, so what is used survives the
//! drop; numbers only grow, so a stuck thread's files are never those of a newer generation.
//! Everything here blocks and may panic inside sled; only the worker's thread calls it.

use super::failure::Failure;
use super::stats::Counters;
use super::worker::Backend;
use super::{Key, layout, marker};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// sled's page cache for each generation. Resident memory is three to five times this.
const PAGE_CACHE_BYTES: u64 = 16 * 1024 * 1024;
const FLUSH_EVERY_MS: u64 = 1000;
/// Bytes put between two looks at the disk, at most. A look flushes; disk use is a few times what was put.
const CHECK_BYTES: u64 = 8 * 1024 * 1024;
/// How many entries of each generation are read when it is opened.
const SAMPLE: usize = 32;
/// How many are counted where nobody noted how many there are.
const COUNTED: usize = 100_000;

/// The generations of one instance.
#[derive(Debug)]
pub(super) struct Generations {
    dir: PathBuf,
    half_bytes: u64,
    young: Generation,
    old: Option<Generation>,
    put_bytes: u64,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Generation {
    number: u64,
    path: PathBuf,
    db: sled::Db,
    /// Entries, about: see `marker.rs`.
    entries: u64,
}

impl Generation {
    /// Opens the generation and reads a sample of it. `entries` is how many it is said to have.
    fn open(dir: &Path, number: u64, entries: Option<u64>) -> Result<Self, Failure> {
        let path = dir.join(format!("gen-{number}"));
        let config =
            sled::Config::new().path(&path).cache_capacity(PAGE_CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS));
        let db = config.open()?;
        for entry in db.iter().take(SAMPLE) {
            entry?;
        }
        let entries = entries.unwrap_or_else(|| db.iter().take(COUNTED).filter(Result::is_ok).count() as u64);
        Ok(Self { number, path, db, entries })
    }
}

impl Generations {
    /// Opens what is in `dir`, or begins with generation `first`. Generations but the youngest two are removed. A store whose marker is
    /// not ours is not touched.
    pub(super) fn open(dir: &Path, first: u64, max_bytes: u64, counters: Arc<Counters>) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        marker::ensure(dir)?;
        let counted = marker::entries(dir);
        let entries = |number: u64| counted.get(&number).copied();
        let mut numbers = numbers(dir)?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for number in numbers.iter().skip(2) {
            fs::remove_dir_all(dir.join(format!("gen-{number}")))?;
        }
        let number = numbers.first().copied().unwrap_or(first);
        let young = Generation::open(dir, number, entries(number))?;
        let old = numbers.get(1).map(|number| Generation::open(dir, *number, entries(*number))).transpose()?;
        let mut generations =
            Self { dir: dir.to_owned(), half_bytes: max_bytes / 2, young, old, put_bytes: 0, counters };
        generations.keep_within_bounds()?;
        Ok(generations)
    }

    /// The number after the highest in `dir`: where a fresh start may begin.
    pub(super) fn next_number(dir: &Path) -> u64 {
        numbers(dir).ok().and_then(|numbers| numbers.into_iter().max()).unwrap_or(0).saturating_add(1)
    }

    fn keep_within_bounds(&mut self) -> Result<(), Failure> {
        self.put_bytes = 0;
        // sled writes behind: only after a flush do the files tell what they hold.
        self.young.db.flush()?;
        let young_bytes = bytes_below(&self.young.path)?;
        let old_bytes = self.old.as_ref().map_or(Ok(0), |old| bytes_below(&old.path))?;
        self.counters.disk_bytes(young_bytes + old_bytes);
        if young_bytes < self.half_bytes {
            self.note_entries();
            return Ok(());
        }
        // The oldest goes first, so that the disk never holds three.
        if let Some(Generation { path, db, .. }) = self.old.take() {
            drop(db);
            fs::remove_dir_all(path)?;
            self.counters.generation_dropped();
        }
        let next = Generation::open(&self.dir, self.young.number.saturating_add(1), Some(0))?;
        self.old = Some(std::mem::replace(&mut self.young, next));
        self.note_entries();
        tracing::debug!(generation = self.young.number, "cache began a new generation");
        Ok(())
    }

    fn note_entries(&self) {
        let generations = std::iter::once(&self.young).chain(&self.old);
        let entries: Vec<(u64, u64)> = generations.map(|of| (of.number, of.entries)).collect();
        marker::note_entries(&self.dir, &entries);
    }

    /// Puts bytes as they lie on disk into the younger generation.
    fn insert(&mut self, key: &Key, stored: impl AsRef<[u8]>) -> Result<(), Failure> {
        let stored = stored.as_ref();
        self.put_bytes += (key.0.len() + stored.len()) as u64;
        if self.young.db.insert(key.0, stored)?.is_none() {
            // It began with what a file said, which may be anything.
            self.young.entries = self.young.entries.saturating_add(1);
        }
        Ok(())
    }
}

impl Backend for Generations {
    fn get(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Failure> {
        let (stored, promote) = match self.young.db.get(key.0)? {
            Some(stored) => (Some(stored), false),
            None => match &self.old {
                Some(old) => (old.db.get(key.0)?, true),
                None => (None, false),
            },
        };
        let Some(stored) = stored else { return Ok(None) };
        let Some(value) = layout::unwrap(key, &stored).map(<[u8]>::to_vec) else {
            self.counters.unverified();
            return Ok(None);
        };
        if promote {
            self.insert(key, stored)?;
        }
        Ok(Some(value))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), Failure> {
        self.insert(key, layout::wrap(key, value))?;
        if self.put_bytes >= (self.half_bytes / 32).min(CHECK_BYTES) {
            self.keep_within_bounds()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.young.db.flush()?;
        if let Some(old) = &self.old {
            old.db.flush()?;
        }
        self.note_entries();
        Ok(())
    }
}

/// The numbers of the generations in `dir`; none if it does not exist.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("gen-")).and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

/// Bytes of all files below `dir`; files that vanish meanwhile count nothing.
pub(super) fn bytes_below(dir: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => (),
            }
        }
    }
    Ok(bytes)
}
