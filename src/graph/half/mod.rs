//! Owns the way of a graph from single to half precision.
//!
//! A value's name keeps its meaning: `x` is float32 before and after, and what is made in half precision is called `tamis.half.x`. So graphs
//! within nodes, outputs and whatever reads a value by its name stay right, and a value is cast once at most in each direction.
//!
//! What depends on no weights (masks, positions, buckets, rotations) stays in single precision: it is small, and it is where half
//! precision goes wrong. So do sums, squares, roots and exponentials, a statistic up to where it is used, and each output's last product:
//! logits are never of half precision. Weights are rounded all the same, so that there is one copy of them.
//! Numbers beyond the type's greatest are masks, and taken down to a number that is as good a mask. What can't be placed is an error that
//! names the operator. Whether it computes the same is for its runner to check.

mod kinds;
mod numbers;
mod plan;

pub use numbers::{Half, Place};

use super::facts::HALVES;
use super::index::Index;
use super::proto::{FLOAT, Graph, Model, Node, Tensor, ValueInfo};
use super::splice::{self, Weights};
use super::{Error, assemble::assemble, facts, local, wire, within};
use kinds::Kind;
use plan::Plan;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Every new name starts with this.
const PREFIX: &str = "tamis.half.";
/// From this version of the standard operators on, all of them take bfloat16 that are converted to it.
const OPSET_MIN_BFLOAT16: i64 = 16;
/// A constant that is moved (transposed, say) before it is used is followed through so many nodes.
const MOVES_MAX: usize = 8;
/// Weights that are put apart begin at multiples of this: what a page holds, so that they can be mapped.
const ALIGNED: usize = 4096;
/// Protocol buffers, of which ONNX is made, end here.
const BYTES_MAX: usize = (1 << 31) - 1;

/// A model in half precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The model, in ONNX's file format.
    pub bytes: Vec<u8>,
    /// Nodes that compute with numbers in half precision, casts not counted; 0 where the model was converted already.
    pub half: usize,
    /// Nodes that activations go through in single precision.
    pub single: usize,
    /// Numbers of weights beyond the type's greatest, which were taken down: masks.
    pub beyond: usize,
    /// Weights that were put apart; empty where none were.
    pub apart: Vec<u8>,
}

/// Has the model of `bytes` compute in half precision. Inputs and outputs stay what they are. `fetch` reads weights in files of their own, which
/// become part of the graph; with [`Weights::InFile`] those of so many bytes and more are put into [`Converted::apart`], for a file of that
/// name beside the model's. What was converted to the same type before comes back as it is.
///
/// # Errors
/// The bytes are no model, it holds an operator of which is not known what it computes, its logits are no product, or it is quantised or in
/// half precision already: use it as it is.
pub fn convert<F>(bytes: Vec<u8>, half: Half, weights: &Weights, mut fetch: F) -> Result<Converted, Error>
where
    F: FnMut(&Place) -> Result<Vec<u8>, String>,
{
    wire::refuse_huge(&bytes)?;
    let bytes = Bytes::from(bytes);
    let mut model = Model::decode(bytes.clone()).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let opset = facts::opset(&model);
    let Some(mut graph) = model.graph.take() else { return Err(Error::Bytes { why: "it holds no graph".to_owned() }) };
    if is_converted(&graph, half)? {
        return Ok(Converted { bytes: bytes.to_vec(), half: 0, single: 0, beyond: 0, apart: Vec::new() });
    }
    refuse_unfamiliar(opset, half, &model, &graph)?;
    graph.initializer.iter_mut().try_for_each(|tensor| numbers::bring(tensor, &mut fetch))?;
    let index = Index::new(&graph)?;
    let plan = Plan::new(&index, half)?;
    let mut conversion = Conversion::new(&index, &plan, half);
    for at in &index.order {
        conversion.node(*at)?;
    }
    for output in graph.output.iter().map(|output| output.name().to_owned()) {
        conversion.single(&output)?;
    }
    let Conversion { nodes, weights: made, beyond, counts, .. } = conversion;
    let mut graph = assemble(graph, nodes, made)?;
    let mut apart = Vec::new();
    if let Weights::InFile { name, bytes_min } = weights {
        graph.initializer.iter_mut().for_each(|tensor| put_apart(tensor, name, *bytes_min, &mut apart));
    }
    model.graph = Some(graph);
    if model.encoded_len() > BYTES_MAX {
        return Err(Error::Unfamiliar { what: "more than 2 GiB of weights in half precision: `tamis model compile` writes them into a file of their own".to_owned() });
    }
    Ok(Converted {
        bytes: model.encode_to_vec(),
        half: counts.0,
        single: counts.1,
        beyond: beyond.values().sum(),
        apart,
    })
}

