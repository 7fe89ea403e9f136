//! Owns the passing on of lines: a record with its permits, into the intake.
//!
//! Invariants: waits for permits and for room, but not beyond a stop; runs on a thread that may block.

use crate::corpus::{Lane, Notice, Origin, Outlet, Parcel, Permits, Receipt, Record};
use crate::files::Line;
use crate::telemetry::{Progress, metrics};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lines have one assignment: this process's.
const EPOCH: u64 = 1;
const NAP: Duration = Duration::from_millis(2);

/// A reader's way into the pipeline. Dropping it ends the intake.
pub(super) struct Passing {
    pub(super) outlet: Outlet,
    pub(super) progress: Progress,
    pub(super) stop: Arc<AtomicBool>,
}

impl Passing {
    /// Passes a line on as a record of `lane`. False when no more are wanted.
    pub(super) fn pass_on(&self, lane: &Lane, line: Line) -> bool {
        let origin = Origin { lane: lane.clone(), offset: line.number };
        let record = Record {
            origin,
            key: None,
            value: Some(line.bytes),
            timestamp_ms: None,
            headers: Vec::new(),
            defect: None,
        };
        let Some(permits) = self.permits(record.weight_bytes()) else { return false };
        metrics::record_read(record.weight_bytes());
        self.progress.document_read(&self.outlet.allowance);
        let receipt = Receipt { origin: record.origin.clone(), epoch: EPOCH, permits };
        self.outlet.records.blocking_send(Parcel { body: record, receipt }).is_ok()
    }

    /// Something can't be read; what was passed on still counts.
    pub(super) fn broken(&self, reason: String) {
        // A closed channel means that the pipeline has stopped for a reason of its own.
        let _ = self.outlet.notices.blocking_send(Notice::Broken(reason));
    }

    /// Whether no more records are wanted.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.outlet.records.is_closed()
    }

    /// Waits for permits, looking up from time to time to see whether to stop.
    fn permits(&self, weight: usize) -> Option<Permits> {
        while !self.is_stopped() {
            if let Some(permits) = self.outlet.allowance.try_take(weight) {
                return Some(permits);
            }
            std::thread::sleep(NAP);
        }
        None
    }
}
