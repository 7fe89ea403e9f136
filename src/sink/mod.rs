//! Sinks: where verdicts go.
//!
//! Owns: one role, delivering a batch of judged records together with its positions, with one file per implementation.
//! Invariants: a delivery that returns an error delivered nothing that a reader of its guarantee can see; an output that will never
//! be taken is named, not retried.
//! Must not know: sources, scorers, how a verdict came about.

mod bookmark;
mod files;
mod kafka;
mod line;
mod report;

pub use bookmark::Bookmark;
pub use files::FilesSink;
pub use kafka::KafkaSink;
pub use report::Report;

use crate::corpus::{Fault, Judged, Parcel, Position};
use serde::{Deserialize, Serialize};

/// `[sink]`: at most one of its tables; none means Kafka where the source is Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Write to Kafka topics.
    pub kafka: Option<crate::kafka::SinkSettings>,
    /// Write JSON lines to files, one for each route.
    pub files: Option<crate::files::OutputSettings>,
    /// Write JSON lines to standard output.
    pub stdout: Option<StdoutSettings>,
}

/// `[sink.stdout]` has no keys yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutSettings {}

/// `[routes]`: where each verdict goes. Topic names with a Kafka sink, stems of file names with a files sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Topic for documents that pass.
    pub pass: String,
    /// Topic for documents that fail.
    pub fail: String,
    /// Topic for documents to look at; without it they go to `fail`.
    pub review: Option<String>,
    /// Topic for records that could not be judged.
    pub dead_letter: String,
}

/// What every output says about the judge: the policy's and the scorer's hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imprint {
    /// Hash of the rules.
    pub policy: String,
    /// Identity of the scorers.
    pub scorer: String,
}

/// Why a batch was not delivered.
#[derive(Debug)]
pub enum Failure {
    /// These records of the batch (by index) will never be taken as they are.
    Refused(Vec<(usize, Fault)>),
    /// Nothing was delivered; try again with what is still ours.
    Retry(String),
    /// Nothing was delivered and the sink can't go on.
    Stop(String),
}

/// A sink.
pub enum Sink {
    /// Kafka topics.
    Kafka(KafkaSink),
    /// Files in a directory.
    Files(FilesSink),
    /// JSON lines.
    Report(Report),
}

impl Sink {
    /// Delivers `batch` (in its order) and `positions`, all or nothing (a report: first the lines, then the positions). Blocking; bounded.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn deliver(&self, batch: &[Parcel<Judged>], positions: &[Position]) -> Result<(), Failure> {
        match self {
            Self::Kafka(sink) => sink.deliver(batch, positions),
            Self::Files(sink) => sink.deliver(batch, positions),
            Self::Report(report) => report.deliver(batch, positions),
        }
    }
}
