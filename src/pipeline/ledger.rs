//! Owns the ledger: what is open on each lane, and the release of verdicts in the order of reading.
//!
//! Invariants: a verdict is released only when everything read before it on its lane was released; a receipt of an epoch that has
//! ended settles nothing; closing a lane forgets everything of it at once. Pure: no clock, no I/O.

use crate::corpus::{Judged, Lane, Parcel, Position, Receipt, Tail};
use crate::telemetry::{Legs, OpenLane};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

#[derive(Debug)]
enum Entry {
    Open(i64),
    Done(Box<Parcel<Judged>>),
}

impl Entry {
    fn offset(&self) -> i64 {
        match self {
            Self::Open(offset) => *offset,
            Self::Done(parcel) => parcel.receipt.origin.offset,
        }
    }

    fn done(self) -> Option<Parcel<Judged>> {
        match self {
            Self::Open(_) => None,
            Self::Done(parcel) => Some(*parcel),
        }
    }
}

/// When a record was taken up, and when it says that it was written.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The moment of [`Ledger::open`].
    pub(crate) at: Instant,
    /// Milliseconds since the Unix epoch, if the source knows.
    pub(crate) timestamp_ms: Option<i64>,
    /// The legs of its journey, where they are told.
    pub(crate) legs: Option<Legs>,
}

#[derive(Debug, Default)]
struct Page {
    epoch: u64,
    /// Nothing more is opened on a lane that is being revoked.
    draining: bool,
    /// Ended: receipts up to this epoch settle nothing.
    closed: bool,
    entries: VecDeque<Entry>,
    /// One for each record that is not settled, in the order of reading.
    taken: VecDeque<Taken>,
    /// The last offset opened in this epoch: a record that comes twice is opened once.
    last: Option<i64>,
    /// Released but not yet settled.
    released: usize,
    /// A tail is on its way through a delivery step.
    tail_taken: bool,
}

/// The books of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pages: HashMap<Lane, Page>,
    ready: VecDeque<Parcel<Judged>>,
    /// Bytes of the records of those.
    ready_bytes: usize,
    open: usize,
    /// Tails that wait until nothing is open before them.
    tails: HashMap<Lane, Tail>,
}

impl Ledger {
    /// Enters a record that was read; offsets of one lane must rise. False when its epoch has ended or its lane is draining: then the record is to be dropped.
    pub(crate) fn open(&mut self, receipt: &Receipt, taken: Taken) -> bool {
        let page = self.page(&receipt.origin.lane, receipt.epoch);
        if receipt.epoch < page.epoch || page.closed || page.draining {
            return false;
        }
        if page.last.is_some_and(|last| last >= receipt.origin.offset) {
            return false;
        }
        page.last = Some(receipt.origin.offset);
        page.entries.push_back(Entry::Open(receipt.origin.offset));
        page.taken.push_back(taken);
        self.open += 1;
        true
    }

    /// Enters the verdict of an open record. A verdict of an ended epoch is dropped.
    pub(crate) fn finish(&mut self, parcel: Parcel<Judged>) {
        let Some(page) = self.pages.get_mut(&parcel.receipt.origin.lane) else { return };
        if page.closed || page.epoch != parcel.receipt.epoch {
            return;
        }
        let offset = parcel.receipt.origin.offset;
        let Ok(index) = page.entries.binary_search_by_key(&offset, Entry::offset) else { return };
        if index > 0 {
            page.entries[index] = Entry::Done(Box::new(parcel));
            return;
        }
        // The next in turn, as most are: it is released as it is, and then those that waited for it.
        page.entries.pop_front();
        let mut next = Some(parcel);
        while let Some(parcel) = next {
            page.released += 1;
            self.ready_bytes = self.ready_bytes.saturating_add(parcel.body.record().weight_bytes());
            self.ready.push_back(parcel);
            next = match page.entries.front() {
                Some(Entry::Done(_)) => page.entries.pop_front().and_then(Entry::done),
                Some(Entry::Open(_)) | None => None,
            };
        }
    }

