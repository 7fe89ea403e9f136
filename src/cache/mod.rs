//! The score cache: raw sums by key, on disk and in memory.
//!
//! Owns: the store on disk (sled), the memory in front of it (moka), the breaker between them and the callers, instance slots,
//! the survey of the folder before anything is opened in it.
//! In: keys (a hash over a scorer's identity and a window) and opaque value bytes. Out: the bytes that were put, or a miss.
//! Invariants: **the cache never stops the service**: no call fails, each has a deadline, a panic of the store is caught, a store that
//! can't be opened is set aside and started empty; a value that does not verify is a miss; the disk is bounded.
//! Must not know: what the bytes mean, models, documents.

mod breaker;
pub mod erasure;
mod failure;
mod generations;
pub mod inventory;
#[doc(hidden)]
pub mod layout;
mod marker;
mod opening;
mod settings;
mod slot;
mod stats;
mod store;
mod survey;
mod worker;

pub use marker::Layout;
pub use settings::{Error as SettingsError, MIN_BYTES, Settings};
pub use slot::{Error as SlotError, Slot};
pub use stats::Stats;
pub use survey::{FileSystem, Survey};

use crate::telemetry::metrics;
use moka::sync::Cache as Memory;
use std::sync::Arc;
use store::Store;

/// What a value is found by: a hash over everything that it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

/// A cache. Clones share one store. No method fails: what can't be read is a miss, what can't be written is forgotten.
#[derive(Debug, Clone)]
pub struct Cache {
    place: Place,
}

/// Where values are kept.
#[derive(Debug, Clone)]
enum Place {
    /// Nowhere.
    Nowhere(Arc<stats::Counters>),
    /// In memory only.
    Memory(Memory<Key, Arc<[u8]>>, Arc<stats::Counters>),
    /// On disk, with memory in front.
    Disk(Arc<Store>),
}

impl Cache {
    /// The cache of one instance, in the directory `<settings.path>/<instance>`.
    ///
    /// Never fails. A store that panics, refuses or takes longer than 30 s to open or to yield a sample is renamed to
    /// `<instance>.broken-<unix ms>` (the last such is kept), counted, warned of, and started empty; if that fails too, or
    /// another process has it open, the cache is off for this run. Blocks for at most about a minute; call it before serving.
    #[must_use]
    pub fn open(settings: &Settings, instance: &str) -> Self {
        if !settings.enabled {
            return Self::disabled();
        }
        match opening::open(settings, instance, opening::Limits::default()) {
            Ok(store) => Self { place: Place::Disk(Arc::new(store)) },
            Err(failure) => {
                tracing::warn!(path = %settings.path.display(), instance, %failure, "cache is off for this run");
                metrics::cache_error();
                metrics::cache_breaker(true);
                let counters = stats::Counters::default();
                counters.failed();
                Self { place: Place::Nowhere(Arc::new(counters)) }
            }
        }
    }

    /// A cache that keeps nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self { place: Place::Nowhere(Arc::default()) }
    }

    /// A cache in memory only, of at most `max_entries` values; for tests and one-shot commands.
    #[must_use]
    pub fn memory(max_entries: u64) -> Self {
        Self { place: Place::Memory(Memory::new(max_entries), Arc::default()) }
    }

    /// The value of each key, in the keys' order; `None` is a miss. Returns within about 4 s for each 1024 keys, and at once while
    /// the store is bypassed. Cancel safe.
    pub async fn get_many(&self, keys: &[Key]) -> Vec<Option<Vec<u8>>> {
        let (found, counters) = match &self.place {
            Place::Nowhere(_) => return vec![None; keys.len()],
            Place::Memory(memory, counters) => {
                (keys.iter().map(|key| memory.get(key).map(|value| value.to_vec())).collect(), counters)
            }
            Place::Disk(store) => (store.get_many(keys).await, store.counters()),
        };
        let hits = found.iter().filter(|value| value.is_some()).count();
        counters.looked_up(hits, found.len() - hits);
        metrics::cache_lookups(hits, found.len() - hits);
        found
    }

    /// Keeps `entries`; an existing key takes the new value. Returns when they are readable, or were given up: within about 4 s for each 1024 entries, and at
    /// once while the store is bypassed. They outlive a crash after the next flush, within a second or so. Cancel safe: some may be kept.
    pub async fn put_many(&self, entries: Vec<(Key, Vec<u8>)>) {
        match &self.place {
            Place::Nowhere(_) => (),
            Place::Memory(memory, _) => {
                for (key, value) in entries {
                    memory.insert(key, value.into());
                }
            }
            Place::Disk(store) => store.put_many(entries).await,
        }
    }

    /// What was [remembered](Self::remember) under `key`, or nothing. Memory only, at once.
    #[must_use]
    pub fn recall(&self, key: &Key) -> Option<Arc<[u8]>> {
        match &self.place {
            Place::Disk(store) => store.recall().get(key),
            Place::Nowhere(_) | Place::Memory(..) => None,
        }
    }

    /// So many values were found without being asked for, by [`Self::recall`].
    pub fn recalled(&self, values: usize) {
        if let Place::Disk(store) = &self.place {
            store.counters().looked_up(values, 0);
            metrics::cache_lookups(values, 0);
        }
    }

    /// Keeps `value` in memory until the process ends or others crowd it out, at most 32 MiB in all; never on disk, and not in a cache that has none.
    pub fn remember(&self, key: Key, value: Vec<u8>) {
        if let Place::Disk(store) = &self.place {
            store.recall().insert(key, value.into());
        }
    }

    /// Writes everything to disk, within 10 s or not at all. Call it when draining.
    pub async fn flush(&self) {
        if let Place::Disk(store) = &self.place {
            store.flush().await;
        }
    }

    /// What the cache did so far, and how it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match &self.place {
            Place::Nowhere(counters) => counters.stats("off", false),
            Place::Memory(_, counters) => counters.stats("memory", false),
            Place::Disk(store) => store.counters().stats("disk", store.bypassed()),
        }
    }
}

#[cfg(test)]
mod contract_tests;
