//! Owns the road of one operation: memory first, then the breaker, then the worker with a deadline.

use super::Key;
use super::breaker::Breaker;
use super::failure::Failure;
use super::stats::Counters;
use super::worker::Worker;
use crate::telemetry::metrics;
use moka::sync::Cache as Memory;
use std::sync::Arc;
use std::time::Duration;

/// Keys of one operation of the worker: large requests are cut, so that none makes others pass their deadline.
pub(super) const CHUNK: usize = 1024;
/// Memory in front of the disk.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// Memory for what was said of whole texts, which is on no disk.
const RECALL_BYTES: u64 = 32 * 1024 * 1024;
/// What an entry weighs beyond its value: the key, the counts of its sharing, and what moka keeps of it. Measured as resident memory over
/// 400,000 entries (373 bytes for values of 8). Too small a number lets the memory grow to a multiple of its bound before it is full.
const ENTRY_BYTES: usize = 384;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Opening the store, its sample read included.
    pub(super) open: Duration,
    /// One operation, and as much again for waiting in front of the queue.
    pub(super) operation: Duration,
    /// One flush.
    pub(super) flush: Duration,
    /// The first bypass after a failure.
    pub(super) bypass: Duration,
    /// The longest bypass.
    pub(super) longest_bypass: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(30),
            operation: Duration::from_secs(2),
            flush: Duration::from_secs(10),
            bypass: Duration::from_secs(5),
            longest_bypass: Duration::from_secs(300),
        }
    }
}

/// The store on disk with its memory in front.
#[derive(Debug)]
pub(super) struct Store {
    memory: Memory<Key, Arc<[u8]>>,
    recall: Memory<Key, Arc<[u8]>>,
    breaker: Breaker,
    worker: Worker,
    deadlines: Deadlines,
    counters: Arc<Counters>,
}

impl Store {
    /// A store whose worker has it open.
    pub(super) fn new(worker: Worker, deadlines: Deadlines, counters: Arc<Counters>) -> Self {
        let weigh =
            |_: &Key, value: &Arc<[u8]>| u32::try_from(value.len().saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX);
        Self {
            memory: Memory::builder().max_capacity(MEMORY_BYTES).weigher(weigh).build(),
            recall: Memory::builder().max_capacity(RECALL_BYTES).weigher(weigh).build(),
            breaker: Breaker::new(deadlines.bypass, deadlines.longest_bypass),
            worker,
            deadlines,
            counters,
        }
    }

    /// What is remembered in memory alone.
    pub(super) fn recall(&self) -> &Memory<Key, Arc<[u8]>> {
        &self.recall
    }

    /// The value of each key; `None` is a miss, whatever the reason.
    pub(super) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Vec<u8>>> {
        let mut found: Vec<Option<Vec<u8>>> =
            keys.iter().map(|key| self.memory.get(key).map(|value| value.to_vec())).collect();
        let absent: Vec<(usize, Key)> =
            found.iter().zip(keys).enumerate().filter(|(_, (v, _))| v.is_none()).map(|(i, (_, k))| (i, *k)).collect();
        for chunk in absent.chunks(CHUNK) {
            let Some(leave) = self.breaker.admit() else { break };
            let asked = chunk.iter().map(|(_, key)| *key).collect();
            match self.worker.get(asked, self.deadlines.operation).await {
                Ok(values) => {
                    leave.succeed();
                    for ((index, key), value) in chunk.iter().zip(values) {
                        let Some(value) = value else { continue };
                        self.memory.insert(*key, value.as_slice().into());
                        if let Some(slot) = found.get_mut(*index) {
                            *slot = Some(value);
                        }
                    }
                }
                Err(failure) => {
                    self.failed(&failure, leave);
                    break;
                }
            }
        }
        found
    }

    /// Keeps `entries`, in memory whatever happens to the disk.
    pub(super) async fn put_many(&self, mut entries: Vec<(Key, Vec<u8>)>) {
        for (key, value) in &entries {
            self.memory.insert(*key, value.as_slice().into());
        }
        while !entries.is_empty() {
            let Some(leave) = self.breaker.admit() else { return };
            let rest = entries.split_off(entries.len().min(CHUNK));
            let chunk = std::mem::replace(&mut entries, rest);
            match self.worker.put(chunk, self.deadlines.operation).await {
                Ok(()) => leave.succeed(),
                Err(failure) => return self.failed(&failure, leave),
            }
        }
    }

    /// Writes everything to disk, unless it is bypassed.
    pub(super) async fn flush(&self) {
        let Some(leave) = self.breaker.admit() else { return };
        match self.worker.flush(self.deadlines.flush).await {
            Ok(()) => leave.succeed(),
            Err(failure) => self.failed(&failure, leave),
        }
    }

    /// Whether the disk is bypassed.
    pub(super) fn bypassed(&self) -> bool {
        self.breaker.open()
    }

    /// The store's counts.
    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn failed(&self, failure: &Failure, leave: super::breaker::Leave<'_>) {
        self.counters.failed();
        metrics::cache_error();
        tracing::warn!(%failure, "cache operation failed");
        leave.fail();
    }
}

#[cfg(test)]
mod tests;
