//! Owns the opening of a producer: its properties, the look at its topics, the first call of its transactions.

use super::error::Error;
use super::producer::{DeliveryContext, Guarantee};
use super::secrets;
use super::settings::{SinkSettings, SourceSettings, is_connection_property};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_secs(10);
/// The longest that a new producer waits for its transactional id.
pub(super) const INIT_BUDGET: Duration = Duration::from_secs(75);

pub(super) fn check_topic(producer: &ThreadedProducer<DeliveryContext>, topic: &str) -> Result<(), Error> {
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

/// Begins transactions under `id`, which fences whoever used it before. Tries for about `budget` while the broker asks for patience.
pub(super) fn init_transactions<C: ProducerContext + 'static>(
    producer: &ThreadedProducer<C>,
    id: &str,
    budget: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + budget;
    loop {
        match producer.init_transactions(CALL) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(inner)) if inner.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                let is_denied =
                    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed);
                return Err(Error::Transactions { id: id.to_owned(), is_denied, message: error.to_string() });
            }
        }
    }
}

/// The producer's properties: defaults, then the person's, then ours. An error is a file that holds no value.
pub(super) fn client_config(
    source: Option<&SourceSettings>,
    sink: &SinkSettings,
    guarantee: &Guarantee,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "tamis")
        // A delivery step hands everything over and then flushes, which waits for nothing. Sending sooner, before a batch is full, would only cut a step
        // into small requests; and with five of them under way for one partition the client library turns in circles until the broker has answered.
        .set("linger.ms", "500")
        .set("compression.type", "zstd")
        // The topic's own limit decides, on the compressed record; one that it refuses becomes a dead letter. Whatever could be read must fit: a dead letter that
        // the library itself refuses has nowhere to go.
        .set("message.max.bytes", "440000000")
        .set("queue.buffering.max.kbytes", "524288")
        // Scoring is outside, so a transaction lasts milliseconds; a dead worker's is over after this.
        .set("transaction.timeout.ms", "30000")
        .set("allow.auto.create.topics", "false");
    let own_brokers = !sink.brokers.is_empty();
    if let (Some(source), false) = (source, own_brokers) {
        for (name, value) in source.properties.iter().filter(|(name, _)| is_connection_property(name)) {
            config.set(name, value);
        }
        // What the sink gives itself, in either way, is not looked for in the source's files.
        let given = |name: &str| sink.properties.contains_key(name) || sink.properties_files.contains_key(name);
        secrets::lay_over(&mut config, "source.kafka", &source.properties_files, |name| !given(name))?;
    }
    for (name, value) in &sink.properties {
        config.set(name, value);
    }
    secrets::lay_over(&mut config, "sink.kafka", &sink.properties_files, |_| true)?;
    super::sight::open_eyes(&mut config);
    let brokers = if own_brokers { sink.brokers.as_str() } else { source.map_or("", |source| source.brokers.as_str()) };
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    if let Guarantee::ExactlyOnce { transactional_id } = guarantee {
        config.set("transactional.id", transactional_id);
    }
    // An output must fail before its step gives up, and the step before the broker gives up the transaction: that would be fatal.
    let third = (transaction_timeout(&config).as_millis() / 3).max(1_000).to_string();
    if !sink.properties.contains_key("message.timeout.ms") {
        config.set("message.timeout.ms", &third);
    }
    // The client library would wait nearly as long as the transaction may last for the answer of a coordinator that has gone silent, and only then look
    // for the one that took its place.
    if matches!(guarantee, Guarantee::ExactlyOnce { .. }) && config.get("socket.timeout.ms").is_none() {
        config.set("socket.timeout.ms", &third);
    }
    Ok(config)
}

pub(super) fn transaction_timeout(config: &ClientConfig) -> Duration {
    let millis = config.get("transaction.timeout.ms").and_then(|text| text.parse().ok()).unwrap_or(30_000);
    Duration::from_millis(millis)
}
