//! Owns what can be told of an export without rewriting or running it.
//!
//! Paths of external weights are judged here: a model file is somebody else's, and must not name files outside of its directory.

use super::proto::{Function, Graph, Model, Node, Tensor, ValueInfo};
use super::{Error, wire, within};
use prost::Message;
use prost::bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// `TensorProto.DataType` of float16 and bfloat16.
pub(super) const HALVES: [i32; 2] = [10, 16];
/// Operators that hand weights on without computing with them.
const MOVING: [&str; 6] = ["Cast", "DequantizeLinear", "Gather", "Identity", "Reshape", "Transpose"];
/// Operators that are there in quantised graphs only.
const QUANTISED: [&str; 9] = [
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QLinearMatMul",
    "QuantizeLinear",
    "QAttention",
];

/// What a graph computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Precision {
    /// float32.
    #[serde(rename = "fp32")]
    Single,
    /// float16 or bfloat16, in part at least.
    #[serde(rename = "fp16")]
    Half,
    /// Integers in part: quantised.
    #[serde(rename = "int8")]
    Integer,
}

impl Precision {
    /// `fp32`, `fp16` or `int8`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "fp32",
            Self::Half => "fp16",
            Self::Integer => "int8",
        }
    }
}

/// An export, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Version of the standard operators; 0 if it names none.
    pub opset: i64,
    /// Who wrote the file, and in which version; empty if it doesn't say.
    pub producer: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Nodes, those of graphs within it included.
    pub nodes: usize,
    /// What it computes in.
    pub precision: Precision,
    /// Whether matrices are kept in half precision, whatever is computed in: some are cast when they are used.
    pub half_weights: bool,
    /// Files of weights, relative to the graph's directory and inside of it; sorted.
    pub external: Vec<String>,
}

/// Reads a model's facts off its bytes.
///
/// # Errors
/// The bytes are no model, it is too large to be a masked language model, or weights are said to lie outside of its directory: such a
/// model must not be loaded.
pub fn describe(bytes: Vec<u8>) -> Result<Facts, Error> {
    wire::refuse_huge(&bytes)?;
    let model = Model::decode(Bytes::from(bytes)).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let opset = opset(&model);
    let Some(graph) = &model.graph else { return Err(Error::Bytes { why: "it holds no graph".to_owned() }) };
    let mut survey = Survey::default();
    survey.graph(graph, 0)?;
    for function in &model.functions {
        let function = Function::decode(function.clone()).map_err(|error| Error::Bytes { why: error.to_string() })?;
        survey.nodes(&function.node, 0)?;
    }
    let names = |values: &[ValueInfo]| values.iter().map(|value| value.name().to_owned()).collect();
    let producer = [model.producer_name(), model.producer_version()].join(" ").trim().to_owned();
    let (inputs, outputs) = (names(&graph.input), names(&graph.output));
    let (precision, half_weights) = (survey.precision(), !survey.half.is_empty());
    let external = survey.external.into_iter().collect();
    Ok(Facts { opset, producer, inputs, outputs, nodes: survey.nodes, precision, half_weights, external })
}

/// Whether an operator is there in quantised graphs only.
pub(super) fn is_quantised(node: &Node) -> bool {
    QUANTISED.contains(&node.op_type())
}

/// The version of the standard operators; 0 without any.
pub(super) fn opset(model: &Model) -> i64 {
    let standard = model.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&set.domain()));
    standard.map_or(0, |set| set.version())
}

#[derive(Default)]
struct Survey {
    nodes: usize,
    external: BTreeSet<String>,
    /// Names of matrices in half precision, and of all that is read by a node that computes.
    half: BTreeSet<String>,
    /// Names of what is cast to half precision.
    halved: BTreeSet<String>,
    read: BTreeSet<String>,
    quantised: bool,
}

impl Survey {
    fn graph(&mut self, graph: &Graph, depth: usize) -> Result<(), Error> {
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor, tensor.name()))?;
        self.nodes(&graph.node, depth)
    }

    fn nodes(&mut self, nodes: &[Node], depth: usize) -> Result<(), Error> {
        for node in nodes {
            self.nodes += 1;
            self.quantised |= is_quantised(node);
            if !MOVING.contains(&node.op_type()) {
                self.read.extend(node.input.iter().cloned());
            }
            let name = node.output.first().map_or("", String::as_str);
            if node.op_type() == "Cast" && HALVES.map(i64::from).contains(&node.int("to", 0)) {
                self.halved.insert(name.to_owned());
            }
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor, name))?;
            }
            for graph in within::graphs(node, depth)? {
                self.graph(&graph, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &Tensor, name: &str) -> Result<(), Error> {
        // Biases and norms don't tell what a model is kept in; matrices do.
        if tensor.dims.len() >= 2 && HALVES.contains(&tensor.data_type()) {
            self.half.insert(name.to_owned());
        }
        for entry in &tensor.external_data {
            if entry.key() == "location" {
                self.external.insert(inside(entry.value())?.to_owned());
            }
        }
        Ok(())
    }

    fn precision(&self) -> Precision {
        let is_half = !self.half.is_disjoint(&self.read) || !self.halved.is_disjoint(&self.read);
        match (self.quantised, is_half) {
            (true, _) => Precision::Integer,
            (false, true) => Precision::Half,
            (false, false) => Precision::Single,
        }
    }
}

/// A location below the model's directory, and none other: neither absolute, nor upwards.
pub(super) fn inside(location: &str) -> Result<&str, Error> {
    let mut parts = Path::new(location).components();
    let plain = parts.all(|part| matches!(part, Component::Normal(_))) && !location.contains(['\\', '\0']);
    match plain && !location.is_empty() {
        true => Ok(location),
        false => Err(Error::Escapes { location: location.to_owned() }),
    }
}
