//! Owns graphs within nodes (`If`, `Loop`, `Scan`): they are carried as they are, but what they read counts as read by their node.

use super::Error;
use super::proto::{Graph, Node};
use prost::Message;

/// Graphs within graphs are followed this deep.
const DEPTH_MAX: usize = 16;

/// The graphs within a node that lies `depth` graphs deep itself.
pub(super) fn graphs(node: &Node, depth: usize) -> Result<Vec<Graph>, Error> {
    let encoded = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let graphs =
        encoded.map(|bytes| Graph::decode(bytes.clone()).map_err(|error| Error::Bytes { why: error.to_string() }));
    let graphs = graphs.collect::<Result<Vec<_>, _>>()?;
    match graphs.is_empty() || depth < DEPTH_MAX {
        true => Ok(graphs),
        false => Err(Error::Unsound { why: format!("graphs within graphs, more than {DEPTH_MAX} deep") }),
    }
}

/// Names of all that is read within a node. Some are made there as well: no value outside may bear such a name.
pub(super) fn read_by(node: &Node) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut waiting: Vec<(Graph, usize)> = graphs(node, 0)?.into_iter().map(|graph| (graph, 1)).collect();
    while let Some((graph, depth)) = waiting.pop() {
        for node in &graph.node {
            waiting.extend(graphs(node, depth)?.into_iter().map(|graph| (graph, depth + 1)));
        }
        names.extend(graph.output.iter().map(|value| value.name().to_owned()));
        names.extend(graph.node.into_iter().flat_map(|node| node.input));
    }
    Ok(names)
}
