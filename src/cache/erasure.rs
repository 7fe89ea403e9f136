//! Owns erasure on request: stores without certain keys, written anew, the old files removed.
//!
//! sled appends: what is overwritten or removed in a store stays in its files for as long as it pleases. Hence a store is never edited here; what stays is copied
//! into a new one, which takes the old one's place whole.
//! Invariants: a store in use is never touched; at the end, no file under the instance's names holds an erased key, set-aside stores included, which
//! can't be read and are removed whole; killed in the middle, the old store or the new one is in place, or, between two renames, none: a worker then
//! begins an empty one, and the next erasure removes what is left.
//! Must not know: what a key was made of.

use super::generations::numbers;
use super::inventory::{self, Error, Inventory};
use super::marker::{self, Layout};
use super::{Key, layout};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// sled's page cache for each of the two stores that are open at once.
const PAGE_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What became of one instance's store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Entries that are gone.
    pub erased: u64,
    /// Entries that were copied.
    pub kept: u64,
    /// Bytes of set-aside stores that were removed, which nobody can read.
    pub aside_bytes: u64,
}

/// Writes the store of `instance` under `path` anew without `keys`. `copied` hears of every entry. Blocking: minutes for a store of gigabytes, for
/// which there must be room a second time.
///
/// # Errors
/// See [`Error`]; then the old store is in place as it was, or the new one is.
pub fn erase(path: &Path, store: &Inventory, keys: &BTreeSet<Key>, mut copied: impl FnMut()) -> Result<Erased, Error> {
    let instance = store.instance;
    let _lock = inventory::lock(path, instance)?;
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Unreadable { path, error }
    };
    let mut done = Erased::default();
    // A worker that has ended since may have set its store aside.
    let now = inventory::survey(path)?.into_iter().find(|found| found.instance == instance);
    for (aside, bytes) in now.as_ref().map_or(&store.set_aside, |now| &now.set_aside) {
        inventory::remove(aside).map_err(refused(aside))?;
        done.aside_bytes += bytes;
    }
    let dir = path.join(instance.to_string());
    if !dir.exists() {
        return Ok(done);
    }
    inventory::refuse_foreign(&dir)?;
    let unusable = |why: String| Error::Unusable { instance, why };
    if let Layout::Other(said) = marker::layout(&dir).map_err(refused(&dir))? {
        return Err(unusable(format!("its layout is another one, {said:?}")));
    }
    let stamp = std::process::id();
    let (anew, old) =
        (path.join(format!("{instance}.erasing-{stamp}")), path.join(format!("{instance}.cleared-{stamp}")));
    let copy = AssertUnwindSafe(|| copy_without(&dir, &anew, keys, &mut done, &mut copied));
    // sled panics at some kinds of damage.
    let outcome = catch_unwind(copy).unwrap_or_else(|_| Err("it is damaged".to_owned()));
    if let Err(why) = outcome {
        // What was copied so far is of no use; the old store stands.
        let _ = fs::remove_dir_all(&anew);
        return Err(unusable(why));
    }
    fs::rename(&dir, &old).map_err(refused(&dir))?;
    if let Err(error) = fs::rename(&anew, &dir) {
        // Without a store under its name, a worker would begin an empty one.
        let _ = fs::rename(&old, &dir);
        return Err(refused(&anew)(error));
    }
    fs::remove_dir_all(&old).map_err(refused(&old))?;
    Ok(done)
}

