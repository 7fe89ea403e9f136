//! Files: lines out of (compressed) files, lines into (compressed) files, and the checkpoint that says how far both have come.
//!
//! Owns: patterns, compressed streams, lines, output files, the checkpoint and its lock. In: paths and settings. Out: lines with their numbers;
//! outputs and positions that are on disk together.
//! Invariants: memory is bounded by `document.max_bytes` and by the compressor's window, whatever a file holds; what is behind the committed length of an output
//! is cut off at the next start; a position is never on disk before the outputs that it stands for; nothing that tamis did not write is
//! overwritten or cut.
//! Must not know: documents, verdicts, routes, Kafka.

mod checkpoint;
mod error;
mod gzip;
mod lines;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod pattern;
mod stream;
mod survey;
mod trail;

pub use checkpoint::{Checkpoint, Mark};
pub use error::Error;
pub use lines::{Digest, Line, LineReader};
pub use output::{Compression, OutputSettings, Outputs};
#[cfg(feature = "parquet")]
pub use parquet::{Cell, Column, Rows, Table};
pub use pattern::{Input, expand, lane_name};
pub use stream::{Opened, is_parquet, open, why};
pub use survey::Survey;
pub use trail::Trail;
