//! Owns the reading of a topic by hand: from given offsets to the end as it was at the opening, without joining a group.
//!
//! In: the settings of a session and a topic. Out: its records, and how far each partition was read. Invariants: the end does not move while it is read
//! towards; nothing is committed here; no wait is without a bound. Must not know: what the records are.

use super::consumer::client_config;
use super::context::Context;
use super::error::{Error, property};
use super::membership::member;
use super::record;
use super::settings::{SinkSettings, SourceSettings, is_connection_property};
use crate::corpus::{Lane, Position, Record};
use crate::telemetry::{Board, Facts};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const QUESTION: Duration = Duration::from_secs(10);
const REACH: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// How long a partition that has more may stay silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What a partition holds: offsets from `begin` to before `end`, not all of which need be records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first offset that is still there.
    pub begin: i64,
    /// The offset behind the last that a transaction's reader may see.
    pub end: i64,
}

/// What a group keeps of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The offset to read next.
    pub next: i64,
    /// What was noted beside it; empty where nothing was.
    pub note: String,
}

/// A topic that is read to its present end.
pub struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    brokers: String,
    group: String,
    topic: Arc<str>,
    spans: BTreeMap<i32, Span>,
    next: BTreeMap<i32, i64>,
    open: BTreeSet<i32>,
}

