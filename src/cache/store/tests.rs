//! A store that hangs, panics, refuses and recovers, as told.

use super::*;
use crate::cache::worker::{Backend, Opener};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Hangs,
    Panics,
    Refuses,
    Full,
}

#[derive(Debug, Clone)]
struct Moody {
    mood: Arc<Mutex<Mood>>,
    openings: Arc<Mutex<Vec<bool>>>,
    values: HashMap<[u8; 32], Vec<u8>>,
}

impl Moody {
    fn new(mood: Mood) -> Self {
        Self { mood: Arc::new(Mutex::new(mood)), openings: Arc::default(), values: HashMap::new() }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn act(&self) -> Result<(), Failure> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(()),
            Mood::Hangs => {
                while *self.mood.lock().unwrap() == Mood::Hangs {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
            Mood::Panics => panic!("as told"),
            Mood::Refuses => Err(Failure::Refused("as told".to_owned())),
            Mood::Full => Err(Failure::DiskFull),
        }
    }
}

impl Backend for Moody {
    fn get(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Failure> {
        self.act()?;
        Ok(self.values.get(&key.0).cloned())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), Failure> {
        self.act()?;
        self.values.insert(key.0, value.to_vec());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.act()
    }
}

impl Opener for Moody {
    type Backend = Moody;

    fn open(&mut self, condemned: bool) -> Result<Moody, Failure> {
        self.openings.lock().unwrap().push(condemned);
        self.act()?;
        Ok(self.clone())
    }
}

fn deadlines() -> Deadlines {
    let ms = Duration::from_millis;
    Deadlines { open: ms(200), operation: ms(100), flush: ms(100), bypass: ms(40), longest_bypass: ms(80) }
}

fn store(moody: &Moody) -> Store {
    let worker = Worker::start(moody.clone(), deadlines().open).unwrap();
    Store::new(worker, deadlines(), Arc::default())
}

fn key(n: u8) -> Key {
    Key([n; 32])
}

/// Tries until the store is used again.
async fn recovers(store: &Store) {
    for _ in 0..100 {
        store.get_many(&[key(200)]).await;
        if !store.bypassed() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it stayed bypassed");
}

#[tokio::test]
async fn every_failure_is_a_miss_and_then_a_bypass_that_ends() {
    for (mood, condemned) in [(Mood::Panics, true), (Mood::Refuses, false), (Mood::Full, false)] {
        let moody = Moody::new(Mood::Well);
        let store = store(&moody);
        moody.set(mood);
        assert_eq!(store.get_many(&[key(1), key(2)]).await, [None, None], "{mood:?}");
        assert!(store.bypassed());
        store.put_many(vec![(key(1), vec![1])]).await;
        assert_eq!(store.get_many(&[key(1)]).await, [Some(vec![1])], "memory still serves");
        moody.set(Mood::Well);
        recovers(&store).await;
        assert_eq!(*moody.openings.lock().unwrap(), [false, condemned], "{mood:?}");
        assert_eq!(store.counters.stats("disk", false).failures, 1);
    }
}

#[tokio::test]
async fn a_store_that_hangs_costs_one_deadline_and_no_more() {
    let moody = Moody::new(Mood::Well);
    let store = store(&moody);
    moody.set(Mood::Hangs);
    let start = Instant::now();
    assert_eq!(store.get_many(&[key(1)]).await, [None]);
    assert!(start.elapsed() >= deadlines().operation);
    let start = Instant::now();
    for _ in 0..1000 {
        store.get_many(&[key(1)]).await;
        store.put_many(vec![(key(2), vec![2])]).await;
        store.flush().await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "bypassed operations took {:?}", start.elapsed());
    moody.set(Mood::Well);
    recovers(&store).await;
}

#[tokio::test]
async fn a_store_that_hangs_or_fails_while_opening_is_told() {
    for mood in [Mood::Hangs, Mood::Panics, Mood::Refuses] {
        let moody = Moody::new(mood);
        // Only what hangs needs to be waited for; on a loaded machine, even a panic takes its time.
        let patience = if mood == Mood::Hangs { deadlines().open } else { Duration::from_secs(20) };
        let start = Instant::now();
        let failure = Worker::start(moody.clone(), patience).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20));
        let expected = match mood {
            Mood::Hangs => Failure::Deadline,
            Mood::Panics => Failure::Panicked("as told".to_owned()),
            Mood::Well | Mood::Refuses | Mood::Full => Failure::Refused("as told".to_owned()),
        };
        assert_eq!(failure, expected);
        moody.set(Mood::Well);
    }
}

#[tokio::test]
async fn a_cancelled_caller_leaves_nothing_behind() {
    let moody = Moody::new(Mood::Well);
    let store = store(&moody);
    moody.set(Mood::Refuses);
    store.get_many(&[key(1)]).await;
    moody.set(Mood::Hangs);
    tokio::time::sleep(deadlines().bypass).await;
    // The probe is cancelled by its caller.
    let _ = tokio::time::timeout(Duration::from_millis(5), store.get_many(&[key(1)])).await;
    moody.set(Mood::Well);
    recovers(&store).await;
}

#[tokio::test]
async fn large_requests_are_cut() {
    let moody = Moody::new(Mood::Well);
    let store = store(&moody);
    let keys: Vec<Key> = (0..5000_u32).map(|n| Key(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
    store.put_many(keys.iter().map(|key| (*key, key.0.to_vec())).collect()).await;
    store.memory.invalidate_all();
    let found = store.get_many(&keys).await;
    assert!(keys.iter().zip(found).all(|(key, value)| value == Some(key.0.to_vec())));
}
