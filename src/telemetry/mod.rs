//! Names of all metrics, typed recorders, the status board, logging.
//!
//! Owns: every series (its name, help, unit, labels, buckets), the Prometheus text, the status snapshot, the progress of a run, and how logs look.
//! In: facts, by typed functions and setters. Out: the metrics text, a [`Snapshot`], log lines on standard error.
//! Invariants: no metric macro is used in any other room; no label comes from data, only from closed sets or from names in the
//! pipeline file; nothing here waits, spawns, or opens a socket.
//! Must not know: any room but `corpus/`.

mod exporter;
mod lanes;
mod languages;
mod logging;
pub mod metrics;
mod progress;
mod series;
mod status;

pub use exporter::{Exporter, ExporterError};
pub use lanes::{Lag, OpenLane};
pub use languages::labels as language_labels;
pub use logging::{Format, LoggingError, init as init_logging};
pub use progress::{Progress, Standing};
pub use series::{Kind, Label, SERIES, Series, Values};
pub use status::{Board, DocumentCounts, Facts, Partitions, Snapshot};