    /// Takes at most `most` released verdicts that are still ours, in order per lane; no more once they weigh `bytes` together.
    pub(crate) fn take_ready(&mut self, most: usize, bytes: usize) -> Vec<Parcel<Judged>> {
        let (mut taken, mut weight) = (Vec::new(), 0_usize);
        while taken.len() < most && weight < bytes {
            let Some(parcel) = self.ready.pop_front() else { break };
            let its = parcel.body.record().weight_bytes();
            self.ready_bytes = self.ready_bytes.saturating_sub(its);
            if self.is_current(&parcel.receipt) {
                weight = weight.saturating_add(its);
                taken.push(parcel);
            }
        }
        taken
    }

    /// Taken verdicts come back, to be taken again before all others: of each lane, the last that were taken, in the order of reading.
    pub(crate) fn put_back(&mut self, parcels: Vec<Parcel<Judged>>) {
        for parcel in parcels.into_iter().rev() {
            self.ready_bytes = self.ready_bytes.saturating_add(parcel.body.record().weight_bytes());
            self.ready.push_front(parcel);
        }
    }

    /// How many verdicts wait to be taken (some may have gone stale).
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes of the records whose verdicts wait to be taken.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Whether a receipt still settles something.
    pub(crate) fn is_current(&self, receipt: &Receipt) -> bool {
        self.pages.get(&receipt.origin.lane).is_some_and(|page| !page.closed && page.epoch == receipt.epoch)
    }

    /// A taken verdict was delivered; verdicts of one lane settle in the order of reading. Says when its record was taken up.
    pub(crate) fn settle(&mut self, receipt: &Receipt) -> Option<Taken> {
        let page = self.pages.get_mut(&receipt.origin.lane)?;
        if page.closed || page.epoch != receipt.epoch {
            return None;
        }
        page.released = page.released.saturating_sub(1);
        self.open = self.open.saturating_sub(1);
        page.taken.pop_front()
    }

    /// Enters how far a lane was read past its last record.
    pub(crate) fn note_tail(&mut self, tail: Tail) {
        self.page(&tail.position.lane, tail.position.epoch);
        self.tails.insert(tail.position.lane.clone(), tail);
    }

    /// Whether any tail waits.
    pub(crate) fn has_tails(&self) -> bool {
        !self.tails.is_empty()
    }

    /// Takes the tails before which every record was entered here and nothing is open. What can't come to that any more is forgotten.
    pub(crate) fn take_tails(&mut self) -> Vec<Tail> {
        let (mut taken, pages) = (Vec::new(), &mut self.pages);
        self.tails.retain(|lane, tail| {
            let Tail { position, after } = tail;
            let Some(page) = pages.get_mut(lane) else { return false };
            if page.closed || page.draining || page.epoch != position.epoch || page.last > *after {
                return false;
            }
            let is_delivered = page.entries.is_empty() && page.released == 0;
            if page.last != *after || !is_delivered || page.tail_taken {
                return true;
            }
            page.tail_taken = true;
            taken.push(tail.clone());
            false
        });
        taken
    }

    /// Whether a position of a tail is still ours.
    pub(crate) fn is_ours(&self, position: &Position) -> bool {
        self.pages.get(&position.lane).is_some_and(|page| !page.closed && page.epoch == position.epoch)
    }

    /// A taken tail was committed.
    pub(crate) fn settle_tail(&mut self, Tail { position, .. }: &Tail) {
        if let Some(page) = self.pages.get_mut(&position.lane).filter(|page| page.epoch == position.epoch) {
            page.tail_taken = false;
        }
    }

    /// A taken tail was not committed: it waits again, unless there is one that says more.
    pub(crate) fn put_back_tail(&mut self, tail: Tail) {
        self.settle_tail(&tail);
        self.tails.entry(tail.position.lane.clone()).or_insert(tail);
    }

    /// The lanes on which something is open, each with its oldest record.
    pub(crate) fn open_lanes(&self) -> Vec<OpenLane> {
        let open = |(lane, page): (&Lane, &Page)| {
            let Taken { at, timestamp_ms, .. } = page.taken.front()?;
            Some(OpenLane { lane: lane.clone(), records: page.taken.len(), since: *at, timestamp_ms: *timestamp_ms })
        };
        self.pages.iter().filter_map(open).collect()
    }

