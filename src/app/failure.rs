//! Owns the failure: one sentence for a person and the exit code it means.

use crate::cli::Exit;
use crate::corpus::Class;
use crate::pipeline::Stopped;
use crate::{admin, cache, engine, files, judge, kafka, scorer, source, telemetry};
use std::fmt;

/// Why the process ends without having done what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What, where, and what to do next.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Both failures, told together; wrong settings give the exit code, else `other` does.
    pub(super) fn and(self, other: &Self) -> Self {
        let exit = if self.exit == Exit::Usage { self.exit } else { other.exit };
        Self { exit, message: format!("{}\n{}", self.message, other.message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The exit code of a flow that stopped.
    pub(super) fn exit_of(stopped: &Stopped) -> Exit {
        match stopped {
            Stopped::Unavailable(_) | Stopped::ReaderGone => Exit::Unavailable,
            Stopped::Input(_) => Exit::Input,
            Stopped::Fault(fault) if matches!(fault.class, Class::EngineGone | Class::RegistryUnavailable) => {
                Exit::Unavailable
            }
            Stopped::Fault(_) | Stopped::Panic(_) => Exit::Bug,
            Stopped::DrainDeadline { .. } => Exit::DrainDeadline,
        }
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::new(Self::exit_of(&stopped), stopped)
    }
}

impl From<source::Error> for Failure {
    fn from(error: source::Error) -> Self {
        let exit = match &error {
            source::Error::Kafka(kafka::Error::Property { .. }) => Exit::Usage,
            source::Error::Kafka(_) | source::Error::Thread(_) => Exit::Unavailable,
            source::Error::Files(error) if error.is_input() => Exit::Input,
            source::Error::Files(_) => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}

impl From<files::Error> for Failure {
    fn from(error: files::Error) -> Self {
        Self::from(source::Error::Files(error))
    }
}

impl From<kafka::Error> for Failure {
    fn from(error: kafka::Error) -> Self {
        Self::from(source::Error::Kafka(error))
    }
}

impl From<admin::Error> for Failure {
    fn from(error: admin::Error) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}

impl From<cache::SlotError> for Failure {
    fn from(error: cache::SlotError) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}

impl From<cache::inventory::Error> for Failure {
    fn from(error: cache::inventory::Error) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}

impl From<judge::Error> for Failure {
    fn from(error: judge::Error) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<crate::decode::Error> for Failure {
    fn from(error: crate::decode::Error) -> Self {
        let is_absent = matches!(error, crate::decode::Error::Opening(_));
        let exit = if is_absent { Exit::Unavailable } else { Exit::Usage };
        Self::new(exit, format!("document.{}: {error}", error.key()))
    }
}

impl From<scorer::Error> for Failure {
    fn from(error: scorer::Error) -> Self {
        let exit = match &error {
            scorer::Error::Settings { .. } => Exit::Usage,
            scorer::Error::Mismatch { .. }
            | scorer::Error::Unreadable { .. }
            | scorer::Error::Export { .. }
            | scorer::Error::NotMasked { .. }
            | scorer::Error::NotSuch { .. }
            | scorer::Error::Unhealthy { .. }
            | scorer::Error::Tokenize(_)
            | scorer::Error::Engine(_)
            | scorer::Error::Task { .. } => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}

impl From<telemetry::ExporterError> for Failure {
    fn from(error: telemetry::ExporterError) -> Self {
        Self::new(Exit::Bug, error)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(Exit::Bug, format!("a task panicked: {error}"))
    }
}
