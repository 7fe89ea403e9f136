//! Owns the embedded broker of `demo`: librdkafka's mock cluster, in process.
//!
//! Invariant: it proves nothing about delivery. It has no isolation and no fencing, forgets committed offsets, and keeps at most 5 MiB or
//! 100,000 messages a partition. Tests of delivery use a genuine broker.

use super::error::Error;
use crate::corpus::Header;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use std::time::Duration;

/// What the embedded broker keeps of one partition before it drops the oldest.
pub const EMBEDDED_PARTITION_BYTES: usize = 5 * 1024 * 1024;

/// A broker that lives as long as this value.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// Starts one broker on a free loopback port with these topics and their partition counts.
    ///
    /// # Errors
    /// When the cluster or a topic can't be made.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, Error> {
        let cluster = MockCluster::new(1).map_err(|error| Error::Embedded(error.to_string()))?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).map_err(|error| Error::Embedded(error.to_string()))?;
        }
        Ok(Self { cluster })
    }

    /// `host:port` of the broker.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces `values` to `topic`, spread over its partitions in turn, in order. Blocks.
    ///
    /// # Errors
    /// When a value is not acknowledged within 30 s.
    pub fn feed(&self, topic: &str, partitions: i32, values: &[Vec<u8>], headers: &[Header]) -> Result<(), Error> {
        let failed = |error: rdkafka::error::KafkaError| Error::Embedded(error.to_string());
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().map_err(failed)?;
        for (index, value) in values.iter().enumerate() {
            let partition = i32::try_from(index % partitions.max(1).unsigned_abs() as usize).unwrap_or(0);
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
                .partition(partition)
                .payload(value.as_slice())
                .headers(super::record::owned_headers(headers, &[]));
            producer.send(record).map_err(|(error, _)| failed(error))?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(30)).map_err(failed)
    }
}
