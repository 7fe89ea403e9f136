//! A plain masked-LM export in, the same model with its head moved behind the scored positions out.
//!
//! Owns: `prost` and the ONNX file format; the search for the nodes that treat every position alike; the rewritten graph.
//! In: a model's bytes, with inputs `[B,T]` and output `logits [B,T,V]`. Out: bytes of a model with two more inputs,
//! `mask_index` (int64 `[M,2]`: row, position) and `target_ids` (int64 `[M]`), and with the output `logprob` (float32 `[M]`): the
//! log-softmax of the logits at each such position, taken at its target; on demand also ranks and odds, see [`Outputs`].
//! Or, of the same bytes, an encoder: the graph cut before its last product, see [`hidden()`]; or the same model in half precision, see [`convert()`];
//! or, of either, the same model with each attention as one operator, see [`fuse()`].
//! Invariants: nothing of size B·T·V is left in the graph; what isn't understood is an error that says why, never a guess and
//! never a panic; weights are neither changed nor, in files of their own, looked at, but for a conversion, and such files lie below the model's directory.
//! Whether the rewritten graph computes the same is for its runner to
//! check: this room runs nothing.
//! Must not know: ONNX Runtime, files, other instruments.

mod assemble;
mod attention;
mod error;
mod facts;
mod half;
mod hidden;
mod index;
mod local;
mod pick;
mod proto;
mod region;
mod splice;
mod wire;
mod within;

pub use attention::{Fused, fuse};
pub use error::Error;
pub use facts::{Facts, Precision, describe};
pub use half::{Converted, Half, Place, convert};
pub use hidden::hidden;
pub use pick::Outputs;
pub use splice::{Cut, Rewritten, Weights, rewrite};

#[cfg(test)]
mod tests;
