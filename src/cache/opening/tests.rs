//! Stores that are damaged, slow, full, or gone.

use super::*;
use crate::cache::{Cache, Key, Place};
use std::io::{Seek, SeekFrom, Write};

fn limits() -> Limits {
    let ms = Duration::from_millis;
    let deadlines = Deadlines {
        open: Duration::from_secs(20),
        operation: Duration::from_secs(5),
        flush: Duration::from_secs(10),
        bypass: ms(50),
        longest_bypass: ms(200),
    };
    Limits { min_bytes: 1, deadlines }
}

fn settings(path: &Path, max_bytes: u64) -> Settings {
    Settings { path: path.to_owned(), max_bytes, enabled: true }
}

fn reopen(path: &Path, max_bytes: u64) -> Cache {
    let store = open(&settings(path, max_bytes), "0", limits()).unwrap();
    Cache { place: Place::Disk(Arc::new(store)) }
}

fn key(n: u32) -> Key {
    Key(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

const LARGE: u64 = 1 << 30;

async fn fill(path: &Path, n: u32) {
    let cache = reopen(path, LARGE);
    cache.put_many((0..n).map(|n| (key(n), key(n).0.repeat(4))).collect()).await;
    cache.flush().await;
    drop(cache);
    closed(path);
}

/// Waits until the store's thread has let go of it.
fn closed(path: &Path) {
    drop(lock(&path.join("0.store.lock")).unwrap());
}

/// How many of `n` values come back; each that does must be right.
async fn right(cache: &Cache, n: u32) -> usize {
    let keys: Vec<Key> = (0..n).map(key).collect();
    let found = cache.get_many(&keys).await;
    for (key, value) in keys.iter().zip(&found) {
        assert!(value.as_ref().is_none_or(|value| *value == key.0.repeat(4)), "a wrong value came back");
    }
    found.iter().flatten().count()
}

/// After whatever happened, the cache must soon keep values again.
async fn works_again(cache: &Cache) {
    for attempt in 0..100_u32 {
        let key = key(1_000_000 + attempt);
        cache.put_many(vec![(key, b"fresh".to_vec())]).await;
        assert_eq!(cache.get_many(&[key]).await, [Some(b"fresh".to_vec())]);
        if !cache.stats().bypassed {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the cache stayed bypassed: {:?}", cache.stats());
}

fn generations(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join("0")).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for generation in generations(path) {
        for file in fs::read_dir(generation).unwrap().flatten() {
            if file.file_type().unwrap().is_file() {
                files.push(file.path());
            }
        }
    }
    files.sort();
    files
}

fn set_aside(path: &Path) -> usize {
    let names = fs::read_dir(path).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_str().unwrap().starts_with("0.broken-")).count()
}

#[tokio::test]
async fn values_outlive_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3000).await;
    let cache = reopen(dir.path(), LARGE);
    assert_eq!(right(&cache, 3000).await, 3000);
    assert_eq!((cache.stats().set_aside, cache.stats().unverified), (0, 0));
}

#[tokio::test]
async fn flipped_bits_never_yield_a_wrong_value() {
    for seed in 0..12_u32 {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 2000).await;
        for path in files(dir.path()).iter().filter(|path| path.ends_with("db")) {
            let bytes = fs::read(path).unwrap();
            let mut bytes_changed = bytes.clone();
            for hit in 0..8 {
                let at = u32::from_le_bytes(key(seed * 100 + hit).0[..4].try_into().unwrap()) as usize;
                bytes_changed[at % bytes.len()] ^= 0x55;
            }
            fs::write(path, bytes_changed).unwrap();
        }
        let cache = reopen(dir.path(), LARGE);
        right(&cache, 2000).await;
        works_again(&cache).await;
    }
}

#[tokio::test]
async fn truncated_files_do_not_stop_it() {
    for keep in [0, 1, 100, 5000, 100_000, 400_000] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 3000).await;
        for path in files(dir.path()) {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(keep.min(file.metadata().unwrap().len())).unwrap();
        }
        let cache = reopen(dir.path(), LARGE);
        right(&cache, 3000).await;
        works_again(&cache).await;
    }
}

#[tokio::test]
async fn a_garbage_snapshot_is_set_aside_and_only_the_last_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        fill(dir.path(), 200).await;
        // sled writes its snapshot when it opens what an earlier run left.
        drop(reopen(dir.path(), LARGE));
        closed(dir.path());
        let snapshots: Vec<_> = files(dir.path())
            .into_iter()
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap"))
            .collect();
        assert!(!snapshots.is_empty(), "{:?}", files(dir.path()));
        for path in snapshots {
            let mut file = File::options().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&[0xab; 4096]).unwrap();
        }
        let cache = reopen(dir.path(), LARGE);
        works_again(&cache).await;
        assert_eq!((cache.stats().set_aside, set_aside(dir.path())), (1, 1), "round {round}");
    }
}

#[tokio::test]
async fn a_file_in_the_store_s_place_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("0"), "not a directory").unwrap();
    let cache = reopen(dir.path(), LARGE);
    works_again(&cache).await;
    assert_eq!(cache.stats().set_aside, 1);
}

