//! Owns the intake: what a source hands to the pipeline, and the allowance that bounds it.
//!
//! Records and notices travel on two bounded channels, so that a notice (partitions are being taken away) never waits
//! behind a backlog of records. Permits are taken before a record enters the channel and travel with it.

use super::{Lane, Parcel, Permits, Record, Tail};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc};

/// The bound on what may be in flight between reading and delivery.
#[derive(Debug, Clone)]
pub struct Allowance {
    documents: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    total_documents: usize,
    total_bytes: u32,
}

impl Allowance {
    /// At most `documents` records and about `bytes` bytes in flight. A record larger than `bytes` waits for all of them, then passes alone.
    #[must_use]
    pub fn new(documents: usize, bytes: usize) -> Self {
        let total_bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let total_documents = documents.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            documents: Arc::new(Semaphore::new(total_documents)),
            bytes: Arc::new(Semaphore::new(total_bytes as usize)),
            total_documents,
            total_bytes,
        }
    }

    fn price(&self, weight_bytes: usize) -> u32 {
        u32::try_from(weight_bytes).unwrap_or(u32::MAX).clamp(1, self.total_bytes)
    }

    /// Permits for one record now, or `None` if they would have to be waited for.
    #[must_use]
    pub fn try_take(&self, weight_bytes: usize) -> Option<Permits> {
        let document = Arc::clone(&self.documents).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.price(weight_bytes)).ok()?;
        Some(Permits::new(document, bytes))
    }

    /// Permits for one record, waiting for them. `None` once the allowance is closed. Cancel safe.
    pub async fn take(&self, weight_bytes: usize) -> Option<Permits> {
        let document = Arc::clone(&self.documents).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.price(weight_bytes)).await.ok()?;
        Some(Permits::new(document, bytes))
    }

    /// Whether at least half of both kinds of permits are free: the hysteresis for resuming a paused source.
    #[must_use]
    pub fn is_half_free(&self) -> bool {
        self.documents.available_permits() * 2 >= self.total_documents
            && self.bytes.available_permits() * 2 >= self.total_bytes as usize
    }

    /// Document permits that are free, and how many there are.
    #[must_use]
    pub fn documents(&self) -> (usize, usize) {
        (self.documents.available_permits(), self.total_documents)
    }

    /// Byte permits that are free, and how many there are.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        (self.bytes.available_permits(), self.total_bytes as usize)
    }

    /// Records in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.total_documents.saturating_sub(self.documents.available_permits())
    }
}

/// What a source tells the pipeline besides records.
#[derive(Debug)]
pub enum Notice {
    /// Lanes are being taken from us. Finish and deliver what is open on them, then answer; the source waits for the
    /// answer, but not for ever.
    Revoking {
        /// The lanes that go, and the epoch of each that ends.
        lanes: Vec<(Lane, u64)>,
        /// They are gone already: nothing of them may be delivered any more.
        lost: bool,
        /// When the source stops waiting; what is still open then must be given up.
        deadline: Instant,
        /// Answered once, when nothing of the lanes is open any more.
        answer: SyncSender<()>,
    },
    /// A lane's log was cut below what was read of it. Deliver what was read of it, up to its last record, then answer; nothing more comes of it
    /// before. It stays ours.
    Finish {
        /// The lane.
        lane: Lane,
        /// The epoch of it that ends.
        epoch: u64,
        /// The last offset that was read.
        last: i64,
        /// When the source stops waiting.
        deadline: Instant,
        /// Answered once, when everything up to that record is delivered.
        answer: SyncSender<()>,
    },
    /// Lanes were read up to their ends, and what stands there are no records.
    Tails(Vec<Tail>),
    /// The source can't go on; the process must stop. One sentence that says what, where, and what to do next.
    Failed(String),
    /// Something of the input can't be read, and everything else of it was. What was read is delivered, then the process stops. One
    /// sentence, as above.
    Broken(String),
}

/// The source's ends of the two channels.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// Records, permits taken.
    pub records: mpsc::Sender<Parcel<Record>>,
    /// Notices.
    pub notices: mpsc::Sender<Notice>,
    /// The bound to take permits from.
    pub allowance: Allowance,
}

/// The pipeline's ends of the two channels. `records` closing means that the source has come to its end.
#[derive(Debug)]
pub struct Intake {
    /// Records, permits taken.
    pub records: mpsc::Receiver<Parcel<Record>>,
    /// Notices.
    pub notices: mpsc::Receiver<Notice>,
    /// The same bound, for metrics.
    pub allowance: Allowance,
}

/// A connected pair; the records channel holds at most `queue` parcels.
#[must_use]
pub fn intake(allowance: Allowance, queue: usize) -> (Outlet, Intake) {
    let (records_in, records_out) = mpsc::channel(queue.max(1));
    let (notices_in, notices_out) = mpsc::channel(16);
    (
        Outlet { records: records_in, notices: notices_in, allowance: allowance.clone() },
        Intake { records: records_out, notices: notices_out, allowance },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_larger_than_the_whole_allowance_passes_alone() {
        let allowance = Allowance::new(10, 100);
        let large = allowance.try_take(1_000_000).unwrap();
        assert!(allowance.try_take(1).is_none(), "nothing passes beside it");
        assert_eq!(allowance.in_flight(), 1, "a refused try gives its document permit back");
        drop(large);
        assert!(allowance.try_take(1).is_some());
    }

    #[test]
    fn half_free_needs_both_kinds() {
        let allowance = Allowance::new(2, 100);
        let one = allowance.try_take(60).unwrap();
        assert!(!allowance.is_half_free());
        drop(one);
        assert!(allowance.is_half_free());
    }
}