    /// Opens nothing more on these lanes in these epochs, also where nothing was opened yet: records may still be on their way here.
    pub(crate) fn drain(&mut self, lanes: &[(Lane, u64)]) {
        for (lane, epoch) in lanes {
            let page = self.page(lane, *epoch);
            if page.epoch == *epoch {
                page.draining = true;
            }
        }
    }

    /// Whether nothing is open on these lanes in these epochs.
    pub(crate) fn is_drained(&self, lanes: &[(Lane, u64)]) -> bool {
        let pages = lanes.iter().filter_map(|(lane, epoch)| self.pages.get(lane).filter(|page| page.epoch == *epoch));
        pages.into_iter().all(|page| page.closed || (page.entries.is_empty() && page.released == 0 && !page.tail_taken))
    }

    /// Whether the record at `last`, or one behind it, was entered on each of these lanes in these epochs, or never will be.
    pub(crate) fn has_read(&self, lanes: &[(Lane, u64)], last: i64) -> bool {
        lanes.iter().all(|(lane, epoch)| {
            self.pages.get(lane).is_some_and(|page| {
                page.epoch > *epoch || (page.epoch == *epoch && (page.closed || page.last >= Some(last)))
            })
        })
    }

    /// Ends these epochs of these lanes: what is open stays unread, and nothing of them opens any more.
    pub(crate) fn close(&mut self, lanes: &[(Lane, u64)]) {
        for (lane, epoch) in lanes {
            let page = self.page(lane, *epoch);
            if page.epoch == *epoch && !page.closed {
                let open = page.entries.len() + page.released;
                *page = Page { epoch: *epoch, closed: true, ..Page::default() };
                self.open = self.open.saturating_sub(open);
            }
        }
    }

    /// The page of a lane, turned over if `epoch` is a new assignment of it. What the old one left behind was closed, or is void now.
    fn page(&mut self, lane: &Lane, epoch: u64) -> &mut Page {
        let page = self.pages.entry(lane.clone()).or_default();
        if epoch > page.epoch {
            self.open = self.open.saturating_sub(page.entries.len() + page.released);
            *page = Page { epoch, ..Page::default() };
        }
        page
    }

    /// Records read and not yet settled.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Origin, Permits, Record};
    use proptest::prelude::*;

    fn lane(partition: i32) -> Lane {
        Lane { topic: "t".into(), partition }
    }

    fn receipt(partition: i32, offset: i64, epoch: u64) -> Receipt {
        Receipt { origin: Origin { lane: lane(partition), offset }, epoch, permits: Permits::default() }
    }

    fn open(ledger: &mut Ledger, receipt: &Receipt) -> bool {
        ledger.open(receipt, Taken { at: Instant::now(), timestamp_ms: Some(receipt.origin.offset), legs: None })
    }

    fn verdict(partition: i32, offset: i64, epoch: u64) -> Parcel<Judged> {
        let receipt = receipt(partition, offset, epoch);
        let record = Record {
            origin: receipt.origin.clone(),
            key: None,
            value: None,
            timestamp_ms: None,
            headers: Vec::new(),
            defect: None,
        };
        Parcel { body: Judged::Tombstone { record }, receipt }
    }

    #[test]
    fn nothing_is_released_past_a_gap() {
        let mut ledger = Ledger::default();
        assert!(open(&mut ledger, &receipt(0, 5, 1)) && open(&mut ledger, &receipt(0, 9, 1)));
        ledger.finish(verdict(0, 9, 1));
        assert!(ledger.take_ready(10, usize::MAX).is_empty());
        ledger.finish(verdict(0, 5, 1));
        let offsets: Vec<i64> = ledger.take_ready(10, usize::MAX).iter().map(|p| p.receipt.origin.offset).collect();
        assert_eq!(offsets, [5, 9]);
        assert_eq!(ledger.open_count(), 2, "released is not settled");
    }

