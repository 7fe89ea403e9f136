//! Owns the delivery step: outputs and offsets, all or none.
//!
//! A step is begin → produce → offsets with fresh group metadata → commit (Kafka Improvement Proposal 98 and 447); without
//! transactions it is produce → flush → commit offsets. Every call blocks and has a bound; run it on a thread that may block.
//! Invariants: when [`Producer::deliver`] returns an error other than `Fatal`, nothing of the step is visible to a read-committed reader
//! (in at-least-once: offsets are not committed); a refused output is named by its index and can't loop a transaction unnoticed.

mod ending;
mod isolating;

use super::committer::Committer;
use super::context::log;
use super::error::{DeliveryError, Error, Refusal, property};
use super::opening::{INIT_BUDGET, check_topic, client_config, init_transactions, transaction_timeout};
use super::settings::{SinkSettings, SourceSettings};
use super::sight::Sight;
use super::{Consumer, partition, record};
use crate::corpus::{Class, HEADER_BYTES, Header, Origin, Position};
use isolating::{Pace, Segment, Setback, Unflushed};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_secs(10);
const METADATA_AGE: Duration = Duration::from_secs(60);
/// What a person can do about a producer that was fenced.
const FENCED: &str = "; another worker has the same transactional id, made of group, host and instance: workers of one group on one \
     machine must share cache.path, or each set delivery.instance (a worker that was taken for dead hears this too: then all is well)";

/// What a delivery step promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guarantee {
    /// Outputs and offsets in one transaction under this transactional id.
    ExactlyOnce {
        /// Stable for each instance.
        transactional_id: String,
    },
    /// Outputs flushed before offsets are committed.
    AtLeastOnce,
}

/// One record to produce. It may borrow what the record that it comes from holds: the client library makes the one copy.
#[derive(Debug, Clone)]
pub struct Output<'a> {
    /// Where to.
    pub topic: Arc<str>,
    /// Where the record that it comes from stood; chooses the partition.
    pub source: Origin,
    /// Key bytes.
    pub key: Option<Cow<'a, [u8]>>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
    /// The record's own headers, in order.
    pub headers: Cow<'a, [Header]>,
    /// Headers behind those.
    pub added: Vec<(&'static str, Cow<'a, str>)>,
    /// Milliseconds since the Unix epoch; `None` lets the broker or client stamp it.
    pub timestamp_ms: Option<i64>,
}

impl Output<'_> {
    /// Bytes of key, value and headers, and [`HEADER_BYTES`] for each header.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let own: usize = self.headers.iter().map(Header::weight_bytes).sum();
        let added: usize = self.added.iter().map(|(name, value)| name.len() + value.len() + HEADER_BYTES).sum();
        self.key.as_ref().map_or(0, |key| key.len()) + self.value.as_ref().map_or(0, |value| value.len()) + own + added
    }
}

/// Outputs that were not delivered, by their index.
#[derive(Default)]
struct Failures(Mutex<Vec<(usize, KafkaError)>>);

impl Failures {
    fn take(&self) -> Vec<(usize, KafkaError)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct DeliveryContext {
    failures: Arc<Failures>,
    sight: Sight,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The log callback has said it already.
        tracing::debug!(%error, reason, "kafka producer error");
    }

    fn stats(&self, statistics: Statistics) {
        self.sight.look(&statistics);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            self.failures.0.lock().unwrap_or_else(PoisonError::into_inner).push((index, error.clone()));
        }
    }
}

/// The producer half of a session.
pub struct Producer {
    producer: ThreadedProducer<DeliveryContext>,
    failures: Arc<Failures>,
    consumer: Option<Committer>,
    transaction_timeout: Duration,
    transactional: bool,
    /// How much goes together into one request.
    pace: Mutex<Pace>,
    /// How many partitions a topic has, of the source's cluster or of the sink's: they may be two, with topics of one name.
    counts: Mutex<HashMap<(bool, String), (i32, Instant)>>,
    fenced: &'static str,
}

impl Producer {
    /// Connects, checks that `topics` can be seen, and fences earlier users of the transactional id. Blocks up to about 75 s.
    ///
    /// # Errors
    /// A refused property, no broker, a missing topic, or a transactional id that can't be used.
    pub fn open(
        source: Option<(&SourceSettings, &Consumer)>,
        sink: &SinkSettings,
        guarantee: &Guarantee,
        topics: &[Arc<str>],
    ) -> Result<Self, Error> {
        Self::connect(
            source.map(|(settings, consumer)| (settings, consumer.committer())),
            sink,
            guarantee,
            topics,
            FENCED,
        )
    }

