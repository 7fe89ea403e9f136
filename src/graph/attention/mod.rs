//! Owns the way of a graph to fused attention: softmax(s·Q·Kᵀ + mask)·V, which exports spell out, becomes one `com.microsoft.MultiHeadAttention` each.
//!
//! ONNX Runtime's own fusions know none of the forms that PyTorch's exporters make today: with 1.32, at its highest level of optimisation, none of the
//! fixtures' graphs had an attention that it fused.
//!
//! The mask goes in as `attention_bias`, the additive term as the graph has it, broadcast to `[B or 1, N or 1, S, L]`
//! (<https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MultiHeadAttention>). That is exact whatever the mask
//! says: padding, local attention, relative positions. Of CUDA's kernels (onnxruntime/contrib_ops/cuda/bert/multihead_attention.cc) the memory-efficient
//! one takes it: in float16 where S is a multiple of 8, in float32 from 256 positions on where S is a multiple of 16; cuDNN's takes it too, where it is
//! switched on. Elsewhere the operator computes unfused, by two products and a softmax. The flash kernel takes neither a bias nor a mask, so none that would be
//! exact for padded rows. Of the operator's masks, `key_padding_mask`, the two-dimensional one leads to the unfused path on CUDA always; its cumulative one
//! (`[3B+2]`) leads to the memory-efficient kernel at any length, but can say nothing except that rows are padded at their ends, which a graph doesn't promise.
//! There are kernels for float32 (CPU, CUDA) and float16 (CUDA), none for bfloat16.
//!
//! What is not one of the forms known here stays as it is. Whether the graph then computes the same is for its runner to check.

mod find;
mod sizes;

use super::index::Index;
use super::proto::{Graph, Model, Node, OperatorSet, Tensor};
use super::splice::OPSET_MIN;
use super::{Error, assemble::assemble, facts, wire};
use find::{Found, Laid, Mask};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;

/// Every new name starts with this.
const PREFIX: &str = "tamis.fused.";
/// Where the operator comes from.
const DOMAIN: &str = "com.microsoft";

/// A model with fused attentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fused {
    /// The model, in ONNX's file format.
    pub bytes: Vec<u8>,
    /// How many attentions were fused; at least one.
    pub attentions: usize,
}

/// Makes each attention of a model one operator, where it has a form that is known. Inputs, outputs and weights stay what they are.
///
/// # Errors
/// The bytes are no model, it is quantised, it was fused before, or nothing in it has such a form.
pub fn fuse(bytes: Vec<u8>) -> Result<Fused, Error> {
    wire::refuse_huge(&bytes)?;
    let mut model = Model::decode(Bytes::from(bytes)).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let Some(graph) = model.graph.take() else { return Err(Error::Bytes { why: "it holds no graph".to_owned() }) };
    refuse_unfamiliar(facts::opset(&model), &graph)?;
    let index = Index::new(&graph)?;
    let found = find::all(&index);
    if found.is_empty() {
        return unfamiliar("no attention of a form that is known");
    }
    let attentions = found.len();
    let mut fusion = Fusion { number: 0, nodes: Vec::with_capacity(graph.node.len()), weights: constants() };
    let by_place: HashMap<usize, Found<'_>> = found.into_iter().map(|found| (found.at, found)).collect();
    for at in &index.order {
        match by_place.get(at) {
            Some(found) => fusion.attention(found),
            None => fusion.nodes.push(graph.node[*at].clone()),
        }
    }
    let Fusion { nodes, weights, .. } = fusion;
    model.graph = Some(assemble(graph, nodes, weights)?);
    if !model.opset_import.iter().any(|set| set.domain() == DOMAIN) {
        model.opset_import.push(OperatorSet { domain: Some(DOMAIN.to_owned()), version: Some(1) });
    }
    Ok(Fused { bytes: model.encode_to_vec(), attentions })
}

fn unfamiliar<T>(what: &str) -> Result<T, Error> {
    Err(Error::Unfamiliar { what: what.to_owned() })
}

/// What would have to be understood first.
fn refuse_unfamiliar(opset: i64, graph: &Graph) -> Result<(), Error> {
    if opset < OPSET_MIN {
        return unfamiliar(&format!("operators of opset {opset}, older than {OPSET_MIN}"));
    }
    if let Some(node) = graph.node.iter().find(|node| facts::is_quantised(node)) {
        return unfamiliar(&format!(
            "the operator {}: it is quantised, and rounds otherwise when it is fused",
            node.op_type()
        ));
    }
    let named = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).map(String::as_str);
    let listed = graph.input.iter().chain(&graph.output).map(|value| value.name());
    let held = graph.initializer.iter().map(|tensor| tensor.name());
    match named.chain(listed).chain(held).find(|name| name.starts_with(PREFIX)) {
        Some(name) => unfamiliar(&format!("a value {name:?} already")),
        None => Ok(()),
    }
}

/// A name that all attentions share.
fn shared(what: &str) -> String {
    format!("{PREFIX}{what}")
}