    #[test]
    fn verdicts_that_come_back_are_taken_again_first_and_in_order() {
        let mut ledger = Ledger::default();
        for offset in 0..6 {
            assert!(open(&mut ledger, &receipt(0, offset, 1)));
            ledger.finish(verdict(0, offset, 1));
        }
        let mut taken = ledger.take_ready(4, usize::MAX);
        ledger.put_back(taken.split_off(1));
        let offsets: Vec<i64> = ledger.take_ready(10, usize::MAX).iter().map(|p| p.receipt.origin.offset).collect();
        assert_eq!(offsets, [1, 2, 3, 4, 5]);
        assert_eq!((ledger.ready(), ledger.ready_bytes(), ledger.open_count()), (0, 0, 6), "none of them is settled");
    }

    #[test]
    fn a_verdict_of_an_ended_epoch_settles_nothing() {
        let mut ledger = Ledger::default();
        assert!(open(&mut ledger, &receipt(0, 1, 1)));
        ledger.close(&[(lane(0), 1)]);
        ledger.finish(verdict(0, 1, 1));
        assert!(ledger.take_ready(10, usize::MAX).is_empty());
        assert!(!open(&mut ledger, &receipt(0, 2, 1)), "the epoch has ended");
        assert!(open(&mut ledger, &receipt(0, 1, 2)), "a new assignment reads it again");
        assert_eq!(ledger.open_count(), 1);
    }

    #[test]
    fn a_lane_revoked_before_its_first_record_arrived_opens_nothing_of_that_epoch() {
        for end in [Ledger::drain, Ledger::close] {
            let mut ledger = Ledger::default();
            end(&mut ledger, &[(lane(0), 1)]);
            assert!(ledger.is_drained(&[(lane(0), 1)]));
            assert!(!open(&mut ledger, &receipt(0, 1, 1)), "a record of the revoked epoch was still in the channel");
            assert!(open(&mut ledger, &receipt(0, 1, 2)));
            end(&mut ledger, &[(lane(0), 1)]);
            assert!(open(&mut ledger, &receipt(0, 2, 2)), "a late end of an old epoch leaves the new one alone");
        }
    }

    #[test]
    fn a_verdict_taken_before_the_lane_was_lost_is_not_current_after() {
        let mut ledger = Ledger::default();
        assert!(open(&mut ledger, &receipt(0, 1, 1)));
        ledger.finish(verdict(0, 1, 1));
        let taken = ledger.take_ready(1, usize::MAX);
        ledger.close(&[(lane(0), 1)]);
        assert!(!ledger.is_current(&taken[0].receipt));
        ledger.settle(&taken[0].receipt);
        assert_eq!(ledger.open_count(), 0);
    }

    #[test]
    fn a_tail_is_taken_when_everything_before_it_is_settled_and_holds_its_lane_until_then() {
        let tail = |epoch, after, next| Tail { position: Position { lane: lane(0), epoch, next }, after };
        let mut ledger = Ledger::default();
        ledger.note_tail(tail(1, Some(5), 8));
        assert!(ledger.take_tails().is_empty(), "5 is still in the channel");
        assert!(open(&mut ledger, &receipt(0, 5, 1)));
        assert!(ledger.take_tails().is_empty(), "5 is open");
        ledger.finish(verdict(0, 5, 1));
        let verdicts = ledger.take_ready(1, usize::MAX);
        assert!(ledger.take_tails().is_empty(), "5 is released, not settled");
        ledger.settle(&verdicts[0].receipt);
        let taken = ledger.take_tails();
        assert_eq!(taken.iter().map(|tail| tail.position.next).collect::<Vec<_>>(), [8]);
        assert!(!ledger.has_tails() && !ledger.is_drained(&[(lane(0), 1)]), "a revocation waits for it");
        ledger.put_back_tail(taken[0].clone());
        assert_eq!(ledger.take_tails(), taken);
        ledger.settle_tail(&taken[0]);
        assert!(ledger.is_drained(&[(lane(0), 1)]));
    }

    #[test]
    fn a_tail_that_a_record_or_another_assignment_overtook_is_forgotten() {
        let tail = |epoch, after, next| Tail { position: Position { lane: lane(0), epoch, next }, after };
        let mut ledger = Ledger::default();
        ledger.note_tail(tail(1, None, 3));
        assert!(open(&mut ledger, &receipt(0, 4, 1)));
        assert!(ledger.take_tails().is_empty() && !ledger.has_tails());
        ledger.note_tail(tail(1, Some(4), 6));
        ledger.close(&[(lane(0), 1)]);
        assert!(ledger.take_tails().is_empty() && !ledger.has_tails());
        ledger.note_tail(tail(2, None, 6));
        let taken = ledger.take_tails();
        assert!(ledger.is_ours(&taken[0].position));
        ledger.close(&[(lane(0), 2)]);
        assert!(!ledger.is_ours(&taken[0].position));
    }

