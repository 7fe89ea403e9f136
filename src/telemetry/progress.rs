//! Owns the progress of a run that has an end: how much of the input was read, and how long the rest will take.
//!
//! Invariants: setters never wait; what cannot be known yet is absent. Must not know: where the bytes come from, or who looks.

use crate::corpus::Allowance;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A handle on the progress of one run; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes_total: AtomicU64,
    bytes_read: AtomicU64,
    documents_read: AtomicU64,
    /// Set when the first document was read; documents in flight are those not yet delivered.
    begun: OnceLock<(Instant, Allowance)>,
}

/// The progress at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Documents that are through.
    pub documents: u64,
    /// Documents a second since the first was read.
    pub per_second: f64,
    /// The share that is done, from 0 to 1: documents through of documents read, times bytes read of bytes in all.
    pub share: f64,
    /// How long the rest will take at this pace; absent before anything is through.
    pub left: Option<Duration>,
}

impl Progress {
    /// There are so many bytes to read.
    pub fn expect(&self, bytes: u64) {
        self.shared.bytes_total.fetch_add(bytes, Relaxed);
    }

    /// So many bytes were read from disk, compressed as they are.
    pub fn bytes_read(&self, bytes: u64) {
        self.shared.bytes_read.fetch_add(bytes, Relaxed);
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes_read.load(Relaxed)
    }

    /// So many bytes of those expected and read were the work of an earlier run.
    pub fn skip(&self, bytes: u64) {
        let less = |count: u64| Some(count.saturating_sub(bytes));
        // The closure never refuses.
        let _ = self.shared.bytes_read.fetch_update(Relaxed, Relaxed, less);
        let _ = self.shared.bytes_total.fetch_update(Relaxed, Relaxed, less);
    }

    /// A document was read; it takes permits of `allowance` until it is delivered.
    pub fn document_read(&self, allowance: &Allowance) {
        self.shared.begun.get_or_init(|| (Instant::now(), allowance.clone()));
        self.shared.documents_read.fetch_add(1, Relaxed);
    }

    /// How it stands now; `None` where there is no end to expect, or before the first document.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more")]
    pub fn standing(&self) -> Option<Standing> {
        let (since, allowance) = self.shared.begun.get()?;
        let total = self.shared.bytes_total.load(Relaxed);
        let read = self.shared.documents_read.load(Relaxed);
        if total == 0 || read == 0 {
            return None;
        }
        let documents = read.saturating_sub(allowance.in_flight() as u64);
        let bytes = (self.shared.bytes_read.load(Relaxed) as f64 / total as f64).min(1.0);
        let share = bytes * documents as f64 / read as f64;
        let seconds = since.elapsed().as_secs_f64();
        let left = (share > 0.0).then(|| seconds * (1.0 - share) / share);
        Some(Standing {
            documents,
            per_second: if seconds > 0.0 { documents as f64 / seconds } else { 0.0 },
            share,
            left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_not_done_and_what_was_skipped_does_not_count() {
        let (progress, allowance) = (Progress::default(), Allowance::new(10, 1_000));
        progress.expect(1_500);
        assert_eq!(progress.standing(), None);
        progress.bytes_read(500);
        progress.skip(500);
        progress.bytes_read(500);
        let permits: Vec<_> = (0..4).map(|_| allowance.try_take(1).unwrap()).collect();
        (0..8).for_each(|_| progress.document_read(&allowance));
        let standing = progress.standing().unwrap();
        assert_eq!((standing.documents, standing.share), (4, 0.25), "half of the bytes, and half of their documents");
        drop(permits);
        assert_eq!(progress.standing().unwrap().share, 0.5);
        progress.bytes_read(501);
        let end = progress.standing().unwrap();
        assert_eq!((end.share, end.left), (1.0, Some(Duration::ZERO)));
        assert!(end.per_second > 0.0);
    }
}
