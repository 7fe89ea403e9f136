//! Owns the delivery step: outputs and offsets, all or none.
//!
//! A step is begin → produce → offsets with fresh group metadata → commit (Kafka Improvement Proposal 98 and 447); without
//! transactions it is produce → flush → commit offsets. Every call blocks and has a bound; run it on a thread that may block.
//! Invariants: when [`Producer::deliver`] returns an error, nothing of the step is visible to a read-committed reader (in
//! at-least-once: offsets are not committed); a refused output is named by its index and can't loop a transaction unnoticed.

use super::context::{Context, log};
use super::error::{DeliveryError, Error, Refusal};
use super::settings::{SinkSettings, SourceSettings, is_connection_property};
use super::{Consumer, partition, record};
use crate::corpus::{Class, Header, Lane};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_secs(10);
const METADATA_AGE: Duration = Duration::from_secs(60);
const INIT_BUDGET: Duration = Duration::from_secs(75);

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

/// One record to produce.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where to.
    pub topic: Arc<str>,
    /// Where the record that it comes from stood; chooses the partition.
    pub source: Lane,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch; `None` lets the broker or client stamp it.
    pub timestamp_ms: Option<i64>,
}

/// Outputs that were not delivered, by their index.
#[derive(Default)]
struct Failures(Mutex<Vec<(usize, KafkaError)>>);

impl Failures {
    fn take(&self) -> Vec<(usize, KafkaError)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct DeliveryContext {
    failures: Arc<Failures>,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The log callback has said it already.
        tracing::debug!(%error, reason, "kafka producer error");
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
    consumer: Option<Arc<BaseConsumer<Context>>>,
    transactional: bool,
    counts: Mutex<HashMap<String, (i32, Instant)>>,
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
        let failures = Arc::new(Failures::default());
        let config = client_config(source.map(|(settings, _)| settings), sink, guarantee);
        let producer: ThreadedProducer<DeliveryContext> = config
            .create_with_context(DeliveryContext { failures: Arc::clone(&failures) })
            .map_err(|error| Error::Property { room: "sink.kafka", message: error.to_string() })?;
        for topic in topics {
            check_topic(&producer, topic)?;
        }
        if let Guarantee::ExactlyOnce { transactional_id } = guarantee {
            init_transactions(&producer, transactional_id)?;
        }
        Ok(Self {
            producer,
            failures,
            consumer: source.map(|(_, consumer)| consumer.shared()),
            transactional: matches!(guarantee, Guarantee::ExactlyOnce { .. }),
            counts: Mutex::default(),
        })
    }

    /// One delivery step: all `outputs` and `positions` (the next offset to read, per lane), or none. Blocks up to about `budget`.
    ///
    /// `apart` lists outputs to be flushed one by one, so that a refusal of a whole batch can be pinned to its cause.
    ///
    /// # Errors
    /// See [`DeliveryError`]; after any of them but `Fatal` the producer is ready for another step.
    pub fn deliver(
        &self,
        outputs: &[Output],
        positions: &[(Lane, i64)],
        apart: &[usize],
        budget: Duration,
    ) -> Result<(), DeliveryError> {
        let deadline = Instant::now() + budget;
        self.failures.take();
        if self.transactional {
            self.producer.begin_transaction().map_err(|error| self.classify(&error))?;
        }
        let step = self.produce(outputs, apart, deadline).and_then(|()| self.commit(positions, deadline));
        match step {
            Ok(()) => Ok(()),
            Err(error @ DeliveryError::Fatal(_)) => Err(error),
            Err(error) => {
                self.abort(deadline)?;
                Err(error)
            }
        }
    }

