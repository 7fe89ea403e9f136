//! Owns the settings of the Kafka source and sink, and which librdkafka properties tamis keeps to itself.

use super::secrets;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[source.kafka]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Consumer group.
    pub group: String,
    /// Any librdkafka consumer property but those that tamis owns.
    pub properties: BTreeMap<String, String>,
    /// Properties of the connection (`sasl.*`, `ssl.*`, `security.*`) whose values stand in files, by name: a password or key that a secret store
    /// mounts. The file is read when a client is made; one line end behind the value is left out. Relative to the current directory.
    pub properties_files: BTreeMap<String, PathBuf>,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topics: Vec::new(),
            group: String::new(),
            properties: BTreeMap::new(),
            properties_files: BTreeMap::new(),
        }
    }
}

/// `[sink.kafka]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkSettings {
    /// Bootstrap brokers; empty means the source's.
    pub brokers: String,
    /// Any librdkafka producer property but those that tamis owns. With `brokers` empty, the source's client properties apply too.
    pub properties: BTreeMap<String, String>,
    /// As [`SourceSettings::properties_files`].
    pub properties_files: BTreeMap<String, PathBuf>,
}

impl SinkSettings {
    /// What is wrong with its `properties_files`, without a look at the files.
    #[must_use]
    pub fn files_problems(&self) -> Vec<String> {
        secrets::problems(&self.properties, &self.properties_files)
    }
}

impl SourceSettings {
    /// What is wrong with its `properties_files`, without a look at the files.
    #[must_use]
    pub fn files_problems(&self) -> Vec<String> {
        secrets::problems(&self.properties, &self.properties_files)
    }
}

/// Properties that tamis sets itself, because its delivery promise rests on them.
pub const OWNED_PROPERTIES: &[&str] = &[
    "acks",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "metadata.broker.list",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// Whether a source property also makes sense for the producer of the same cluster: how to reach it, not how to read from it.
#[must_use]
pub(super) fn is_connection_property(name: &str) -> bool {
    ["security.", "sasl.", "ssl.", "socket.", "broker.address", "client.dns", "reconnect."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name == "debug"
}
