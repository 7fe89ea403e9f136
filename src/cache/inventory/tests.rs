//! Stores that are looked at and cleared, some of them in use.

use super::*;
use crate::cache::{Cache, Key, Settings};
use std::time::{Duration, Instant};

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), ..Settings::default() }
}

async fn filled(path: &Path, instance: &str, n: u32) -> Cache {
    let cache = Cache::open(&settings(path), instance);
    let key = |n: u32| Key(*blake3::hash(&n.to_le_bytes()).as_bytes());
    cache.put_many((0..n).map(|n| (key(n), vec![7; 40])).collect()).await;
    // A key that is there already is no further entry.
    cache.put_many(vec![(key(0), vec![8; 40])]).await;
    cache.flush().await;
    cache
}

/// Waits until nothing uses the instance's store: its thread ends a moment after the cache was dropped.
fn closed(path: &Path, instance: u32) {
    let end = Instant::now() + Duration::from_secs(20);
    while in_use(path, instance) {
        assert!(Instant::now() < end, "the store stayed in use");
        std::thread::yield_now();
    }
}

fn stores(path: &Path) -> Vec<(u32, bool, usize, Option<u64>)> {
    survey(path).unwrap().iter().map(|store| (store.instance, store.in_use, store.generations, store.entries)).collect()
}

#[tokio::test]
async fn a_survey_tells_what_is_there_and_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert_eq!(survey(&path.join("absent")).unwrap(), []);
    let running = filled(path, "0", 500).await;
    drop(filled(path, "12", 30).await);
    closed(path, 12);
    fs::create_dir(path.join("0.broken-1700000000000")).unwrap();
    fs::write(path.join("0.broken-1700000000000/db"), [0; 1000]).unwrap();
    for foreign in ["0.lock", "007", "3.broken-x", "notes"] {
        fs::write(path.join(foreign), "x").unwrap();
    }
    assert_eq!(stores(path), [(0, true, 1, Some(500)), (12, false, 1, Some(30))]);
    let found = survey(path).unwrap();
    assert_eq!(found[0].layout, Layout::Current { marked: true });
    assert_eq!(found[0].set_aside, [(path.join("0.broken-1700000000000"), 1000)]);
    assert!(found[0].bytes > 500 * 40, "{found:?}");
    // The running one goes on.
    let key = Key([9; 32]);
    running.put_many(vec![(key, vec![1])]).await;
    assert_eq!(running.get_many(&[key]).await, [Some(vec![1])]);
    assert_eq!(running.stats().failures, 0);
}

#[tokio::test]
async fn clearing_spares_what_is_in_use_and_what_is_not_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let running = filled(path, "0", 50).await;
    drop(filled(path, "1", 50).await);
    closed(path, 1);
    fs::create_dir(path.join("1.broken-5")).unwrap();
    fs::write(path.join("2.broken-6"), "a file that lay in a store's place").unwrap();
    let found = survey(path).unwrap();
    let [zero, one, two] = &found[..] else { panic!("{found:#?}") };
    assert!(matches!(clear(path, zero, false), Err(Error::InUse { instance: 0 })));
    assert_eq!(clear(path, one, true).unwrap(), one.bytes);
    assert_eq!(stores(path).len(), 3, "a dry run removes nothing");
    fs::write(path.join("1/thesis.tex"), "years of work").unwrap();
    assert!(matches!(clear(path, one, false), Err(Error::Foreign { path }) if path.ends_with("thesis.tex")));
    fs::remove_file(path.join("1/thesis.tex")).unwrap();
    assert_eq!(clear(path, one, false).unwrap(), one.bytes);
    assert!(clear(path, two, false).unwrap() > 0);
    assert_eq!(stores(path), [(0, true, 1, Some(50))]);
    drop(running);
    closed(path, 0);
    clear(path, zero, false).unwrap();
    assert_eq!(stores(path), []);
    // What was cleared is begun anew, under the same locks.
    assert_eq!(filled(path, "1", 5).await.stats().failures, 0);
    assert_eq!(stores(path), [(1, true, 1, Some(5))]);
}

#[test]
fn only_the_plain_number_of_an_instance_is_one() {
    for (name, expected) in [
        ("0", Some((0, false))),
        ("41", Some((41, false))),
        ("3.broken-17", Some((3, true))),
        ("3.cleared-17", Some((3, true))),
        ("03", None),
        ("+3", None),
        ("-1", None),
        ("", None),
        ("3.broken-", Some((3, true))),
        ("3.broken-x", None),
        ("3.lock", None),
        ("3.store.lock", None),
        ("gen-3", None),
    ] {
        assert_eq!(instance_of(name), expected, "{name}");
    }
}
