//! Owns the search for attentions: what a softmax over scores reads, and who reads it.
//!
//! The forms: scores are Q·Kᵀ, scaled before or after the product or on both factors, by constants or by what the graph computes; to them masks are
//! added, or a number far below zero is put in their place; the softmax runs over the last axis, cast or not, guarded against rows without a key
//! or not; its product with V is transposed to `[B,S,N,H]`. A scale behind a mask, two products in one sum, probabilities that somebody else reads: all that is another form.

use super::super::index::Index;
use super::super::proto::Node;
use super::sizes;
use std::collections::HashMap;

/// Nodes between the product of Q and K and the softmax, at most, on each way back.
const STEPS_MAX: usize = 8;
/// A number that is put in place of scores must be at least so far below zero: its exponential is nothing beside any score's.
const MASKED_MAX: f32 = -1e4;
/// From `[B,N,S,H]` to `[B,S,N,H]`, and back.
const SWAPPED: [i64; 4] = [0, 2, 1, 3];
/// From Kᵀ, `[B,N,H,L]`, to `[B,L,N,H]`.
const TURNED: [i64; 4] = [0, 3, 1, 2];

/// As a transposition of the last two axes has it.
const LAST_SWAPPED: [i64; 4] = [0, 1, 3, 2];

/// One attention.
pub(super) struct Found<'a> {
    /// The transposition of its context, which the fused operator takes the place of.
    pub(super) at: usize,
    /// What that makes, `[B,S,N,H]`.
    pub(super) output: &'a str,
    pub(super) query: Laid<'a>,
    pub(super) key: Laid<'a>,
    pub(super) value: Laid<'a>,
    /// In the order in which they are added.
    pub(super) masks: Vec<Mask<'a>>,
    pub(super) scale: f32,
    pub(super) heads: i64,
    /// The zero that takes the place of what is no number, where that is guarded.
    pub(super) guard: Option<&'a str>,
}

/// A value with four axes, and the order in which they are `[B,S,N,H]`.
pub(super) struct Laid<'a> {
    pub(super) value: &'a str,
    pub(super) order: [i64; 4],
}

/// What becomes of scores before the softmax.
pub(super) enum Mask<'a> {
    /// This is added.
    Added(&'a str),
    /// A number takes their place.
    Chosen {
        /// Where: a truth value, once it was cast so.
        condition: &'a str,
        casts: Vec<i64>,
        /// Its name and type.
        number: &'a str,
        element: i32,
        /// Whether it stands where the condition is true.
        where_true: bool,
    },
}

/// Scores on the way back to their product.
struct Scores<'a> {
    query: &'a str,
    key: &'a str,
    scale: f64,
    masks: Vec<Mask<'a>>,
}

struct Search<'a, 'i> {
    index: &'i Index<'a>,
    readers: HashMap<&'a str, Vec<usize>>,
}

/// Every attention of a graph, none of whose inner values is read by others.
pub(super) fn all<'a>(index: &Index<'a>) -> Vec<Found<'a>> {
    let graph = index.graph;
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        // The values that graphs within nodes read are not borrowed from the graph: such a value is read twice, and so by others.
        for input in &node.input {
            readers.entry(input).or_default().push(at);
        }
    }
    for within in (0..graph.node.len()).filter(|at| index.inputs(*at).count() > graph.node[*at].input.len()) {
        for input in index.inputs(within) {
            if let Some((name, _)) = index.maker.get_key_value(input) {
                readers.entry(name).or_default().extend([within, within]);
            }
        }
    }
    for output in &graph.output {
        readers.entry(output.name()).or_default().extend([usize::MAX, usize::MAX]);
    }
    let search = Search { index, readers };
    index.order.iter().filter_map(|at| search.attention(*at)).collect()
}

