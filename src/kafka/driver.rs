//! Owns the driver thread: it polls the consumer, always, and passes records on when permits allow.
//!
//! While permits are short, the records that polling yields stay in the driver's hands, and polling slows down with each: fast enough for
//! the group to be heard, slow enough that the hands rarely fill. Only when they are full is fetching paused, because pausing drops
//! what was prefetched, which then has to be fetched again.
//! Invariants: polls at least every `GAP_LONGEST`; holds at most `HELD_RECORDS` records and about `HELD_BYTES`; a pause ends only when half
//! of the permits are free again; a record whose lane went away is dropped (its new owner reads it again); records of one lane rise in their offsets,
//! or begin a new epoch.

use super::context::Context;
use super::cuts::Cuts;
use super::leaders::{self, Turn};
use super::record;
use super::tail::Tails;
use crate::corpus::{Lane, Notice, Origin, Outlet, Parcel, Position, Receipt, Record, Tail};
use crate::telemetry::metrics;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

const POLL: Duration = Duration::from_millis(50);
/// The most records, and about the most bytes, in the driver's hands while permits are short.
const HELD_RECORDS: usize = 64;
const HELD_BYTES: usize = 32 * 1024 * 1024;
/// How long a blocked driver waits between two polls: the shortest, what each record and each MiB in its hands add, the longest.
const GAP: Duration = Duration::from_millis(250);
const GAP_A_RECORD: Duration = Duration::from_millis(100);
const GAP_A_MIB: Duration = Duration::from_millis(200);
const GAP_LONGEST: Duration = Duration::from_secs(7);
const NAP: Duration = Duration::from_millis(2);
/// How often positions past the last record are told.
const TAILS: Duration = Duration::from_secs(2);
/// How long leaving the group may take. The client library gives the broker 5 s to answer that; an offset commit without an answer holds it
/// up for longer, and no answer is worth more.
const CLOSE_BUDGET: Duration = Duration::from_secs(7);
/// How long a batch may fail to decompress before no further fetch of it is believed to help, and between two failures the longest after which the second
/// is another one's.
const UNPACKING: Duration = Duration::from_secs(10);
const UNPACKING_APART: Duration = Duration::from_secs(120);

/// What the owner of the driver asks of it.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Take no more records, but go on polling.
    pub(crate) stop: AtomicBool,
    /// Leave the group and end the thread.
    pub(crate) close: AtomicBool,
}

pub(crate) struct Driver {
    consumer: Arc<BaseConsumer<Context>>,
    outlet: Option<Outlet>,
    wishes: Arc<Wishes>,
    topics: HashMap<String, Arc<str>>,
    held: VecDeque<(Record, u64)>,
    held_bytes: usize,
    polled: Instant,
    paused: bool,
    complained: HashMap<String, Instant>,
    /// When a batch first failed to decompress, and when one last did.
    packed: Option<(Instant, Instant)>,
    tails: Tails,
    tails_told: Instant,
    cuts: Cuts,
    /// Records, and their bytes, that were passed on and not yet told.
    untold: (u64, u64),
}

/// How many records are told together at most: a look-up of a series for each would cost a tenth of what reading it does.
const TOLD_RECORDS: u64 = 64;

impl Driver {
    pub(crate) fn new(consumer: Arc<BaseConsumer<Context>>, outlet: Outlet, wishes: Arc<Wishes>) -> Self {
        Self {
            cuts: Cuts::new(Arc::clone(&consumer)),
            consumer,
            outlet: Some(outlet),
            wishes,
            topics: HashMap::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            polled: Instant::now(),
            paused: false,
            complained: HashMap::new(),
            packed: None,
            tails: Tails::default(),
            tails_told: Instant::now(),
            untold: (0, 0),
        }
    }

    /// Polls until asked to close, then leaves the group.
    pub(crate) fn run(mut self) {
        while !self.wishes.close.load(Ordering::Acquire) {
            self.consumer.context().tell_ended();
            if self.wishes.stop.load(Ordering::Acquire) {
                self.stop();
            }
            if !self.pass_on() && !self.paused {
                if self.held.len() >= HELD_RECORDS || self.held_bytes >= HELD_BYTES {
                    tracing::debug!(records = self.held.len(), bytes = self.held_bytes, "fetching paused");
                    metrics::fetching_paused();
                    self.pause();
                } else if self.polled.elapsed() < gap(self.held.len(), self.held_bytes) {
                    std::thread::sleep(NAP);
                    continue;
                }
            }
            self.resume_if_free();
            if self.outlet.is_some()
                && let Err(reason) = self.cuts.tend(self.paused)
            {
                self.fail(reason);
            }
            self.poll();
            self.polled = Instant::now();
            self.tell_tails();
        }
        self.tell_read();
        self.outlet = None;
        self.leave();
    }

