//! Owns the callbacks of the client library: rebalances, logs, and which lanes are ours in which epoch.
//!
//! Invariant: a revocation waits for the pipeline to finish what it holds of the lanes, and only up to the budget.

use super::leaders::{self, Leaders};
use super::membership::{member, set_back};
use super::placing::{Unplaced, patience, place};
use super::sight::Sight;
use super::standing::Standing;
use crate::corpus::{Lane, Notice, Origin, Position};
use crate::telemetry::{Board, metrics};
use rdkafka::ClientContext;
use rdkafka::Offset;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Partition, Statistics};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long after the deadline the driver still waits for the pipeline's own answer.
const GRACE: Duration = Duration::from_secs(1);

/// The name under which the client library logs that it moved a partition's position to where `auto.offset.reset` says, because the
/// position it had is not in the log. (Beginning without any committed offset is not logged under it.)
const OFFSET_RESET: &str = "OFFSET";

/// Which lanes are ours, and since which assignment.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    epoch: u64,
    lanes: HashMap<Lane, u64>,
    /// The member id under which all of them were taken up.
    member: String,
    /// Epochs that ended while their lanes stayed ours, and of which the pipeline was not told yet.
    ended: Vec<(Lane, u64)>,
}

pub(crate) struct Context {
    notices: mpsc::Sender<Notice>,
    revoke_budget: Duration,
    assignment: Mutex<Assignment>,
    changed: AtomicBool,
    /// Whether fetching is paused: what was fetched ahead is dropped then, and counts as unread again.
    paused: AtomicBool,
    /// Whether the group is to be left: nothing waits any more then.
    leaving: AtomicBool,
    /// Where a partition begins for which nothing is committed.
    reset: Offset,
    /// How long the group's transactions may last, in milliseconds.
    transaction_ms: AtomicU64,
    board: Board,
    standing: Standing,
    /// Finds brokers again.
    pub(super) sight: Sight,
    /// In which leaders' epochs what was read was written.
    pub(super) leaders: Leaders,
}

impl Context {
    pub(crate) fn new(notices: mpsc::Sender<Notice>, revoke_budget: Duration, reset: Offset, board: Board) -> Self {
        let [changed, paused, leaving] = [false; 3].map(AtomicBool::new);
        let (assignment, standing, sight) = (Mutex::default(), Standing::default(), Sight::default());
        let transaction_ms = AtomicU64::new(0);
        Self {
            notices,
            revoke_budget,
            assignment,
            changed,
            paused,
            leaving,
            reset,
            transaction_ms,
            board,
            standing,
            sight,
            leaders: Leaders::default(),
        }
    }

