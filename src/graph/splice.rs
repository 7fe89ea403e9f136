//! Owns the rewritten graph: the frontier gathered at the masked positions, the region over it, log-softmax, and the pick.

use super::index::Index;
use super::proto::{FLOAT, Graph, INT64, Model, Node, Tensor, ValueInfo};
use super::region::{self, Region};
use super::{Error, local};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Row and position of each masked position, int64 `[M,2]`.
const MASK_INDEX: &str = "mask_index";
/// Its id, int64 `[M]`.
const TARGET_IDS: &str = "target_ids";
/// log p of that id, float32 `[M]`.
const LOGPROB: &str = "logprob";
/// Every other new name starts with this.
const PREFIX: &str = "tamis.hoisted";
/// The first version of the standard operators with `GatherND` and `GatherElements` as they are used here.
const OPSET_MIN: i64 = 11;

/// A model whose head runs at masked positions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The model, in ONNX's file format.
    pub bytes: Vec<u8>,
    /// Matrix products that were moved; the last one makes the logits.
    pub products: usize,
    /// The values gathered at the masked positions, each `[B,T,*]`, and numbers that pass as they are; by name.
    pub frontier: Vec<String>,
}

/// Moves the head of a masked language model behind the masked positions. Takes a moment for each 100 MB.
///
/// # Errors
/// The bytes are no model, or one in which the head can't be told apart safely: run it as it is.
pub fn rewrite(bytes: Vec<u8>) -> Result<Rewritten, Error> {
    let mut model = Model::decode(Bytes::from(bytes)).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let Some(graph) = model.graph.take() else { return Err(Error::Bytes { why: "it holds no graph".to_owned() }) };
    refuse_unfamiliar(&model, &graph)?;
    let logits = logits(&graph)?;
    let index = Index::new(&graph)?;
    let region = region::find(&index, &logits)?;
    let products = region.nodes.iter().filter(|at| local::is_product(&graph.node[**at])).count();
    let nodes = nodes(&index, &region, &logits);
    let graph = assemble(graph, nodes);
    model.graph = Some(graph);
    Ok(Rewritten { bytes: model.encode_to_vec(), products, frontier: region.frontier.into_iter().collect() })
}

/// What would have to be understood first.
fn refuse_unfamiliar(model: &Model, graph: &Graph) -> Result<(), Error> {
    let unfamiliar = |what: String| Err(Error::Unfamiliar { what });
    let standard = model.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&set.domain()));
    let version = standard.map_or(0, |set| set.version());
    if version < OPSET_MIN {
        return unfamiliar(format!("operators of opset {version}, older than {OPSET_MIN}"));
    }
    if !graph.sparse_initializer.is_empty() {
        return unfamiliar("sparse weights".to_owned());
    }
    if graph.initializer.iter().any(|tensor| tensor.data_location() != 0 || !tensor.external_data.is_empty()) {
        return unfamiliar("weights in files of their own, which only ONNX Runtime finds".to_owned());
    }
    for node in &graph.node {
        if node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
            return unfamiliar(format!("a graph within it ({})", node.op_type()));
        }
    }
    let named = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).map(String::as_str);
    let listed = graph.input.iter().chain(&graph.output).map(|value| value.name());
    let taken = |name: &&str| name.starts_with(PREFIX) || [MASK_INDEX, TARGET_IDS, LOGPROB].contains(name);
    match named.chain(listed).chain(graph.initializer.iter().map(|tensor| tensor.name())).find(taken) {
        Some(name) => unfamiliar(format!("a value {name:?} already")),
        None => Ok(()),
    }
}

/// The output of that name, or the only one.
fn logits(graph: &Graph) -> Result<String, Error> {
    match (graph.output.iter().find(|output| output.name() == "logits"), graph.output.as_slice()) {
        (Some(output), _) | (None, [output]) => Ok(output.name().to_owned()),
        (None, outputs) => Err(Error::NoLogits { outputs: outputs.len() }),
    }
}

fn named(what: &str) -> String {
    format!("{PREFIX}.{what}")
}

/// The nodes of the rewritten graph, in order: what the frontier needs, the gathering, the region, the pick.
fn nodes(index: &Index<'_>, region: &Region, logits: &str) -> Vec<Node> {
    let read = region.nodes.iter().flat_map(|at| &index.graph.node[*at].input).map(String::as_str);
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
    nodes.extend([
        Node::new("LogSoftmax", &[logits], &named("logprobs")).with_int("axis", 2),
        Node::new("Reshape", &[TARGET_IDS, &named("targets.shape")], &named("targets")),
        Node::new("GatherElements", &[&named("logprobs"), &named("targets")], &named("picked")).with_int("axis", 2),
        Node::new("Reshape", &[&named("picked"), &named("logprob.shape")], LOGPROB),
    ]);
    nodes
}

/// The graph around its new nodes, without what none of them reads.
fn assemble(graph: Graph, nodes: Vec<Node>) -> Graph {
    let mut initializer = graph.initializer;
    initializer.extend([
        Tensor::int64s(&named("places.shape"), &[1, -1, 2]),
        Tensor::int64s(&named("targets.shape"), &[1, -1, 1]),
        Tensor::int64s(&named("logprob.shape"), &[-1]),
    ]);
    let weights: HashSet<String> = initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    let read: HashSet<&str> = nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    initializer.retain(|tensor| read.contains(tensor.name()));
    let mut input = graph.input;
    input.retain(|value| read.contains(value.name()) || !weights.contains(value.name()));
    input.extend([ValueInfo::tensor(MASK_INDEX, INT64, &[2]), ValueInfo::tensor(TARGET_IDS, INT64, &[])]);
    let output = vec![ValueInfo::tensor(LOGPROB, FLOAT, &[])];
    // Notes on values would tell shapes that are no longer true.
    Graph { node: nodes, initializer, input, output, value_info: Vec::new(), ..graph }
}