/// Whether this module made the graph, of this type.
fn is_converted(graph: &Graph, half: Half) -> Result<bool, Error> {
    let weights = graph.initializer.iter().map(|tensor| (tensor.name(), i64::from(tensor.data_type())));
    let casts = graph.node.iter().filter(|node| node.op_type() == "Cast");
    let casts = casts.filter_map(|node| Some((node.output.first()?.as_str(), node.int("to", 0))));
    let mut ours = weights.chain(casts).filter(|(name, _)| name.starts_with(PREFIX)).map(|(_, element)| element);
    match ours.find(|element| HALVES.map(i64::from).contains(element)) {
        None => Ok(false),
        Some(element) if element == i64::from(half.element()) => Ok(true),
        Some(_) => Err(Error::Unfamiliar {
            what: "been converted to another type already; convert the model that it was made of".to_owned(),
        }),
    }
}

/// What would have to be understood first.
fn refuse_unfamiliar(opset: i64, half: Half, model: &Model, graph: &Graph) -> Result<(), Error> {
    let unfamiliar = |what: String| Err(Error::Unfamiliar { what });
    let oldest = if half == Half::Bfloat16 { OPSET_MIN_BFLOAT16 } else { splice::OPSET_MIN };
    if opset < oldest {
        return unfamiliar(format!(
            "operators of opset {opset}; {} needs {oldest} or later: export it anew",
            half.as_str()
        ));
    }
    if !graph.sparse_initializer.is_empty() {
        return unfamiliar("sparse weights".to_owned());
    }
    if !model.functions.is_empty() {
        return unfamiliar("functions of its own: export it with them inlined".to_owned());
    }
    if let Some(node) = graph.node.iter().find(|node| facts::is_quantised(node)) {
        return unfamiliar(format!(
            "the operator {}: it is quantised; convert the model that it was made of",
            node.op_type()
        ));
    }
    graph.node.iter().try_for_each(|node| kinds::kind(node, half).map(drop))
}

/// Moves a weight's bytes to the end of `apart`, unless they are few.
fn put_apart(tensor: &mut Tensor, file: &str, bytes_min: usize, apart: &mut Vec<u8>) {
    if tensor.raw_data.as_ref().is_none_or(|raw| raw.len() < bytes_min.max(1)) {
        return;
    }
    let Some(raw) = tensor.raw_data.take() else { return };
    apart.resize(apart.len().next_multiple_of(ALIGNED), 0);
    splice::point(tensor, file, apart.len(), raw.len());
    apart.extend_from_slice(&raw);
}

/// The graph while it is made.
struct Conversion<'a> {
    index: &'a Index<'a>,
    plan: &'a Plan<'a>,
    to: Half,
    nodes: Vec<Node>,
    weights: Vec<Tensor>,
    /// Values that are there in single precision, beside weights.
    singles: HashSet<String>,
    /// Values that are there in half precision; the name of weights that were rounded and widened again.
    halves: HashSet<String>,
    widened: HashMap<String, String>,
    /// How many numbers of a weight lie beyond the type's greatest, where any does.
    beyond: HashMap<String, usize>,
    /// Nodes in half precision, and in single precision.
    counts: (usize, usize),
}

impl<'a> Conversion<'a> {
    fn new(index: &'a Index<'a>, plan: &'a Plan<'a>, to: Half) -> Self {
        // What is there in single precision without anybody's doing; a weight, too, where a node of single precision reads it.
        let given = index.graph.input.iter().map(ValueInfo::name);
        let singles = given.chain(index.graph.initializer.iter().map(Tensor::name)).map(str::to_owned).collect();
        let (nodes, weights, halves, widened) = (Vec::new(), Vec::new(), HashSet::new(), HashMap::new());
        Self { index, plan, to, nodes, weights, singles, halves, widened, beyond: HashMap::new(), counts: (0, 0) }
    }

    /// One node, behind what it needs.
    fn node(&mut self, at: usize) -> Result<(), Error> {
        let node = &self.index.graph.node[at];
        let is_half = self.plan.is_half(at);
        if self.plan.is_heavy(at) && !matches!(kinds::kind(node, self.to)?, Kind::Apart | Kind::Moves) {
            *(if is_half { &mut self.counts.0 } else { &mut self.counts.1 }) += 1;
        }
        let mut made = node.clone();
        for value in within::read_by(node)? {
            self.single(&value)?;
        }
        for input in &mut made.input {
            *input = match () {
                () if !self.plan.is_float(input) => continue,
                () if is_half => self.half(input)?,
                () if self.plan.is_last(at) && self.plan.is_matrix(input) => self.rounded(input)?,
                // It reads their shape only.
                () if node.op_type() == "Shape" && self.halves.contains(input.as_str()) => named(input),
                () => self.single(input)?,
            };
        }
        self.refuse_overflow(node)?;
        for output in made.output.iter_mut().filter(|output| !output.is_empty()) {
            match is_half && self.plan.is_float(output) && !self.plan.stays_single(node, output) {
                true => {
                    self.halves.insert(output.clone());
                    *output = named(output);
                }
                false => _ = self.singles.insert(output.clone()),
            }
        }
        // A cast from single to single precision: between two names of half precision nothing is to be done.
        if is_half && node.op_type() == "Cast" {
            made.op_type = Some("Identity".to_owned());
            made.attribute.clear();
        }
        self.nodes.push(made);
        Ok(())
    }

