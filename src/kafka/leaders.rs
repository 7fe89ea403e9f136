//! Owns in which leader's epoch the records of each lane were written, and what that says of a log that lost its end.
//!
//! A leader that did not have every record when it was elected cuts the log. The client library (librdkafka 2.12) notices by the epochs, goes on where the
//! old leader's records now end, and drops what it had fetched and not yet given out, also of records before the cut: they would never come. It says
//! nothing. So where a newer leader's record comes behind a gap, the gap is looked into once. And positions are committed with the epoch of the record
//! before them, so that whoever goes on there hears of a cut that took that record away.
//! In: what was polled. Out: where to look again, and the epoch of a position. Invariants: at most one look for each leader of a lane in one assignment; a
//! bounded number of epochs is kept. Must not know: the pipeline.

use crate::corpus::{Lane, Origin};
use rdkafka::bindings as native;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many leaders of a lane are remembered, the last ones. What waits for its commit was written under one or two.
const KEPT: usize = 8;
/// The epoch of a record or a position for which none is known.
const UNKNOWN: i32 = -1;

/// What is known of one lane in one assignment.
#[derive(Debug)]
struct Seen {
    /// The first offset that was seen of each leader, and its epoch.
    leaders: VecDeque<(i64, i32)>,
    /// Where reading goes on; `None` where that was left to the client library.
    next: Option<i64>,
    /// For which leader was looked again.
    looked: i32,
    /// Nothing was polled yet.
    is_fresh: bool,
}

/// What a polled record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It comes next.
    On,
    /// It comes next, and lies before where reading was to begin: the log was cut below there.
    Back,
    /// Something may have been dropped before it, or the log cut: reading is to go on at this offset, so that the library finds out.
    Again(i64),
}

/// What is known of all lanes.
#[derive(Debug, Default)]
pub(super) struct Leaders(Mutex<HashMap<Lane, Seen>>);

impl Leaders {
    fn seen(&self) -> MutexGuard<'_, HashMap<Lane, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reading of a lane begins, at `next`, behind a record that was written in the epoch `leader`; either may not be known.
    pub(super) fn begin(&self, lane: Lane, next: Option<i64>, leader: Option<i32>) {
        let leaders = next.zip(leader).map(|(next, leader)| (next - 1, leader)).into_iter().collect();
        self.seen().insert(lane, Seen { leaders, next, looked: UNKNOWN, is_fresh: true });
    }

    pub(super) fn forget(&self, lane: &Lane) {
        self.seen().remove(lane);
    }

    /// Notes that a record (or a marker) of the epoch `leader` was polled, unless it is to be polled again. `low` is the first offset of the log.
    pub(super) fn turn(&self, origin: &Origin, leader: i32, low: impl FnOnce() -> i64) -> Turn {
        let mut lanes = self.seen();
        let Some(seen) = lanes.get_mut(&origin.lane) else { return Turn::On };
        let last = seen.leaders.back().map_or(UNKNOWN, |(_, leader)| *leader);
        if let Some(next) = seen.next.filter(|_| leader > last.max(seen.looked)) {
            seen.looked = leader;
            // Before the first one, only the library can tell whether the log was cut and is longer again.
            let is_doubtful = seen.is_fresh && last > UNKNOWN && next == origin.offset;
            if next < origin.offset || is_doubtful {
                let from = next.max(low());
                if from < origin.offset || (is_doubtful && from == origin.offset) {
                    return Turn::Again(from);
                }
            }
        }
        let is_back = seen.is_fresh && seen.next > Some(origin.offset);
        seen.leaders.retain(|(offset, _)| *offset < origin.offset);
        if seen.leaders.back().is_none_or(|(_, last)| *last != leader) {
            seen.leaders.push_back((origin.offset, leader));
        }
        if seen.leaders.len() > KEPT {
            seen.leaders.pop_front();
        }
        (seen.next, seen.is_fresh) = (Some(origin.offset + 1), false);
        if is_back { Turn::Back } else { Turn::On }
    }

    /// The epoch in which the last record before `next` was written, if it is known.
    pub(super) fn before(&self, lane: &Lane, next: i64) -> Option<i32> {
        let lanes = self.seen();
        let (_, leader) = lanes.get(lane)?.leaders.iter().rev().find(|(offset, _)| *offset < next)?;
        (*leader > UNKNOWN).then_some(*leader)
    }
}

/// The epoch in which a record was written; -1 in logs older than Kafka 0.11.
#[allow(unsafe_code, reason = "the wrapper has no call for it")]
pub(super) fn of(message: &BorrowedMessage<'_>) -> i32 {
    // SAFETY: the message is alive, and only read.
    unsafe { native::rd_kafka_message_leader_epoch(message.ptr()) }
}