    /// One poll: at most one record, or a callback.
    fn poll(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(POLL) {
            None => self.tell_read(),
            Some(Ok(message)) => {
                let topic = match self.topics.get(message.topic()) {
                    Some(topic) => Arc::clone(topic),
                    None => {
                        let topic: Arc<str> = Arc::from(message.topic());
                        self.topics.insert(message.topic().to_owned(), Arc::clone(&topic));
                        topic
                    }
                };
                let record = record::copy(&message, topic);
                // No epoch means that the lane went away while the record was on its way to us, or that it will come again.
                let epoch = self.epoch(&record.origin, leaders::of(&message));
                if let (Some(epoch), Some(_)) = (epoch, &self.outlet) {
                    self.tails.polled(&record.origin, epoch);
                    if self.paused && !self.held.is_empty() {
                        // Fetching is paused, yet a record came: it was on its way. Seek back to it, so that it comes again.
                        self.hand_back(&record);
                    } else {
                        self.held_bytes += record.weight_bytes();
                        self.held.push_back((record, epoch));
                        self.pass_on();
                    }
                }
            }
            Some(Err(error)) => self.complain(&error),
        }
        if consumer.context().take_changed() && self.paused {
            self.pause();
        }
    }

    /// The epoch of a record that was polled, which was written in its leader's epoch `leader`. `None` where it is not to be passed on: its lane has gone
    /// away, or what comes before it is to be read first.
    fn epoch(&mut self, origin: &Origin, leader: i32) -> Option<u64> {
        let epoch = self.consumer.context().epoch(&origin.lane)?;
        if self.cuts.is_under_way(&origin.lane, epoch) {
            return None;
        }
        let of_it = |(record, of): &&(Record, u64)| *of == epoch && record.origin.lane == origin.lane;
        let held = self.held.iter().filter(of_it).map(|(record, _)| record.origin.offset).max();
        let (first, passed) = self.tails.span(&origin.lane, epoch);
        // What was polled and handed back is not among what the pipeline has or gets.
        if let Some(last) = held.max(passed).filter(|last| *last >= origin.offset) {
            self.cuts.begin(origin, epoch, (first.unwrap_or(last), last));
            return None;
        }
        self.is_next(origin, leader).then_some(epoch)
    }

    /// Whether nothing is to be read before this record or marker; else that is read next.
    fn is_next(&self, origin: &Origin, leader: i32) -> bool {
        let context = self.consumer.context();
        let from = match context.leaders.turn(origin, leader, || self.cuts.low(&origin.lane)) {
            Turn::On => return true,
            Turn::Back => {
                tracing::warn!(%origin, "the group's offset lies beyond where the log was cut, reading goes on there");
                metrics::log_cut();
                return true;
            }
            Turn::Again(from) => from,
        };
        tracing::debug!(%origin, from, "a new leader's record, read again to see whether the log was cut");
        if let Err(error) = self.cuts.move_to(&origin.lane, from) {
            self.fail(format!("{origin}: could not read what comes before it: {error}; start again"));
        }
        false
    }

    /// Passes on what is held, in order, as far as permits go; true when nothing is held any more.
    fn pass_on(&mut self) -> bool {
        while let Some((record, epoch)) = self.held.pop_front() {
            let weight = record.weight_bytes();
            let is_ours = self.consumer.context().epoch(&record.origin.lane) == Some(epoch);
            if let (true, Some(outlet)) = (is_ours, &self.outlet) {
                let Some(permits) = outlet.allowance.try_take(weight) else {
                    self.held.push_front((record, epoch));
                    self.tell_read();
                    return false;
                };
                let origin = record.origin.clone();
                let receipt = Receipt { origin: origin.clone(), epoch, permits };
                match outlet.records.try_send(Parcel { body: record, receipt }) {
                    Ok(()) => {
                        self.tails.passed(&origin, epoch);
                        self.untold = (self.untold.0 + 1, self.untold.1 + weight as u64);
                        if self.untold.0 >= TOLD_RECORDS {
                            self.tell_read();
                        }
                    }
                    Err(TrySendError::Full(parcel)) => {
                        self.held.push_front((parcel.body, epoch));
                        self.tell_read();
                        return false;
                    }
                    Err(TrySendError::Closed(_)) => self.outlet = None,
                }
            }
            self.held_bytes = self.held_bytes.saturating_sub(weight);
        }
        true
    }