#[tokio::test]
async fn the_disk_is_bounded_by_dropping_the_oldest_generation() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 12 << 20;
    let cache = reopen(dir.path(), max_bytes);
    let mut most = 0;
    for block in 0..120_u32 {
        let range = block * 500..(block + 1) * 500;
        cache.put_many(range.map(|n| (key(n), key(n).0.repeat(12))).collect()).await;
        most = most.max(cache.stats().disk_bytes);
    }
    let stats = cache.stats();
    assert!(stats.generations_dropped >= 2, "{stats:?}");
    assert!(most <= max_bytes + max_bytes / 2, "{most} bytes at most");
    assert_eq!(stats.failures, 0);
    drop(cache);
    let cache = reopen(dir.path(), max_bytes);
    let (first, last) = (cache.get_many(&[key(0)]).await, cache.get_many(&[key(59_999)]).await);
    assert_eq!((first[0].is_some(), last[0].is_some()), (false, true));
    assert!(generations(dir.path()).len() <= 2);
}

#[tokio::test]
async fn hits_in_the_older_generation_are_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0");
    let counters = Arc::new(Counters::default());
    use crate::cache::worker::Backend;
    let mut older = Generations::open(&path, 1, LARGE, Arc::clone(&counters)).unwrap();
    older.put(&key(1), b"kept").unwrap();
    older.put(&key(2), b"lost").unwrap();
    drop(older);
    fs::create_dir(path.join("gen-2")).unwrap();
    let mut both = Generations::open(&path, 1, LARGE, Arc::clone(&counters)).unwrap();
    assert_eq!(both.get(&key(1)).unwrap().as_deref(), Some(&b"kept"[..]));
    drop(both);
    fs::create_dir(path.join("gen-3")).unwrap();
    let mut newer = Generations::open(&path, 1, LARGE, counters).unwrap();
    assert_eq!(newer.get(&key(1)).unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(newer.get(&key(2)).unwrap(), None);
    assert!(!path.join("gen-1").exists());
}

#[tokio::test]
async fn a_store_that_another_has_open_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = reopen(dir.path(), LARGE);
    let second = Cache::open(&settings(dir.path(), LARGE), "0");
    assert_eq!((second.stats().place, second.stats().failures), ("off", 1));
    works_again(&first).await;
    assert_eq!(set_aside(dir.path()), 0);
    assert_eq!(Cache::open(&settings(dir.path(), LARGE), "1").stats().place, "disk");
}

#[tokio::test]
async fn what_can_not_be_opened_at_all_is_off() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = Cache::open(&settings(file.path(), LARGE), "0");
    assert_eq!(cache.stats().place, "off");
    assert_eq!(cache.get_many(&[key(1)]).await, [None]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "..", "a/b", "/etc"] {
        assert_eq!(Cache::open(&settings(dir.path(), LARGE), name).stats().place, "off", "{name}");
    }
}

/// The store that a released program wrote, as `examples/cache_fixture.rs` makes it.
fn unpack(version: &str, into: &Path) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cache").join(format!("{version}.tar.gz"));
    let unpacked = std::process::Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).status().unwrap();
    assert!(unpacked.success(), "{}", archive.display());
}

/// How many of the fixture's 300 entries come back; each that does must be right.
async fn kept(cache: &Cache) -> usize {
    let keys: Vec<Key> = (0..300).map(key).collect();
    let found = cache.get_many(&keys).await;
    assert!(keys.iter().zip(&found).all(|(key, value)| value.as_ref().is_none_or(|value| *value == key.0.repeat(2))));
    found.iter().flatten().count()
}

#[tokio::test]
async fn what_earlier_programs_wrote_is_read() {
    for version in ["0.1.0", "layout-1"] {
        let dir = tempfile::tempdir().unwrap();
        unpack(version, dir.path());
        let found = crate::cache::inventory::survey(dir.path()).unwrap();
        assert_eq!(found[0].layout, crate::cache::Layout::Current { marked: version != "0.1.0" }, "{version}");
        let cache = reopen(dir.path(), LARGE);
        assert_eq!(kept(&cache).await, 300, "{version}");
        assert_eq!((cache.stats().set_aside, cache.stats().unverified, cache.stats().failures), (0, 0, 0), "{version}");
        cache.flush().await;
        let found = crate::cache::inventory::survey(dir.path()).unwrap();
        // What an earlier program did not note is counted when the store is opened.
        assert_eq!((found[0].entries, &found[0].layout), (Some(300), &crate::cache::Layout::Current { marked: true }));
    }
}

#[tokio::test]
async fn another_layout_is_set_aside_and_never_read() {
    for marker in ["tamis-cache 0\n", "tamis-cache 2\n", "", "garbage"] {
        let dir = tempfile::tempdir().unwrap();
        unpack("layout-1", dir.path());
        fs::write(dir.path().join("0/layout"), marker).unwrap();
        let found = crate::cache::inventory::survey(dir.path()).unwrap();
        assert!(matches!(found[0].layout, crate::cache::Layout::Other(_)), "{marker:?}");
        let cache = reopen(dir.path(), LARGE);
        assert_eq!((kept(&cache).await, cache.stats().set_aside, set_aside(dir.path())), (0, 1, 1), "{marker:?}");
        works_again(&cache).await;
        assert_eq!(cache.stats().unverified, 0, "nothing of it was looked at");
    }
}

#[tokio::test]
async fn a_value_of_another_layout_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    unpack("layout-1", dir.path());
    // sled is asked to change the first byte of each value, as a program of another value layout would have written it.
    let db = sled::open(dir.path().join("0/gen-1")).unwrap();
    for entry in db.iter().flatten().collect::<Vec<_>>() {
        let mut stored = entry.1.to_vec();
        stored[0] += 1;
        db.insert(entry.0, stored).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let cache = reopen(dir.path(), LARGE);
    assert_eq!(kept(&cache).await, 0);
    assert_eq!((cache.stats().unverified, cache.stats().set_aside), (300, 0));
}