    /// The transactions of this group's workers may last for so long, and hide its offsets as long. To be told before partitions are taken up.
    pub(super) fn set_transaction_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.transaction_ms.store(millis, Ordering::Release);
    }

    fn assignment(&self) -> MutexGuard<'_, Assignment> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch in which `lane` is ours now.
    pub(crate) fn epoch(&self, lane: &Lane) -> Option<u64> {
        self.assignment().lanes.get(lane).copied()
    }

    /// Ends the epoch of a lane that is ours, and begins another: nothing that was read in the old one may be committed any more. The pipeline is
    /// told at once, not by the first record of the new epoch: that one may be waiting for permits which the old one's records hold. The new
    /// epoch, or `None` if the lane has gone.
    pub(crate) fn renew(&self, lane: &Lane) -> Option<u64> {
        let mut assignment = self.assignment();
        let epoch = assignment.epoch + 1;
        let ended = std::mem::replace(assignment.lanes.get_mut(lane)?, epoch);
        assignment.epoch = epoch;
        assignment.ended.push((lane.clone(), ended));
        drop(assignment);
        self.tell_ended();
        Some(epoch)
    }

    /// Tells the pipeline of epochs that ended, all in one notice. Where the channel is full they stay for the next call: without it, the records of the old
    /// epochs keep the permits that the first of the new ones waits for.
    pub(crate) fn tell_ended(&self) {
        let mut assignment = self.assignment();
        if assignment.ended.is_empty() {
            return;
        }
        if let Ok(place) = self.notices.try_reserve() {
            let lanes = std::mem::take(&mut assignment.ended);
            // Nobody waits for the answer.
            let (answer, _) = sync_channel(1);
            place.send(Notice::Revoking { lanes, lost: true, deadline: Instant::now(), answer });
        }
    }

    /// Lanes that are ours and stand still, as far as the client library's statistics tell, each with the offset of its next record.
    pub(crate) fn standing(&self) -> Vec<Origin> {
        self.standing.still(|lane| self.epoch(lane).is_some())
    }

    /// Whether the assignment changed since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// How many lanes are ours.
    fn count(&self) -> usize {
        self.assignment().lanes.len()
    }

    /// The driver paused fetching, or resumed it.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// The group will be left: what waits for something in a callback ends.
    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// How long to wait for an offset that a transaction hides.
    pub(super) fn patience(&self) -> Duration {
        patience(Duration::from_millis(self.transaction_ms.load(Ordering::Acquire)))
    }

    /// Whether the group is being left.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Tells the pipeline something, unless the channel is full: then false.
    pub(super) fn tell(&self, notice: Notice) -> bool {
        self.notices.try_send(notice).is_ok()
    }

    /// Takes up assigned partitions where the group stands. What can't be placed is assigned, as the client library wants it, but not ours: its
    /// records are dropped.
    fn take_up(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let lanes = lanes(list);
        let count = lanes.len();
        let member = member(consumer);
        match self.come_back(consumer, &member).and_then(|()| self.place(consumer, list)) {
            Ok(()) => {
                self.begin(list);
                self.assign(lanes, member);
            }
            Err(Unplaced::NotAMember) => tracing::info!(count, "the group went on without this worker"),
            Err(Unplaced::Unknown(why)) => {
                let reason = format!("the group's offsets can't be learnt: {why}; start again");
                // A full channel already holds a reason to stop or a revocation.
                let _ = self.notices.try_send(Notice::Failed(reason));
            }
        }
        tracing::info!(count, total = self.count(), "partitions assigned");
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            RebalanceProtocol::None | RebalanceProtocol::Eager => consumer.assign(list),
        };
        if let Err(error) = assigned {
            let reason = format!("the client library refuses assigned partitions: {error}; start again");
            let _ = self.notices.try_send(Notice::Failed(reason));
        }
    }

    fn place(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> Result<(), Unplaced> {
        let patience = patience(Duration::from_millis(self.transaction_ms.load(Ordering::Acquire)));
        place(consumer, list, self.reset, patience, || self.leaving.load(Ordering::Acquire))
    }

    /// Where the group knows this worker by another id than before, it had removed it, and others may have read on: what the client library
    /// still has is lost, and taken up anew. The library says so itself only where it was not in the middle of a rebalance.
    fn come_back(&self, consumer: &BaseConsumer<Self>, member: &str) -> Result<(), Unplaced> {
        if member.is_empty() {
            return Err(Unplaced::NotAMember);
        }
        if self.assignment().member == member {
            return Ok(());
        }
        let unknown = |error: KafkaError| Unplaced::Unknown(error.to_string());
        let mut kept = consumer.assignment().map_err(unknown)?;
        let held = lanes(&kept);
        if !held.is_empty() {
            tracing::warn!(
                count = held.len(),
                "the group went on without this worker, what it still has is read again from the group's offsets"
            );
            self.revoke(&held, true);
            self.place(consumer, &mut kept)?;
            self.begin(&kept);
            set_back(consumer, kept)?;
            self.assign(held, member.to_owned());
        }
        Ok(())
    }

    /// Notes where reading of partitions begins.
    fn begin(&self, list: &TopicPartitionList) {
        for element in list.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let next = match element.offset() {
                Offset::Offset(next) => Some(next),
                Offset::Beginning => Some(0),
                Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            };
            let lane = Lane { topic: Arc::from(topic), partition };
            self.leaders.begin(lane, next, leaders::beside(list, topic, partition));
        }
    }

    /// Lets partitions go, once the pipeline has finished what it holds of them.
    fn let_go(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let lanes = lanes(list);
        let lost = consumer.assignment_lost() || self.assignment().member != member(consumer);
        let total = self.count().saturating_sub(lanes.len());
        tracing::info!(count = lanes.len(), total, lost, "partitions revoked");
        self.revoke(&lanes, lost);
        // A pause outlives the assignment in the client library; the lane would come back paused and never be read.
        if let Err(error) = consumer.resume(list) {
            tracing::debug!(%error, "could not resume revoked partitions");
        }
    }

    /// These lanes are ours from now on, as those are that we had under this member id.
    pub(crate) fn assign(&self, lanes: Vec<Lane>, member: String) {
        let mut assignment = self.assignment();
        if assignment.member != member {
            assignment.lanes.clear();
        }
        assignment.member = member;
        assignment.epoch += 1;
        let epoch = assignment.epoch;
        assignment.lanes.extend(lanes.into_iter().map(|lane| (lane, epoch)));
        self.publish(&assignment);
    }

    /// The lanes of `lanes` that are ours, with their epochs.
    fn held(&self, lanes: &[Lane]) -> Vec<(Lane, u64)> {
        let assignment = self.assignment();
        lanes.iter().filter_map(|lane| Some((lane.clone(), *assignment.lanes.get(lane)?))).collect()
    }

    fn forget(&self, lanes: &[Lane]) {
        let mut assignment = self.assignment();
        for lane in lanes {
            assignment.lanes.remove(lane);
            self.leaders.forget(lane);
        }
        self.publish(&assignment);
    }

    /// Whether every position is still ours to commit for whom the group knows as `member`: its lane assigned, in the same epoch.
    pub(crate) fn owns(&self, positions: &[Position], member: &str) -> bool {
        let assignment = self.assignment();
        assignment.member == member
            && positions.iter().all(|position| assignment.lanes.get(&position.lane) == Some(&position.epoch))
    }

    fn revoke(&self, lanes: &[Lane], lost: bool) {
        let held = self.held(lanes);
        if lost {
            // Somebody else may own them already: no step may commit them from now on, not even while we wait.
            self.forget(lanes);
        }
        let budget = if lost { Duration::from_secs(2) } else { self.revoke_budget };
        let (answer, answered) = sync_channel(1);
        let deadline = Instant::now() + budget;
        let notice = Notice::Revoking { lanes: held, lost, deadline, answer };
        // A closed channel means that the pipeline has finished: then nothing of these lanes can be open.
        if self.notices.blocking_send(notice).is_ok() && answered.recv_timeout(budget + GRACE).is_err() {
            tracing::warn!(lanes = lanes.len(), "revoked partitions were not drained in time");
        }
        self.forget(lanes);
    }

    fn publish(&self, assignment: &Assignment) {
        self.changed.store(true, Ordering::Release);
        metrics::rebalanced(assignment.lanes.len());
        self.board.set_partitions(assignment.lanes.keys());
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == OFFSET_RESET && matches!(level, RDKafkaLogLevel::Warning) {
            metrics::offset_reset();
            tracing::warn!(
                said = message,
                "the group's offset is not in the topic any more: records may have been deleted unread, or the topic was made anew"
            );
            return;
        }
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.board.set_brokers_up(0);
            metrics::brokers_up(0);
        }
        // The log callback has said it already.
        tracing::debug!(%error, reason, "kafka client error");
    }

    fn stats(&self, statistics: Statistics) {
        self.sight.look(&statistics);
        // The coordinator's connection is listed a second time, without a number of its own.
        let up = statistics.brokers.values().filter(|broker| broker.nodeid >= 0 && broker.state == "UP").count();
        self.board.set_brokers_up(up);
        metrics::brokers_up(up);
        metrics::fetched(unsigned(statistics.rxmsgs), unsigned(statistics.rxmsg_bytes));
        let paused = self.paused.load(Ordering::Acquire);
        for (topic, statistics) in statistics.topics {
            let topic: Arc<str> = Arc::from(topic);
            for (number, partition) in statistics.partitions {
                let lane = Lane { topic: Arc::clone(&topic), partition: number };
                self.standing.look(&lane, partition.next_offset, partition.ls_offset);
                if let Some(records) = unread(&partition, paused) {
                    self.board.set_unread(&lane, records);
                }
            }
        }
    }
}