    /// Refuses weights that a node multiplies by and that don't fit: they are no masks.
    fn refuse_overflow(&self, node: &Node) -> Result<(), Error> {
        let multiplies = local::is_product(node) || ["Conv", "Gemm", "LayerNormalization"].contains(&node.op_type());
        match node.input.iter().find(|input| multiplies && self.beyond.contains_key(input.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::Unfamiliar {
                what: format!(
                    "weights beyond the greatest number of {} in {name:?}; take bf16, or leave it as it is",
                    self.to.as_str()
                ),
            }),
        }
    }

    /// A value in single precision, by its own name.
    fn single(&mut self, value: &str) -> Result<String, Error> {
        if self.halves.contains(value) && self.singles.insert(value.to_owned()) {
            self.nodes.push(Node::new("Cast", &[&named(value)], value).with_int("to", FLOAT.into()));
        }
        Ok(value.to_owned())
    }

    /// A value in half precision.
    fn half(&mut self, value: &str) -> Result<String, Error> {
        self.moved(value, MOVES_MAX)
    }

    fn moved(&mut self, value: &str, moves: usize) -> Result<String, Error> {
        if !self.halves.insert(value.to_owned()) {
            return Ok(named(value));
        }
        if let Some(tensor) = self.plan.tensor(value) {
            let (made, beyond) = self.to.of(&tensor, named(value), &numbers::read(&tensor)?);
            if beyond > 0 {
                self.beyond.insert(value.to_owned(), beyond);
            }
            self.weights.push(made);
            return Ok(named(value));
        }
        if let Some(node) = self.index.made_by(value)
            && let [data, ..] = node.input.as_slice()
        {
            // What the file keeps in half precision, and widens where it is used.
            if node.op_type() == "Cast" && self.plan.is_kept_in_half(data) {
                self.nodes.push(Node::new("Cast", &[data], &named(value)).with_int("to", self.to.element().into()));
                return Ok(named(value));
            }
            // A weight that is only moved before it is used: the file needs no copy of it in single precision.
            if self.index.is_constant(value) && ["Identity", "Transpose"].contains(&node.op_type()) && moves > 0 {
                let source = data;
                let data = self.moved(source, moves - 1)?;
                if let Some(beyond) = self.beyond.get(source.as_str()).copied() {
                    self.beyond.insert(value.to_owned(), beyond);
                }
                let (input, output) = (vec![data], vec![named(value)]);
                self.nodes.push(Node { input, output, name: Some(named(value)), ..node.clone() });
                return Ok(named(value));
            }
        }
        let mut from = value.to_owned();
        if self.plan.is_large(value) {
            from = self.clipped(value);
        }
        self.nodes.push(Node::new("Cast", &[&from], &named(value)).with_int("to", self.to.element().into()));
        Ok(named(value))
    }

    /// A value with what lies beyond the limit taken down to it.
    fn clipped(&mut self, value: &str) -> String {
        let (least, most, made) = (named("least"), named("most"), format!("{PREFIX}clipped.{value}"));
        if !self.weights.iter().any(|tensor| tensor.name() == least) {
            self.weights.push(Tensor::float(&least, -self.to.limit()));
            self.weights.push(Tensor::float(&most, self.to.limit()));
        }
        self.nodes.push(Node::new("Clip", &[value, &least, &most], &made));
        made
    }

    /// A matrix in single precision, of numbers rounded to half.
    fn rounded(&mut self, value: &str) -> Result<String, Error> {
        if let Some(name) = self.widened.get(value) {
            return Ok(name.clone());
        }
        let (half, name) = (self.half(value)?, format!("{PREFIX}wide.{value}"));
        self.nodes.push(Node::new("Cast", &[&half], &name).with_int("to", FLOAT.into()));
        self.widened.insert(value.to_owned(), name.clone());
        Ok(name)
    }
}

/// A value's name in half precision.
fn named(value: &str) -> String {
    format!("{PREFIX}{value}")
}

#[cfg(test)]
mod tests;