impl Reader {
    /// Connects to the cluster of `sink`, and looks up how far each partition of `topic` reaches. Blocks up to 20 s, and 10 s for each
    /// partition that does not answer. `group` names whose positions may be asked for and committed; it is not joined.
    ///
    /// # Errors
    /// A refused property, no broker that answers, or a topic that is not there or may not be seen.
    pub fn open(source: Option<&SourceSettings>, sink: &SinkSettings, group: &str, topic: &str) -> Result<Self, Error> {
        let config = config(source, sink, group)?;
        let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        // Nobody hears of rebalances: there are none without a group.
        let (notices, _) = tokio::sync::mpsc::channel(1);
        let context = Context::new(notices, Duration::ZERO, rdkafka::Offset::Invalid, Board::new(Facts::default()));
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| property("source.kafka", &error))?;
        let unread = |message: String| Error::Unread { what: format!("the topic {topic}"), message };
        let metadata = consumer
            .fetch_metadata(Some(topic), REACH)
            .map_err(|error| Error::Unreachable { brokers: brokers.clone(), message: error.to_string() })?;
        let found = metadata.topics().first().ok_or_else(|| unread("the broker does not know it".into()))?;
        if let Some(error) = found.error() {
            return Err(unread(RDKafkaErrorCode::from(error).to_string()));
        }
        let mut spans = BTreeMap::new();
        for partition in found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id) {
            let (begin, end) = consumer
                .fetch_watermarks(topic, partition, QUESTION)
                .map_err(|error| unread(format!("partition {partition}: {error}")))?;
            spans.insert(partition, Span { begin, end });
        }
        let next = BTreeMap::new();
        let (group, topic) = (group.to_owned(), topic.into());
        Ok(Self { consumer: Arc::new(consumer), brokers, group, topic, spans, next, open: BTreeSet::new() })
    }

    /// How far each partition reaches.
    #[must_use]
    pub fn spans(&self) -> &BTreeMap<i32, Span> {
        &self.spans
    }

    /// What the group keeps of each partition; absent where it keeps nothing. Blocks up to 20 s.
    ///
    /// # Errors
    /// The group may not be read, or its coordinator does not answer.
    pub fn kept(&self) -> Result<BTreeMap<i32, Kept>, Error> {
        let unread =
            |error: KafkaError| Error::Unread { what: format!("the group {}", self.group), message: error.to_string() };
        let mut asked = TopicPartitionList::with_capacity(self.spans.len());
        for partition in self.spans.keys() {
            asked.add_partition(&self.topic, *partition);
        }
        let answer = self.consumer.committed_offsets(asked, REACH).map_err(unread)?;
        let mut found = BTreeMap::new();
        for element in answer.elements() {
            element.error().map_err(unread)?;
            if let Offset::Offset(next) = element.offset() {
                found.insert(element.partition(), Kept { next, note: element.metadata().to_owned() });
            }
        }
        Ok(found)
    }

    /// Begins to read at these offsets, and at the beginning where none is given.
    ///
    /// # Errors
    /// Offsets that the client library does not take.
    pub fn start(&mut self, from: &BTreeMap<i32, i64>) -> Result<(), Error> {
        let refused = |error: KafkaError| Error::Unread { what: self.topic.to_string(), message: error.to_string() };
        let mut list = TopicPartitionList::with_capacity(self.spans.len());
        let mut lanes = Vec::with_capacity(self.spans.len());
        for (&partition, span) in &self.spans {
            let begin = from.get(&partition).copied().unwrap_or(span.begin).max(span.begin);
            self.next.insert(partition, begin);
            if begin < span.end {
                self.open.insert(partition);
                list.add_partition_offset(&self.topic, partition, Offset::Offset(begin)).map_err(refused)?;
            }
            lanes.push(self.lane(partition));
        }
        self.consumer.context().assign(lanes, member(&self.consumer));
        self.consumer.assign(&list).map_err(refused)
    }

    /// The next record of any partition, in each partition's order; `None` when all were read to their ends. Blocks up to a minute.
    ///
    /// # Errors
    /// A broker that stays silent, or one that refuses for good.
    pub fn read(&mut self) -> Result<Option<Record>, Error> {
        let since = Instant::now();
        while !self.open.is_empty() {
            if since.elapsed() > SILENCE {
                let message = format!("nothing came of {} for {} s", self.topic, SILENCE.as_secs());
                return Err(Error::Unreachable { brokers: self.brokers.clone(), message });
            }
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let end = self.spans.get(&partition).map_or(0, |span| span.end);
                    if !self.open.contains(&partition) {
                        continue;
                    }
                    if offset + 1 >= end {
                        self.open.remove(&partition);
                    }
                    if offset < end {
                        self.next.insert(partition, offset + 1);
                        return Ok(Some(record::copy(&message, Arc::clone(&self.topic))));
                    }
                    self.next.insert(partition, end);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                    if let Some(span) = self.spans.get(&partition) {
                        let next = self.next.entry(partition).or_default();
                        *next = (*next).max(span.end);
                    }
                }
                Some(Err(error)) if is_final(&error) => {
                    return Err(Error::Unread {
                        what: format!("the topic {}", self.topic),
                        message: error.to_string(),
                    });
                }
                Some(Err(error)) => tracing::debug!(%error, "while reading by hand"),
            }
        }
        Ok(None)
    }

    /// How far each partition was read: every record before was given out.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        let context = self.consumer.context();
        let position = |(&partition, &next): (&i32, &i64)| {
            let lane = self.lane(partition);
            Position { epoch: context.epoch(&lane).unwrap_or_default(), lane, next }
        };
        self.next.iter().map(position).collect()
    }

    pub(super) fn lane(&self, partition: i32) -> Lane {
        Lane { topic: Arc::clone(&self.topic), partition }
    }

    pub(super) fn shared(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.consumer)
    }
}

/// Whether no waiting mends this. A group that may not be looked up is no such thing: nobody joins it.
fn is_final(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || code == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
        || code == Some(RDKafkaErrorCode::UnknownTopic)
}

/// How the outputs' cluster is read: as the source is, where it is the same one; else by what the sink says of the connection.
fn config(source: Option<&SourceSettings>, sink: &SinkSettings, group: &str) -> Result<ClientConfig, Error> {
    let mut settings = match source.filter(|_| sink.brokers.is_empty()) {
        Some(source) => source.clone(),
        None => SourceSettings {
            brokers: sink.brokers.clone(),
            properties: sink.properties.clone(),
            properties_files: sink.properties_files.clone(),
            ..SourceSettings::default()
        },
    };
    group.clone_into(&mut settings.group);
    settings.properties.retain(|name, _| is_connection_property(name));
    let mut config = client_config(&settings)?;
    config.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
    Ok(config)
}
