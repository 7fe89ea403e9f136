//! The pipeline: one document, one road.
//!
//! Owns: the journey of one document, the ledger that releases verdicts in order, the committer, and the flow that ties them to a source
//! and a sink. In: an intake of records. Out: delivered batches; a summary, or why it stopped.
//! Invariants: every record that was read ends delivered, dead-lettered, or unread again (its position not committed); positions are
//! contiguous; per lane the order of reading is the order of delivery; nothing is unbounded.
//! Must not know: Kafka, ONNX, sled, files.

mod batch;
mod change;
mod delivered;
mod departure;
mod disposition;
mod ending;
mod flow;
mod journey;
mod ledger;
mod settings;

pub use change::Change;
pub use disposition::{Disposition, disposition};
pub use ending::{Ending, Stopped, Summary};
pub use flow::Flow;
pub use journey::Road;
pub use settings::{DeliverySettings, Guarantee, ReloadSettings};
