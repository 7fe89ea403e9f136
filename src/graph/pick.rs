//! Owns what is read off the logits within the rewritten graph: log-softmax and the pick, and on demand ranks and odds.
//!
//! The logits are `[1,M,V]` here. Everything is computed in float32 whatever the model's own precision, and every log Σ exp with
//! the greatest logit taken off first.

use super::proto::{FLOAT, INT32, Node, Tensor, ValueInfo};
use super::splice::{TARGET_IDS, named};

/// What a rewritten graph computes besides `logprob`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs {
    /// `rank` (int32 `[M]`): 1 + the number of strictly greater logits; `entropy` (float32 `[M]`, nats) of the distribution;
    /// `max_logprob` (float32 `[M]`, nats): its greatest log-probability.
    pub ranks: bool,
    /// `log_odds` (float32 `[M]`, nats): the target's logit less the log Σ exp of all others.
    pub odds: bool,
}

/// log p of the target, float32 `[M]`.
pub(super) const LOGPROB: &str = "logprob";
const RANK: &str = "rank";
const ENTROPY: &str = "entropy";
const MAX_LOGPROB: &str = "max_logprob";
const LOG_ODDS: &str = "log_odds";
/// Every name that a rewritten graph gives to an output.
pub(super) const NAMES: [&str; 5] = [LOGPROB, RANK, ENTROPY, MAX_LOGPROB, LOG_ODDS];

/// Less than any log-probability that counts: exp of it is 0, and 0 times it is 0, which minus infinity would not do.
const FLOOR: f32 = -1e4;

/// Nodes, weights and outputs to be added to a graph.
pub(super) struct Pick {
    /// The opset of the standard operators.
    opset: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) weights: Vec<Tensor>,
    pub(super) outputs: Vec<ValueInfo>,
}

/// What makes `outputs` of `logits`.
pub(super) fn pick(logits: &str, outputs: Outputs, opset: i64) -> Pick {
    let mut pick = Pick { opset, nodes: Vec::new(), weights: Vec::new(), outputs: Vec::new() };
    pick.weights.push(Tensor::int64s(&named("targets.shape"), &[1, -1, 1]));
    pick.weights.push(Tensor::int64s(&named("flat"), &[-1]));
    pick.weights.push(Tensor::int64s(&named("last"), &[-1]));
    pick.nodes.extend([
        Node::new("Reshape", &[TARGET_IDS, &named("targets.shape")], &named("targets")),
        // ONNX Runtime drops a cast to the type that is there already.
        Node::new("Cast", &[logits], &named("logits")).with_int("to", FLOAT.into()),
        node("LogSoftmax", &["logits"], "logprobs").with_int("axis", 2),
        node("GatherElements", &["logprobs", "targets"], "picked").with_int("axis", 2),
    ]);
    pick.output("picked", LOGPROB, FLOAT);
    if outputs.ranks || outputs.odds {
        pick.nodes.push(node("GatherElements", &["logits", "targets"], "own").with_int("axis", 2));
    }
    if outputs.ranks {
        pick.ranks();
    }
    if outputs.odds {
        pick.odds();
    }
    pick
}

/// A node whose values all bear the rewriting's own names.
fn node(op_type: &str, inputs: &[&str], output: &str) -> Node {
    let inputs: Vec<String> = inputs.iter().map(|input| named(input)).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Node::new(op_type, &inputs, &named(output))
}

impl Pick {
    fn ranks(&mut self) {
        self.weights.extend([Tensor::int32(&named("one"), 1), Tensor::float(&named("floor"), FLOOR)]);
        self.nodes.push(node("Greater", &["logits", "own"], "greater"));
        self.nodes.push(node("Cast", &["greater"], "ones").with_int("to", INT32.into()));
        self.reduce("ReduceSum", "ones", "above");
        self.nodes.push(node("Add", &["above", "one"], "rank"));
        self.output("rank", RANK, INT32);
        self.nodes.push(node("Max", &["logprobs", "floor"], "bounded"));
        self.nodes.push(node("Exp", &["bounded"], "probabilities"));
        self.nodes.push(node("Mul", &["probabilities", "bounded"], "parts"));
        self.reduce("ReduceSum", "parts", "certainty");
        self.nodes.push(node("Neg", &["certainty"], "entropy"));
        self.output("entropy", ENTROPY, FLOAT);
        self.reduce("ReduceMax", "logprobs", "greatest");
        self.output("greatest", MAX_LOGPROB, FLOAT);
    }

    fn odds(&mut self) {
        // The target's own place in `others`: the lowest number stands for minus infinity.
        self.weights.push(Tensor::float(&named("lowest"), f32::MIN));
        self.nodes.push(node("Shape", &["targets"], "targets.size"));
        self.nodes.push(node("Expand", &["lowest", "targets.size"], "nothing"));
        self.nodes.push(node("ScatterElements", &["logits", "targets", "nothing"], "others").with_int("axis", 2));
        self.reduce("ReduceMax", "others", "rival");
        self.nodes.push(node("Sub", &["others", "rival"], "below"));
        self.nodes.push(node("Exp", &["below"], "weights"));
        self.reduce("ReduceSum", "weights", "weight");
        self.nodes.push(node("Log", &["weight"], "log.weight"));
        self.nodes.push(node("Sub", &["own", "rival"], "lead"));
        self.nodes.push(node("Sub", &["lead", "log.weight"], "odds"));
        self.output("odds", LOG_ODDS, FLOAT);
    }

    /// Reduces the last axis and keeps it. The axes became an input with opset 13 for sums, 18 for the rest.
    fn reduce(&mut self, op_type: &str, from: &str, to: &str) {
        let as_input = if op_type == "ReduceSum" { 13 } else { 18 };
        self.nodes.push(match self.opset >= as_input {
            true => node(op_type, &[from, "last"], to),
            false => node(op_type, &[from], to).with_ints("axes", &[-1]),
        });
    }

    /// Makes `[1,M,1]` an output `[M]`.
    fn output(&mut self, from: &str, name: &str, element: i32) {
        self.nodes.push(Node::new("Reshape", &[&named(from), &named("flat")], name));
        self.outputs.push(ValueInfo::tensor(name, element, &[]));
    }
}
