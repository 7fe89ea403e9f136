//! Owns the search for the nodes that can be moved behind the masked positions.

use super::Error;
use super::index::Index;
use super::local;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The nodes between the frontier and the logits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// In an order in which they can run.
    pub(super) nodes: Vec<usize>,
    /// Values made outside that the nodes read at each position, by name.
    pub(super) frontier: BTreeSet<String>,
}

/// Walks back from `logits`. A node joins if it treats every position alike and nobody outside needs what it makes.
pub(super) fn find(index: &Index<'_>, logits: &str) -> Result<Region, Error> {
    let needed = index.needed_for([logits]);
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for at in &needed {
        for input in index.inputs(*at) {
            readers.entry(input).or_default().push(*at);
        }
    }
    let mut inside: HashSet<usize> = HashSet::new();
    let mut nodes = Vec::new();
    let mut reached: BTreeSet<&str> = BTreeSet::from([logits]);
    for at in index.order.iter().rev().filter(|at| needed.contains(at)) {
        let node = &index.graph.node[*at];
        if !node.output.iter().any(|output| reached.contains(output.as_str())) {
            continue;
        }
        let read_inside = |output: &String| {
            readers.get(output.as_str()).is_none_or(|readers| readers.iter().all(|reader| inside.contains(reader)))
        };
        if !node.output.iter().filter(|output| !output.is_empty()).all(read_inside) {
            continue;
        }
        if let Some(varying) = local::varying(node, index) {
            inside.insert(*at);
            nodes.push(*at);
            reached.extend(varying);
        }
    }
    nodes.reverse();
    let made_outside = |value: &&str| index.maker.get(value).is_none_or(|at| !inside.contains(at));
    let frontier: BTreeSet<String> = reached.into_iter().filter(made_outside).map(str::to_owned).collect();
    if !nodes.iter().any(|at| local::is_product(&index.graph.node[*at])) {
        let makers = frontier.iter().map(|value| index.made_by(value).map_or("an input", |node| node.op_type()));
        let makers: Vec<&str> = makers.collect();
        return Err(Error::NoHead { hint: hint(&makers), stopped_at: makers.join(", ") });
    }
    Ok(Region { nodes, frontier })
}

/// What an operator usually does that ends the walk just before the logits.
fn hint(operators: &[&str]) -> &'static str {
    let any = |known: &[&str]| operators.iter().any(|operator| known.contains(operator));
    match () {
        () if any(&["Reshape", "Flatten", "Squeeze", "Unsqueeze"]) => ": rows and positions are one axis there",
        () if any(&["ScatterND", "ScatterElements", "Where", "NonZero"]) => ": padding is put back there",
        () if any(&["Gather", "GatherND", "GatherElements", "Compress"]) => ": positions are chosen there already",
        () => "",
    }
}