    /// [`Producer::open`] with whatever commits the positions, and a word for who is fenced.
    pub(super) fn connect(
        source: Option<(&SourceSettings, Committer)>,
        sink: &SinkSettings,
        guarantee: &Guarantee,
        topics: &[Arc<str>],
        fenced: &'static str,
    ) -> Result<Self, Error> {
        let (failures, sight) = (Arc::new(Failures::default()), Sight::default());
        let config = client_config(source.as_ref().map(|(settings, _)| *settings), sink, guarantee)?;
        let producer: ThreadedProducer<DeliveryContext> = config
            .create_with_context(DeliveryContext { failures: Arc::clone(&failures), sight: sight.clone() })
            .map_err(|error| property("sink.kafka", &error))?;
        sight.watch(producer.client(), config.get("bootstrap.servers").unwrap_or_default());
        for topic in topics {
            check_topic(&producer, topic)?;
        }
        let transaction_timeout = transaction_timeout(&config);
        if let Guarantee::ExactlyOnce { transactional_id } = guarantee {
            if let Some((_, committer)) = &source {
                committer.consumer().context().set_transaction_timeout(transaction_timeout);
            }
            init_transactions(&producer, transactional_id, INIT_BUDGET)?;
        }
        Ok(Self {
            producer,
            failures,
            consumer: source.map(|(_, committer)| committer),
            transaction_timeout,
            transactional: matches!(guarantee, Guarantee::ExactlyOnce { .. }),
            pace: Mutex::default(),
            counts: Mutex::default(),
            fenced,
        })
    }

