//! Owns the batch: verdicts on their way through one delivery step, over all its attempts.

use super::ledger::Ledger;
use crate::corpus::{Fault, Judged, Lane, Origin, Parcel, Position, Tail};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long one batch may be retried before the process stops and lets its supervisor start it afresh.
const PATIENCE: Duration = Duration::from_secs(180);
/// So often a batch is tried whole; then it may be more than fits into the time that a delivery step has, and half of it is tried.
const WHOLE: u32 = 2;

/// Verdicts taken from the ledger and not yet settled.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) parcels: Vec<Parcel<Judged>>,
    /// Ends of other lanes, before which nothing is open.
    pub(super) tails: Vec<Tail>,
    born: Instant,
    pause: Duration,
    pub(super) not_before: Instant,
    attempt: u32,
    /// Attempts in a row that came to nothing.
    failed: u32,
}

impl Batch {
    pub(super) fn new(parcels: Vec<Parcel<Judged>>, tails: Vec<Tail>) -> Self {
        let now = Instant::now();
        Self { parcels, tails, born: now, pause: FIRST_PAUSE, not_before: now, attempt: 1, failed: 0 }
    }

    /// Per lane the offset to read next once this batch is delivered.
    pub(super) fn positions(&self) -> Vec<Position> {
        let mut positions: BTreeMap<&Lane, Position> = BTreeMap::new();
        for Parcel { receipt, .. } in &self.parcels {
            let Origin { lane, offset } = &receipt.origin;
            let position = positions.entry(lane).or_insert_with(|| Position {
                lane: lane.clone(),
                epoch: receipt.epoch,
                next: offset + 1,
            });
            position.next = position.next.max(offset + 1);
        }
        positions.into_values().chain(self.tails.iter().map(|tail| tail.position.clone())).collect()
    }

    /// Drops what is no longer ours. True if anything is left.
    pub(super) fn keep_current(&mut self, ledger: &Ledger) -> bool {
        self.parcels.retain(|parcel| ledger.is_current(&parcel.receipt));
        self.tails.retain(|tail| ledger.is_ours(&tail.position));
        !self.parcels.is_empty() || !self.tails.is_empty()
    }

    /// Puts the next attempt off. False when patience is at its end.
    pub(super) fn put_off(&mut self) -> bool {
        self.attempt += 1;
        self.failed += 1;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.born.elapsed() < PATIENCE
    }

    /// Keeps the first half of a batch that was put off often enough, and gives the rest back: of each lane, what was read last. Nothing before that.
    /// A half has its own patience: tries that take long would use up that of the whole before anything small enough was tried.
    pub(super) fn halve(&mut self) -> Vec<Parcel<Judged>> {
        if self.failed < WHOLE {
            return Vec::new();
        }
        let rest = self.parcels.split_off(self.parcels.len().div_ceil(2));
        if !rest.is_empty() {
            self.born = Instant::now();
        }
        rest
    }

    /// Turns refused records into dead letters, to be tried at once.
    ///
    /// # Errors
    /// When a refused record is a dead letter already: then it has nowhere to go.
    pub(super) fn bury(&mut self, refused: Vec<(usize, Fault)>) -> Result<(), String> {
        for (index, fault) in refused {
            let Some(parcel) = self.parcels.get_mut(index) else { continue };
            let record = parcel.body.record().clone();
            if let Judged::Dead { .. } = parcel.body {
                return Err(format!("{}: the dead-letter route refused it: {fault}", record.origin));
            }
            parcel.body = Judged::Dead { record, fault, attempt: self.attempt };
        }
        self.attempt += 1;
        // That a record was buried is progress, and the next attempt another batch's first; it ends, since no record is buried twice.
        let now = Instant::now();
        (self.born, self.pause, self.not_before, self.failed) = (now, FIRST_PAUSE, now, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Class, Permits, Receipt, Record, Stage};

    fn parcel(partition: i32, offset: i64) -> Parcel<Judged> {
        let origin = Origin { lane: Lane { topic: "t".into(), partition }, offset };
        let record = Record {
            origin: origin.clone(),
            key: None,
            value: None,
            timestamp_ms: None,
            headers: Vec::new(),
            defect: None,
        };
        Parcel {
            body: Judged::Tombstone { record },
            receipt: Receipt { origin, epoch: 1, permits: Permits::default() },
        }
    }

    #[test]
    fn positions_are_one_past_the_last_of_each_lane() {
        let batch = Batch::new(vec![parcel(1, 4), parcel(0, 8), parcel(1, 6)], Vec::new());
        let positions: Vec<(i32, i64)> = batch.positions().into_iter().map(|p| (p.lane.partition, p.next)).collect();
        assert_eq!(positions, [(0, 9), (1, 7)]);
    }

    #[test]
    fn a_batch_that_failed_twice_keeps_its_first_half_and_its_positions_end_there() {
        let mut batch =
            Batch::new(vec![parcel(0, 1), parcel(1, 5), parcel(0, 2), parcel(1, 6), parcel(0, 3)], Vec::new());
        assert!(batch.put_off() && batch.halve().is_empty());
        assert!(batch.put_off());
        let offsets =
            |parcels: &[Parcel<Judged>]| parcels.iter().map(|it| it.receipt.origin.offset).collect::<Vec<_>>();
        let rest = batch.halve();
        assert_eq!((offsets(&batch.parcels), offsets(&rest)), (vec![1, 5, 2], vec![6, 3]));
        assert_eq!(batch.positions().iter().map(|it| it.next).collect::<Vec<_>>(), [3, 6]);
        assert_eq!((batch.halve().len(), batch.halve().len(), batch.halve().len()), (1, 1, 0), "one is left");
    }

    /// It once kept the birth of the whole: where a try took half a minute, the worker ended, and began again with the whole, for ever.
    #[test]
    fn a_half_is_given_the_patience_of_a_batch_and_one_that_can_not_be_halved_is_not() {
        let old = || Instant::now().checked_sub(PATIENCE).unwrap();
        let mut batch = Batch::new((0..4).map(|offset| parcel(0, offset)).collect(), Vec::new());
        assert!(batch.put_off() && batch.put_off());
        batch.born = old();
        assert_eq!(batch.halve().len(), 2);
        assert!(batch.put_off(), "a half begins anew");
        batch.born = old();
        assert_eq!(batch.halve().len(), 1);
        batch.born = old();
        assert!(batch.halve().is_empty() && !batch.put_off(), "it ends");
    }

    #[test]
    fn a_refused_record_is_buried_once_and_then_has_nowhere_to_go() {
        let mut batch = Batch::new(vec![parcel(0, 1), parcel(0, 2)], Vec::new());
        let fault = Fault::new(Stage::Deliver, Class::OutputTooLarge, "too large");
        assert!(batch.put_off() && batch.put_off() && batch.pause > FIRST_PAUSE);
        batch.bury(vec![(1, fault.clone())]).unwrap();
        assert!(matches!(batch.parcels[0].body, Judged::Tombstone { .. }));
        assert!(matches!(batch.parcels[1].body, Judged::Dead { .. }));
        assert_eq!(batch.pause, FIRST_PAUSE);
        assert!(batch.bury(vec![(1, fault)]).is_err());
    }
}
