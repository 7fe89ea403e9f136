//! Owns the judgement whether a node treats every position alike: `[B,T,*]` in, `[B,T,*]` out, nothing seen of other positions.

use super::index::Index;
use super::proto::Node;

/// Computed number by number, from one input.
const ALONE: &[&str] = &[
    "Abs",
    "BiasGelu",
    "Cast",
    "CastLike",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "FastGelu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Sqrt",
    "Swish",
    "Tanh",
];
/// Computed number by number, from several inputs that are broadcast against each other.
const TOGETHER: &[&str] = &["Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"];
/// A product of a position's numbers with a matrix.
const PRODUCTS: &[&str] = &["FusedMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"];
const NORMS: &[&str] = &[
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];
const REDUCTIONS: &[&str] = &["ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare"];
/// Where operators that are known by name come from: the standard, and ONNX Runtime's own.
const DOMAINS: &[&str] = &["", "ai.onnx", "com.microsoft"];

/// Whether `node` multiplies by a matrix.
pub(super) fn is_product(node: &Node) -> bool {
    PRODUCTS.contains(&node.op_type())
}

/// The inputs of `node` that vary with the position, if it treats every position alike; `None` if not, or if nobody knows.
pub(super) fn varying<'a>(node: &'a Node, index: &Index<'_>) -> Option<Vec<&'a str>> {
    if !DOMAINS.contains(&node.domain()) {
        return None;
    }
    let op_type = node.op_type();
    let yes = match op_type {
        _ if ALONE.contains(&op_type) => true,
        _ if TOGETHER.contains(&op_type) => constants(node, index).all(|value| is_same_everywhere(value, index)),
        _ if is_product(node) => is_by_matrix(node, index),
        _ if NORMS.contains(&op_type) => is_last(node.int("axis", -1)),
        _ if REDUCTIONS.contains(&op_type) => node.int("keepdims", 1) == 1 && reduces_last(node, index),
        "Softmax" | "LogSoftmax" => is_last(node.int("axis", 0)),
        "Concat" => is_last(node.int("axis", 0)) && constants(node, index).next().is_none(),
        "Split" => is_last(node.int("axis", 0)) && only_first_varies(node, index),
        "Slice" => {
            let axes = node.input.get(3).and_then(|axes| index.int64s(axes));
            only_first_varies(node, index) && axes.is_some_and(|axes| all_last(&axes))
        }
        "QuantizeLinear" | "DequantizeLinear" => only_first_varies(node, index),
        _ => false,
    };
    yes.then(|| node.input.iter().map(String::as_str).filter(|value| !index.is_constant(value)).collect())
}

/// Whether a value is one number, whatever the batch: such a value is not gathered.
pub(super) fn is_scalar(value: &str, index: &Index<'_>) -> bool {
    let Some(node) = index.made_by(value) else { return false };
    node.op_type() == "DynamicQuantizeLinear" && node.output.first().is_some_and(|first| first != value)
}

fn constants<'a>(node: &'a Node, index: &Index<'_>) -> impl Iterator<Item = &'a str> {
    node.input.iter().map(String::as_str).filter(|value| !value.is_empty() && index.is_constant(value))
}

fn only_first_varies(node: &Node, index: &Index<'_>) -> bool {
    node.input.iter().skip(1).all(|value| index.is_constant(value))
}

/// Broadcast over rows and positions: all axes but the last are 1.
fn is_same_everywhere(value: &str, index: &Index<'_>) -> bool {
    index.shape(value).is_some_and(|shape| shape.len() <= 3 && shape.iter().rev().skip(1).all(|axis| *axis == 1))
}

/// `[B,T,H]` times a constant `[H,N]`.
fn is_by_matrix(node: &Node, index: &Index<'_>) -> bool {
    let [data, matrix, ..] = node.input.as_slice() else { return false };
    let plain = ["transA", "transBatchA", "transBatchB"].iter().all(|turned| node.int(turned, 0) == 0);
    let flat = node.op_type() == "MatMulNBits" || index.shape(matrix).is_some_and(|shape| shape.len() == 2);
    plain && flat && !index.is_constant(data) && index.is_constant(matrix)
}

fn reduces_last(node: &Node, index: &Index<'_>) -> bool {
    match (node.attribute("axes"), node.input.get(1)) {
        (Some(axes), _) => all_last(&axes.ints),
        (None, Some(axes)) => index.int64s(axes).is_some_and(|axes| all_last(&axes)),
        (None, None) => false,
    }
}

fn all_last(axes: &[i64]) -> bool {
    axes.len() == 1 && axes.iter().all(|axis| is_last(*axis))
}

/// The last axis of `[B,T,H]`.
fn is_last(axis: i64) -> bool {
    axis == -1 || axis == 2
}