/// Shapes: `[B,S,N,H]` as `[B,S,NH]` and back, and what a mask is broadcast to.
fn constants() -> Vec<Tensor> {
    vec![
        Tensor::int64s(&shared("flat"), &[0, 0, -1]),
        Tensor::int64s(&shared("second"), &[1]),
        Tensor::int64s(&shared("any"), &[1, 1]),
    ]
}

/// The graph while it is made.
struct Fusion {
    /// Attentions so far.
    number: usize,
    nodes: Vec<Node>,
    weights: Vec<Tensor>,
}

impl Fusion {
    /// A name of the present attention's own.
    fn own(&self, what: &str) -> String {
        format!("{PREFIX}{}.{what}", self.number)
    }

    fn push(&mut self, op_type: &str, inputs: &[&str], what: &str) -> String {
        let name = self.own(what);
        self.nodes.push(Node::new(op_type, inputs, &name));
        name
    }

    /// One attention, in place of the transposition that lays its context out by positions.
    fn attention(&mut self, found: &Found<'_>) {
        let query = self.laid(&found.query, "query");
        let key = self.laid(&found.key, "key");
        let value = self.laid(&found.value, "value");
        let mut inputs = vec![query.clone(), key.clone(), value];
        if let Some(bias) = self.bias(found, &query, &key) {
            inputs.extend([String::new(), String::new(), bias]);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut context = self.own("context");
        let node = Node { domain: Some(DOMAIN.to_owned()), ..Node::new("MultiHeadAttention", &inputs, &context) };
        self.nodes.push(node.with_int("num_heads", found.heads).with_float("scale", found.scale));
        if let Some(zero) = found.guard {
            // Rows that are masked throughout are zeros, as they are where the softmax is guarded.
            let is_nan = self.push("IsNaN", &[&context], "is_nan");
            context = self.push("Where", &[&is_nan, zero, &context], "guarded");
        }
        let apart = self.own("apart");
        self.weights.push(Tensor::int64s(&apart, &[0, 0, found.heads, -1]));
        self.nodes.push(Node::new("Reshape", &[&context, &apart], found.output));
        self.number += 1;
    }

    /// `[B,S,N,H]` as `[B,S,NH]`, of a value whose axes may have to be moved first.
    fn laid(&mut self, laid: &Laid<'_>, what: &str) -> String {
        let mut from = laid.value.to_owned();
        if laid.order != [0, 1, 2, 3] {
            let name = self.own(&format!("{what}.moved"));
            self.nodes.push(Node::new("Transpose", &[&from], &name).with_ints("perm", &laid.order));
            from = name;
        }
        self.push("Reshape", &[&from, &shared("flat")], what)
    }

    /// Everything that is added to the scores, `[B or 1, N or 1, S, L]`.
    fn bias(&mut self, found: &Found<'_>, query: &str, key: &str) -> Option<String> {
        let mut sum: Option<String> = None;
        if found.masks.is_empty() {
            return None;
        }
        for (number, mask) in found.masks.iter().enumerate() {
            let term = match mask {
                Mask::Added(value) => (*value).to_owned(),
                Mask::Chosen { .. } => self.chosen(mask, number),
            };
            sum = Some(match sum {
                None => term,
                Some(others) => self.push("Add", &[&others, &term], &format!("masks.{number}")),
            });
        }
        let second = shared("second");
        let sizes = [(query, "rows"), (key, "columns")].map(|(of, what)| {
            let shape = self.push("Shape", &[of], &format!("{what}.shape"));
            self.push("Gather", &[&shape, &second], what)
        });
        let [rows, columns] = sizes;
        let concat =
            Node::new("Concat", &[&shared("any"), &rows, &columns], &self.own("bias.shape")).with_int("axis", 0);
        self.nodes.push(concat);
        let shape = self.own("bias.shape");
        sum.map(|sum| self.push("Expand", &[&sum, &shape], "bias"))
    }

    /// A mask that puts a number in place of scores, as one that is added to them: the number is so far below every score that nothing of these is left.
    fn chosen(&mut self, mask: &Mask<'_>, number: usize) -> String {
        let Mask::Chosen { condition, casts, number: value, element, where_true } = mask else { return String::new() };
        let mut condition = (*condition).to_owned();
        for (at, to) in casts.iter().enumerate() {
            let name = self.own(&format!("chosen.{number}.{at}"));
            self.nodes.push(Node::new("Cast", &[&condition], &name).with_int("to", *to));
            condition = name;
        }
        let zero = self.own(&format!("nothing.{number}"));
        let bytes = if *element == super::proto::FLOAT { 4 } else { 2 };
        let raw_data = Some(vec![0; bytes].into());
        self.weights.push(Tensor {
            data_type: Some(*element),
            name: Some(zero.clone()),
            raw_data,
            ..Tensor::default()
        });
        let (one, two) = if *where_true { (*value, zero.as_str()) } else { (zero.as_str(), *value) };
        self.push("Where", &[&condition, one, two], &format!("chosen.{number}"))
    }
}

#[cfg(test)]
mod tests;
