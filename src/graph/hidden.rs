//! Owns the cut of a masked language model before its last product: what the output embeddings are multiplied with, as an encoder's output.

use super::index::Index;
use super::proto::{FLOAT, Model, Node, ValueInfo};
use super::splice::{self, OPSET_MIN};
use super::{Error, facts, local, wire};
use prost::Message;
use prost::bytes::Bytes;

/// The output of the graph that is made, by the name that exported encoders give theirs.
const HIDDEN: &str = "last_hidden_state";
/// Nodes between the last product and the logits, at most: a bias, a cast.
const STEPS_MAX: usize = 8;

/// The graph of a masked language model without its logits: its one output `last_hidden_state`, float32 `[B,T,H]`, is what the last matrix
/// multiplies to make them (the last hidden state after the head's transform).
///
/// # Errors
/// The bytes are no model, or its logits are not a product with a constant matrix and a bias.
pub fn hidden(bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    wire::refuse_huge(&bytes)?;
    let mut model = Model::decode(Bytes::from(bytes)).map_err(|error| Error::Bytes { why: error.to_string() })?;
    let Some(mut graph) = model.graph.take() else {
        return Err(Error::Bytes { why: "it holds no graph".to_owned() });
    };
    let opset = facts::opset(&model);
    if opset < OPSET_MIN {
        return Err(Error::Unfamiliar { what: format!("operators of opset {opset}, older than {OPSET_MIN}") });
    }
    let logits = splice::logits(&graph)?;
    let index = Index::new(&graph)?;
    let value = before_logits(&index, &logits)?;
    if index.maker.contains_key(HIDDEN) {
        return Err(Error::Unfamiliar { what: format!("a value {HIDDEN:?} already") });
    }
    let needed = index.needed_for([value.as_str()]);
    let kept = index.order.iter().filter(|at| needed.contains(at));
    let mut nodes: Vec<Node> = kept.map(|at| index.graph.node[*at].clone()).collect();
    nodes.push(Node::new("Cast", &[&value], HIDDEN).with_int("to", FLOAT.into()));
    graph.initializer = splice::read_by(&nodes, std::mem::take(&mut graph.initializer))?;
    graph.output = vec![ValueInfo::of_any_shape(HIDDEN, FLOAT)];
    // Notes on values that are gone would be refused.
    graph.value_info.clear();
    graph.node = nodes;
    model.graph = Some(graph);
    Ok(model.encode_to_vec())
}

/// Walks back from the logits over what is added to them.
fn before_logits(index: &Index<'_>, logits: &str) -> Result<String, Error> {
    let mut value = logits.to_owned();
    let mut ended = "an input";
    for _ in 0..STEPS_MAX {
        let Some(node) = index.made_by(&value) else { break };
        ended = node.op_type();
        let varying: Vec<&String> = node.input.iter().filter(|input| !index.is_constant(input)).collect();
        let [input] = varying.as_slice() else { break };
        value.clone_from(input);
        if local::is_product(node) {
            return Ok(value);
        }
        if !["Add", "Cast", "Identity"].contains(&ended) {
            break;
        }
    }
    let what = format!("logits that are no product with a matrix (the walk back from them ended at {ended})");
    Err(Error::Unfamiliar { what })
}