/// The epoch that stands beside an offset of `list`.
#[allow(unsafe_code, reason = "the wrapper has no call for it")]
pub(super) fn beside(list: &TopicPartitionList, topic: &str, partition: i32) -> Option<i32> {
    let topic = CString::new(topic).ok()?;
    // SAFETY: the list is alive, and only read; what is found belongs to it.
    let leader = unsafe {
        let found = native::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if found.is_null() { UNKNOWN } else { native::rd_kafka_topic_partition_get_leader_epoch(found) }
    };
    (leader > UNKNOWN).then_some(leader)
}

/// Puts an epoch beside an offset of `list`.
#[allow(unsafe_code, reason = "the wrapper has no call for it")]
pub(super) fn put(list: &mut TopicPartitionList, topic: &str, partition: i32, leader: Option<i32>) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is alive and borrowed for this alone; what is found belongs to it.
    unsafe {
        let found = native::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !found.is_null() {
            native::rd_kafka_topic_partition_set_leader_epoch(found, leader.unwrap_or(UNKNOWN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Offset;

    fn at(offset: i64) -> Origin {
        Origin { lane: Lane { topic: "t".into(), partition: 0 }, offset }
    }

    fn begun(next: Option<i64>, leader: Option<i32>) -> Leaders {
        let leaders = Leaders::default();
        leaders.begin(at(0).lane, next, leader);
        leaders
    }

    #[test]
    fn a_gap_before_a_new_leaders_record_is_looked_into_once() {
        let leaders = begun(Some(80), Some(3));
        let turn = |offset, leader| leaders.turn(&at(offset), leader, || 0);
        assert_eq!(turn(80, 3), Turn::On);
        assert_eq!(turn(84, 3), Turn::On, "a gap within one leader's records is compaction's, or a marker's");
        assert_eq!(turn(90, 4), Turn::Again(85));
        assert_eq!(turn(88, 3), Turn::On, "what was dropped comes");
        assert_eq!(turn(90, 4), Turn::On, "and what is still missing was no record");
        assert_eq!(turn(91, 5), Turn::On, "no gap");
    }

    #[test]
    fn a_gap_before_the_first_record_is_looked_into_but_not_before_the_logs_beginning() {
        let first = |next, leader, low| begun(next, leader).turn(&at(90), 0, || low);
        assert_eq!(first(Some(80), None, 0), Turn::Again(80));
        assert_eq!(first(Some(80), Some(0), 0), Turn::On);
        assert_eq!(first(Some(80), None, 85), Turn::Again(85));
        assert_eq!(first(Some(80), None, 90), Turn::On, "they were deleted");
        assert_eq!(first(None, None, 0), Turn::On, "it begins wherever the library says");
    }

    #[test]
    fn where_the_leader_is_another_than_the_committed_one_the_library_looks_whether_the_log_was_cut() {
        let leaders = begun(Some(100), Some(0));
        let turn = |offset, leader| leaders.turn(&at(offset), leader, || 0);
        assert_eq!(turn(100, 1), Turn::Again(100));
        assert_eq!(turn(90, 1), Turn::Back, "it was, and is longer again");
        assert_eq!((turn(91, 1), turn(92, 1)), (Turn::On, Turn::On));
        assert_eq!(leaders.before(&at(0).lane, 91), Some(1));
        let leaders = begun(Some(100), Some(0));
        let turn = |offset, leader| leaders.turn(&at(offset), leader, || 0);
        assert_eq!((turn(100, 1), turn(100, 1)), (Turn::Again(100), Turn::On), "it was not");
    }

    #[test]
    fn a_position_has_the_epoch_of_the_record_before_it() {
        let leaders = begun(Some(10), Some(1));
        for (offset, leader) in [(10, 1), (11, 2), (12, 2), (13, 5)] {
            assert_eq!(leaders.turn(&at(offset), leader, || 0), Turn::On);
        }
        let before = |next| leaders.before(&at(0).lane, next);
        assert_eq!([9, 10, 11, 12, 13, 14].map(before), [None, Some(1), Some(1), Some(2), Some(2), Some(5)]);
        for leader in 6..40 {
            leaders.turn(&at(8 + i64::from(leader)), leader, || 0);
        }
        assert_eq!((before(12), before(1_000)), (None, Some(39)), "old ones are forgotten");
        leaders.forget(&at(0).lane);
        assert_eq!(leaders.before(&at(0).lane, 1_000), None);
    }

    #[test]
    fn an_epoch_stands_beside_an_offset() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 1, Offset::Offset(5)).unwrap();
        assert_eq!(beside(&list, "t", 1), None);
        put(&mut list, "t", 1, Some(7));
        put(&mut list, "t", 2, Some(8));
        let copied = beside(&list.clone(), "t", 1);
        assert_eq!((beside(&list, "t", 1), copied, beside(&list, "t", 2)), (Some(7), Some(7), None));
        put(&mut list, "t", 1, None);
        assert_eq!(beside(&list, "t", 1), None);
    }
}
