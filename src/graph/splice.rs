//! Owns the rewritten graph: the frontier gathered at the scored positions, the region over it, and what is read off its logits.

use super::index::Index;
use super::pick::{self, Outputs, Pick};
use super::proto::{Entry, Graph, INT64, Model, Node, Tensor, ValueInfo};
use super::region::{self, Region};
use super::{Error, facts, local, wire, within};
use prost::Message;
use prost::bytes::Bytes;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Row and position of each scored position, int64 `[M,2]`.
const MASK_INDEX: &str = "mask_index";
/// Its id, int64 `[M]`.
pub(super) const TARGET_IDS: &str = "target_ids";
/// Every other new name starts with this.
const PREFIX: &str = "tamis.hoisted";
/// The first version of the standard operators with `GatherND` and `GatherElements` as they are used here.
pub(super) const OPSET_MIN: i64 = 11;

/// `TensorProto.DataLocation`: in a file.
const EXTERNAL: i32 = 1;

/// Where the weights of a rewritten graph lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// In the rewritten bytes, as in the file's.
    Within,
    /// Those of at least so many bytes stay in the file that they came from, of this name in the model's directory: the runtime maps them,
    /// and nothing of theirs is copied. They lie there at any address, which whoever reads them must not mind.
    InFile {
        /// The file's name.
        name: String,
        /// Smaller ones are copied.
        bytes_min: usize,
    },
}

/// A model whose head runs at scored positions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The model, in ONNX's file format.
    pub bytes: Vec<u8>,
    /// Matrix products that were moved; the last one makes the logits.
    pub products: usize,
    /// The values gathered at the scored positions, each `[B,T,*]`, and numbers that pass as they are; sorted by name.
    pub frontier: Vec<Cut>,
}

/// One value of the frontier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Its name.
    pub value: String,
    /// The operator that makes it, or `input`.
    pub operator: String,
}

/// Moves the head of a masked language model behind the scored positions, and has it compute `outputs` there. Takes a moment for each 100 MB.
///
/// # Errors
/// The bytes are no model, or one in which the head can't be told apart safely: run it as it is.
pub fn rewrite(bytes: Vec<u8>, outputs: Outputs, weights: &Weights) -> Result<Rewritten, Error> {
    wire::refuse_huge(&bytes)?;
    let bytes = Bytes::from(bytes);
    let mut model = Model::decode(bytes.clone()).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let Some(graph) = model.graph.take() else { return Err(Error::Bytes { why: "it holds no graph".to_owned() }) };
    let opset = facts::opset(&model);
    refuse_unfamiliar(opset, &graph)?;
    let logits = logits(&graph)?;
    let index = Index::new(&graph)?;
    let region = region::find(&index, &logits)?;
    let products = region.nodes.iter().filter(|at| local::is_product(&graph.node[**at])).count();
    let operator = |value: &str| index.made_by(value).map_or("input", |node| node.op_type()).to_owned();
    let frontier =
        region.frontier.iter().map(|value| Cut { operator: operator(value), value: value.clone() }).collect();
    let mut nodes = nodes(&index, &region);
    let mut pick = pick::pick(&logits, outputs, opset);
    nodes.append(&mut pick.nodes);
    let mut graph = assemble(graph, nodes, pick)?;
    if let Weights::InFile { name, bytes_min } = weights {
        graph.initializer.iter_mut().for_each(|tensor| leave(tensor, &bytes, name, *bytes_min));
    }
    model.graph = Some(graph);
    Ok(Rewritten { bytes: model.encode_to_vec(), products, frontier })
}

/// What would have to be understood first.
fn refuse_unfamiliar(opset: i64, graph: &Graph) -> Result<(), Error> {
    let unfamiliar = |what: String| Err(Error::Unfamiliar { what });
    if opset < OPSET_MIN {
        return unfamiliar(format!("operators of opset {opset}, older than {OPSET_MIN}"));
    }
    if !graph.sparse_initializer.is_empty() {
        return unfamiliar("sparse weights".to_owned());
    }
    let named = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).map(String::as_str);
    let listed = graph.input.iter().chain(&graph.output).map(|value| value.name());
    let taken =
        |name: &&str| name.starts_with(PREFIX) || [MASK_INDEX, TARGET_IDS].contains(name) || pick::NAMES.contains(name);
    match named.chain(listed).chain(graph.initializer.iter().map(|tensor| tensor.name())).find(taken) {
        Some(name) => unfamiliar(format!("a value {name:?} already")),
        None => Ok(()),
    }
}