    /// Tells how much was passed on: when that is many records, and when no more come or can be passed on.
    fn tell_read(&mut self) {
        let (records, bytes) = std::mem::take(&mut self.untold);
        if records > 0 {
            metrics::records_read(records, bytes);
        }
    }

    /// Tells now and then how far lanes were read past their last records, so that these positions are committed, too.
    fn tell_tails(&mut self) {
        let Some(outlet) = self.outlet.as_ref().filter(|_| self.tails_told.elapsed() >= TAILS) else { return };
        self.tails_told = Instant::now();
        // Between this and the last poll nothing was read: only this thread polls.
        let Ok(positions) = self.consumer.position() else { return };
        let consumer = Arc::clone(&self.consumer);
        let ours = positions.elements().into_iter().filter_map(|element| {
            let rdkafka::Offset::Offset(next) = element.offset() else { return None };
            let lane = Lane { topic: Arc::from(element.topic()), partition: element.partition() };
            Some(Position { epoch: consumer.context().epoch(&lane)?, lane, next })
        });
        let is_ours = |lane: &Lane, epoch| consumer.context().epoch(lane) == Some(epoch);
        let mut tails = self.tails.untold(&ours.collect::<Vec<_>>(), is_ours);
        tails.retain(|Tail { position: Position { lane, epoch, next }, .. }| {
            let leader = leaders::beside(&positions, &lane.topic, lane.partition).unwrap_or(-1);
            let last = Origin { lane: lane.clone(), offset: next - 1 };
            !self.cuts.is_under_way(lane, *epoch) && self.is_next(&last, leader)
        });
        // A full channel holds what matters more; the next time will do.
        if !tails.is_empty() && outlet.notices.try_send(Notice::Tails(tails.clone())).is_ok() {
            self.tails.told(&tails);
        }
    }

    fn hand_back(&mut self, record: &Record) {
        let lane = &record.origin.lane;
        let offset = rdkafka::Offset::Offset(record.origin.offset);
        if let Err(error) = self.consumer.seek(&lane.topic, lane.partition, offset, Duration::from_secs(5)) {
            self.fail(format!("{}: could not seek back to it: {error}; start again", record.origin));
        }
    }