    /// One try of a delivery step, with at most `together` bytes of outputs for one partition in a request, or one output.
    fn step(&self, outputs: &[Output<'_>], positions: &[Position], together: usize) -> Result<(), Setback> {
        // Before the transaction begins, because it may ask the brokers.
        let partitions = self.choose(outputs)?;
        let deadline = Instant::now() + self.transaction_timeout / 2;
        self.failures.take();
        if self.transactional {
            self.producer.begin_transaction().map_err(|error| self.classify(&error))?;
        }
        let produced = self.produce(outputs, &partitions, together, deadline);
        let placed = produced.and_then(|()| Ok(self.place(positions, deadline)?));
        let topic =
            outputs.first().map(|output| &output.topic).or(positions.first().map(|position| &position.lane.topic));
        match placed {
            Ok(()) => Ok(self.commit(topic)?),
            Err(error @ Setback::Failed(DeliveryError::Fatal(_))) => Err(error),
            Err(error) => {
                self.abort(topic)?;
                Err(error)
            }
        }
    }

    fn produce(
        &self,
        outputs: &[Output<'_>],
        partitions: &[i32],
        together: usize,
        deadline: Instant,
    ) -> Result<(), Setback> {
        let (mut refusals, mut segment) = (Vec::new(), Segment::new(together));
        for (index, (output, partition)) in outputs.iter().zip(partitions).enumerate() {
            if !segment.takes(output, *partition) {
                self.flush(deadline).map_err(|error| segment.blamed(error, outputs, partitions, index))?;
                segment.restart(index, output, *partition);
            }
            match self.send(index, output, *partition, deadline) {
                Ok(()) => {}
                Err(error) => match refusal(index, &error) {
                    Some(refusal) => refusals.push(refusal),
                    None => {
                        // An earlier output's refusal fails the transaction before we hear of it: that refusal is the cause.
                        self.flush(deadline).map_err(|error| segment.blamed(error, outputs, partitions, index))?;
                        return Err(self.classify(&error).into());
                    }
                },
            }
        }
        // The client library itself refuses one output at a time.
        if !refusals.is_empty() {
            return Err(DeliveryError::Refused(refusals).into());
        }
        self.flush(deadline).map_err(|error| segment.blamed(error, outputs, partitions, outputs.len()))
    }

    /// The partition for each output. Lines have neither partitions nor keys; they are dealt out in turn.
    fn choose(&self, outputs: &[Output<'_>]) -> Result<Vec<i32>, DeliveryError> {
        // A step has thousands of outputs and a handful of topics.
        let mut counts: HashMap<(bool, &str), i32> = HashMap::new();
        let mut count = |is_source: bool, topic| match counts.entry((is_source, topic)) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(vacant) => {
                let found =
                    self.partitions(is_source, topic, |topic| match self.consumer.as_ref().filter(|_| is_source) {
                        Some(committer) => committer.consumer().fetch_metadata(Some(topic), CALL),
                        None => self.producer.client().fetch_metadata(Some(topic), CALL),
                    })?;
                Ok::<i32, DeliveryError>(*vacant.insert(found))
            }
        };
        let mut chosen = Vec::with_capacity(outputs.len());
        for output in outputs {
            let (target, lane) = (count(false, &output.topic)?, &output.source.lane);
            chosen.push(if self.consumer.is_some() {
                partition::choose(lane.partition, count(true, &lane.topic)?, output.key.as_deref(), target)
            } else {
                let turn = output.source.offset.rem_euclid(i64::from(target.max(1)));
                partition::choose(i32::try_from(turn).unwrap_or(0), 0, output.key.as_deref(), target)
            });
        }
        Ok(chosen)
    }

    /// Hands one output to the client library, waiting while its queue is full.
    fn send(&self, index: usize, output: &Output<'_>, partition: i32, deadline: Instant) -> KafkaResult<()> {
        let headers = record::owned_headers(&output.headers, &output.added);
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&output.topic, index).partition(partition).headers(headers);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        record.timestamp = output.timestamp_ms;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, returned)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || Instant::now() >= deadline {
                        return Err(error);
                    }
                    record = returned;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    /// Waits until every output handed over was acknowledged or failed.
    fn flush(&self, deadline: Instant) -> Result<(), Unflushed> {
        let flushed = self.flush_now(deadline.saturating_duration_since(Instant::now()));
        let failures = self.failures.take();
        let refusals: Vec<Refusal> = failures.iter().filter_map(|(index, error)| refusal(*index, error)).collect();
        if !refusals.is_empty() {
            let of = |code| {
                let is = move |(_, error): &&(usize, KafkaError)| error.rdkafka_error_code() == Some(code);
                failures.iter().filter(is).map(|(index, _)| *index).collect()
            };
            let (cleared, invalid) =
                (of(RDKafkaErrorCode::InvalidDifferentRecord), of(RDKafkaErrorCode::InvalidRecord));
            return Err(Unflushed::Refused { refusals, cleared, invalid });
        }
        if let Some((_, error)) = failures.first() {
            return Err(self.classify(error).into());
        }
        let late = |error| DeliveryError::Aborted(format!("outputs were not acknowledged in time: {error}"));
        flushed.map_err(|error| late(error).into())
    }

    /// The client library's own flush, which sends at once and waits. That of its wrapper asks for one that is over before it has begun, again and
    /// again, so that every output waits for `linger.ms`. The producer's own thread takes the reports meanwhile.
    #[allow(unsafe_code, reason = "the wrapper's flush waits for linger.ms")]
    fn flush_now(&self, patience: Duration) -> KafkaResult<()> {
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client lives as long as `self`, and the call may be made from any thread.
        let code = unsafe { rdkafka::bindings::rd_kafka_flush(self.producer.client().native_ptr(), patience) };
        let is_done = code == rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if is_done { Ok(()) } else { Err(KafkaError::Flush(code.into())) }
    }

    /// Whether the step can be tried again on this producer.
    fn classify(&self, error: &KafkaError) -> DeliveryError {
        if let Some((code, message)) = self.producer.client().fatal_error() {
            let remedy = if code == RDKafkaErrorCode::Fenced { self.fenced } else { "" };
            return DeliveryError::Fatal(format!("{code}: {message}{remedy}"));
        }
        if let KafkaError::Transaction(inner) = error
            && inner.is_fatal()
        {
            return DeliveryError::Fatal(inner.to_string());
        }
        DeliveryError::Aborted(error.to_string())
    }

    /// How many partitions `topic` has, from metadata not older than a minute. A guess would put records of one lane in two places, so an
    /// unknown count aborts the step.
    fn partitions(
        &self,
        is_source: bool,
        topic: &str,
        fetch: impl FnOnce(&str) -> KafkaResult<Metadata>,
    ) -> Result<i32, DeliveryError> {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (is_source, topic.to_owned());
        let known = counts.get(&key).copied();
        if let Some((count, at)) = known
            && now.duration_since(at) < METADATA_AGE
        {
            return Ok(count);
        }
        let fetched = fetch(topic)
            .ok()
            .and_then(|metadata| metadata.topics().first().map(|found| found.partitions().len()))
            .and_then(|count| i32::try_from(count).ok())
            .filter(|count| *count > 0);
        match (fetched, known) {
            (Some(count), _) => {
                counts.insert(key, (count, now));
                Ok(count)
            }
            (None, Some((count, _))) => Ok(count),
            (None, None) => Err(DeliveryError::Aborted(format!("the partitions of {topic} can't be learnt now"))),
        }
    }
}

/// A permanent refusal of one output, as opposed to a failure of the step.
fn refusal(index: usize, error: &KafkaError) -> Option<Refusal> {
    let code = error.rdkafka_error_code()?;
    // The second is what a topic answers whose segments are smaller than the batch; alone in its batch, an output is too large for it.
    let class = if [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::MessageBatchTooLarge].contains(&code) {
        Class::OutputTooLarge
    } else if [
        RDKafkaErrorCode::InvalidRecord,
        RDKafkaErrorCode::InvalidMessage,
        RDKafkaErrorCode::InvalidMessageSize,
        RDKafkaErrorCode::InvalidTimestamp,
        RDKafkaErrorCode::PolicyViolation,
    ]
    .contains(&code)
    {
        Class::OutputRefused
    } else {
        return None;
    };
    Some(Refusal { index, class, message: error.to_string() })
}
