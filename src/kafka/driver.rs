//! Owns the driver thread: it polls the consumer, always, and passes records on when permits allow.
//!
//! Invariants: never waits for permits without polling longer than `PATIENCE`; pauses fetching only after that, because pausing drops what was
//! prefetched, and resumes only when half of the permits are free again; a record whose lane went away is dropped (its new owner
//! reads it again).

use super::context::Context;
use super::record;
use crate::corpus::{Notice, Outlet, Parcel, Receipt, Record};
use crate::telemetry::metrics;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(1500);
const NAP: Duration = Duration::from_millis(2);
const CLOSE_BUDGET: Duration = Duration::from_secs(15);

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
    held: Option<(Record, u64)>,
    held_since: Option<Instant>,
    paused: bool,
    complained: HashMap<String, Instant>,
}

impl Driver {
    pub(crate) fn new(consumer: Arc<BaseConsumer<Context>>, outlet: Outlet, wishes: Arc<Wishes>) -> Self {
        Self {
            consumer,
            outlet: Some(outlet),
            wishes,
            topics: HashMap::new(),
            held: None,
            held_since: None,
            paused: false,
            complained: HashMap::new(),
        }
    }

    /// Polls until asked to close, then leaves the group.
    pub(crate) fn run(mut self) {
        while !self.wishes.close.load(Ordering::Acquire) {
            if self.wishes.stop.load(Ordering::Acquire) {
                self.stop();
            }
            if self.held.is_some() && !self.pass_on() && !self.paused {
                if self.held_since.is_some_and(|since| since.elapsed() > PATIENCE) {
                    self.pause();
                } else {
                    std::thread::sleep(NAP);
                    continue;
                }
            }
            self.resume_if_free();
            self.poll();
        }
        self.outlet = None;
        self.leave();
    }

    /// One poll: at most one record, or a callback.
    fn poll(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(POLL) {
            None => {}
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
                // No epoch means that the lane went away while the record was on its way to us.
                if let (Some(epoch), Some(_)) = (consumer.context().epoch(&record.origin.lane), &self.outlet) {
                    if self.held.is_some() {
                        // Fetching is paused, yet a record came: it was on its way. Seek back to it, so that it comes again.
                        self.hand_back(&record);
                    } else {
                        self.held = Some((record, epoch));
                        self.held_since = Some(Instant::now());
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

    /// Tries to pass the held record on; true when nothing is held any more.
    fn pass_on(&mut self) -> bool {
        let Some((record, epoch)) = self.held.take() else { return true };
        let Some(outlet) = &self.outlet else { return true };
        if self.consumer.context().epoch(&record.origin.lane) != Some(epoch) {
            return true;
        }
        let weight = record.weight_bytes();
        let Some(permits) = outlet.allowance.try_take(weight) else {
            self.held = Some((record, epoch));
            return false;
        };
        let receipt = Receipt { origin: record.origin.clone(), epoch, permits };
        match outlet.records.try_send(Parcel { body: record, receipt }) {
            Ok(()) => {
                metrics::record_read(weight);
                self.held_since = None;
                true
            }
            Err(TrySendError::Full(parcel)) => {
                self.held = Some((parcel.body, epoch));
                false
            }
            Err(TrySendError::Closed(_)) => {
                self.outlet = None;
                true
            }
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
            self.held = None;
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
        if self.paused && self.held.is_none() && free {
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
        let code = error.rdkafka_error_code();
        if code.is_some_and(is_hopeless) {
            self.fail(format!(
                "the consumer can't go on: {text}; check the group, its permissions and the credentials"
            ));
        }
    }

    fn fail(&mut self, message: String) {
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
    ]
    .contains(&code)
}
