//! Owns the cache's own counts, for the status page and for tests.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a cache did since it was opened, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Where values are kept: `disk`, `memory` or `off`.
    pub place: &'static str,
    /// Whether the disk is being bypassed after a failure.
    pub bypassed: bool,
    /// Keys that were found.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Operations that failed, passed their deadline or found no place in the queue.
    pub failures: u64,
    /// Values found that did not verify, and so were misses.
    pub unverified: u64,
    /// Times that a store was set aside and started empty.
    pub set_aside: u64,
    /// Times that the oldest generation was dropped to stay within `max_bytes`.
    pub generations_dropped: u64,
    /// Bytes on disk when last looked at.
    pub disk_bytes: u64,
}

/// The counts behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    unverified: AtomicU64,
    set_aside: AtomicU64,
    generations_dropped: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn looked_up(&self, hits: usize, misses: usize) {
        self.hits.fetch_add(hits as u64, Relaxed);
        self.misses.fetch_add(misses as u64, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn unverified(&self) {
        self.unverified.fetch_add(1, Relaxed);
    }

    pub(super) fn set_aside(&self) {
        self.set_aside.fetch_add(1, Relaxed);
    }

    pub(super) fn generation_dropped(&self) {
        self.generations_dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Relaxed);
    }

    pub(super) fn stats(&self, place: &'static str, bypassed: bool) -> Stats {
        Stats {
            place,
            bypassed,
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            failures: self.failures.load(Relaxed),
            unverified: self.unverified.load(Relaxed),
            set_aside: self.set_aside.load(Relaxed),
            generations_dropped: self.generations_dropped.load(Relaxed),
            disk_bytes: self.disk_bytes.load(Relaxed),
        }
    }
}
