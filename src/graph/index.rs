//! Owns what can be read off a graph without running it: who makes what, who needs what, an order, what is constant.

use super::proto::{Graph, Node, Tensor};
use super::{Error, within};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A constant's shape is followed through so many nodes that move it: exports have one or two, and a chain without end must not be
/// walked again for each node that reads from it.
const SHAPE_STEPS_MAX: usize = 16;

/// A sound graph, seen from its values. Nodes go by their place in `graph.node`.
pub(super) struct Index<'a> {
    pub(super) graph: &'a Graph,
    /// The node that makes a value.
    pub(super) maker: HashMap<&'a str, usize>,
    /// Every node behind those that it needs; otherwise as in the file.
    pub(super) order: Vec<usize>,
    /// What nodes read through the graphs within them.
    within: HashMap<usize, Vec<String>>,
    pub(super) initializers: HashMap<&'a str, &'a Tensor>,
    constants: HashSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(super) fn new(graph: &'a Graph) -> Result<Self, Error> {
        let mut maker = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                if maker.insert(output.as_str(), at).is_some() {
                    return Err(Error::Unsound { why: format!("two nodes make {output:?}") });
                }
            }
        }
        let mut within = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            let names = within::read_by(node)?;
            if !names.is_empty() {
                within.insert(at, names);
            }
        }
        let order = order(graph, &maker, &within)?;
        let initializers: HashMap<&str, &Tensor> =
            graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        let mut constants: HashSet<&str> = initializers.keys().copied().collect();
        for at in &order {
            let node = &graph.node[*at];
            let fixed = |input: &str| input.is_empty() || constants.contains(input);
            if inputs(graph, &within, *at).all(fixed) && !is_random(node.op_type()) {
                constants.extend(node.output.iter().map(String::as_str));
            }
        }
        Ok(Self { graph, maker, order, within, initializers, constants })
    }

    /// What a node reads, through graphs within it too.
    pub(super) fn inputs(&self, at: usize) -> impl Iterator<Item = &str> {
        inputs(self.graph, &self.within, at)
    }

    /// Whether a value is the same in every run; an absent optional input is.
    pub(super) fn is_constant(&self, value: &str) -> bool {
        value.is_empty() || self.constants.contains(value)
    }

    /// The node that makes a value, if one does.
    pub(super) fn made_by(&self, value: &str) -> Option<&'a Node> {
        self.maker.get(value).map(|at| &self.graph.node[*at])
    }

    /// The axes of a constant, where they can be told without computing it.
    pub(super) fn shape(&self, value: &str) -> Option<Vec<i64>> {
        let mut value = value;
        let mut turned: Vec<&Node> = Vec::new();
        for _ in 0..SHAPE_STEPS_MAX {
            if let Some(tensor) = self.initializers.get(value) {
                return turn(tensor.dims.clone(), &turned);
            }
            let node = self.made_by(value)?;
            match node.op_type() {
                "Constant" => return turn(constant_shape(node)?, &turned),
                "Transpose" => turned.push(node),
                "Cast" | "Identity" | "DequantizeLinear" => {}
                _ => return None,
            }
            value = node.input.first()?;
        }
        None
    }

    /// The values of an int64 constant that the file holds.
    pub(super) fn int64s(&self, value: &str) -> Option<Vec<i64>> {
        if let Some(tensor) = self.initializers.get(value) {
            return tensor.as_int64s();
        }
        let node = self.made_by(value).filter(|node| node.op_type() == "Constant")?;
        match (node.attribute("value"), node.attribute("value_ints")) {
            (Some(attribute), _) => attribute.t.as_ref()?.as_int64s(),
            (None, Some(attribute)) => Some(attribute.ints.clone()),
            (None, None) => None,
        }
    }

    /// The nodes that `values` depend on.
    pub(super) fn needed_for<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> HashSet<usize> {
        let mut needed = HashSet::new();
        let mut waiting: Vec<usize> = values.into_iter().filter_map(|value| self.maker.get(value).copied()).collect();
        while let Some(at) = waiting.pop() {
            if needed.insert(at) {
                waiting.extend(self.inputs(at).filter_map(|input| self.maker.get(input).copied()));
            }
        }
        needed
    }
}

fn inputs<'i>(graph: &'i Graph, within: &'i HashMap<usize, Vec<String>>, at: usize) -> impl Iterator<Item = &'i str> {
    graph.node[at].input.iter().chain(within.get(&at).into_iter().flatten()).map(String::as_str)
}

/// Kahn's algorithm, taking the first ready node of the file each time.
fn order(
    graph: &Graph,
    maker: &HashMap<&str, usize>,
    within: &HashMap<usize, Vec<String>>,
) -> Result<Vec<usize>, Error> {
    let mut missing = vec![0_usize; graph.node.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (at, missing) in missing.iter_mut().enumerate() {
        for made in inputs(graph, within, at).filter_map(|input| maker.get(input)) {
            *missing += 1;
            waiting[*made].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..missing.len()).filter(|at| missing[*at] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for next in &waiting[at] {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    match order.len() == graph.node.len() {
        true => Ok(order),
        false => Err(Error::Unsound { why: "its nodes need each other in a circle".to_owned() }),
    }
}

fn is_random(op_type: &str) -> bool {
    op_type.starts_with("Random") || ["Bernoulli", "Multinomial"].contains(&op_type)
}

fn constant_shape(node: &Node) -> Option<Vec<i64>> {
    let attribute = node.attribute.first()?;
    let axis = |length: usize| i64::try_from(length).map(|length| vec![length]).ok();
    match attribute.name() {
        "value" => Some(attribute.t.as_ref()?.dims.clone()),
        "value_int" | "value_float" => Some(Vec::new()),
        "value_ints" => axis(attribute.ints.len()),
        "value_floats" => axis(attribute.floats.len()),
        _ => None,
    }
}

/// The axes after transpositions, the last one first in the list.
fn turn(shape: Vec<i64>, transpositions: &[&Node]) -> Option<Vec<i64>> {
    transpositions.iter().rev().try_fold(shape, |shape, node| match node.attribute("perm") {
        None => Some(shape.into_iter().rev().collect()),
        Some(perm) => perm.ints.iter().map(|axis| shape.get(usize::try_from(*axis).ok()?).copied()).collect(),
    })
}