impl<'a> Search<'a, '_> {
    /// The attention whose context the node at `at` transposes.
    fn attention(&self, at: usize) -> Option<Found<'a>> {
        let node = &self.index.graph.node[at];
        let [context] = node.input.as_slice() else { return None };
        if !is(node, "Transpose") || node.attribute("perm")?.ints != SWAPPED {
            return None;
        }
        let output = node.output.first()?;
        let product = self.sole(context).filter(|node| is(node, "MatMul"))?;
        let [probabilities, value] = product.input.as_slice() else { return None };
        let (softmax, guard) = self.softmax(probabilities)?;
        let scores = self.scores(self.uncast(softmax.input.first()?), STEPS_MAX)?;
        let mut scale = scores.scale;
        let query = self.laid(scores.query, SWAPPED, Some(&mut scale))?;
        let key = self.laid(scores.key, TURNED, Some(&mut scale))?;
        let laid_value = self.laid(value, SWAPPED, None)?;
        let told = [scores.query, scores.key, value].map(|value| sizes::size(self.index, value, 2));
        let heads = told.iter().flatten().copied().find(|heads| *heads > 0)?;
        let agree = told.iter().flatten().all(|other| *other == heads);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it is a product of single precision, and checked just below"
        )]
        let scale = scale as f32;
        let sound = agree && scale.is_normal() && scale > 0.0;
        let masks = scores.masks;
        sound.then_some(Found { at, output, query, key, value: laid_value, masks, scale, heads, guard })
    }

    /// The node that makes a value which one node reads, once.
    fn sole(&self, value: &str) -> Option<&'a Node> {
        self.made(value, 1)
    }

    /// The node that makes a value which is read so often.
    fn made(&self, value: &str, readers: usize) -> Option<&'a Node> {
        let read = self.readers.get(value).map_or(0, Vec::len);
        self.index.made_by(value).filter(|node| read == readers && node.output.len() == 1)
    }

    /// The softmax behind probabilities that nobody else reads, and the zero that guards them.
    fn softmax(&self, probabilities: &'a str) -> Option<(&'a Node, Option<&'a str>)> {
        let (mut value, mut guard, mut readers) = (probabilities, None, 1);
        for _ in 0..STEPS_MAX {
            let node = self.made(value, readers)?;
            readers = 1;
            let first = node.input.first()?;
            match node.op_type() {
                "Softmax" => return is_over_keys(node).then_some((node, guard)),
                "Cast" | "Identity" if is_standard(node) => value = first,
                "Where" if guard.is_none() => {
                    let [condition, zero, otherwise] = node.input.as_slice() else { return None };
                    let asks = self.sole(condition).filter(|node| is(node, "IsNaN"))?;
                    let is_zero = sizes::number(self.index, zero).is_some_and(|(number, _)| number == 0.0);
                    if !is_zero || asks.input.first() != Some(otherwise) {
                        return None;
                    }
                    (value, guard, readers) = (otherwise, Some(zero.as_str()), 2);
                }
                _ => return None,
            }
        }
        None
    }

    /// A value before it was cast or passed on.
    fn uncast(&self, value: &'a str) -> &'a str {
        let mut value = value;
        for _ in 0..STEPS_MAX {
            match self.index.made_by(value).filter(|node| is(node, "Cast") || is(node, "Identity")) {
                Some(node) => value = node.input.first().map_or(value, String::as_str),
                None => break,
            }
        }
        value
    }

    /// Walks back from what the softmax reads to the product of Q and K.
    fn scores(&self, value: &'a str, steps: usize) -> Option<Scores<'a>> {
        let steps = steps.checked_sub(1)?;
        let node = self.index.made_by(value).filter(|node| is_standard(node))?;
        match (node.op_type(), node.input.as_slice()) {
            ("MatMul", [query, key]) if !self.index.is_constant(query) && !self.index.is_constant(key) => {
                Some(Scores { query, key, scale: 1.0, masks: Vec::new() })
            }
            ("Identity", [input]) => self.scores(input, steps),
            ("Add", [one, two]) => {
                let (mut scores, other) = match (self.scores(one, steps), self.scores(two, steps)) {
                    (Some(scores), None) => (scores, two),
                    (None, Some(scores)) => (scores, one),
                    (Some(_), Some(_)) | (None, None) => return None,
                };
                let (mask, casts) = self.unexpanded(other);
                scores.masks.push(Mask::Added(if casts.is_empty() { mask } else { other }));
                Some(scores)
            }
            ("Mul" | "Div", [_, _]) => {
                let (input, factor) = self.scaled(node)?;
                // What was added before would be scaled with them.
                let scores = self.scores(input, steps).filter(|scores| scores.masks.is_empty())?;
                Some(Scores { scale: scores.scale * factor, ..scores })
            }
            ("Where", [condition, one, two]) => {
                let number = |value: &str| sizes::number(self.index, value).filter(|(number, _)| *number <= MASKED_MAX);
                let (number, element, input, where_true) = match (number(one), number(two)) {
                    (Some((_, element)), None) => (one, element, two, true),
                    (None, Some((_, element))) => (two, element, one, false),
                    (Some(_), Some(_)) | (None, None) => return None,
                };
                let mut scores = self.scores(input, steps)?;
                let (condition, casts) = self.unexpanded(condition);
                scores.masks.push(Mask::Chosen { condition, casts, number, element, where_true });
                Some(scores)
            }
            _ => None,
        }
    }

    /// A value before it was expanded to the shape of scores, which may have been asked of the scores themselves; and to what it is cast behind that. The
    /// value as it is, and no casts, if it was not.
    fn unexpanded(&self, value: &'a str) -> (&'a str, Vec<i64>) {
        let (mut at, mut casts) = (value, Vec::new());
        for _ in 0..STEPS_MAX {
            let Some(node) = self.index.made_by(at).filter(|node| is_standard(node)) else { break };
            match (node.op_type(), node.input.as_slice()) {
                ("Expand", [data, _]) if casts.is_empty() => return (data, casts),
                ("Expand", [data, _]) => {
                    casts.reverse();
                    return (data, casts);
                }
                ("Identity", [input]) => at = input,
                ("Cast", [input]) => {
                    casts.push(node.int("to", 0));
                    at = input;
                }
                _ => break,
            }
        }
        (value, Vec::new())
    }

    /// What a node multiplies by a positive number, and the number.
    fn scaled(&self, node: &'a Node) -> Option<(&'a str, f64)> {
        let [one, two] = node.input.as_slice() else { return None };
        let number = |value: &str| sizes::number(self.index, value).map(|(number, _)| f64::from(number));
        match (node.op_type(), number(one), number(two)) {
            ("Mul", None, Some(number)) => Some((one, number)),
            ("Mul", Some(number), None) => Some((two, number)),
            ("Div", None, Some(number)) if number != 0.0 => Some((one, number.recip())),
            _ => None,
        }
    }

    /// A factor of a product, over the transpositions that made it and the numbers that scale it. `order` is how it would have to be transposed.
    fn laid(&self, value: &'a str, order: [i64; 4], mut scale: Option<&mut f64>) -> Option<Laid<'a>> {
        let mut laid = Laid { value, order };
        for _ in 0..STEPS_MAX {
            let Some(node) = self.index.made_by(laid.value).filter(|node| is_standard(node)) else { break };
            let scaled = if ["Mul", "Div"].contains(&node.op_type()) { self.scaled(node) } else { None };
            let perm = node.attribute("perm").filter(|perm| node.op_type() == "Transpose" && perm.ints.len() == 4);
            let moved = match perm {
                Some(perm) => node.input.first().map(|input| (input.as_str(), perm.ints.as_slice())),
                None => self.turned(node).map(|input| (input, LAST_SWAPPED.as_slice())),
            };
            match (moved, scaled, scale.as_deref_mut()) {
                (Some((input, perm)), _, _) => {
                    let mut order = [0; 4];
                    for (to, from) in order.iter_mut().zip(laid.order) {
                        *to = *perm.get(usize::try_from(from).ok()?)?;
                    }
                    laid = Laid { value: input, order };
                }
                (None, Some((input, factor)), Some(scale)) => {
                    *scale *= factor;
                    laid.value = input;
                }
                _ => break,
            }
        }
        Some(laid)
    }
}

impl<'a> Search<'a, '_> {
    /// What a node has the last two axes swapped of by way of three axes, as the exporter of PyTorch 2.5 and later transposes K: to `[-1,L,H]`, turned, and to
    /// the axes before with the last two the other way round.
    fn turned(&self, node: &'a Node) -> Option<&'a str> {
        let [three, wanted] = self.inputs_of(node, "Reshape")?;
        let turn = self.index.made_by(three).filter(|turn| is(turn, "Transpose"))?;
        let [flat] = turn.input.as_slice() else { return None };
        let [data, flattened] = self.inputs_of(self.index.made_by(flat)?, "Reshape")?;
        let [all, rows, columns] = self.joined(flattened)?;
        let [before, columns_again, rows_again] = self.joined(wanted)?;
        let is_turn = turn.attribute("perm")?.ints == [0, 2, 1];
        let same = rows == rows_again && columns == columns_again && self.index.int64s(all)? == [-1];
        let first = self.is_part(before, data, |start| start <= -4 || start == 0, |end| end == -2);
        let second = self.is_part(rows, data, |start| start == -2, |end| end == -1);
        let third = self.is_part(columns, data, |start| start == -1, |end| end > i64::from(i32::MAX) - 1);
        (is_turn && same && first && second && third).then_some(data)
    }

    /// The two inputs of a node of this operator.
    fn inputs_of(&self, node: &'a Node, op_type: &str) -> Option<[&'a str; 2]> {
        match node.input.as_slice() {
            [one, two] if is(node, op_type) => Some([one, two]),
            _ => None,
        }
    }

    /// The three parts of a shape.
    fn joined(&self, shape: &str) -> Option<[&'a str; 3]> {
        let node = self.index.made_by(shape).filter(|node| is(node, "Concat"))?;
        match node.input.as_slice() {
            [one, two, three] => Some([one, two, three]),
            _ => None,
        }
    }

    /// Whether a value is this part of the axes of `data`.
    fn is_part(&self, part: &str, data: &str, start: fn(i64) -> bool, end: fn(i64) -> bool) -> bool {
        let Some(node) = self.index.made_by(part).filter(|node| is(node, "Slice")) else { return false };
        let [shape, from, to] = node.input.as_slice() else { return false };
        let number = |value: &str| self.index.int64s(value).filter(|numbers| numbers.len() == 1);
        let bounds = number(from).zip(number(to));
        let of = self.index.made_by(shape).filter(|node| is(node, "Shape"));
        // A shape may be told from an axis on, or up to one.
        let whole = of.is_some_and(|of| of.int("start", 0) == 0 && of.attribute("end").is_none());
        whole
            && of.and_then(|of| of.input.first()).is_some_and(|input| input == data)
            && bounds.is_some_and(|(from, to)| start(from[0]) && end(to[0]))
    }
}

fn is(node: &Node, op_type: &str) -> bool {
    node.op_type() == op_type && is_standard(node)
}

/// Over the last of four axes, and said so.
fn is_over_keys(softmax: &Node) -> bool {
    let axis = softmax.attribute("axis").and_then(|attribute| attribute.i);
    is_standard(softmax) && axis.is_some_and(|axis| axis == -1 || axis == 3)
}

fn is_standard(node: &Node) -> bool {
    ["", "ai.onnx"].contains(&node.domain())
}