/// The output of that name, or the only one, or the only one with an axis for rows, one for positions and one more: a model may have other
/// heads beside (`prediction_logits` beside `seq_relationship_logits`).
pub(super) fn logits(graph: &Graph) -> Result<String, Error> {
    let mut with_axes = graph.output.iter().filter(|output| output.axes() == Some(3));
    let named = graph.output.iter().find(|output| output.name() == "logits");
    let only = with_axes.next().filter(|_| with_axes.next().is_none());
    match (named, graph.output.as_slice(), only) {
        (Some(output), _, _) | (None, [output], _) | (None, _, Some(output)) => Ok(output.name().to_owned()),
        (None, outputs, None) => Err(Error::NoLogits { outputs: outputs.len() }),
    }
}

/// Has a weight that was decoded from `bytes` lie there still, unless it is small.
fn leave(tensor: &mut Tensor, bytes: &Bytes, file: &str, bytes_min: usize) {
    let Some(raw) = tensor.raw_data.as_ref().filter(|raw| raw.len() >= bytes_min.max(1)) else { return };
    // The decoder makes slices of the file's bytes; what is none stays where it is.
    let Some(offset) = (raw.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize) else { return };
    if offset + raw.len() > bytes.len() {
        return;
    }
    let length = raw.len();
    point(tensor, file, offset, length);
}

/// Has a weight's bytes lie in a file.
pub(super) fn point(tensor: &mut Tensor, file: &str, offset: usize, length: usize) {
    let entry = |key: &str, value: String| Entry { key: Some(key.to_owned()), value: Some(value) };
    tensor.external_data = vec![
        entry("location", file.to_owned()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
    tensor.data_location = Some(EXTERNAL);
    tensor.raw_data = None;
}

/// A name of the rewriting's own.
pub(super) fn named(what: &str) -> String {
    format!("{PREFIX}.{what}")
}

/// The nodes of the rewritten graph up to its logits, in order: what the frontier needs, the gathering, the region.
fn nodes(index: &Index<'_>, region: &Region) -> Vec<Node> {
    let read = region.nodes.iter().flat_map(|at| index.inputs(*at));
    let before = index.needed_for(read);
    let moved: HashSet<usize> = region.nodes.iter().copied().collect();
    let kept = index.order.iter().filter(|at| before.contains(at) && !moved.contains(at));
    let mut nodes: Vec<Node> = kept.map(|at| index.graph.node[*at].clone()).collect();
    nodes.push(Node::new("Reshape", &[MASK_INDEX, &named("places.shape")], &named("places")));
    let mut gathered: HashMap<&str, String> = HashMap::new();
    for value in region.frontier.iter().filter(|value| !local::is_scalar(value, index)) {
        // Indices [1,M,2] into [B,T,H] give [1,M,H]: what the region expects, with B = 1 and T = M.
        let name = named(&format!("gathered.{}", gathered.len()));
        nodes.push(Node::new("GatherND", &[value, &named("places")], &name));
        gathered.insert(value, name);
    }
    for at in &region.nodes {
        let mut node = index.graph.node[*at].clone();
        for input in &mut node.input {
            if let Some(name) = gathered.get(input.as_str()) {
                input.clone_from(name);
            }
        }
        nodes.push(node);
    }
    nodes
}

/// Those of `weights` that `nodes` read, through graphs within them too.
pub(super) fn read_by(nodes: &[Node], mut weights: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
    let within = nodes.iter().map(within::read_by).collect::<Result<Vec<_>, _>>()?.concat();
    let read: HashSet<&str> = nodes.iter().flat_map(|node| &node.input).chain(&within).map(String::as_str).collect();
    weights.retain(|tensor| read.contains(tensor.name()));
    Ok(weights)
}

/// The graph around its new nodes, without what none of them reads.
fn assemble(graph: Graph, nodes: Vec<Node>, pick: Pick) -> Result<Graph, Error> {
    let mut initializer = graph.initializer;
    initializer.push(Tensor::int64s(&named("places.shape"), &[1, -1, 2]));
    initializer.extend(pick.weights);
    let weights: HashSet<String> = initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    let initializer = read_by(&nodes, initializer)?;
    let read: HashSet<&str> = initializer.iter().map(|tensor| tensor.name()).collect();
    let mut input = graph.input;
    input.retain(|value| read.contains(value.name()) || !weights.contains(value.name()));
    input.extend([ValueInfo::tensor(MASK_INDEX, INT64, &[2]), ValueInfo::tensor(TARGET_IDS, INT64, &[])]);
    // Notes on values would tell shapes that are no longer true.
    Ok(Graph { node: nodes, initializer, input, output: pick.outputs, value_info: Vec::new(), ..graph })
}