/// Records of a partition that the pipeline was not given yet, as of the last fetch. `None` before the first one.
///
/// Offsets are no count: at the end of a topic that was written in transactions stands a marker that nobody is ever given. Hence
/// nothing is unread where all was fetched and nothing of it is queued.
fn unread(partition: &Partition, paused: bool) -> Option<u64> {
    let (end, fetched) = (partition.ls_offset, partition.next_offset);
    if end < 0 {
        return None;
    }
    if !paused && fetched >= end && partition.fetchq_cnt == 0 {
        return Some(0);
    }
    let (from, queued) = match partition.app_offset {
        given if given >= 0 => (given, 0),
        _ if fetched >= 0 => (fetched, partition.fetchq_cnt),
        _ => return None,
    };
    u64::try_from((end - from).max(0) + queued).ok()
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.take_up(consumer, list);
            return;
        }
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS {
            self.let_go(consumer, list);
        } else {
            tracing::warn!(error = %RDKafkaErrorCode::from(what), "rebalance failed");
        }
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::None | RebalanceProtocol::Eager => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            tracing::warn!(%error, "could not let go of revoked partitions");
        }
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn lanes(list: &TopicPartitionList) -> Vec<Lane> {
    list.elements()
        .iter()
        .map(|element| Lane { topic: Arc::from(element.topic()), partition: element.partition() })
        .collect()
}

