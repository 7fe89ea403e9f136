//! Owns the settings of the Kafka source and sink, and which librdkafka properties tamis keeps to itself.

use super::secrets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Read topics of Kafka, as a member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Topics to read, at least one. One that begins with `^` is a regular expression that must match a topic's whole name, as in
    /// `"^corpus\\.raw\\..*"`; topics that appear later are found within `topic.metadata.refresh.interval.ms`. No route may match.
    pub topics: Vec<String>,
    /// Consumer group. Workers of one group share the partitions; the group's committed offsets say where to go on.
    pub group: String,
    /// Any librdkafka consumer property but those that delivery rests on, which are refused by name. Of note: `partition.assignment.strategy`
    /// (`cooperative-sticky` unless set; all workers of a group must agree), `group.protocol` (`consumer` is Kafka 4's own), `group.instance.id` (static
    /// membership; `{host}-{instance}` makes it differ between workers), `auto.offset.reset` (`earliest` unless set; `latest` commits
    /// the end where reading begins; `error` stops with 69).
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

/// Write to topics of Kafka, named by `[routes]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SinkSettings {
    /// Bootstrap brokers; empty means the source's.
    pub brokers: String,
    /// Any librdkafka producer property but those that tamis sets itself. With `brokers` empty, the source's properties that say how to reach the brokers
    /// (`security.*`, `sasl.*`, `ssl.*`, …) hold here, too.
    pub properties: BTreeMap<String, String>,
    /// Properties of the connection whose values stand in files, as in `[source.kafka]`; with `brokers` empty, the source's files are used too.
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
