//! Owns what a cluster says before anything is read from it or written to it: topics, limits, permissions, the group, transactions.
//!
//! In: the settings that a session would be opened with. Out: plain facts; what they mean for a pipeline is for others to say.
//! Invariants: no group is joined, no offset moved, no record written, no topic created; every question has a time limit, and one
//! without an answer leaves the others standing. What a broker keeps by itself when it is first asked for a group or a transactional id (its
//! own internal topics, the id's entry) is the broker's.
//! Must not know: documents, routes, what is too small or too much.

mod facts;
mod native;
mod patterns;

pub use facts::{Group, GroupProtocol, Partition, Progress, Seen, SinkFacts, SourceFacts, Topic, TopicSettings};

use self::native::Silence;
use super::consumer;
use super::context::log;
use super::error::{Error, property};
use super::groups::{is_consumer_protocol, is_pattern};
use super::opening::{client_config, init_transactions};
use super::producer::Guarantee;
use super::settings::{SinkSettings, SourceSettings};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest that one question may take.
const QUESTION: Duration = Duration::from_secs(10);
/// How often a cluster that does not answer is tried, within the time that it is given.
const TRY: Duration = Duration::from_millis(500);
/// Reasons that are kept of a connection that fails.
const REASONS: usize = 4;

/// Asks the source's cluster, which must answer within `reach`; then each question has a limit of its own. Blocking.
///
/// # Errors
/// A refused property, or no broker that answers: with the client library's reasons.
pub fn source(settings: &SourceSettings, reach: Duration) -> Result<SourceFacts, Error> {
    let config = consumer::client_config(settings)?;
    let ear = Ear::default();
    let consumer: BaseConsumer<Ear> =
        config.create_with_context(ear.clone()).map_err(|error| property("source.kafka", &error))?;
    let (patterns, names): (Vec<&str>, Vec<&str>) =
        settings.topics.iter().map(String::as_str).partition(|topic| is_pattern(topic));
    let reached = reached(consumer.client(), names.first(), &ear, reach, &settings.brokers, || {
        drop(consumer.poll(Duration::ZERO))
    })?;
    let (patterns, matched) = patterns::matches(consumer.client(), &patterns, QUESTION);
    let more = matched.iter().map(String::as_str).filter(|name| !names.contains(name)).collect::<Vec<_>>();
    let names = [names, more].concat();
    let topics = if names.is_empty() { Vec::new() } else { topics(consumer.client(), reached, &names) };
    let group = patiently(|| native::group(consumer.client(), &settings.group, QUESTION));
    let progress = patiently(|| progress(&consumer, &topics));
    let offered = config.get("partition.assignment.strategy").unwrap_or_default();
    Ok(SourceFacts {
        brokers: reached.brokers,
        topics,
        patterns,
        group,
        progress,
        assignors: offered.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        protocol: if is_consumer_protocol(&settings.properties) {
            GroupProtocol::Consumer
        } else {
            GroupProtocol::Classic
        },
        begins_at: config.get("auto.offset.reset").unwrap_or("latest").to_owned(),
    })
}

