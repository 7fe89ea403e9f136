//! Sinks: where verdicts go.
//!
//! Owns: one role, delivering a batch of judged records together with its positions, with one file per implementation.
//! Invariants: a delivery that returns an error delivered nothing that a reader of its guarantee can see; an output that will never
//! be taken is named, not retried.
//! Must not know: sources, scorers, how a verdict came about.

mod bookmark;
mod dead_letter;
mod files;
mod kafka;
mod line;
mod report;
#[cfg(feature = "parquet")]
mod rows;

pub use bookmark::Bookmark;
pub use dead_letter::DeadLetter;
pub use files::FilesSink;
pub use kafka::KafkaSink;
pub use report::Report;
#[cfg(feature = "parquet")]
pub use rows::Rows;

use crate::corpus::{Fault, Judged, Parcel, Position, Route};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where verdicts go: at most one of its tables; none means Kafka where the source is Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Write to Kafka topics.
    pub kafka: Option<crate::kafka::SinkSettings>,
    /// Write JSON lines to files, one for each route.
    pub files: Option<crate::files::OutputSettings>,
    /// Write JSON lines to standard output.
    pub stdout: Option<StdoutSettings>,
}

/// Write JSON lines to standard output, one a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutSettings {}

/// Where each verdict goes. Topic names with a Kafka sink, stems of file names with a files sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Topic for documents that pass.
    pub pass: String,
    /// Topic for documents that fail.
    pub fail: String,
    /// Topic for documents to look at; without it they go to `fail`.
    pub review: Option<String>,
    /// Topic for records that could not be judged. May be empty beside `annotate`.
    pub dead_letter: String,
    /// In place of the others: one topic for every record, its verdict in its headers. Only `dead_letter` may stand beside it.
    pub annotate: Option<String>,
}

impl RouteSettings {
    /// The name of the place where `route` leads.
    #[must_use]
    pub fn place(&self, route: Route) -> &str {
        match (&self.annotate, route) {
            (Some(annotate), Route::DeadLetter) if self.dead_letter.is_empty() => annotate,
            (_, Route::DeadLetter) => &self.dead_letter,
            (Some(annotate), Route::Pass | Route::Review | Route::Fail) => annotate,
            (None, Route::Pass) => &self.pass,
            (None, Route::Review) => self.review.as_ref().unwrap_or(&self.fail),
            (None, Route::Fail) => &self.fail,
        }
    }
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
    /// Whoever read the output has gone, and with them the need for it.
    ReaderGone,
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
    /// From the next delivery on, outputs bear `imprint` and go where `routes` say; a files sink keeps the files that it opened.
    pub fn change(&mut self, imprint: Imprint, routes: &RouteSettings) {
        match self {
            Self::Kafka(sink) => sink.change(imprint, routes),
            Self::Files(sink) => sink.change(imprint),
            Self::Report(report) => report.change(imprint),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn places(routes: &RouteSettings) -> [&str; 4] {
        Route::ALL.map(|route| routes.place(route))
    }

    #[test]
    fn each_verdict_has_its_place_and_review_falls_back_to_fail() {
        let mut routes =
            RouteSettings { pass: "p".into(), fail: "f".into(), dead_letter: "d".into(), ..Default::default() };
        assert_eq!(places(&routes), ["p", "f", "f", "d"]);
        routes.review = Some("r".into());
        assert_eq!(places(&routes), ["p", "r", "f", "d"]);
    }

    #[test]
    fn annotating_leads_everything_to_one_place_but_dead_letters_that_have_their_own() {
        let mut routes = RouteSettings { annotate: Some("a".into()), ..Default::default() };
        assert_eq!(places(&routes), ["a", "a", "a", "a"]);
        routes.dead_letter = "d".into();
        assert_eq!(places(&routes), ["a", "a", "a", "d"]);
    }
}
