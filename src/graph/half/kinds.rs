//! Owns what is known of operators when numbers change their type: what each computes in, and the type of what it makes.

use super::super::proto::{FLOAT, INT64, Node, Tensor, Type, ValueInfo};
use super::super::{Error, within};
use super::numbers::Half;
use prost::Message;

/// `TensorProto.DataType` of a truth value.
const BOOL: i32 = 9;
/// Computed in half precision: products, and what kernels compute in single precision inside (norms, softmax) or number by number.
const HALF: &[&str] = &[
    "Abs",
    "BiasGelu",
    "Clip",
    "Conv",
    "Elu",
    "Erf",
    "FastGelu",
    "FusedMatMul",
    "Gelu",
    "Gemm",
    "HardSwish",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "Max",
    "Min",
    "MultiHeadAttention",
    "Neg",
    "QuickGelu",
    "Relu",
    "Sigmoid",
    "SkipLayerNormalization",
    "Softmax",
    "Swish",
    "Tanh",
    "Where",
];
/// Computed in half precision too, but for those that stand between a statistic and what it is for.
const ARITHMETIC: &[&str] = &["Add", "Div", "Mul", "Sub"];
/// Moves numbers and computes none: stays in what it gets.
const MOVES: &[&str] = &[
    "Compress",
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
];
/// Stays in single precision wherever it stands: sums of many numbers, squares, roots, exponentials, angles, steps.
const SINGLE: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "CastLike",
    "Ceil",
    "Cos",
    "CumSum",
    "Einsum",
    "Equal",
    "Exp",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "Mish",
    "Mod",
    "OneHot",
    "PRelu",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Round",
    "Sign",
    "Sin",
    "Softplus",
    "Sqrt",
    "Sum",
    "Tan",
    "TopK",
];
/// Has nothing to do with the numbers themselves.
const APART: &[&str] =
    &["And", "BitShift", "Constant", "ConstantOfShape", "NonZero", "Not", "Or", "Shape", "Size", "Xor"];
/// ONNX Runtime's own operators among the above.
const OWN: &[&str] =
    &["BiasGelu", "FastGelu", "FusedMatMul", "Gelu", "MultiHeadAttention", "QuickGelu", "SkipLayerNormalization"];

/// Takes float16 and no bfloat16, in the versions that exports have.
const NO_BFLOAT16: &[&str] = &["Compress", "Conv", "Elu", "HardSwish"];

/// What an operator computes in where activations go through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Half,
    Arithmetic,
    Moves,
    Single,
    Cast,
    Apart,
    /// It holds graphs, which are left as they are.
    Within,
}

/// What kind of operator a node has, for numbers of type `to`.
pub(super) fn kind(node: &Node, to: Half) -> Result<Kind, Error> {
    let op_type = node.op_type();
    let is = |list: &[&str]| list.contains(&op_type);
    let known = match node.domain() {
        "" | "ai.onnx" => !is(OWN) || op_type == "Gelu",
        "com.microsoft" => is(OWN),
        _ => false,
    };
    match () {
        () if !known => {}
        () if to == Half::Bfloat16 && is(NO_BFLOAT16) => return Ok(Kind::Single),
        () if is(HALF) => return Ok(Kind::Half),
        () if is(ARITHMETIC) => return Ok(Kind::Arithmetic),
        () if is(MOVES) => return Ok(Kind::Moves),
        () if is(SINGLE) => return Ok(Kind::Single),
        () if is(APART) => return Ok(Kind::Apart),
        () if is(&["If", "Loop", "Scan"]) => return Ok(Kind::Within),
        () if op_type == "Cast" => return Ok(Kind::Cast),
        () => {}
    }
    let dot = if node.domain().is_empty() { "" } else { "." };
    Err(Error::Unfamiliar {
        what: format!(
            "the operator {}{dot}{op_type}, of which is not known what it computes in half precision",
            node.domain()
        ),
    })
}

/// The types of a node's outputs, in order, by those of its inputs; 0 for one that nobody knows.
pub(super) fn outputs(node: &Node, input: impl Fn(usize) -> i32) -> Result<Vec<i32>, Error> {
    let element = |number: i64| i32::try_from(number).unwrap_or(0);
    let first = match node.op_type() {
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual" | "Not" | "Or"
        | "Xor" => BOOL,
        "ArgMax" | "ArgMin" | "NonZero" | "Shape" | "Size" => INT64,
        "Cast" => element(node.int("to", 0)),
        "CastLike" | "Where" => input(1),
        "OneHot" => input(2),
        "Constant" => constant(node).map_or(INT64, |tensor| tensor.data_type()),
        "ConstantOfShape" => {
            node.attribute("value").and_then(|value| value.t.as_ref()).map_or(FLOAT, Tensor::data_type)
        }
        "If" | "Loop" | "Scan" => return of_graphs(node),
        _ => input(0),
    };
    let second = match node.op_type() {
        "TopK" => INT64,
        "Dropout" => BOOL,
        // Means and deviations, which kernels keep in single precision.
        "LayerNormalization" | "SkipLayerNormalization" => FLOAT,
        _ => first,
    };
    Ok((0..node.output.len()).map(|at| if at == 0 { first } else { second }).collect())
}

/// What the graphs within a node say of their outputs.
fn of_graphs(node: &Node) -> Result<Vec<i32>, Error> {
    let graphs = within::graphs(node, 0)?;
    let output = graphs.first().map(|graph| graph.output.as_slice()).unwrap_or_default();
    let skipped = output.len().saturating_sub(node.output.len());
    let types: Vec<i32> = output.iter().skip(skipped).map(element).collect();
    match types.len() == node.output.len() && !types.contains(&0) {
        true => Ok(types),
        false => {
            Err(Error::Unfamiliar { what: format!("a graph within {} that does not tell its types", node.op_type()) })
        }
    }
}

/// The type of a value's numbers; 0 if that isn't told.
pub(super) fn element(value: &ValueInfo) -> i32 {
    let kind = value.kind.clone().and_then(|kind| Type::decode(kind).ok());
    kind.and_then(|kind| kind.tensor).and_then(|tensor| tensor.element).unwrap_or(0)
}

/// The floating-point or typed tensor of a `Constant` node; `None` for lists of integers.
pub(super) fn constant(node: &Node) -> Option<Tensor> {
    let floats = |values: &[f32], dims| Tensor {
        dims,
        data_type: Some(FLOAT),
        float_data: values.to_vec(),
        ..Tensor::default()
    };
    let attribute = node.attribute.first()?;
    match attribute.name() {
        "value" => attribute.t.clone(),
        "value_float" => Some(floats(&[attribute.f?], Vec::new())),
        "value_floats" => Some(floats(&attribute.floats, vec![i64::try_from(attribute.floats.len()).ok()?])),
        _ => None,
    }
}