/// Asks the outputs' cluster, which must answer within `reach`; then each question has a limit of its own. Blocking.
///
/// With a `transactional_id`, transactions are begun under it, which fences whoever uses it: give one that no worker uses.
///
/// # Errors
/// A refused property, or no broker that answers: with the client library's reasons.
pub fn sink(
    source: Option<&SourceSettings>,
    sink: &SinkSettings,
    transactional_id: Option<&str>,
    names: &[&str],
    reach: Duration,
) -> Result<SinkFacts, Error> {
    let guarantee = match transactional_id {
        Some(id) => Guarantee::ExactlyOnce { transactional_id: id.to_owned() },
        None => Guarantee::AtLeastOnce,
    };
    let config = client_config(source, sink, &guarantee)?;
    let ear = Ear::default();
    let producer: ThreadedProducer<Ear> =
        config.create_with_context(ear.clone()).map_err(|error| property("sink.kafka", &error))?;
    let bootstrap = config.get("bootstrap.servers").unwrap_or_default();
    let reached = reached(producer.client(), names.first(), &ear, reach, bootstrap, || ())?;
    Ok(SinkFacts {
        brokers: reached.brokers,
        topics: topics(producer.client(), reached, names),
        message_max_bytes: config.get("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(1_000_000),
        transactions: transactional_id
            .map(|id| init_transactions(&producer, id, QUESTION).map_err(|error| error.to_string())),
    })
}

/// Whether the client library takes these properties, without a look at any broker.
///
/// # Errors
/// The first property of each table that it does not take, or that its file does not give ([`Error::Secret`]).
pub fn properties(source: Option<&SourceSettings>, sink: Option<&SinkSettings>) -> Vec<Error> {
    let checked = |room, config: Result<ClientConfig, Error>| match config {
        Ok(config) => config.create_native_config().err().map(|error| property(room, &error)),
        Err(error) => Some(error),
    };
    let read = source.and_then(|source| checked("source.kafka", consumer::client_config(source)));
    let written = sink.and_then(|sink| checked("sink.kafka", client_config(None, sink, &Guarantee::AtLeastOnce)));
    read.into_iter().chain(written).collect()
}

/// A cluster that answered.
#[derive(Debug, Clone, Copy)]
struct Reached {
    brokers: usize,
    /// The broker that is asked further: not every cluster names a controller.
    asked: i32,
}

/// Waits for a first answer. An answer that no waiting changes ends the wait.
fn reached<C: ClientContext>(
    client: &Client<C>,
    topic: Option<&&str>,
    ear: &Ear,
    reach: Duration,
    brokers: &str,
    serve: impl Fn(),
) -> Result<Reached, Error> {
    let deadline = Instant::now() + reach;
    loop {
        // One topic's metadata suffices, and on a large cluster that of all is long.
        let outcome = client.fetch_metadata(topic.copied(), TRY);
        serve();
        let error = match outcome {
            Ok(metadata) => {
                // A bootstrap address has no number of its own: then the first broker of the cluster's list is asked.
                let first = metadata.brokers().first().map_or(-1, MetadataBroker::id);
                let answered = metadata.orig_broker_id();
                return Ok(Reached {
                    brokers: metadata.brokers().len(),
                    asked: if answered >= 0 { answered } else { first },
                });
            }
            Err(error) => error,
        };
        if ear.is_hopeless() || Instant::now() >= deadline {
            let reasons = ear.reasons();
            let message = if reasons.is_empty() { error.to_string() } else { reasons.join("; ") };
            return Err(Error::Unreachable { brokers: brokers.to_owned(), message });
        }
    }
}

/// Topics with their settings. What can't be learnt is said in its place.
fn topics<C: ClientContext>(client: &Client<C>, reached: Reached, names: &[&str]) -> Vec<Topic> {
    let unclear = |name: &&str, why: &str| Topic {
        name: (*name).to_owned(),
        seen: Seen::Unclear(why.to_owned()),
        may_read: None,
        may_write: None,
        settings: Err(why.to_owned()),
    };
    let mut topics = match native::topics(client, reached.asked, names, QUESTION) {
        Ok(topics) => topics,
        Err(why) => return names.iter().map(|name| unclear(name, &why)).collect(),
    };
    let there: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| topics.iter().any(|topic| topic.name == *name && topic.is_there()))
        .collect();
    if there.is_empty() {
        return topics;
    }
    let settings = native::topic_settings(client, reached.asked, &there, QUESTION);
    for topic in topics.iter_mut().filter(|topic| topic.is_there()) {
        topic.settings = match &settings {
            Err(why) => Err(why.clone()),
            Ok(all) => match all.get(&topic.name) {
                Some(Ok(pairs)) => Ok(TopicSettings {
                    max_message_bytes: pairs.get("max.message.bytes").and_then(|text| text.parse().ok()),
                    is_compacted: pairs.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
                    min_in_sync: pairs.get("min.insync.replicas").and_then(|text| text.parse().ok()),
                }),
                Some(Err(why)) => Err(why.clone()),
                None => Err("the broker left it out".to_owned()),
            },
        };
    }
    topics
}

impl Topic {
    fn is_there(&self) -> bool {
        matches!(self.seen, Seen::There(_))
    }

    /// The number of its partitions, if it is there.
    #[must_use]
    pub fn partitions(&self) -> Option<usize> {
        match &self.seen {
            Seen::There(partitions) => Some(partitions.len()),
            Seen::Absent | Seen::Hidden | Seen::Unclear(_) => None,
        }
    }
}

/// Asks again while the coordinator is on its way, for as long as one question may take.
fn patiently<T>(question: impl Fn() -> Result<T, Silence>) -> Result<T, String> {
    let deadline = Instant::now() + QUESTION;
    loop {
        match question() {
            Ok(answer) => return Ok(answer),
            Err(silence) if silence.is_passing && Instant::now() < deadline => std::thread::sleep(TRY),
            Err(silence) => return Err(silence.why),
        }
    }
}

/// Committed offsets and ends of all partitions, in two questions.
fn progress(consumer: &BaseConsumer<Ear>, topics: &[Topic]) -> Result<Progress, Silence> {
    let silence = |error: KafkaError| Silence {
        is_passing: error.rdkafka_error_code().is_some_and(native::is_passing),
        why: error.to_string(),
    };
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..topic.partitions().unwrap_or(0) {
            list.add_partition(&topic.name, i32::try_from(partition).unwrap_or(i32::MAX));
        }
    }
    let mut progress = Progress { partitions: list.count(), ..Progress::default() };
    if progress.partitions == 0 {
        return Ok(progress);
    }
    let committed = consumer.committed_offsets(list.clone(), QUESTION).map_err(silence)?;
    let begun: Vec<(String, i32, i64)> = committed
        .elements()
        .iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.topic().to_owned(), element.partition(), offset)),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
        })
        .collect();
    progress.committed = begun.len();
    if begun.is_empty() {
        return Ok(progress);
    }
    list.set_all_offsets(Offset::End).map_err(silence)?;
    let ends = consumer.offsets_for_times(list, QUESTION).map_err(silence)?;
    for (topic, partition, offset) in begun {
        let end = ends.find_partition(&topic, partition).map(|element| element.offset());
        if let Some(Offset::Offset(end)) = end {
            progress.lag += u64::try_from(end - offset).unwrap_or(0);
        }
    }
    Ok(progress)
}

