//! Owns what follows when a partition goes on at an offset that was read before: its log was cut, or its topic made anew.
//!
//! What was read of the old log is delivered first, also what is gone from the log: it was written, and nobody else has it. Then reading goes on at the
//! group's committed offset, or at the first record of the new log where that is earlier, in a new epoch.
//! Invariants: the pipeline is given nothing of the lane meanwhile, so order is kept; no step with its offsets is under way when the group's offset is
//! asked for; whatever takes too long, or is refused, ends the process, whose successor goes on at the same offset. Blocks only while a transaction hides the
//! group's offset, as taking up a partition does. Must not know: what a document is.

use super::context::Context;
use super::leaders;
use super::placing::{Unplaced, place};
use crate::corpus::{Lane, Notice, Origin};
use crate::telemetry::metrics;
use rdkafka::Offset;
use rdkafka::bindings::rd_kafka_get_watermark_offsets;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// How long the documents of an old log may take. One batch that isn't delivered ends the process long before.
const FINISHING: Duration = Duration::from_secs(900);
/// How long the library may take to move a position.
const QUESTION: Duration = Duration::from_secs(5);
/// How long the question for a log's first offset may take. What was deleted since the last fetch must not be looked for.
const BEGINNING: Duration = Duration::from_secs(2);

/// One lane whose log was cut.
struct Cut {
    epoch: u64,
    /// The first record of the new log that was seen.
    at: i64,
    /// The first and the last record of the old one that were read in this epoch.
    read: (i64, i64),
    deadline: Instant,
    /// Answered when everything of the old log is delivered; `None` until the pipeline was told.
    finished: Option<Receiver<()>>,
}

/// The lanes whose logs were cut, while that is under way.
pub(super) struct Cuts {
    consumer: Arc<BaseConsumer<Context>>,
    lanes: HashMap<Lane, Cut>,
}

impl Cuts {
    pub(super) fn new(consumer: Arc<BaseConsumer<Context>>) -> Self {
        Self { consumer, lanes: HashMap::new() }
    }

    /// Whether records of this lane are to be dropped, because they will come again.
    pub(super) fn is_under_way(&self, lane: &Lane, epoch: u64) -> bool {
        self.lanes.get(lane).is_some_and(|cut| cut.epoch == epoch)
    }

    /// The lane goes on at `origin`, and `read` are the first and the last offset that were read of it in this epoch.
    pub(super) fn begin(&mut self, origin: &Origin, epoch: u64, read: (i64, i64)) {
        tracing::warn!(
            %origin, read_to = read.1,
            "the partition goes on at an offset that was read before: its log was cut, or its topic made anew; what was read of it is delivered first"
        );
        metrics::log_cut();
        let paused = one(&origin.lane, Offset::Invalid).and_then(|list| self.consumer.pause(&list));
        if let Err(error) = paused {
            tracing::debug!(%error, "could not pause a partition whose log was cut; its records are dropped until it is read again");
        }
        let cut = Cut { epoch, at: origin.offset, read, deadline: Instant::now() + FINISHING, finished: None };
        self.lanes.insert(origin.lane.clone(), cut);
    }

    /// Looks after all of them; `is_paused` says that fetching is paused as a whole.
    ///
    /// # Errors
    /// Why the process must end, in one sentence.
    pub(super) fn tend(&mut self, is_paused: bool) -> Result<(), String> {
        let context = self.consumer.context();
        let gone = self.lanes.extract_if(|lane, cut| context.epoch(lane) != Some(cut.epoch));
        for (lane, _) in gone.collect::<Vec<_>>() {
            self.resume(&lane, is_paused);
        }
        let mut done = Vec::new();
        for (lane, cut) in &mut self.lanes {
            let Some(finished) = &cut.finished else {
                let (answer, answered) = sync_channel(1);
                let (lane, epoch, last, deadline) = (lane.clone(), cut.epoch, cut.read.1, cut.deadline);
                if context.tell(Notice::Finish { lane, epoch, last, deadline, answer }) {
                    cut.finished = Some(answered);
                }
                continue;
            };
            if Instant::now() >= cut.deadline {
                return Err(format!(
                    "{lane}: what was read of a log that was cut since could not be delivered; start again"
                ));
            }
            if !matches!(finished.try_recv(), Err(TryRecvError::Empty)) {
                done.push(lane.clone());
            }
        }
        for lane in done {
            if let Some(cut) = self.lanes.remove(&lane) {
                self.go_on(&lane, &cut, is_paused)?;
            }
        }
        Ok(())
    }

