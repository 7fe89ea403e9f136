//! Owns what an operator may ask of the stores under a directory: what is there, and to clear it away.
//!
//! In: `cache.path`. Out: one [`Inventory`] an instance, or what was cleared. Invariants: no store is opened, so a running worker is never
//! disturbed and nothing is written; a store in use is never cleared; nothing is removed that is not named and laid out as a store.
//! Must not know: what values mean.

use super::generations::{bytes_below, numbers};
use super::marker::{self, Layout};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// One instance's store, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The instance's number.
    pub instance: u32,
    /// Whether a process has the store open.
    pub in_use: bool,
    /// How it is laid out.
    pub layout: Layout,
    /// Generations in it; none if only set-aside stores are left.
    pub generations: usize,
    /// Entries in them, about; `None` where nobody counted.
    pub entries: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Stores of this instance that were set aside as damaged, with their bytes.
    pub set_aside: Vec<(PathBuf, u64)>,
}

/// Why the stores can't be looked at or cleared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("{}: {error}; check cache.path and its permissions", .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A process has the store open.
    #[error("instance {instance} is in use; stop its worker, then do this again")]
    InUse {
        /// The instance's number.
        instance: u32,
    },
    /// The store can't be read as one.
    #[error(
        "the store of instance {instance} can't be read: {why}; `tamis cache clear` removes it whole, which costs device time and nothing else"
    )]
    Unusable {
        /// The instance's number.
        instance: u32,
        /// What is wrong with it.
        why: String,
    },
    /// There is something in the store's directory that is no part of a store.
    #[error("{} is no part of a cache; move it away, or check that cache.path is what you mean", .path.display())]
    Foreign {
        /// What is there.
        path: PathBuf,
    },
}

/// Every instance under `path`, by number. A directory that is not there holds none.
///
/// # Errors
/// The directory can't be read. What vanishes while it is looked at counts nothing.
pub fn survey(path: &Path) -> Result<Vec<Inventory>, Error> {
    let unreadable = |error| Error::Unreadable { path: path.to_owned(), error };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found: BTreeMap<u32, Vec<(PathBuf, u64)>> = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some((instance, aside)) = name.to_str().and_then(instance_of) else { continue };
        let set_aside = found.entry(instance).or_default();
        if aside {
            set_aside.push((entry.path(), size(&entry.path())?));
        }
    }
    found.into_iter().map(|(instance, set_aside)| look(path, instance, set_aside)).collect()
}

/// Removes the store of `instance` under `path`, and those of its that were set aside; returns their bytes. The lock files stay: a worker
/// that starts meanwhile must find the same ones. With `dry`, removes nothing.
///
/// # Errors
/// See [`Error`]; then nothing was removed, or not all of it.
pub fn clear(path: &Path, store: &Inventory, dry: bool) -> Result<u64, Error> {
    let instance = store.instance;
    let dir = path.join(instance.to_string());
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Unreadable { path, error }
    };
    let lock = lock(path, instance)?;
    let mut bytes = 0;
    if dir.exists() {
        refuse_foreign(&dir)?;
        bytes += size(&dir)?;
        if !dry {
            // Out of the way first, so that the lock is free again before much is deleted.
            let cleared = path.join(format!("{instance}.cleared-{}", std::process::id()));
            fs::rename(&dir, &cleared).map_err(refused(&dir))?;
            drop(lock);
            fs::remove_dir_all(&cleared).map_err(refused(&cleared))?;
        }
    }
    for (aside, aside_bytes) in &store.set_aside {
        bytes += aside_bytes;
        if !dry {
            remove(aside).map_err(refused(aside))?;
        }
    }
    Ok(bytes)
}

/// The store's lock, held until it is dropped.
pub(super) fn lock(path: &Path, instance: u32) -> Result<File, Error> {
    let lock_path = lock_path(path, instance);
    let refused = |error| Error::Unreadable { path: lock_path.clone(), error };
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { instance }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// The instance whose store has this name, and whether it was set aside.
fn instance_of(name: &str) -> Option<(u32, bool)> {
    let (number, aside) = match name.split_once('.') {
        None => (name, false),
        Some((number, rest)) => {
            let stamp = rest.strip_prefix("broken-").or_else(|| rest.strip_prefix("cleared-"));
            let stamp = stamp.or_else(|| rest.strip_prefix("erasing-"))?;
            stamp.bytes().all(|byte| byte.is_ascii_digit()).then_some((number, true))?
        }
    };
    let instance: u32 = number.parse().ok()?;
    // No other spelling of the number is ours.
    (instance.to_string() == number).then_some((instance, aside))
}

fn look(path: &Path, instance: u32, set_aside: Vec<(PathBuf, u64)>) -> Result<Inventory, Error> {
    let dir = path.join(instance.to_string());
    let unreadable = |error| Error::Unreadable { path: dir.clone(), error };
    let generations = numbers(&dir).map_err(|failure| unreadable(io::Error::other(failure)))?;
    let counted = marker::entries(&dir);
    // What the file says may be anything; a count that is too large is one for people still.
    let entries = generations.iter().try_fold(0_u64, |sum, number| Some(sum.saturating_add(*counted.get(number)?)));
    Ok(Inventory {
        instance,
        in_use: in_use(path, instance),
        layout: marker::layout(&dir).map_err(unreadable)?,
        generations: generations.len(),
        entries,
        bytes: size(&dir)?,
        set_aside,
    })
}

/// Whether the store's lock is held. Asks for a shared one for an instant; a worker that starts just then waits longer than that.
fn in_use(path: &Path, instance: u32) -> bool {
    let Ok(lock) = File::open(lock_path(path, instance)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn lock_path(path: &Path, instance: u32) -> PathBuf {
    super::opening::lock_path(path, &instance.to_string())
}

pub(super) fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let unreadable = |error| Error::Unreadable { path: dir.to_owned(), error };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let generation = name.strip_prefix("gen-").is_some_and(|number| number.parse::<u64>().is_ok());
        if !generation && !marker::is_ours(name) {
            return Err(Error::Foreign { path: entry.path() });
        }
    }
    Ok(())
}

pub(super) fn size(path: &Path) -> Result<u64, Error> {
    if path.is_file() {
        return Ok(fs::metadata(path).map_or(0, |metadata| metadata.len()));
    }
    bytes_below(path).map_err(|failure| Error::Unreadable { path: path.to_owned(), error: io::Error::other(failure) })
}

/// What is set aside may be a file, where one lay in a store's place.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests;
