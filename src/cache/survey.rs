//! Owns what can be said of the cache's folder before anything is opened in it.
//!
//! In: the `[cache]` table. Out: facts. Invariants: nothing is created, written or opened, so that a check leaves no trace; a store
//! that a worker has open is not touched.

use super::settings::Settings;
use super::slot::Slot;
use rustix::fs::{Access, access, statfs, statvfs};
use std::io;
use std::path::{Path, PathBuf};

/// How deep the store's files are counted: generations stand in an instance's folder, their files below.
const DEPTH: usize = 4;

/// What is known about the cache's folder.
#[derive(Debug)]
pub struct Survey {
    /// The folder itself, or the nearest one above it that is there: the folder is made in it.
    pub nearest: PathBuf,
    /// Whether the folder is there already.
    pub exists: bool,
    /// Whether files can be made in `nearest`, or what the system says.
    pub writable: Result<(), io::Error>,
    /// Bytes free to this user where the folder is; `None` if the system does not tell.
    pub free_bytes: Option<u64>,
    /// Bytes that lie in the folder now.
    pub used_bytes: u64,
    /// The file system's kind.
    pub file_system: FileSystem,
    /// The instances that processes hold now.
    pub held: Vec<u32>,
}

/// What kind of file system a folder lies on, as far as it matters to a store with locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// On a disk of this machine, as far as can be told.
    Local,
    /// In memory: gone with the machine.
    Memory,
    /// On another machine, by the protocol of this name: locks and memory maps are not to be relied on.
    Network(&'static str),
}

impl Survey {
    /// Looks at the folder of `settings`.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let path =
            if settings.path.is_absolute() { settings.path.clone() } else { Path::new(".").join(&settings.path) };
        let nearest = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new(".")).to_owned();
        let is_folder = if nearest.is_dir() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::NotADirectory)) };
        let may = |_: ()| access(&nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
        let free_bytes = statvfs(&nearest).ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        Self {
            exists: path.exists(),
            writable: is_folder.and_then(may),
            free_bytes,
            used_bytes: used(&path, DEPTH),
            file_system: file_system(&nearest),
            held: Slot::held(&path),
            nearest,
        }
    }
}

/// Bytes of the files below `path`; what can't be read counts nothing.
fn used(path: &Path, depth: usize) -> u64 {
    let Ok(listing) = std::fs::read_dir(path) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => used(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) | Err(_) => 0,
    };
    listing.flatten().map(size).sum()
}

/// By the magic numbers of `statfs(2)`.
fn file_system(path: &Path) -> FileSystem {
    let Ok(found) = statfs(path) else { return FileSystem::Local };
    // The field's width and sign differ between architectures; the numbers are 32 bits wide.
    match found.f_type as u32 {
        0x0102_1994 | 0x8584_58f6 => FileSystem::Memory,
        0x6969 => FileSystem::Network("nfs"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => FileSystem::Network("smb"),
        0x0102_1997 => FileSystem::Network("9p"),
        0x00c3_6400 => FileSystem::Network("ceph"),
        _ => FileSystem::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(path: &Path) -> Survey {
        Survey::of(&Settings { path: path.to_owned(), ..Settings::default() })
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_for_above_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let found = survey(&path);
        assert!(!found.exists && found.writable.is_ok() && found.nearest == dir.path(), "{found:?}");
        assert!(found.free_bytes.is_some_and(|free| free > 0) && found.used_bytes == 0 && found.held.is_empty());
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn bytes_and_workers_in_the_folder_are_seen_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let _slot = Slot::claim(dir.path(), None).unwrap();
        std::fs::create_dir(dir.path().join("0")).unwrap();
        std::fs::write(dir.path().join("0/db"), [0; 1000]).unwrap();
        let found = survey(dir.path());
        assert!(found.exists && found.used_bytes == 1000 && found.held == [0], "{found:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_in_the_way_and_a_file_system_that_takes_nothing_are_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(survey(file.path()).writable.is_err());
        assert!(survey(&file.path().join("cache")).writable.is_err());
    }
}