    fn stop(&mut self) {
        if self.outlet.take().is_some() {
            self.held.clear();
            self.held_bytes = 0;
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.paused = true;
        self.consumer.context().set_paused(true);
        let paused = self.consumer.assignment().and_then(|assignment| self.consumer.pause(&assignment));
        if let Err(error) = paused {
            tracing::warn!(%error, "could not pause fetching");
        }
    }

    fn resume_if_free(&mut self) {
        let free = self.outlet.as_ref().is_some_and(|outlet| {
            outlet.allowance.is_half_free() && outlet.records.capacity() * 2 >= outlet.records.max_capacity()
        });
        if self.paused && self.held.is_empty() && free {
            let resumed = self.consumer.assignment().and_then(|assignment| self.consumer.resume(&assignment));
            match resumed {
                Ok(()) => {
                    self.paused = false;
                    self.consumer.context().set_paused(false);
                }
                Err(error) => tracing::warn!(%error, "could not resume fetching"),
            }
        }
    }

    /// Says what went wrong, at most every ten seconds for each message; gives up on what no waiting mends.
    fn complain(&mut self, error: &KafkaError) {
        let text = error.to_string();
        let now = Instant::now();
        if self.complained.len() > 64 {
            self.complained.clear();
        }
        let due = self.complained.get(&text).is_none_or(|last| now.duration_since(*last) > Duration::from_secs(10));
        if due {
            tracing::warn!(error = text, "kafka consumer error");
            self.complained.insert(text.clone(), now);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BadCompression) {
            let first =
                self.packed.filter(|(_, last)| now.duration_since(*last) < UNPACKING_APART).map_or(now, |it| it.0);
            self.packed = Some((first, now));
            if now.duration_since(first) >= UNPACKING {
                self.fail(packed(&self.consumer.context().standing()));
            }
            return;
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if let Some(code) = error.rdkafka_error_code().filter(|code| fatal || is_hopeless(*code)) {
            self.fail(format!("the consumer can't go on: {text}; {}", remedy(code)));
        }
    }

    fn fail(&self, message: String) {
        if let Some(outlet) = &self.outlet {
            // A full notice channel already holds a reason to stop or a revocation that will find out by itself.
            let _ = outlet.notices.try_send(Notice::Failed(message));
        }
    }

    /// Leaves the group within a bound. The last callbacks run here.
    fn leave(&self) {
        let deadline = Instant::now() + CLOSE_BUDGET;
        if let Err(error) = self.consumer.close_queue() {
            tracing::warn!(%error, "could not leave the group");
            return;
        }
        while !self.consumer.closed() && Instant::now() < deadline {
            let _ = self.consumer.poll(POLL);
        }
        if !self.consumer.closed() {
            tracing::warn!(
                "the brokers did not answer in time, the group will notice by itself that this worker is gone"
            );
            // Dropping an open client waits without a bound; this one is left to the end of the process.
            std::mem::forget(Arc::clone(&self.consumer));
        }
    }
}

/// How long to wait for permits before the next poll, with so much in hand.
fn gap(records: usize, bytes: usize) -> Duration {
    let records = u32::try_from(records).unwrap_or(u32::MAX);
    let mib = u32::try_from(bytes / (1024 * 1024)).unwrap_or(u32::MAX);
    let more = GAP_A_RECORD.saturating_mul(records).saturating_add(GAP_A_MIB.saturating_mul(mib));
    GAP.saturating_add(more).min(GAP_LONGEST)
}

/// What is said of a batch that can't be decompressed. The client library doesn't tell which it is; it is in one of the lanes that stand still.
fn packed(standing: &[Origin]) -> String {
    const NAMED: usize = 5;
    let mut places: Vec<String> = standing.iter().take(NAMED).map(Origin::to_string).collect();
    if standing.len() > NAMED {
        places.push(format!("{} more", standing.len() - NAMED));
    }
    let place = if places.is_empty() {
        "in a partition that is not known".to_owned()
    } else {
        format!("at topic/partition/offset {}", places.join(" or "))
    };
    format!(
        "a batch of records can't be decompressed, {place}: it is damaged, or has more than receive.message.max.bytes once decompressed; raise that in [source.kafka] properties, or stop all workers and set the group's offset behind the batch, whose documents are lost then"
    )
}

/// What a person can do about an error that no retry mends.
fn remedy(code: RDKafkaErrorCode) -> &'static str {
    if [RDKafkaErrorCode::FencedInstanceId, RDKafkaErrorCode::UnreleasedInstanceId].contains(&code) {
        "another worker of the group has the same group.instance.id, or had it until a moment ago; give each its own, as with \
         \"{host}-{instance}\""
    } else if code == RDKafkaErrorCode::InconsistentGroupProtocol {
        "the group's other members share partitions in another way; use their partition.assignment.strategy, or stop them all \
         first"
    } else if code == RDKafkaErrorCode::UnsupportedVersion {
        "the brokers are older than what was asked for; group.protocol = \"consumer\" needs Kafka 4"
    } else if code == RDKafkaErrorCode::AutoOffsetReset {
        "auto.offset.reset is \"error\" and there is no record at the group's offset; set the group's offsets by hand, or \
         auto.offset.reset to \"earliest\""
    } else {
        "check the group, its permissions and the credentials"
    }
}

/// Errors that no retry of the library's own will mend.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    [
        RDKafkaErrorCode::Fatal,
        RDKafkaErrorCode::Authentication,
        RDKafkaErrorCode::GroupAuthorizationFailed,
        RDKafkaErrorCode::TopicAuthorizationFailed,
        RDKafkaErrorCode::SaslAuthenticationFailed,
        RDKafkaErrorCode::InconsistentGroupProtocol,
        RDKafkaErrorCode::FencedInstanceId,
        RDKafkaErrorCode::UnreleasedInstanceId,
        RDKafkaErrorCode::AutoOffsetReset,
    ]
    .contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_driver_polls_ever_more_slowly_but_never_so_slowly_that_the_group_forgets_it() {
        assert_eq!(gap(0, 0), GAP);
        assert!(gap(10, 0) > gap(1, 0) && gap(1, 20 << 20) > gap(1, 1 << 20));
        assert_eq!(gap(HELD_RECORDS, HELD_BYTES), GAP_LONGEST);
        let until_full: Duration = (0..HELD_RECORDS).map(|held| gap(held, 0)).sum();
        assert!(
            until_full > Duration::from_secs(120),
            "hands fill in {until_full:?}: every stall would drop what was fetched"
        );
    }

    #[test]
    fn a_batch_that_cannot_be_decompressed_is_named_by_its_place_where_that_is_known() {
        let at = |partition| Origin { lane: Lane { topic: "t".into(), partition }, offset: 7 };
        assert!(packed(&[]).contains("not known"));
        let said = packed(&[at(3)]);
        assert!(said.contains("t/3/7:") && said.contains("receive.message.max.bytes"), "{said}");
        assert!(packed(&(0..8).map(at).collect::<Vec<_>>()).contains("t/4/7 or 3 more"));
    }
}
