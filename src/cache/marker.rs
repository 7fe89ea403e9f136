//! Owns the two small files beside the generations: the marker, which says how the store is laid out, and the count of entries.
//!
//! Invariants: a store whose marker is another one is never read; a store without one is of the first layout, which wrote none. The
//! count is for people and about right: after a crash it lacks what was put since the last flush.
//! Must not know: what the store's values mean.

use super::failure::Failure;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Names a layout that this program reads and writes. Another way to lay out generations, keys or values is another number.
const MARK: &str = "tamis-cache 1\n";
/// More than any marker holds.
const MARK_BYTES: u64 = 64;
const MARKER: &str = "layout";
const ENTRIES: &str = "entries";
/// More than a count of two generations holds.
const ENTRIES_BYTES: u64 = 4096;

/// What a store's marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// The layout of this program; `marked` is false for a store of version 0.1, which wrote no marker.
    Current {
        /// Whether there is a marker.
        marked: bool,
    },
    /// Something else, as far as it can be shown. Such a store is set aside when it is opened.
    Other(String),
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Current { .. } => f.write_str(MARK.trim_start_matches("tamis-cache ").trim_end()),
            Self::Other(said) => write!(f, "other ({said:?})"),
        }
    }
}

/// What the store in `dir` says of its layout.
pub(super) fn layout(dir: &Path) -> io::Result<Layout> {
    let said = match read(&dir.join(MARKER), MARK_BYTES) {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Layout::Current { marked: false }),
        Err(error) => return Err(error),
    };
    if said == MARK.as_bytes() {
        return Ok(Layout::Current { marked: true });
    }
    Ok(Layout::Other(String::from_utf8_lossy(&said).trim_end().chars().take(32).collect()))
}

/// Makes sure that the store in `dir` is of our layout, and says so in it.
pub(super) fn ensure(dir: &Path) -> Result<(), Failure> {
    match layout(dir)? {
        Layout::Current { marked: true } => Ok(()),
        Layout::Current { marked: false } => Ok(write(dir, MARKER, MARK.as_bytes())?),
        Layout::Other(said) => Err(Failure::Layout(said)),
    }
}

/// Entries by generation, as far as they were counted.
pub(super) fn entries(dir: &Path) -> BTreeMap<u64, u64> {
    let Ok(said) = read(&dir.join(ENTRIES), ENTRIES_BYTES) else { return BTreeMap::new() };
    let said = String::from_utf8_lossy(&said).into_owned();
    let numbers = |line: &str| line.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    said.lines().filter_map(numbers).collect()
}

/// Writes down how many entries each generation has. Losing this costs a number on a screen, so it is tried and no more.
pub(super) fn note_entries(dir: &Path, entries: &[(u64, u64)]) {
    let text: String = entries.iter().map(|(generation, count)| format!("{generation} {count}\n")).collect();
    if let Err(error) = write(dir, ENTRIES, text.as_bytes()) {
        tracing::debug!(%error, "the count of cache entries was not written");
    }
}

/// Whether a file of this name beside the generations is ours.
pub(super) fn is_ours(name: &str) -> bool {
    [MARKER, ENTRIES].into_iter().any(|own| name == own || name.strip_suffix(".new") == Some(own))
}

fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(at_most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_marked_once_and_another_mark_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(layout(dir.path()).unwrap(), Layout::Current { marked: false });
        ensure(dir.path()).unwrap();
        assert_eq!(layout(dir.path()).unwrap(), Layout::Current { marked: true });
        ensure(dir.path()).unwrap();
        for other in ["tamis-cache 0\n", "tamis-cache 2\n", "tamis-cache 1", "", "\u{fffd}", "tamis-cache 1\n\0"] {
            fs::write(dir.path().join(MARKER), other).unwrap();
            assert!(matches!(ensure(dir.path()), Err(Failure::Layout(_))), "{other:?}");
        }
        fs::write(dir.path().join(MARKER), vec![0xff; 1 << 20]).unwrap();
        assert!(matches!(layout(dir.path()), Ok(Layout::Other(said)) if said.len() < 200));
    }

    #[test]
    fn counts_come_back_and_garbage_is_no_count() {
        let dir = tempfile::tempdir().unwrap();
        assert!(entries(dir.path()).is_empty());
        note_entries(dir.path(), &[(3, 17), (4, 0)]);
        assert_eq!(entries(dir.path()), [(3, 17), (4, 0)].into());
        fs::write(dir.path().join(ENTRIES), b"\xff\xff 3\n5 x\n7 8\n").unwrap();
        assert_eq!(entries(dir.path()), [(7, 8)].into());
    }
}