    #[test]
    fn a_lane_is_read_once_its_last_record_was_entered_or_never_will_be() {
        let (mut ledger, lanes) = (Ledger::default(), [(lane(0), 1)]);
        assert!(!ledger.has_read(&lanes, 5), "it is still in the channel");
        assert!(open(&mut ledger, &receipt(0, 4, 1)) && !ledger.has_read(&lanes, 5));
        assert!(open(&mut ledger, &receipt(0, 5, 1)) && ledger.has_read(&lanes, 5));
        assert!(!ledger.is_drained(&lanes), "read is not delivered");
        ledger.close(&lanes);
        assert!(ledger.has_read(&lanes, 6) && !ledger.has_read(&[(lane(0), 2)], 6));
        assert!(open(&mut ledger, &receipt(0, 1, 2)) && ledger.has_read(&lanes, 6));
    }

    #[test]
    fn a_draining_lane_opens_nothing_and_is_drained_once_settled() {
        let mut ledger = Ledger::default();
        assert!(open(&mut ledger, &receipt(0, 1, 1)));
        ledger.drain(&[(lane(0), 1)]);
        assert!(!open(&mut ledger, &receipt(0, 2, 1)));
        ledger.finish(verdict(0, 1, 1));
        let taken = ledger.take_ready(1, usize::MAX);
        assert!(!ledger.is_drained(&[(lane(0), 1)]));
        ledger.settle(&taken[0].receipt);
        assert!(ledger.is_drained(&[(lane(0), 1)]));
    }

    #[test]
    fn the_oldest_record_of_a_lane_is_known_until_it_is_settled() {
        let mut ledger = Ledger::default();
        assert!(open(&mut ledger, &receipt(0, 5, 1)) && open(&mut ledger, &receipt(0, 6, 1)));
        let oldest = |ledger: &Ledger| ledger.open_lanes().first().map(|open| (open.records, open.timestamp_ms));
        ledger.finish(verdict(0, 5, 1));
        let taken = ledger.take_ready(1, usize::MAX);
        assert_eq!(oldest(&ledger), Some((2, Some(5))), "released is not settled");
        assert_eq!(ledger.settle(&taken[0].receipt).and_then(|taken| taken.timestamp_ms), Some(5));
        assert_eq!(oldest(&ledger), Some((1, Some(6))));
        ledger.close(&[(lane(0), 1)]);
        assert_eq!(oldest(&ledger), None);
    }

    proptest! {
        /// Whatever the order in which journeys finish, each lane's verdicts come out once each and in the order of reading.
        #[test]
        fn order_is_kept_and_nothing_is_lost(order in Just((0..60_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut ledger = Ledger::default();
            for n in 0..60_i64 {
                prop_assert!(open(&mut ledger, &receipt((n % 3) as i32, n * 2, 1)));
            }
            let mut seen: HashMap<i32, Vec<i64>> = HashMap::new();
            for n in order {
                ledger.finish(verdict((n % 3) as i32, n as i64 * 2, 1));
                for parcel in ledger.take_ready(7, usize::MAX) {
                    let origin = &parcel.receipt.origin;
                    seen.entry(origin.lane.partition).or_default().push(origin.offset);
                    ledger.settle(&parcel.receipt);
                }
            }
            for parcel in ledger.take_ready(usize::MAX, usize::MAX) {
                let origin = &parcel.receipt.origin;
                seen.entry(origin.lane.partition).or_default().push(origin.offset);
                ledger.settle(&parcel.receipt);
            }
            prop_assert_eq!(ledger.open_count(), 0);
            for (partition, offsets) in seen {
                let expected: Vec<i64> = (0..60_i64).filter(|n| (n % 3) as i32 == partition).map(|n| n * 2).collect();
                prop_assert_eq!(offsets, expected);
            }
        }
    }
}