fn copy_without(
    from: &Path,
    to: &Path,
    keys: &BTreeSet<Key>,
    done: &mut Erased,
    copied: &mut impl FnMut(),
) -> Result<(), String> {
    let open = |path: &Path| sled::Config::new().path(path).cache_capacity(PAGE_CACHE_BYTES).open();
    fs::create_dir_all(to).map_err(|error| error.to_string())?;
    let mut counts = Vec::new();
    for number in numbers(from).map_err(|failure| failure.to_string())? {
        let name = format!("gen-{number}");
        let (old, new) = (open(&from.join(&name)), open(&to.join(&name)));
        let (old, new) = (old.map_err(|error| error.to_string())?, new.map_err(|error| error.to_string())?);
        let mut count = 0;
        for entry in old.iter() {
            let (key, value) = entry.map_err(|error| error.to_string())?;
            let key = <[u8; 32]>::try_from(&*key).map(Key);
            // What does not verify would be a miss.
            let Some(key) = key.ok().filter(|key| layout::unwrap(key, &value).is_some()) else { continue };
            if keys.contains(&key) {
                done.erased += 1;
                continue;
            }
            new.insert(key.0, value).map_err(|error| error.to_string())?;
            count += 1;
            copied();
        }
        new.flush().map_err(|error| error.to_string())?;
        done.kept += count;
        counts.push((number, count));
    }
    marker::ensure(to).map_err(|failure| failure.to_string())?;
    marker::note_entries(to, &counts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, Settings};
    use std::time::{Duration, Instant};

    fn key(n: u32) -> Key {
        Key(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    /// Whether any file below holds the key. sled leaves the prefix out that a page's keys share, so the end is looked for.
    fn holds(dir: &Path, key: &Key) -> bool {
        let tail = &key.0[16..];
        fs::read_dir(dir).unwrap().flatten().any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                holds(&path, key)
            } else {
                fs::read(&path).unwrap().windows(tail.len()).any(|bytes| bytes == tail)
            }
        })
    }

    fn store(path: &Path) -> Inventory {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let found = inventory::survey(path).unwrap().remove(0);
            if !found.in_use {
                return found;
            }
            assert!(Instant::now() < end, "the store stayed in use");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn an_erased_key_is_in_no_file_and_the_others_hit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let settings = Settings { path: path.to_owned(), ..Settings::default() };
        let value = |n: u32| format!("the value of number {n}, and of no other").into_bytes();
        let cache = Cache::open(&settings, "0");
        cache.put_many((0..3_000).map(|n| (key(n), value(n))).collect()).await;
        cache.flush().await;
        assert!(matches!(
            erase(path, &inventory::survey(path).unwrap()[0], &BTreeSet::new(), || ()),
            Err(Error::InUse { instance: 0 })
        ));
        drop(cache);
        store(path);
        // What was set aside can't be searched.
        let aside = path.join("0.broken-7");
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("db"), key(11).0).unwrap();
        assert!(holds(path, &key(11)) && holds(path, &key(12)), "there is something to erase");

        let mut copied = 0;
        let gone = BTreeSet::from([key(11), key(2_999), key(5_000)]);
        let done = erase(path, &store(path), &gone, || copied += 1).unwrap();
        assert_eq!(done, Erased { erased: 2, kept: 2_998, aside_bytes: 32 });
        assert_eq!(copied, 2_998);
        assert!(!holds(path, &key(11)) && !holds(path, &key(2_999)) && holds(path, &key(12)));
        assert!(
            !fs::read_dir(path)
                .unwrap()
                .flatten()
                .any(|entry| entry.path().join("gen-1").is_dir() && entry.file_name() != "0")
        );
        assert_eq!(store(path).entries, Some(2_998));

        let cache = Cache::open(&settings, "0");
        let all: Vec<Key> = (0..3_000).map(key).collect();
        let found = cache.get_many(&all).await;
        for (n, found) in (0..3_000).zip(found) {
            let expected = (n != 11 && n != 2_999).then(|| value(n));
            assert_eq!(found, expected, "{n}");
        }
        assert_eq!(cache.stats().failures, 0);
    }

    #[test]
    fn a_store_that_cannot_be_read_is_left_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir_all(path.join("0/gen-1")).unwrap();
        fs::write(path.join("0/layout"), "tamis-cache 99\n").unwrap();
        let error = erase(path, &store(path), &BTreeSet::from([key(1)]), || ()).unwrap_err().to_string();
        assert!(error.contains("99") && error.contains("cache clear"), "{error}");
        assert!(path.join("0/gen-1").exists());
    }
}
