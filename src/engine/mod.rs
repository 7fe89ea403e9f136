//! Rows in, log-probabilities out: the masked language model, through ONNX Runtime.
//!
//! Owns: `ort` and the shared library behind it; the model file, its manifest and fingerprint; the queue of rows and how they
//! are packed into batches; two named threads per device, one of which prepares while the other runs. In: a window's ids and passes over it, each with positions to mask and
//! positions to score. Out: for each scored position, the natural log of the original id's probability, and on demand its rank,
//! its odds and the entropy around it.
//! Invariants: a row's scores don't depend on its batch (to 1e-4 nats); every queue has a bound and pushes back on the caller;
//! one bad row never takes another document with it; a device that has stopped answering is reported as gone, never as a
//! series of bad documents.
//! Must not know: text, tokenizers, windows, signals, caches, how a graph is rewritten.

mod batch;
mod check;
mod device;
mod devices;
mod error;
mod handle;
mod heap;
mod lane;
mod library;
mod load;
mod model;
mod onnx;
mod passes;
mod queue;
mod reading;
mod rows;
mod settings;
mod shared;
mod small;

pub use devices::{Device, Devices};
pub use error::Error;
pub use handle::{Engine, Vocabulary, Work};
pub use heap::Heap;
pub use library::runtime;
pub use load::{Export, Fuse, Standing};
pub use model::{encoder_sha256, files, graph_sha256, write_manifest};
pub use passes::Passes;
pub use reading::{Needs, Reading, Spread};
pub use rows::{HIDDEN, OnePass};
pub use settings::{Attention, Fallback, HeadCheck, Precision, Settings};
pub use small::SmallGraph;

#[cfg(test)]
mod tests;
