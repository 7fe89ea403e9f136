//! Owns the report: one JSON line for each record, or one row of a table with the same in columns; input order kept.

use super::{Bookmark, Failure, Imprint};
use crate::corpus::{Judged, Origin, Parcel, Position, Route};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Where a report goes.
enum Output {
    Lines(Mutex<Box<dyn Write + Send>>),
    #[cfg(feature = "parquet")]
    Rows(super::rows::Rows),
}

/// Writes JSON lines, or rows.
pub struct Report {
    output: Output,
    imprint: Imprint,
    bookmark: Bookmark,
}

impl Report {
    /// A report to `writer`; `bookmark` keeps the positions after each batch of lines was written.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>, imprint: Imprint, bookmark: Bookmark) -> Self {
        Self { output: Output::Lines(Mutex::new(writer)), imprint, bookmark }
    }

    /// A report in rows, which whoever made them finishes.
    #[cfg(feature = "parquet")]
    #[must_use]
    pub fn in_rows(rows: super::rows::Rows, imprint: Imprint) -> Self {
        Self { output: Output::Rows(rows), imprint, bookmark: Bookmark::Nowhere }
    }

    pub(super) fn change(&mut self, imprint: Imprint) {
        self.imprint = imprint;
    }

    pub(super) fn deliver(&self, batch: &[Parcel<Judged>], positions: &[Position]) -> Result<(), Failure> {
        self.write(batch)?;
        self.bookmark.commit(positions)
    }

    fn write(&self, batch: &[Parcel<Judged>]) -> Result<(), Failure> {
        match &self.output {
            Output::Lines(writer) => self.write_lines(writer, batch),
            #[cfg(feature = "parquet")]
            Output::Rows(rows) => {
                batch.iter().try_for_each(|parcel| rows.append(&self.line(&parcel.body))).map_err(Failure::Stop)
            }
        }
    }

    fn write_lines(&self, writer: &Mutex<Box<dyn Write + Send>>, batch: &[Parcel<Judged>]) -> Result<(), Failure> {
        let mut text = Vec::with_capacity(batch.len() * 512);
        for parcel in batch {
            let line = self.line(&parcel.body);
            serde_json::to_writer(&mut text, &line).map_err(|error| Failure::Stop(error.to_string()))?;
            text.push(b'\n');
        }
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writer.write_all(&text).and_then(|()| writer.flush());
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return Failure::ReaderGone;
            }
            let next = if error.kind() == io::ErrorKind::StorageFull { "make room" } else { "check the output" };
            Failure::Stop(format!("output: {error}; {next}"))
        })
    }

    /// One record as the line that `score` prints.
    #[must_use]
    fn line(&self, judged: &Judged) -> Value {
        match judged {
            Judged::Document { record, document, signals, verdict } => {
                let mut line = json!({
                    "id": document.id.clone().unwrap_or_else(|| line_number(&record.origin)),
                    "verdict": verdict.decision.as_str(),
                    "status": verdict.status.as_str(),
                    "reasons": verdict.reasons,
                    "signals": signals,
                    "skipped": verdict.skipped.iter().map(|name| &**name).collect::<Vec<_>>(),
                    "policy": self.imprint.policy,
                    "scorer": self.imprint.scorer,
                });
                if signals.estimates().next().is_some() {
                    line["estimated"] = signals.estimates().map(|name| &**name).collect();
                }
                line
            }
            Judged::Tombstone { record } => self.bare(&record.origin, "tombstone", Value::Null),
            Judged::Dead { record, fault, attempt } => {
                let error = json!({
                    "stage": fault.stage.as_str(),
                    "class": fault.class.as_str(),
                    "message": fault.message,
                    "attempt": attempt,
                });
                self.bare(&record.origin, Route::DeadLetter.as_str(), error)
            }
        }
    }

    fn bare(&self, origin: &Origin, verdict: &str, error: Value) -> Value {
        let mut line = json!({
            "id": line_number(origin),
            "verdict": verdict,
            "status": "undecodable",
            "reasons": [],
            "signals": {},
            "skipped": [],
            "policy": self.imprint.policy,
            "scorer": self.imprint.scorer,
        });
        if !error.is_null() {
            line["error"] = error;
        }
        line
    }
}

/// Lines are counted from one, as editors do.
fn line_number(origin: &Origin) -> String {
    (origin.offset + 1).to_string()
}
