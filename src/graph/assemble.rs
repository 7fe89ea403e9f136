//! Owns a graph's way back from the nodes that were made of it: what nobody needs is left out.

use super::proto::{Graph, Node, Tensor};
use super::{Error, splice, within};
use std::collections::HashSet;

/// The graph over `nodes`, each behind what it needs, with `weights` beside its own, and without nodes, weights and notes that none of its
/// outputs needs.
pub(super) fn assemble(mut graph: Graph, mut nodes: Vec<Node>, weights: Vec<Tensor>) -> Result<Graph, Error> {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    let mut kept = Vec::with_capacity(nodes.len());
    while let Some(node) = nodes.pop() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned().chain(within::read_by(&node)?));
            kept.push(node);
        }
    }
    kept.reverse();
    let mut initializer = std::mem::take(&mut graph.initializer);
    let before: HashSet<String> = initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    initializer.extend(weights);
    graph.initializer = splice::read_by(&kept, initializer)?;
    // Older files list weights among the inputs; those that are gone are none.
    let left: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    graph.input.retain(|input| !before.contains(input.name()) || left.contains(input.name()));
    graph.node = kept;
    // Notes on values that are gone would be refused.
    graph.value_info.clear();
    Ok(graph)
}
