//! What every cache must do, wherever it keeps its values.

use super::*;

fn key(n: u64) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    Key(key)
}

fn on_disk() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { path: dir.path().to_owned(), ..Settings::default() };
    let cache = Cache::open(&settings, "0");
    assert_eq!(cache.stats().place, "disk");
    (dir, cache)
}

/// Caches that keep what they are given.
async fn keeps(cache: Cache) {
    assert_eq!(cache.get_many(&[]).await, Vec::<Option<Vec<u8>>>::new());
    assert_eq!(cache.get_many(&[key(1), key(1)]).await, [None, None]);
    cache.put_many(Vec::new()).await;
    cache.put_many(vec![(key(1), b"one".to_vec()), (key(2), Vec::new()), (key(1), b"uno".to_vec())]).await;
    let found = cache.get_many(&[key(2), key(3), key(1), key(2)]).await;
    assert_eq!(found, [Some(Vec::new()), None, Some(b"uno".to_vec()), Some(Vec::new())]);
    cache.clone().put_many(vec![(key(1), vec![7; 5000])]).await;
    assert_eq!(cache.get_many(&[key(1)]).await, [Some(vec![7; 5000])]);
    let many: Vec<Key> = (10..3010).map(key).collect();
    cache.put_many(many.iter().map(|key| (*key, key.0.to_vec())).collect()).await;
    assert_eq!(cache.get_many(&many).await, many.iter().map(|key| Some(key.0.to_vec())).collect::<Vec<_>>());
    cache.flush().await;
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.failures, stats.bypassed), (3 + 1 + 3000, 2 + 1, 0, false));
}

#[tokio::test]
async fn memory_keeps() {
    keeps(Cache::memory(10_000)).await;
}

#[tokio::test]
async fn disk_keeps() {
    let (_dir, cache) = on_disk();
    keeps(cache).await;
}

#[tokio::test]
async fn nothing_is_kept_when_disabled() {
    let settings = Settings { enabled: false, ..Settings::default() };
    for cache in [Cache::disabled(), Cache::open(&settings, "0")] {
        cache.put_many(vec![(key(1), b"one".to_vec())]).await;
        assert_eq!(cache.get_many(&[key(1)]).await, [None]);
        cache.flush().await;
        assert_eq!(cache.stats().place, "off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once() {
    let (_dir, cache) = on_disk();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..32_u64 {
        let cache = cache.clone();
        callers.spawn(async move {
            for round in 0..50 {
                let key = key(caller * 1000 + round);
                cache.put_many(vec![(key, key.0.to_vec())]).await;
                assert_eq!(cache.get_many(&[key]).await, [Some(key.0.to_vec())]);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(cache.stats().failures, 0);
}