/// Hears what the client library says about its connections.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    reasons: Vec<String>,
    is_hopeless: bool,
}

impl Ear {
    fn hear(&self, reason: &str, is_hopeless: bool) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_hopeless |= is_hopeless;
        let reason = without_clock(reason);
        if heard.reasons.len() < REASONS && !reason.is_empty() && !heard.reasons.contains(&reason) {
            heard.reasons.push(reason);
        }
    }

    fn is_hopeless(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_hopeless
    }

    fn reasons(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reasons.clone()
    }
}

/// The library's reason without its thread's name before and its clock behind, which differ at every try.
fn without_clock(reason: &str) -> String {
    let reason = reason.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(reason, |(_, rest)| rest);
    let end = reason.find(" (after ").unwrap_or(reason.len());
    reason[..end].trim().to_owned()
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                // Errors of TLS and SASL handshakes come on these lines, with their cause.
                let is_hopeless = message.contains("authentication fail") || message.contains("Authentication fail");
                self.hear(message, is_hopeless);
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {}
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let hopeless =
            [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SSL, RDKafkaErrorCode::SaslAuthenticationFailed];
        let is_hopeless = error.rdkafka_error_code().is_some_and(|code| hopeless.contains(&code));
        self.hear(reason, is_hopeless);
    }
}

impl ConsumerContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_kept_once_and_without_what_changes_at_every_try() {
        let ear = Ear::default();
        ear.hear(
            "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect failed: refused (after 0ms in state CONNECT)",
            false,
        );
        ear.hear("127.0.0.1:1/bootstrap: Connect failed: refused (after 3ms in state CONNECT, 1 suppressed)", false);
        assert_eq!(ear.reasons(), ["127.0.0.1:1/bootstrap: Connect failed: refused"]);
        assert!(!ear.is_hopeless());
        ear.hear("", true);
        assert!(ear.is_hopeless() && ear.reasons().len() == 1);
    }

    #[test]
    fn a_property_that_the_library_does_not_take_is_named_without_its_value() {
        let mut source = SourceSettings::default();
        assert!(properties(Some(&source), Some(&SinkSettings::default())).is_empty());
        source.properties.insert("sasl.pasword".into(), "s3cret".into());
        let sink = SinkSettings { properties: [("linger.ms".into(), "soon".into())].into(), ..SinkSettings::default() };
        let found = properties(Some(&source), Some(&sink));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{text:?}");
        assert!(text[0].contains("sasl.pasword") && !text[0].contains("s3cret"), "{text:?}");
        assert!(text[1].contains("[sink.kafka]") && text[1].contains("linger.ms"), "{text:?}");
    }

    #[test]
    fn a_broker_that_knows_few_questions_is_soon_done_with() {
        let broker = crate::kafka::Embedded::start(&[("in", 3), ("out", 2)]).unwrap();
        let settings = SourceSettings {
            brokers: broker.brokers().to_owned(),
            topics: vec!["in".into(), "gone".into()],
            group: "g".into(),
            ..Default::default()
        };
        let begun = Instant::now();
        let facts = source(&settings, QUESTION).unwrap();
        assert_eq!(facts.topics[0].partitions(), Some(3));
        assert_eq!((facts.topics[0].may_read, &facts.topics[1].seen), (None, &Seen::Absent));
        assert!(facts.topics[0].settings.is_err() && facts.group.is_err(), "{facts:?}");
        let facts = sink(Some(&settings), &SinkSettings::default(), Some("g-check"), &["out"], QUESTION).unwrap();
        assert_eq!((facts.topics[0].partitions(), facts.transactions), (Some(2), Some(Ok(()))));
        assert!(begun.elapsed() < 2 * QUESTION, "a question that the broker does not know was waited for");
    }

    #[test]
    fn a_broker_that_is_not_there_is_told_within_the_limit_with_the_reason() {
        let source_settings = SourceSettings {
            brokers: "127.0.0.1:1".into(),
            topics: vec!["t".into()],
            group: "g".into(),
            ..Default::default()
        };
        let begun = Instant::now();
        let error = source(&source_settings, Duration::from_secs(1)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(15));
        assert!(matches!(&error, Error::Unreachable { message, .. } if message.contains("refused")), "{error}");
    }
}
