//! Owns the odometer: what device and cache have done in this process so far, as numbers that only grow.
//!
//! In: the recorders of `metrics.rs`, which are called from threads that know no board. Out: a [`Reading`]; two of them make a rate. Invariants: like the
//! recorder of series there is one a process; nothing here waits.
//! Must not know: who reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static BUSY_MICROS: AtomicU64 = AtomicU64::new(0);
static TOKENS: AtomicU64 = AtomicU64::new(0);
static BACKLOG_ROWS: AtomicU64 = AtomicU64::new(0);
static CACHE_HITS: AtomicU64 = AtomicU64::new(0);
static CACHE_MISSES: AtomicU64 = AtomicU64::new(0);
static CACHE_BYPASSED: AtomicBool = AtomicBool::new(false);

/// What was done up to one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Microseconds that devices spent in forward passes, summed over devices.
    pub(super) busy_micros: u64,
    /// Tokens of those passes, padding not counted.
    pub(super) tokens: u64,
    /// Windows that the cache had.
    pub(super) hits: u64,
    /// Windows that it had not.
    pub(super) misses: u64,
}

impl Reading {
    /// The odometer now.
    pub(super) fn now() -> Self {
        Self {
            busy_micros: BUSY_MICROS.load(Relaxed),
            tokens: TOKENS.load(Relaxed),
            hits: CACHE_HITS.load(Relaxed),
            misses: CACHE_MISSES.load(Relaxed),
        }
    }

    /// What was done since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            busy_micros: self.busy_micros.saturating_sub(earlier.busy_micros),
            tokens: self.tokens.saturating_sub(earlier.tokens),
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
        }
    }
}

/// A pass over `tokens` took `seconds`.
pub(super) fn pass(tokens: usize, seconds: f64) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a pass takes seconds, never years")]
    let micros = (seconds.max(0.0) * 1e6) as u64;
    BUSY_MICROS.fetch_add(micros, Relaxed);
    TOKENS.fetch_add(tokens as u64, Relaxed);
}

/// Rows that wait for a device now.
pub(super) fn backlog(rows: usize) {
    BACKLOG_ROWS.store(rows as u64, Relaxed);
}

/// Rows that waited when the device was last asked.
pub(super) fn backlog_rows() -> u64 {
    BACKLOG_ROWS.load(Relaxed)
}

/// The cache was asked.
pub(super) fn lookups(hits: usize, misses: usize) {
    CACHE_HITS.fetch_add(hits as u64, Relaxed);
    CACHE_MISSES.fetch_add(misses as u64, Relaxed);
}

/// The cache is bypassed from now on, or no longer.
pub(super) fn bypass(bypassed: bool) {
    CACHE_BYPASSED.store(bypassed, Relaxed);
}

/// Whether the cache is bypassed.
pub(super) fn is_bypassed() -> bool {
    CACHE_BYPASSED.load(Relaxed)
}
