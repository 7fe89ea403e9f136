//! Owns why a graph is left as it is, as facts.

/// Why a model can't be rewritten. It can still run as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: {why}")]
    Bytes {
        /// What the decoder said.
        why: String,
    },
    /// It is larger than any masked language model. It must not be run as it is, either: loading it could take minutes and all memory.
    #[error(
        "the graph has {what}, which is more than a masked language model has; export it without its training, and with its weights as tensors"
    )]
    Huge {
        /// What it has too much of.
        what: String,
    },
    /// The graph contradicts itself.
    #[error("the graph is not sound: {why}")]
    Unsound {
        /// What is wrong with it.
        why: String,
    },
    /// The graph has something that the rewriting does not handle.
    #[error("the graph has {what}")]
    Unfamiliar {
        /// What it has.
        what: String,
    },
    /// Weights are said to lie outside of the model's directory. Such a model must not be run as it is, either.
    #[error("weights are said to lie at {location:?}, outside of the model's directory")]
    Escapes {
        /// Where.
        location: String,
    },
    /// No output can be told to be the logits.
    #[error("no output \"logits\" among the {outputs} outputs")]
    NoLogits {
        /// How many there are.
        outputs: usize,
    },
    /// The masked-LM head could not be found: no matrix product stands between the last mixing of positions and the logits.
    #[error(
        "no matrix product treats every position alike before the logits (the walk back from them ended at {stopped_at}{hint})"
    )]
    NoHead {
        /// Operators whose outputs would have to be gathered.
        stopped_at: String,
        /// What such operators usually do there; empty, or begins with a colon.
        hint: &'static str,
    },
}