    fn produce(&self, outputs: &[Output], apart: &[usize], deadline: Instant) -> Result<(), DeliveryError> {
        let mut refusals = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let alone = apart.contains(&index);
            if alone {
                self.flush(deadline)?;
            }
            match self.send(index, output, deadline) {
                Ok(()) => {}
                Err(error) => match refusal(index, &error) {
                    Some(refusal) => refusals.push(refusal),
                    None => return Err(self.classify(&error)),
                },
            }
            if alone {
                self.flush(deadline)?;
            }
        }
        if !refusals.is_empty() {
            return Err(DeliveryError::Refused(refusals));
        }
        self.flush(deadline)
    }

    /// Hands one output to the client library, waiting while its queue is full.
    fn send(&self, index: usize, output: &Output, deadline: Instant) -> KafkaResult<()> {
        let chosen = partition::choose(
            output.source.partition,
            self.partitions(&output.source.topic, true),
            output.key.as_deref(),
            self.partitions(&output.topic, false),
        );
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&output.topic, index)
            .partition(chosen)
            .headers(record::owned_headers(&output.headers));
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
    fn flush(&self, deadline: Instant) -> Result<(), DeliveryError> {
        let flushed = self.producer.flush(deadline.saturating_duration_since(Instant::now()));
        let failures = self.failures.take();
        let refusals: Vec<Refusal> = failures.iter().filter_map(|(index, error)| refusal(*index, error)).collect();
        if !refusals.is_empty() {
            return Err(DeliveryError::Refused(refusals));
        }
        if let Some((_, error)) = failures.first() {
            return Err(self.classify(error));
        }
        flushed.map_err(|error| DeliveryError::Aborted(format!("outputs were not acknowledged in time: {error}")))
    }

    fn commit(&self, positions: &[(Lane, i64)], deadline: Instant) -> Result<(), DeliveryError> {
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for (lane, next) in positions {
            offsets
                .add_partition_offset(&lane.topic, lane.partition, Offset::Offset(*next))
                .map_err(|error| DeliveryError::Fatal(format!("{lane}/{next} is not an offset: {error}")))?;
        }
        let Some(consumer) = self.consumer.as_ref().filter(|_| !positions.is_empty()) else {
            return if self.transactional {
                self.until(deadline, || self.producer.commit_transaction(CALL))
            } else {
                Ok(())
            };
        };
        if !self.transactional {
            return consumer
                .commit(&offsets, CommitMode::Sync)
                .map_err(|error| DeliveryError::Aborted(format!("offsets were not committed: {error}")));
        }
        self.until(deadline, || {
            // Fetched afresh for each try: the generation may have moved on, and a stale one is refused by the broker, as it should be.
            let metadata = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
            self.producer.send_offsets_to_transaction(&offsets, &metadata, CALL)
        })?;
        self.until(deadline, || self.producer.commit_transaction(CALL))
    }

    fn abort(&self, deadline: Instant) -> Result<(), DeliveryError> {
        if !self.transactional {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            return Ok(());
        }
        let deadline = deadline.max(Instant::now() + CALL);
        match self.until(deadline, || self.producer.abort_transaction(CALL)) {
            Ok(()) => Ok(()),
            Err(error) => Err(DeliveryError::Fatal(format!("the transaction could not be aborted: {error}"))),
        }
    }

    /// Repeats a call while its error says that repeating is right.
    fn until(&self, deadline: Instant, call: impl Fn() -> KafkaResult<()>) -> Result<(), DeliveryError> {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let retriable = matches!(&error, KafkaError::Transaction(inner) if inner.is_retriable())
                        || matches!(&error, KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
                    if !retriable || Instant::now() >= deadline {
                        return Err(self.classify(&error));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Whether the step can be tried again on this producer.
    fn classify(&self, error: &KafkaError) -> DeliveryError {
        if let Some((code, message)) = self.producer.client().fatal_error() {
            return DeliveryError::Fatal(format!("{code}: {message}"));
        }
        if let KafkaError::Transaction(inner) = error
            && inner.is_fatal()
        {
            return DeliveryError::Fatal(inner.to_string());
        }
        DeliveryError::Aborted(error.to_string())
    }

    /// How many partitions `topic` has, from metadata not older than a minute. An unknown count is 1 for outputs and 0 for sources.
    fn partitions(&self, topic: &str, of_source: bool) -> i32 {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.get(topic).copied();
        if let Some((count, at)) = known
            && now.duration_since(at) < METADATA_AGE
        {
            return count;
        }
        let fetched = match (&self.consumer, of_source) {
            (Some(consumer), true) => consumer.fetch_metadata(Some(topic), CALL),
            (None, true) => return 0,
            (_, false) => self.producer.client().fetch_metadata(Some(topic), CALL),
        };
        let count = fetched
            .ok()
            .and_then(|metadata| metadata.topics().first().map(|found| found.partitions().len()))
            .and_then(|count| i32::try_from(count).ok())
            .filter(|count| *count > 0)
            .or(known.map(|(count, _)| count))
            .unwrap_or(i32::from(!of_source));
        counts.insert(topic.to_owned(), (count, now));
        count
    }
}

/// A permanent refusal of one output, as opposed to a failure of the step.
fn refusal(index: usize, error: &KafkaError) -> Option<Refusal> {
    let code = error.rdkafka_error_code()?;
    let class = if code == RDKafkaErrorCode::MessageSizeTooLarge {
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

fn check_topic(producer: &ThreadedProducer<DeliveryContext>, topic: &str) -> Result<(), Error> {
    let refused = |message: String| Error::Topic { topic: topic.to_owned(), message };
    let metadata = producer.client().fetch_metadata(Some(topic), CALL).map_err(|error| refused(error.to_string()))?;
    let Some(found) = metadata.topics().first() else { return Err(refused("the broker does not know it".into())) };
    if let Some(error) = found.error() {
        return Err(refused(RDKafkaErrorCode::from(error).to_string()));
    }
    if found.partitions().is_empty() {
        return Err(refused("it has no partitions".into()));
    }
    Ok(())
}

fn init_transactions(producer: &ThreadedProducer<DeliveryContext>, id: &str) -> Result<(), Error> {
    let deadline = Instant::now() + INIT_BUDGET;
    loop {
        match producer.init_transactions(CALL) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(inner)) if inner.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(Error::Transactions { id: id.to_owned(), message: error.to_string() }),
        }
    }
}

/// The producer's properties: defaults, then the person's, then ours.
fn client_config(source: Option<&SourceSettings>, sink: &SinkSettings, guarantee: &Guarantee) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "tamis")
        .set("linger.ms", "5")
        .set("compression.type", "zstd")
        // The topic's own limit decides; a record that it refuses becomes a dead letter.
        .set("message.max.bytes", "104857600")
        .set("queue.buffering.max.kbytes", "262144")
        // Scoring is outside, so a transaction lasts milliseconds; a dead worker's is over after this.
        .set("transaction.timeout.ms", "15000")
        .set("allow.auto.create.topics", "false");
    let own_brokers = !sink.brokers.is_empty();
    if let (Some(source), false) = (source, own_brokers) {
        for (name, value) in source.properties.iter().filter(|(name, _)| is_connection_property(name)) {
            config.set(name, value);
        }
    }
    for (name, value) in &sink.properties {
        config.set(name, value);
    }
    let brokers = if own_brokers { sink.brokers.as_str() } else { source.map_or("", |source| source.brokers.as_str()) };
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    if let Guarantee::ExactlyOnce { transactional_id } = guarantee {
        config.set("transactional.id", transactional_id);
    }
    config
}
