//! Owns what can go wrong with Kafka, as facts, without the client library's types.

use super::advice::advice;
use crate::corpus::Class;
use rdkafka::error::KafkaError;
use std::path::PathBuf;

/// What to do about an id that may not be used.
const DENIED: &str =
    "; allow this user Write and Describe on transactional ids that begin like it, or choose at-least-once";

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A property was refused by the client library.
    #[error("[{room}] properties: {message}")]
    Property {
        /// `source.kafka` or `sink.kafka`.
        room: &'static str,
        /// What the library said.
        message: String,
    },
    /// A property's file holds no value.
    #[error("{room}.properties_files: {property:?} can't be had from {}: {why}; give it a readable file that holds the value alone", .path.display())]
    Secret {
        /// `source.kafka` or `sink.kafka`.
        room: &'static str,
        /// The property.
        property: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, never what it holds.
        why: String,
    },
    /// No broker answered.
    #[error("no broker answers at {brokers}: {message}; {}", advice(.message))]
    Unreachable {
        /// The bootstrap list.
        brokers: String,
        /// What the library said.
        message: String,
    },
    /// An output topic does not exist or can't be seen.
    #[error("topic {topic} can't be written: {message}; create it or fix [routes]")]
    Topic {
        /// The topic.
        topic: String,
        /// What the broker said.
        message: String,
    },
    /// A topic or the positions kept for it can't be read.
    #[error("{what} can't be read: {message}; check its name, this user's permissions and the brokers")]
    Unread {
        /// A topic or a group.
        what: String,
        /// What the broker said.
        message: String,
    },
    /// Transactions could not be started for this id.
    #[error("transactional id {id} can't be used: {message}{}", if *.is_denied { DENIED } else { "" })]
    Transactions {
        /// The id.
        id: String,
        /// Whether a permission is missing.
        is_denied: bool,
        /// What the broker said.
        message: String,
    },
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(std::io::Error),
    /// The embedded broker failed.
    #[error("embedded broker: {0}")]
    Embedded(String),
}

/// A client that could not be made of its properties. The value of a property is left out: it may be a secret under a misspelt name.
pub(super) fn property(room: &'static str, error: &KafkaError) -> Error {
    let message = if let KafkaError::ClientConfig(_, why, name, value) = error {
        // The library quotes some values; under a wrong name, any of them may be the secret.
        let why = if value.is_empty() { why.clone() } else { why.replace(value.as_str(), "…") };
        if why.contains(name.as_str()) { why } else { format!("{name}: {why}") }
    } else {
        error.to_string()
    };
    Error::Property { room, message }
}

/// One output that its topic will not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Index into the outputs of the failed step.
    pub index: usize,
    /// [`Class::OutputTooLarge`] or [`Class::OutputRefused`].
    pub class: Class,
    /// What the broker said.
    pub message: String,
}

/// Why a delivery step delivered nothing.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Some outputs will never be taken; turn them into dead letters and try the step again.
    #[error("{} outputs were refused, the first: {}", .0.len(), .0.first().map_or("none", |r| r.message.as_str()))]
    Refused(Vec<Refusal>),
    /// The step was aborted cleanly; it may be tried again with what is still ours.
    #[error("aborted: {0}")]
    Aborted(String),
    /// The producer can't be used any more; the process must stop.
    #[error("fatal: {0}")]
    Fatal(String),
}
