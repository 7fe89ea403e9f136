//! Owns what can go wrong before and while documents are scored, as facts.

use crate::corpus::{Class, Fault, Stage};
use crate::{engine, graph, tokenize};
use std::path::PathBuf;

/// Why a scorer can't be built, or a document can't be scored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A signal's settings contradict themselves or the model.
    #[error("signals.{name}.{key}: {why}")]
    Settings {
        /// The signal's name.
        name: String,
        /// The key at fault.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Tokenizer and model don't belong together.
    #[error("models.{name}: {why}: tokenizer and model don't belong together")]
    Mismatch {
        /// The model's name.
        name: String,
        /// What differs.
        why: String,
    },
    /// The model's file is not there or can't be read.
    #[error("{}: can't be read ({why})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The model's file is none, or one that must not be run.
    #[error("{}: {source}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: graph::Error,
    },
    /// The model is none that fills masks.
    #[error("models.{name}: {architecture} has no masked-LM head: {why}")]
    NotMasked {
        /// The model's name.
        name: String,
        /// As in `config.json`.
        architecture: String,
        /// What it does instead, and what to take.
        why: &'static str,
    },
    /// The model is none of the kind that a signal asks for.
    #[error("models.{name}: {architecture} is no {wanted}: {why}")]
    NotSuch {
        /// The model's name.
        name: String,
        /// As in `config.json`.
        architecture: String,
        /// What the signal asks for.
        wanted: &'static str,
        /// What it does instead, and what to use.
        why: &'static str,
    },
    /// The model's masked-LM head talks nonsense.
    #[error(
        "models.{name}: the masked-LM head fails the health check: {why}; check the export (a head that was not exported or \
         not trained looks like this), or set head_check = \"warn\", as for a model that does not read English"
    )]
    Unhealthy {
        /// The model's name.
        name: String,
        /// What was measured.
        why: String,
    },
    /// The tokenizer can't be loaded, or refused a text.
    #[error(transparent)]
    Tokenize(#[from] tokenize::Error),
    /// The engine can't be loaded, or failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A task of ours panicked.
    #[error("a task of the scorer ended early: {why}")]
    Task {
        /// What the runtime said.
        why: String,
    },
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task { why: error.to_string() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Tokenize(error) => error.into(),
            Error::Engine(error) => error.into(),
            Error::Settings { .. }
            | Error::Mismatch { .. }
            | Error::Unreadable { .. }
            | Error::Export { .. }
            | Error::NotMasked { .. }
            | Error::NotSuch { .. }
            | Error::Unhealthy { .. }
            | Error::Task { .. } => Self::new(Stage::Score, Class::Bug, error.to_string()),
        }
    }
}
