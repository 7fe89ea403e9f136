//! Names of all metrics, typed recorders, the status board, logging.
//!
//! Owns: every series (its name, help, unit, labels, buckets), the Prometheus text, the status snapshot, the pulse of the last
//! minutes, the progress of a run, traces, and how logs look.
//! In: facts, by typed functions and setters. Out: the metrics text, a [`Snapshot`], log lines on standard error.
//! Invariants: no metric macro is used in any other room; no label comes from data, only from closed sets or from names in the
//! pipeline file; nothing here waits; sockets are opened for traces alone, by a thread
//! of the OpenTelemetry SDK, where settings ask for them.
//! Must not know: any room but `corpus/` and `http/`.

mod devices;
mod exporter;
mod lanes;
mod languages;
mod legs;
mod logging;
pub mod metrics;
mod odometer;
#[cfg(feature = "otlp")]
mod otlp;
mod progress;
mod pulse;
mod ring;
mod series;
mod spread;
mod status;
mod traces;

pub use devices::{DeviceFacts, ModelFacts};
pub use exporter::{Exporter, ExporterError};
pub use lanes::{Backlog, Lag, LanesLag, OpenLane};
pub use languages::labels as language_labels;
pub use legs::{Leg, Legs, leg, setting_out};
pub use logging::{Format, LoggingError, init as init_logging};
pub use progress::{Progress, Standing};
pub use pulse::{History, KeepRate, Now, Reject, Vitals};
pub use series::{Kind, Label, SERIES, Series, Values};
pub use spread::{Dial, Histogram};
pub use status::{Board, DocumentCounts, Facts, Partitions, Reload, Snapshot};
pub use traces::{OtlpSettings, Settings, Traces};