    /// Begins the new epoch where the group stands, or where the new log begins.
    fn go_on(&self, lane: &Lane, cut: &Cut, is_paused: bool) -> Result<(), String> {
        let context = self.consumer.context();
        // From here on no step can commit anything of the old epoch.
        if context.renew(lane).is_none() {
            self.resume(lane, is_paused);
            return Ok(());
        }
        let failed = |why: String| format!("{lane}: reading could not go on after its log was cut: {why}; start again");
        let mut list = one(lane, Offset::Invalid).map_err(|error| failed(error.to_string()))?;
        let otherwise = Offset::Offset(cut.read.0);
        match place(&self.consumer, &mut list, otherwise, context.patience(), || context.is_leaving()) {
            Ok(()) => {}
            Err(Unplaced::NotAMember) => {
                self.resume(lane, is_paused);
                return Ok(());
            }
            Err(Unplaced::Unknown(why)) => return Err(failed(why)),
        }
        let placed = list.elements().first().map(|element| element.offset());
        let Some(Offset::Offset(committed)) = placed else {
            return Err(failed("the group's offset is not known".into()));
        };
        let next = committed.min(cut.at);
        if next < committed {
            tracing::warn!(%lane, committed, next, "the group's offset lies beyond where the log was cut, and goes back to there");
        }
        context.leaders.begin(lane.clone(), Some(next), None);
        self.move_to(lane, next).map_err(|error| failed(error.to_string()))?;
        tracing::info!(%lane, next, "reading goes on in the partition whose log was cut");
        self.resume(lane, is_paused);
        Ok(())
    }

    /// Has the lane fetched again, unless all are paused, also where it came back to us in another way than by its cut. One that is not ours is let be.
    fn resume(&self, lane: &Lane, is_paused: bool) {
        if is_paused {
            return;
        }
        let resumed = one(lane, Offset::Invalid).and_then(|list| self.consumer.resume(&list));
        if let Err(error) = resumed {
            tracing::warn!(%lane, %error, "could not resume a partition whose log was cut");
        }
    }

    /// Has the client library go on at `offset`, or, where the log was cut below it since the record before was read, at the cut.
    pub(super) fn move_to(&self, lane: &Lane, offset: i64) -> KafkaResult<()> {
        let mut list = one(lane, Offset::Offset(offset))?;
        leaders::put(&mut list, &lane.topic, lane.partition, self.consumer.context().leaders.before(lane, offset));
        let moved = self.consumer.seek_partitions(list, QUESTION)?;
        moved.elements().iter().try_for_each(|element| element.error())
    }

    /// The first offset of a lane's log; where no broker says it, as of the last fetch; negative where it is not known.
    #[allow(unsafe_code, reason = "the wrapper has no call that does not ask the broker")]
    pub(super) fn low(&self, lane: &Lane) -> i64 {
        if let Ok((low, _)) = self.consumer.fetch_watermarks(&lane.topic, lane.partition, BEGINNING) {
            return low;
        }
        let Ok(topic) = CString::new(&*lane.topic) else { return -1 };
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the text ends with a NUL, and both numbers are ours.
        unsafe {
            let client = self.consumer.client().native_ptr();
            rd_kafka_get_watermark_offsets(client, topic.as_ptr(), lane.partition, &raw mut low, &raw mut high);
        }
        low
    }
}

fn one(lane: &Lane, offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&lane.topic, lane.partition, offset)?;
    Ok(list)
}
