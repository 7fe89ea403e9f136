//! Owns the consumer half of a session: its properties, its thread, and its end.

use super::committer::Committer;
use super::context::Context;
use super::driver::{Driver, Wishes};
use super::error::{Error, property};
use super::groups::{anchored, is_consumer_protocol, is_pattern};
use super::settings::SourceSettings;
use super::{placing, secrets, sight};
use crate::corpus::Outlet;
use crate::telemetry::Board;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const REACH_BUDGET: Duration = Duration::from_secs(20);
/// The most that one batch of records may have once it is decompressed, unless the properties say otherwise. Beyond it the client library fetches the batch
/// again and again. Its own bound, 100 MB, is less than a producer may put into a batch.
const BATCH_BYTES: u64 = 400_000_000;

/// A consumer. Once started, dropping it without [`Consumer::close`] leaves the group only by session timeout.
pub struct Consumer {
    shared: Arc<BaseConsumer<Context>>,
    topics: Vec<String>,
    outlet: Option<Outlet>,
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Connects. Blocks up to 20 s for a first answer of the broker. Joins nothing yet: see [`Consumer::start`].
    ///
    /// `board` hears of the assigned partitions at every change. `revoke_budget` bounds how long a revocation waits for open
    /// documents.
    ///
    /// # Errors
    /// A refused property, or no answer from any broker.
    pub fn open(
        settings: &SourceSettings,
        outlet: Outlet,
        revoke_budget: Duration,
        board: Board,
    ) -> Result<Self, Error> {
        let config = client_config(settings)?;
        let reset = placing::reset(config.get("auto.offset.reset"));
        let context = Context::new(outlet.notices.clone(), revoke_budget, reset, board);
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| property("source.kafka", &error))?;
        consumer.context().sight.watch(consumer.client(), &settings.brokers);
        let metadata = consumer
            .fetch_metadata(None, REACH_BUDGET)
            .map_err(|error| Error::Unreachable { brokers: settings.brokers.clone(), message: error.to_string() })?;
        for topic in settings.topics.iter().filter(|topic| !is_pattern(topic)) {
            if !metadata.topics().iter().any(|known| known.name() == topic) {
                tracing::warn!(topic, "source topic does not exist or may not be seen, waiting for it");
            }
        }
        Ok(Self {
            shared: Arc::new(consumer),
            topics: settings
                .topics
                .iter()
                .map(|topic| if is_pattern(topic) { anchored(topic) } else { topic.clone() })
                .collect(),
            outlet: Some(outlet),
            wishes: Arc::new(Wishes::default()),
            thread: None,
        })
    }

    /// Subscribes and starts the driver thread. Call it when somebody reads the notices: a rebalance waits for their answers.
    ///
    /// # Errors
    /// A topic name that the client library refuses, or no thread to be had.
    pub fn start(&mut self) -> Result<(), Error> {
        let Some(outlet) = self.outlet.take() else { return Ok(()) };
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.shared
            .subscribe(&topics)
            .map_err(|error| Error::Property { room: "source.kafka", message: error.to_string() })?;
        let driver = Driver::new(Arc::clone(&self.shared), outlet, Arc::clone(&self.wishes));
        let thread = std::thread::Builder::new().name("kafka-driver".into()).spawn(move || driver.run());
        self.thread = Some(thread.map_err(Error::Thread)?);
        Ok(())
    }

    /// What commits positions without a transaction, for sinks that have none.
    #[must_use]
    pub fn committer(&self) -> Committer {
        Committer::new(self.shared())
    }

    /// The client, for the producer's transactions.
    pub(super) fn shared(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.shared)
    }

    /// Takes no more records; polling goes on, so that the group membership lives while open documents are finished.
    pub fn stop(&self) {
        self.wishes.stop.store(true, Ordering::Release);
    }

    /// Leaves the group and ends the thread; gives up waiting after `budget`. Blocking. False if the thread would not end.
    pub fn close(mut self, budget: Duration) -> bool {
        self.shared.context().set_leaving();
        self.wishes.close.store(true, Ordering::Release);
        let deadline = Instant::now() + budget;
        let Some(thread) = self.thread.take() else { return true };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        thread.join().is_ok()
    }
}

/// The consumer's properties: defaults, then the person's, then ours. An error is a file that holds no value.
pub(super) fn client_config(settings: &SourceSettings) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "tamis")
        .set("auto.offset.reset", "earliest")
        // What waits in the client library counts into the worker's memory: docs/performance.md says how.
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.max.bytes", "8388608")
        .set("fetch.message.max.bytes", "1048576")
        .set("topic.metadata.refresh.interval.ms", "60000")
        .set("allow.auto.create.topics", "false");
    if !is_consumer_protocol(&settings.properties) {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    }
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    secrets::lay_over(&mut config, "source.kafka", &settings.properties_files, |_| true)?;
    sight::open_eyes(&mut config);
    if config.get("receive.message.max.bytes").is_none() {
        // Where it is set, the library wants it to be larger than a whole fetch.
        let fetch = config.get("fetch.max.bytes").and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        config.set("receive.message.max.bytes", BATCH_BYTES.max(fetch.saturating_add(512)).to_string());
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("isolation.level", "read_committed");
    Ok(config)
}
