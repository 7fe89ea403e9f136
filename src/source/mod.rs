//! Sources: where records come from.
//!
//! Owns: one role, reading records in order, with one file per implementation. In: settings and an outlet. Out: records and notices.
//! Invariants: a record carries its permits from the moment it is read; a source never runs ahead of its allowance.
//! Must not know: what a document is, sinks, scorers.

mod files;
mod lines;
mod passing;

pub use files::{Files, FilesSettings, Plan, unread};
pub use lines::{Input, Lines, StdinSettings};

use crate::corpus::Outlet;
use crate::kafka;
use crate::telemetry::{Board, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where records come from: exactly one of its tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Read a Kafka topic.
    pub kafka: Option<kafka::SourceSettings>,
    /// Read lines of files.
    pub files: Option<FilesSettings>,
    /// Read lines from standard input.
    pub stdin: Option<StdinSettings>,
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka said no.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// An input or a checkpoint can't be used.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(std::io::Error),
}

/// A running source.
pub enum Source {
    /// Kafka.
    Kafka(kafka::Consumer),
    /// Lines of many files, resumable.
    Files(Files),
    /// Lines of a file or of standard input.
    Lines(Lines),
}

impl Source {
    /// Connects to Kafka; reading begins with [`Source::start`]. Blocks up to 20 s.
    ///
    /// # Errors
    /// A refused property, or no answer from any broker.
    pub fn kafka(
        settings: &kafka::SourceSettings,
        outlet: Outlet,
        revoke_budget: Duration,
        board: Board,
    ) -> Result<Self, Error> {
        Ok(Self::Kafka(kafka::Consumer::open(settings, outlet, revoke_budget, board)?))
    }

    /// Opens lines.
    ///
    /// # Errors
    /// An input that can't be opened.
    pub fn lines(input: &Input, outlet: Outlet, max_bytes: u64, progress: Progress) -> Result<Self, Error> {
        Ok(Self::Lines(Lines::open(input, outlet, max_bytes, progress)?))
    }

    /// The Kafka consumer, if that is what this source is.
    #[must_use]
    pub fn consumer(&self) -> Option<&kafka::Consumer> {
        match self {
            Self::Kafka(consumer) => Some(consumer),
            Self::Files(_) | Self::Lines(_) => None,
        }
    }

    /// Begins to read. Call it when somebody heeds the notices. (Lines begin when they are opened: they have none that wait.)
    ///
    /// # Errors
    /// A topic name that is refused, or no thread to be had.
    pub fn start(&mut self) -> Result<(), Error> {
        match self {
            Self::Kafka(consumer) => Ok(consumer.start()?),
            Self::Files(files) => files.start(),
            Self::Lines(_) => Ok(()),
        }
    }

    /// Whether this source never comes to an end by itself.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Takes no more records; what keeps the source alive (group membership) goes on.
    pub fn stop(&self) {
        match self {
            Self::Kafka(consumer) => consumer.stop(),
            Self::Files(files) => files.stop(),
            Self::Lines(lines) => lines.stop(),
        }
    }

    /// Ends the source within `budget`. Blocking. False if it would not end.
    #[must_use]
    pub fn close(self, budget: Duration) -> bool {
        match self {
            Self::Kafka(consumer) => consumer.close(budget),
            Self::Files(files) => files.close(budget),
            Self::Lines(lines) => {
                lines.stop();
                true
            }
        }
    }
}
