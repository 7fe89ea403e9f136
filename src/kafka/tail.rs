//! Owns how far lanes were read where what was read last are no records: the markers that end transactions, and records of aborted ones.
//!
//! In: what was polled, what was passed on, and the client library's positions. Out: tails, for the pipeline to commit once nothing of the
//! lane is open. Invariants: no tail while a record that was polled is not passed on (it may be in the driver's hands, or handed back);
//! what one assignment saw says nothing in the next. Pure: no clock, no I/O. Must not know: the broker, the ledger.

use crate::corpus::{Lane, Origin, Position, Tail};
use std::collections::HashMap;

/// What was seen of one lane in one assignment.
#[derive(Debug, Default)]
struct Seen {
    epoch: u64,
    first: Option<i64>,
    polled: Option<i64>,
    passed: Option<i64>,
    told: Option<i64>,
}

/// What was seen of all lanes.
#[derive(Debug, Default)]
pub(super) struct Tails(HashMap<Lane, Seen>);

impl Tails {
    fn seen(&mut self, lane: &Lane, epoch: u64) -> &mut Seen {
        if self.0.get(lane).is_none_or(|seen| seen.epoch != epoch) {
            self.0.insert(lane.clone(), Seen { epoch, ..Seen::default() });
        }
        self.0.entry(lane.clone()).or_default()
    }

    /// The client library yielded this record.
    pub(super) fn polled(&mut self, origin: &Origin, epoch: u64) {
        let seen = self.seen(&origin.lane, epoch);
        seen.first = seen.first.or(Some(origin.offset));
        seen.polled = seen.polled.max(Some(origin.offset));
    }

    /// This record went to the pipeline.
    pub(super) fn passed(&mut self, origin: &Origin, epoch: u64) {
        let seen = self.seen(&origin.lane, epoch);
        seen.passed = seen.passed.max(Some(origin.offset));
    }

    /// The first record of a lane that was polled in this assignment, and the last that was passed on. A record at or before that, polled now, can't be of the
    /// log that was read before: the client library never yields one twice in an assignment, so its position was set back: the topic was made anew, or its
    /// log cut.
    pub(super) fn span(&self, lane: &Lane, epoch: u64) -> (Option<i64>, Option<i64>) {
        self.0.get(lane).filter(|seen| seen.epoch == epoch).map_or((None, None), |seen| (seen.first, seen.passed))
    }

    /// The tails that were not told yet. `positions` are the client library's, of lanes that are ours; there is none of a lane from which nothing came since
    /// its position was moved. Lanes that are not ours are forgotten.
    pub(super) fn untold(&mut self, positions: &[Position], is_ours: impl Fn(&Lane, u64) -> bool) -> Vec<Tail> {
        self.0.retain(|lane, seen| is_ours(lane, seen.epoch));
        let mut tails = Vec::new();
        for position in positions {
            let seen = self.seen(&position.lane, position.epoch);
            let is_past = position.next > seen.passed.map_or(0, |passed| passed + 1);
            if is_past && seen.polled == seen.passed && seen.told < Some(position.next) {
                tails.push(Tail { position: position.clone(), after: seen.passed });
            }
        }
        tails
    }

    /// The pipeline has heard of these.
    pub(super) fn told(&mut self, tails: &[Tail]) {
        for Tail { position, .. } in tails {
            self.seen(&position.lane, position.epoch).told = Some(position.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: i64) -> Origin {
        Origin { lane: Lane { topic: "t".into(), partition: 0 }, offset }
    }

    fn at(epoch: u64, next: i64) -> [Position; 1] {
        [Position { lane: origin(0).lane, epoch, next }]
    }

    #[test]
    fn a_marker_behind_the_last_record_is_a_tail_and_told_once() {
        let mut tails = Tails::default();
        tails.polled(&origin(4), 1);
        tails.passed(&origin(4), 1);
        assert_eq!(tails.untold(&at(1, 5), |_, _| true), [], "the position is where the record ends");
        let found = tails.untold(&at(1, 6), |_, _| true);
        assert_eq!(found.iter().map(|tail| (tail.after, tail.position.next)).collect::<Vec<_>>(), [(Some(4), 6)]);
        assert_eq!(tails.untold(&at(1, 6), |_, _| true), found, "nobody has heard of it yet");
        tails.told(&found);
        assert_eq!(tails.untold(&at(1, 6), |_, _| true), []);
    }

    #[test]
    fn there_is_no_tail_while_a_record_that_was_polled_is_in_our_hands() {
        let mut tails = Tails::default();
        tails.polled(&origin(4), 1);
        tails.passed(&origin(4), 1);
        tails.polled(&origin(6), 1);
        assert_eq!(tails.untold(&at(1, 8), |_, _| true), [], "6 is held, or was handed back");
        tails.passed(&origin(6), 1);
        assert_eq!(tails.untold(&at(1, 8), |_, _| true)[0].after, Some(6));
    }

    #[test]
    fn a_lane_of_which_no_position_is_known_is_not_forgotten_while_it_is_ours() {
        let mut tails = Tails::default();
        tails.polled(&origin(3), 1);
        tails.polled(&origin(4), 1);
        tails.passed(&origin(4), 1);
        // The library's position was moved, and nothing came since.
        assert_eq!(tails.untold(&[], |_, epoch| epoch == 1), []);
        assert_eq!(tails.span(&origin(0).lane, 1), (Some(3), Some(4)));
        assert_eq!(tails.untold(&[], |_, epoch| epoch == 2), []);
        assert_eq!(tails.span(&origin(0).lane, 1), (None, None));
    }

    fn is_set_back(tails: &Tails, origin: &Origin, epoch: u64) -> bool {
        tails.span(&origin.lane, epoch).1 >= Some(origin.offset)
    }

    #[test]
    fn a_record_before_one_that_was_passed_on_was_set_back_to() {
        let mut tails = Tails::default();
        assert!(!is_set_back(&tails, &origin(0), 1), "the first of a lane");
        tails.polled(&origin(4), 1);
        assert!(!is_set_back(&tails, &origin(4), 1), "handed back, and here again");
        tails.passed(&origin(4), 1);
        assert!(!is_set_back(&tails, &origin(5), 1) && !is_set_back(&tails, &origin(4), 2));
        assert!(is_set_back(&tails, &origin(4), 1) && is_set_back(&tails, &origin(0), 1));
    }

    #[test]
    fn a_lane_of_markers_alone_has_a_tail_and_a_new_assignment_begins_anew() {
        let mut tails = Tails::default();
        assert_eq!(tails.untold(&at(1, 3), |_, _| true)[0].after, None);
        tails.polled(&origin(4), 1);
        assert_eq!(
            tails.untold(&at(2, 3), |_, _| true)[0].after,
            None,
            "the record of the first assignment is not ours any more"
        );
    }
}