/// The client library's log lines, as ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, said = message, "librdkafka");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, said = message, "librdkafka"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, said = message, "librdkafka"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client library says, by the offsets that matter.
    fn partition(end: i64, fetched: i64, given: i64, queued: i64) -> Partition {
        Partition {
            ls_offset: end,
            next_offset: fetched,
            app_offset: given,
            fetchq_cnt: queued,
            ..Partition::default()
        }
    }

    #[test]
    fn the_pipeline_hears_of_an_epoch_that_ended_before_a_record_of_the_next_one_comes() {
        let (notices, mut heard) = mpsc::channel(4);
        let context =
            Context::new(notices, Duration::ZERO, Offset::Beginning, Board::new(crate::telemetry::Facts::default()));
        let lane = |partition| Lane { topic: "t".into(), partition };
        assert_eq!(context.renew(&lane(0)), None, "it is not ours");
        context.assign(vec![lane(0), lane(1)], "m".into());
        let position = |epoch| [Position { lane: lane(0), epoch, next: 5 }];
        assert!(context.owns(&position(1), "m"));
        assert!(!context.owns(&position(1), "") && !context.owns(&position(1), "n"), "the group knows somebody else");
        assert_eq!(context.renew(&lane(0)), Some(2));
        assert!(!context.owns(&position(1), "m") && context.owns(&position(2), "m"));
        context.assign(vec![lane(1)], "n".into());
        assert_eq!((context.epoch(&lane(0)), context.epoch(&lane(1))), (None, Some(3)), "what m had is not n's");
        let Ok(Notice::Revoking { lanes, lost, .. }) = heard.try_recv() else { panic!("nothing was told") };
        assert_eq!((lanes, lost), (vec![(lane(0), 1)], true));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn an_epoch_that_ended_while_the_channel_was_full_is_told_later() {
        let (notices, mut heard) = mpsc::channel(1);
        let context =
            Context::new(notices, Duration::ZERO, Offset::Beginning, Board::new(crate::telemetry::Facts::default()));
        let lane = |partition| Lane { topic: "t".into(), partition };
        context.assign((0..3).map(lane).collect(), "m".into());
        (0..3).for_each(|partition| assert!(context.renew(&lane(partition)).is_some()));
        let mut told = || match heard.try_recv() {
            Ok(Notice::Revoking { lanes, .. }) => lanes,
            _ => Vec::new(),
        };
        assert_eq!(told(), [(lane(0), 1)]);
        assert!(told().is_empty(), "nothing is told by itself");
        context.tell_ended();
        assert_eq!(told(), [(lane(1), 1), (lane(2), 1)]);
        context.tell_ended();
        assert!(told().is_empty());
    }

    #[test]
    fn what_is_unread_is_what_the_pipeline_was_not_given() {
        assert_eq!(unread(&partition(-1001, -1001, -1001, 0), false), None, "nothing was fetched yet");
        assert_eq!(unread(&partition(100, 40, 30, 10), false), Some(70));
        assert_eq!(unread(&partition(100, 40, -1001, 10), false), Some(70), "fetched, none given");
        assert_eq!(unread(&partition(100, -1001, -1001, 0), false), None);
    }

    #[test]
    fn a_marker_at_the_end_is_no_record_and_what_a_pause_dropped_is() {
        assert_eq!(unread(&partition(100, 100, 99, 0), false), Some(0), "offset 99 is a commit marker");
        assert_eq!(unread(&partition(100, 100, 60, 0), true), Some(40), "the pause dropped what was fetched");
        assert_eq!(unread(&partition(90, 100, 95, 0), true), Some(0), "an end older than what was given");
    }
}
