//! Owns the settings of delivery: the guarantee, the pace of commits, and the bounds on what is in flight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What delivery promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Every record's outcome is visible exactly once to a read-committed reader.
    ExactlyOnce,
    /// Every record's outcome is visible at least once.
    AtLeastOnce,
}

impl Guarantee {
    /// The guarantee's name, as in the pipeline file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// When settings are read again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadSettings {
    /// How often the pipeline file is looked at for changes, in milliseconds; 0: never, and SIGHUP alone asks for a reload.
    pub watch_ms: u64,
}

/// What delivery promises, its pace, and the bounds on what is in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySettings {
    /// Unset means exactly-once from Kafka to Kafka, at-least-once otherwise.
    pub guarantee: Option<Guarantee>,
    /// Longest time a finished verdict waits for its commit, in milliseconds.
    #[schemars(range(min = 1))]
    pub commit_interval_ms: u64,
    /// Most documents in one commit.
    #[schemars(range(min = 1))]
    pub max_batch_documents: usize,
    /// Most bytes of records in one commit, about; a larger record is committed alone.
    #[schemars(range(min = 1))]
    pub max_batch_bytes: usize,
    /// This worker's slot on this machine; unset means the lowest free one under `cache.path`.
    pub instance: Option<u32>,
    /// Longest time to finish what is open after a stop signal, in milliseconds.
    pub drain_ms: u64,
    /// Longest time to finish what is open on revoked partitions, in milliseconds. Keep it below the group's rebalance timeout.
    pub revoke_ms: u64,
    /// The process ends, with code 69, when documents are in flight and nothing has moved for this long, in milliseconds; 0: never.
    pub stall_exit_ms: u64,
    /// Most documents being scored at once. More give the device more rows to choose from; fewer keep the order of finishing near the
    /// order of reading, in which alone verdicts are delivered.
    #[schemars(range(min = 1))]
    pub max_journeys: usize,
    /// Most documents between reading and delivery.
    #[schemars(range(min = 1))]
    pub max_documents: usize,
    /// Most bytes of records between reading and delivery; a larger record passes alone.
    #[schemars(range(min = 1))]
    pub max_in_flight_bytes: usize,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            guarantee: None,
            commit_interval_ms: 1_000,
            max_batch_documents: 10_000,
            max_batch_bytes: 33_554_432,
            instance: None,
            drain_ms: 30_000,
            revoke_ms: 20_000,
            stall_exit_ms: 600_000,
            max_journeys: 64,
            max_documents: 16_384,
            max_in_flight_bytes: 268_435_456,
        }
    }
}
