//! Owns instance slots: small numbers that the workers of one machine share out among themselves, each held by a file lock.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Slots that are tried before giving up.
const SLOTS: u32 = 1024;

/// A slot, held until dropped; the operating system frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    _lock: File,
}

/// Why no slot could be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory can't be created or written.
    #[error("the directory {} can't be used for instance locks: {error}; point cache.path at a writable one", .path.display())]
    Directory {
        /// The directory, or the lock file in it.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The slot asked for is held by another process.
    #[error("instance {number} is taken: another process holds {}; stop it, or leave delivery.instance out", .path.display())]
    Taken {
        /// The slot asked for.
        number: u32,
        /// Its lock file.
        path: PathBuf,
    },
    /// All slots are held.
    #[error("all {SLOTS} instance slots under {} are taken", .path.display())]
    NoneFree {
        /// The directory.
        path: PathBuf,
    },
}

impl Slot {
    /// The slot `asked` for, or else the lowest free one, under the directory `path`, which is created if absent. Its lock file is
    /// `<path>/<number>.lock` and stays when the slot is freed.
    ///
    /// # Errors
    /// The directory can't be used; the slot asked for, or every slot, is held by another process (or by this one).
    pub fn claim(path: &Path, asked: Option<u32>) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| Error::Directory { path: path.to_owned(), error })?;
        if let Some(number) = asked {
            let taken = || Error::Taken { number, path: lock_path(path, number) };
            return Self::try_claim(path, number)?.ok_or_else(taken);
        }
        for number in 0..SLOTS {
            if let Some(slot) = Self::try_claim(path, number)? {
                return Ok(slot);
            }
        }
        Err(Error::NoneFree { path: path.to_owned() })
    }

    /// The slots under `path` that processes hold now, lowest first. Creates nothing; a worker that claims a slot within the same
    /// microseconds finds it taken.
    #[must_use]
    pub fn held(path: &Path) -> Vec<u32> {
        let Ok(listing) = fs::read_dir(path) else { return Vec::new() };
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".lock")?.parse::<u32>().ok();
        let mut numbers: Vec<u32> = listing.flatten().filter_map(number).collect();
        numbers.retain(|number| {
            let lock = File::open(lock_path(path, *number)).and_then(|file| file.try_lock().map_err(Into::into));
            lock.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        numbers.sort_unstable();
        numbers
    }

    /// The slot's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    fn try_claim(path: &Path, number: u32) -> Result<Option<Self>, Error> {
        let path = lock_path(path, number);
        let unusable = |error| Error::Directory { path: path.clone(), error };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { number, _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

fn lock_path(path: &Path, number: u32) -> PathBuf {
    path.join(format!("{number}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken_and_freed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let zero = Slot::claim(&path, None).unwrap();
        let one = Slot::claim(&path, None).unwrap();
        let five = Slot::claim(&path, Some(5)).unwrap();
        assert_eq!((zero.number(), one.number(), five.number()), (0, 1, 5));
        assert!(matches!(Slot::claim(&path, Some(1)), Err(Error::Taken { number: 1, .. })));
        drop(zero);
        assert_eq!(Slot::claim(&path, None).unwrap().number(), 0);
        drop(one);
        assert_eq!(Slot::claim(&path, Some(1)).unwrap().number(), 1);
    }

    #[test]
    fn slots_in_use_are_seen_without_being_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        assert!(Slot::held(&path).is_empty() && !path.exists());
        let zero = Slot::claim(&path, None).unwrap();
        let four = Slot::claim(&path, Some(4)).unwrap();
        assert_eq!(Slot::held(&path), [0, 4]);
        drop(zero);
        assert_eq!(Slot::held(&path), [4]);
        assert_eq!(Slot::claim(&path, None).unwrap().number(), 0);
        drop(four);
    }

    #[test]
    fn a_directory_that_is_a_file_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Slot::claim(file.path(), None).unwrap_err();
        assert!(error.to_string().contains("cache.path"), "{error}");
    }
}
