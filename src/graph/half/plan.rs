//! Owns the decision which nodes compute in half precision.

use super::super::facts::HALVES;
use super::super::index::Index;
use super::super::proto::{FLOAT, Node, Tensor};
use super::super::{Error, local, within};
use super::kinds::{self, Kind};
use super::numbers::{self, Half};
use std::collections::{HashMap, HashSet};

/// Nodes between the last product and an output, at most: a bias, a cast, a scale, a change of shape.
const STEPS_MAX: usize = 8;

/// What becomes of each node of a graph.
pub(super) struct Plan<'a> {
    index: &'a Index<'a>,
    to: Half,
    /// The type of each value's numbers.
    types: HashMap<&'a str, i32>,
    /// Nodes that activations go through: what depends on a matrix of weights.
    heavy: HashSet<usize>,
    half: HashSet<usize>,
    /// Nodes from an output's last product on.
    last: HashSet<usize>,
    /// Statistics, and what is computed of them until they are used.
    exact: HashSet<&'a str>,
    /// Values without weights that may lie beyond the type's greatest number.
    large: HashSet<&'a str>,
    /// Whether a constant has such numbers, where that was asked: each is looked through once.
    beyond: HashMap<&'a str, bool>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(index: &'a Index<'a>, to: Half) -> Result<Self, Error> {
        let (heavy, half, last, exact, large) =
            (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
        let mut plan =
            Self { index, to, types: types(index)?, heavy, half, last, exact, large, beyond: HashMap::new() };
        for output in index.graph.output.iter().map(|output| output.name()) {
            if plan.is_float(output) && !plan.mark_last(output) && output.ends_with("logits") {
                let what = "logits that are no product with a matrix: they can't be kept in single precision";
                return Err(Error::Unfamiliar { what: what.to_owned() });
            }
        }
        plan.refuse_half()?;
        let mut values = HashSet::new();
        for at in &index.order {
            plan.decide(*at, &mut values)?;
        }
        match plan.half.is_empty() {
            false => Ok(plan),
            true => Err(Error::Unfamiliar {
                what: "no products with float32 matrices: there is nothing to convert".to_owned(),
            }),
        }
    }

    /// Whether a node computes in half precision.
    pub(super) fn is_half(&self, at: usize) -> bool {
        self.half.contains(&at)
    }

    /// Whether activations go through a node.
    pub(super) fn is_heavy(&self, at: usize) -> bool {
        self.heavy.contains(&at)
    }

    /// Whether a node belongs to what makes an output.
    pub(super) fn is_last(&self, at: usize) -> bool {
        self.last.contains(&at)
    }

    /// Whether a value is float32 in the file.
    pub(super) fn is_float(&self, value: &str) -> bool {
        self.types.get(value) == Some(&FLOAT)
    }

    /// Whether a value is of half precision in the file: weights that are widened where they are used.
    pub(super) fn is_kept_in_half(&self, value: &str) -> bool {
        self.types.get(value).is_some_and(|element| HALVES.contains(element))
    }

    /// Whether numbers of a value may lie beyond the type's greatest.
    pub(super) fn is_large(&self, value: &str) -> bool {
        self.large.contains(value)
    }

    /// Whether a value is a matrix of weights: a constant of two axes, neither of one number only.
    pub(super) fn is_matrix(&self, value: &str) -> bool {
        let shape = || self.index.shape(value);
        let is_number = self.is_float(value) || self.is_kept_in_half(value);
        is_number
            && self.index.is_constant(value)
            && shape().is_some_and(|shape| shape.len() == 2 && shape.iter().all(|axis| *axis > 1))
    }

    /// Whether an output of a node in half precision is float32 all the same: means and deviations of norms.
    pub(super) fn stays_single(&self, node: &Node, output: &str) -> bool {
        let norm = ["LayerNormalization", "SkipLayerNormalization"].contains(&node.op_type());
        norm && node.output.iter().position(|name| name == output).is_some_and(|place| [1, 2].contains(&place))
    }

    /// A constant that the file holds.
    pub(super) fn tensor(&self, value: &str) -> Option<Tensor> {
        if let Some(tensor) = self.index.initializers.get(value) {
            return Some((*tensor).clone());
        }
        self.index.made_by(value).filter(|node| node.op_type() == "Constant").and_then(kinds::constant)
    }

    /// Refuses a graph that computes in half precision already, and does not only keep weights so.
    fn refuse_half(&self) -> Result<(), Error> {
        let moves = ["Cast", "Gather", "Identity", "Transpose"];
        let mut computing = self.index.graph.node.iter().filter(|node| !moves.contains(&node.op_type()));
        match computing.find(|node| node.input.iter().any(|input| self.is_kept_in_half(input))) {
            None => Ok(()),
            Some(node) => Err(Error::Unfamiliar {
                what: format!("{} in half precision already; use it as it is", node.op_type()),
            }),
        }
    }

    /// Marks the last product before an output and what follows it; `false` if there is none.
    fn mark_last(&mut self, output: &str) -> bool {
        let (mut value, mut passed) = (output.to_owned(), Vec::new());
        for _ in 0..STEPS_MAX {
            let Some(at) = self.index.maker.get(value.as_str()).copied() else { return false };
            let node = &self.index.graph.node[at];
            passed.push(at);
            let varying: Vec<&String> = node.input.iter().filter(|input| !self.index.is_constant(input)).collect();
            if local::is_product(node) || node.op_type() == "Gemm" {
                self.last.extend(passed);
                return true;
            }
            let steps =
                ["Add", "Cast", "Div", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];
            match varying.as_slice() {
                [input, ..]
                    if steps.contains(&node.op_type()) && (varying.len() == 1 || node.op_type() == "Reshape") =>
                {
                    value = (*input).clone();
                }
                _ => return false,
            }
        }
        false
    }

    /// Decides on one node; all before it are decided. `heavy` holds the values that depend on a matrix of weights.
    fn decide(&mut self, at: usize, heavy: &mut HashSet<&'a str>) -> Result<(), Error> {
        let index = self.index;
        let node = &index.graph.node[at];
        let reads: Vec<&'a str> = index.inputs(at).filter(|input| self.is_float(input)).collect();
        let makes: Vec<&'a str> = node.output.iter().map(String::as_str).filter(|output| !output.is_empty()).collect();
        let kind = kinds::kind(node, self.to)?;
        if kind == Kind::Apart || !self.is_source(node) && !self.index.inputs(at).any(|input| heavy.contains(input)) {
            let filled = if node.op_type() == "ConstantOfShape" { kinds::constant(node) } else { None };
            let is_filled = filled.is_some_and(|tensor| self.has_beyond(&tensor));
            if is_filled || reads.iter().any(|input| self.large.contains(input) || self.is_beyond(input)) {
                self.large.extend(makes);
            }
            return Ok(());
        }
        self.heavy.insert(at);
        heavy.extend(&makes);
        let is_exact = reads.iter().any(|input| self.exact.contains(input));
        let is_half = !self.last.contains(&at)
            && match kind {
                Kind::Half => !self.is_lost(node),
                Kind::Arithmetic => !self.is_lost(node) && (!is_exact || reads.iter().any(|input| self.is_row(input))),
                Kind::Moves => !is_exact,
                Kind::Cast => node.int("to", 0) == i64::from(FLOAT) && !reads.is_empty() && !is_exact,
                Kind::Apart | Kind::Single | Kind::Within => false,
            };
        if is_half && !reads.is_empty() {
            self.half.insert(at);
        } else if !reads.is_empty() && kind != Kind::Within && !self.last.contains(&at) {
            self.exact.extend(makes);
        }
        Ok(())
    }

    /// Whether activations begin at a node: rows taken from a matrix of weights, or a product with one.
    fn is_source(&self, node: &Node) -> bool {
        let at = |place: usize| node.input.get(place).is_some_and(|input| self.is_matrix(input));
        match node.op_type() {
            "Gather" | "GatherND" => at(0),
            "Gemm" => at(0) || at(1),
            "Conv" => node.input.get(1).is_some_and(|input| self.is_float(input) && self.index.is_constant(input)),
            _ => local::is_product(node) && (at(0) || at(1)),
        }
    }

    /// The only number of a constant that the file holds.
    fn number(&self, value: &str) -> Option<f32> {
        let tensor = self.tensor(value).filter(|tensor| tensor.dims.iter().all(|axis| *axis == 1))?;
        numbers::read(&tensor).ok()?.first().copied()
    }

    /// Whether one of the numbers of a constant that the file holds lies beyond the type's greatest.
    fn is_beyond(&mut self, value: &'a str) -> bool {
        if let Some(known) = self.beyond.get(value) {
            return *known;
        }
        let found = if self.is_float(value) { self.tensor(value) } else { None };
        let is_beyond = found.is_some_and(|tensor| self.has_beyond(&tensor));
        self.beyond.insert(value, is_beyond);
        is_beyond
    }

    fn has_beyond(&self, tensor: &Tensor) -> bool {
        numbers::read(tensor).is_ok_and(|numbers| numbers.iter().any(|number| self.to.is_beyond(*number)))
    }

    /// Whether a number that a node computes with would lose its meaning in half precision: an epsilon, or a scale beyond the greatest number.
    fn is_lost(&self, node: &Node) -> bool {
        let scales = ["Div", "Mul"].contains(&node.op_type());
        node.input
            .iter()
            .filter(|input| self.is_float(input))
            .filter_map(|input| self.number(input))
            .any(|number| self.to.is_lost(number) || scales && self.to.is_beyond(number))
    }

    /// Whether a value is a constant of more than one number, as the scales and shifts of norms are.
    fn is_row(&self, value: &str) -> bool {
        self.index.is_constant(value) && self.index.shape(value).is_some_and(|shape| shape.iter().any(|axis| *axis > 1))
    }
}

/// The type of every value that is known.
fn types<'a>(index: &'a Index<'a>) -> Result<HashMap<&'a str, i32>, Error> {
    let mut types: HashMap<&str, i32> =
        index.initializers.iter().map(|(name, tensor)| (*name, tensor.data_type())).collect();
    for input in &index.graph.input {
        types.entry(input.name()).or_insert_with(|| kinds::element(input));
    }
    for at in &index.order {
        let node = &index.graph.node[*at];
        let read =
            |place: usize| node.input.get(place).and_then(|input| types.get(input.as_str())).copied().unwrap_or(0);
        let made = kinds::outputs(node, read)?;
        types.extend(node.output.iter().map(String::as_str).zip(made));
    }
    for node in &index.graph.node {
        let read = node.input.iter().filter(|input| !input.is_empty()).cloned();
        let made_within = !within::graphs(node, 0)?.is_empty();
        if let Some(unknown) =
            read.filter(|_| !made_within).find(|input| types.get(input.as_str()).copied().unwrap_or(0) == 0)
        {
            return Err(Error::Unfamiliar { what: format!("a value {unknown:?} whose type can't be told") });
        }
    }
    Ok(types)
}
