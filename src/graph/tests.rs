//! Proofs on the fixtures' graphs, on small graphs made here, and on bytes that are no graph.

use super::index::Index;
use super::proto::{Entry, FLOAT, Function, Graph, Model, Node, OperatorSet, Tensor, ValueInfo};
use super::{Error, Outputs, Precision, Rewritten, Weights, describe};
use proptest::prelude::*;
use prost::Message;

const ALL: Outputs = Outputs { ranks: true, odds: true };

fn rewrite(bytes: Vec<u8>) -> Result<Rewritten, Error> {
    super::rewrite(bytes, Outputs::default(), &Weights::Within)
}

fn file(name: &str) -> Option<Vec<u8>> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("model.onnx")).ok()
}

const FIXTURES: [&str; 3] = [
    "tests/fixtures/models/tiny-bert-wordpiece",
    "tests/fixtures/models/tiny-unigram-mask-piece",
    "tests/fixtures/models/tiny-bpe",
];

#[test]
fn the_last_layer_is_moved_with_the_head() {
    for name in FIXTURES.into_iter().chain(["models/tamis-en"]) {
        let Some(bytes) = file(name) else {
            assert!(!name.starts_with("tests"), "{name} is gone");
            println!("SKIPPED: no {name} here");
            continue;
        };
        assert_eq!(Model::decode(bytes.as_slice()).unwrap().encode_to_vec(), bytes, "{name}: something is lost");
        let size = bytes.len();
        let rewritten = rewrite(bytes).unwrap();
        assert_eq!(rewritten.products, 5, "{name}: attention's output, two of the feed-forward, transform, decoder");
        assert_eq!(rewritten.frontier.len(), 2, "{name}: attention's context and the residual: {rewritten:?}");
        let grown = i64::try_from(rewritten.bytes.len()).unwrap() - i64::try_from(size).unwrap();
        assert!(grown < 2500, "{name}: {grown} bytes more: weights must not be copied");
        let with_all = super::rewrite(file(name).unwrap(), ALL, &Weights::Within).unwrap();
        assert_eq!((with_all.products, with_all.frontier), (rewritten.products, rewritten.frontier.clone()));
        let error = rewrite(rewritten.bytes).unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
    }
}

#[test]
fn large_weights_can_stay_in_the_file_that_they_came_from() {
    let bytes = file(FIXTURES[0]).unwrap();
    let within = Model::decode(rewrite(bytes.clone()).unwrap().bytes.as_slice()).unwrap().graph.unwrap();
    let weights = Weights::InFile { name: "model.onnx".to_owned(), bytes_min: 256 };
    let rewritten = super::rewrite(bytes.clone(), Outputs::default(), &weights).unwrap();
    assert!(rewritten.bytes.len() < bytes.len() / 2, "{} of {} bytes", rewritten.bytes.len(), bytes.len());
    let left = Model::decode(rewritten.bytes.as_slice()).unwrap().graph.unwrap();
    let mut found = 0;
    for (copied, left) in within.initializer.iter().zip(&left.initializer) {
        assert_eq!(copied.name(), left.name());
        let raw = copied.raw_data.as_ref().filter(|raw| raw.len() >= 256);
        let Some(raw) = raw else {
            assert_eq!(copied, left);
            continue;
        };
        let entry = |key: &str| left.external_data.iter().find(|entry| entry.key() == key).unwrap().value().to_owned();
        let (offset, length): (usize, usize) = (entry("offset").parse().unwrap(), entry("length").parse().unwrap());
        assert_eq!((entry("location").as_str(), left.data_location, &left.raw_data), ("model.onnx", Some(1), &None));
        assert_eq!(&bytes[offset..offset + length], &raw[..], "{}", left.name());
        found += 1;
    }
    assert!(found >= 12, "{found} weights");
    let facts = describe(rewritten.bytes).unwrap();
    assert_eq!(facts.external, ["model.onnx"]);
}

#[test]
fn the_logits_are_found_beside_another_heads_output() {
    let mut pretraining = model(vec![head("hidden")]);
    let graph = pretraining.graph.as_mut().unwrap();
    graph.node[0].output[0] = "prediction_logits".to_owned();
    graph.node.push(Node::new("MatMul", &["hidden", "w"], "seq_relationship_logits"));
    graph.output[0].name = Some("prediction_logits".to_owned());
    graph.output.push(ValueInfo::tensor("seq_relationship_logits", FLOAT, &[2]));
    let rewritten = rewrite(pretraining.encode_to_vec()).unwrap();
    assert_eq!((rewritten.products, names(&rewritten)), (1, vec!["hidden"]));
    // Two that could be it are one too many.
    pretraining.graph.as_mut().unwrap().output[1] = ValueInfo::tensor("seq_relationship_logits", FLOAT, &[7, 4]);
    assert_eq!(rewrite(pretraining.encode_to_vec()), Err(Error::NoLogits { outputs: 2 }));
}

#[test]
fn a_graph_larger_than_any_masked_language_model_is_refused_at_once() {
    let huge = |model: &Model| {
        let (bytes, start) = (model.encode_to_vec(), std::time::Instant::now());
        let found = describe(bytes.clone()).unwrap_err();
        assert_eq!(rewrite(bytes), Err(found.clone()));
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        found.to_string()
    };
    let nodes = |count: usize| (0..count).map(|at| Node::new("Abs", &["hidden"], &format!("v{at}"))).collect();
    assert!(describe(model(nodes(50_000)).encode_to_vec()).is_ok());
    assert!(huge(&model(nodes(50_001))).contains("more than 50000 nodes"));
    // Within a node, where the decoder only comes later.
    let mut carrier = Node::new("If", &["hidden"], "logits");
    let attribute = super::proto::Attribute {
        g: Some(model(nodes(50_001)).graph.unwrap().encode_to_vec().into()),
        ..super::proto::Attribute::default()
    };
    carrier.attribute.push(attribute);
    assert!(huge(&model(vec![carrier])).contains("more than 50000 nodes"));
    let names = Node { name: Some("n".repeat(65 << 20)), ..head("hidden") };
    assert!(huge(&model(vec![names])).contains("bytes that are no weights"));
    // Weights may be as large.
    let mut wide = model(vec![head("hidden")]);
    let raw = Tensor { float_data: Vec::new(), raw_data: Some(vec![0; 65 << 20].into()), ..tensor("wide", &[4]) };
    wide.graph.as_mut().unwrap().initializer.push(raw);
    assert!(describe(wide.encode_to_vec()).is_ok());
}

fn tensor(name: &str, dims: &[i64]) -> Tensor {
    let values = usize::try_from(dims.iter().product::<i64>()).unwrap();
    Tensor {
        dims: dims.to_vec(),
        data_type: Some(FLOAT),
        float_data: vec![1.0; values],
        name: Some(name.to_owned()),
        ..Tensor::default()
    }
}

/// A model over `hidden` `[B,T,4]` and a scalar-free set of weights.
fn model(node: Vec<Node>) -> Model {
    let graph = Graph {
        node,
        initializer: vec![
            tensor("w", &[4, 4]),
            tensor("head", &[4, 9]),
            tensor("cube", &[1, 4, 4]),
            tensor("bias", &[4]),
            tensor("positions", &[1, 7, 4]),
        ],
        input: vec![ValueInfo::tensor("hidden", FLOAT, &[7, 4])],
        output: vec![ValueInfo::tensor("logits", FLOAT, &[7, 9])],
        ..Graph::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(17) }];
    Model { ir_version: Some(8), opset_import, graph: Some(graph), ..Model::default() }
}

fn rewritten(node: Vec<Node>) -> Result<Rewritten, Error> {
    rewrite(model(node).encode_to_vec())
}

fn names(rewritten: &Rewritten) -> Vec<&str> {
    rewritten.frontier.iter().map(|cut| cut.value.as_str()).collect()
}

fn frontier(node: Vec<Node>) -> Vec<String> {
    names(&rewritten(node).unwrap()).into_iter().map(str::to_owned).collect()
}

fn head(from: &str) -> Node {
    Node::new("MatMul", &[from, "head"], "logits")
}

#[test]
fn what_mixes_positions_stays_before_the_frontier() {
    let products = |between: Node| frontier(vec![Node::new("MatMul", &["hidden", "w"], "a"), between, head("b")]);
    for alike in [
        Node::new("Add", &["a", "bias"], "b"),
        Node::new("Erf", &["a"], "b"),
        Node::new("LayerNormalization", &["a", "bias"], "b"),
        Node::new("Softmax", &["a"], "b").with_int("axis", -1),
        Node::new("MatMul", &["a", "w"], "b"),
    ] {
        assert_eq!(products(alike.clone()), ["hidden"], "{alike:?}");
    }
    for mixing in [
        Node::new("Add", &["a", "positions"], "b"),
        Node::new("LayerNormalization", &["a", "bias"], "b").with_int("axis", 1),
        Node::new("Softmax", &["a"], "b"),
        Node::new("Softmax", &["a"], "b").with_int("axis", 1),
        Node::new("MatMul", &["a", "a"], "b"),
        Node::new("MatMul", &["a", "cube"], "b"),
        Node::new("MatMul", &["w", "a"], "b"),
        Node::new("Conv", &["a", "w"], "b"),
        Node { domain: Some("my.own".to_owned()), ..Node::new("Erf", &["a"], "b") },
    ] {
        assert_eq!(products(mixing.clone()), ["b"], "{mixing:?}");
    }
}

#[test]
fn a_constant_is_followed_through_a_few_nodes_and_not_through_a_chain_without_end() {
    let through = |count: usize| {
        let mut node = vec![Node::new("MatMul", &["hidden", "w"], "a"), Node::new("Identity", &["bias"], "c1")];
        for at in 1..count {
            node.push(Node::new("Identity", &[&format!("c{at}")], &format!("c{}", at + 1)));
        }
        node.extend([Node::new("Add", &["a", &format!("c{count}")], "b"), head("b")]);
        frontier(node)
    };
    assert_eq!(through(3), ["hidden"]);
    assert_eq!(through(100), ["b"], "walking it again for each reader would take the square of its length");
}

#[test]
fn what_somebody_outside_reads_is_gathered_and_what_nobody_reads_is_dropped() {
    let node = vec![
        Node::new("MatMul", &["hidden", "w"], "shared"),
        Node::new("Conv", &["shared", "w"], "mixed"),
        Node::new("Add", &["shared", "mixed"], "sum"),
        Node::new("Erf", &["shared"], "unread"),
        head("sum"),
    ];
    let rewritten = rewritten(node).unwrap();
    assert_eq!(names(&rewritten), ["mixed", "shared"]);
    assert_eq!(rewritten.frontier[0].operator, "Conv");
    let graph = Model::decode(rewritten.bytes.as_slice()).unwrap().graph.unwrap();
    let made: Vec<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    assert!(made.contains(&"mixed") && !made.contains(&"unread"), "{made:?}");
    let weights: Vec<&str> = graph.initializer.iter().map(Tensor::name).collect();
    assert!(weights.contains(&"head") && !weights.contains(&"bias"), "{weights:?}");
    let listed = |values: &[ValueInfo]| values.iter().map(|value| value.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(listed(&graph.input), ["hidden", "mask_index", "target_ids"]);
    assert_eq!(listed(&graph.output), ["logprob"]);
    let index = Index::new(&graph).unwrap();
    assert_eq!(index.order, (0..graph.node.len()).collect::<Vec<_>>(), "nodes stand behind what they need");
}

/// A node that makes `output` by a graph within it.
fn branch(output: &str, node: Vec<Node>) -> Node {
    let mut branch = Node::new("If", &["hidden"], output).with_int("then_branch", 0);
    branch.attribute[0].g = Some(Graph { node, ..Graph::default() }.encode_to_vec().into());
    branch
}

#[test]
fn what_a_graph_within_a_node_reads_is_read_by_that_node() {
    let node = vec![
        branch("mixed", vec![Node::new("Add", &["shared", "bias"], "inner")]),
        Node::new("MatMul", &["hidden", "w"], "shared"),
        Node::new("Add", &["shared", "mixed"], "sum"),
        head("sum"),
    ];
    let rewritten = rewritten(node).unwrap();
    assert_eq!(names(&rewritten), ["mixed", "shared"]);
    let graph = Model::decode(rewritten.bytes.as_slice()).unwrap().graph.unwrap();
    assert!(graph.initializer.iter().any(|tensor| tensor.name() == "bias"), "only the graph within reads it");
    let made: Vec<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    assert!(made.iter().position(|name| *name == "shared") < made.iter().position(|name| *name == "mixed"), "{made:?}");
}

#[test]
fn one_number_for_the_whole_batch_is_not_gathered() {
    let mut quantize = Node::new("DynamicQuantizeLinear", &["hidden"], "y");
    quantize.output.extend(["scale".to_owned(), "zero".to_owned()]);
    let node = vec![
        quantize,
        Node::new("MatMulInteger", &["y", "head", "zero"], "whole"),
        Node::new("Cast", &["whole"], "cast").with_int("to", 1),
        Node::new("Mul", &["cast", "scale"], "logits"),
    ];
    let rewritten = rewritten(node).unwrap();
    assert_eq!(names(&rewritten), ["scale", "y", "zero"]);
    let graph = Model::decode(rewritten.bytes.as_slice()).unwrap().graph.unwrap();
    assert_eq!(graph.node.iter().filter(|node| node.op_type() == "GatherND").count(), 1);
}

#[test]
fn a_graph_that_is_not_understood_is_refused_with_its_reason() {
    let why = |model: Model| rewrite(model.encode_to_vec()).unwrap_err().to_string();
    let sound = || model(vec![head("hidden")]);
    let changed = |change: fn(&mut Graph)| {
        let mut model = sound();
        change(model.graph.as_mut().unwrap());
        why(model)
    };
    assert!(rewrite(sound().encode_to_vec()).is_ok());
    assert!(why(Model { opset_import: vec![], ..sound() }).contains("opset 0"));
    assert!(changed(|graph| graph.sparse_initializer.push(Vec::new().into())).contains("sparse"));
    assert!(changed(|graph| graph.input[0].name = Some("mask_index".to_owned())).contains("\"mask_index\" already"));
    assert!(changed(|graph| graph.node.push(head("hidden"))).contains("two nodes make \"logits\""));
    assert!(changed(|graph| graph.output.clear()).contains("no output \"logits\" among the 0"));
    assert!(changed(|graph| graph.node[0].op_type = Some("Conv".to_owned())).contains("ended at Conv"));
    for (operator, hint) in [("Reshape", "one axis"), ("ScatterND", "put back"), ("GatherND", "chosen there already")] {
        let made = vec![Node::new(operator, &["hidden", "bias"], "flat"), head("flat")];
        assert_eq!(frontier(made), ["flat"], "what stands before the head is gathered");
        let last = vec![head("hidden"), Node::new(operator, &["logits", "bias"], "shaped")];
        let mut model = model(last);
        model.graph.as_mut().unwrap().output[0].name = Some("shaped".to_owned());
        let why = why(model);
        assert!(why.contains(hint) && why.contains(operator), "{why}");
    }
    let circle = vec![Node::new("Add", &["logits", "hidden"], "a"), head("a")];
    assert!(why(model(circle)).contains("circle"));
    let last = vec![branch("logits", vec![head("hidden")])];
    assert!(why(model(last)).contains("ended at If"), "a head within a graph is not looked for");
    let deep = (0..20).fold(head("hidden"), |node, _| branch("logits", vec![node]));
    assert!(why(model(vec![deep])).contains("16 deep"));
    assert!(rewrite(Vec::new()).unwrap_err().to_string().contains("holds no graph"));
}

fn external(location: &str) -> Model {
    let entry = |key: &str, value: &str| Entry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    let mut model = model(vec![head("hidden")]);
    let weights = &mut model.graph.as_mut().unwrap().initializer[1];
    weights.float_data.clear();
    weights.data_location = Some(1);
    weights.external_data = vec![entry("location", location), entry("offset", "64")];
    model
}

#[test]
fn weights_in_files_of_their_own_are_carried_along_and_named() {
    let made = external("weights/head.bin").encode_to_vec();
    assert_eq!(describe(made.clone()).unwrap().external, ["weights/head.bin"]);
    let graph = Model::decode(rewrite(made).unwrap().bytes.as_slice()).unwrap().graph.unwrap();
    let head = graph.initializer.iter().find(|tensor| tensor.name() == "head").unwrap();
    assert_eq!((head.data_location(), head.external_data.len()), (1, 2));
}

#[test]
fn a_model_that_names_files_outside_of_its_directory_is_refused_wherever_it_names_them() {
    for location in ["/etc/passwd", "../other/model.onnx_data", "a/../../b", "./weights", "", "..", "a\\b"] {
        let error = describe(external(location).encode_to_vec()).unwrap_err();
        assert!(matches!(&error, Error::Escapes { location: found } if found == location), "{error}");
    }
    let outside = external("../secret").graph.unwrap();
    let mut within = model(vec![head("hidden"), Node::new("If", &["hidden"], "b").with_int("then_branch", 0)]);
    within.graph.as_mut().unwrap().node[1].attribute[0].g = Some(outside.encode_to_vec().into());
    assert!(matches!(describe(within.encode_to_vec()), Err(Error::Escapes { .. })));
    let mut constant = Node::new("Constant", &[], "c").with_int("value", 0);
    constant.attribute[0].t = Some(outside.initializer[1].clone());
    let function = Function { node: vec![constant] };
    let within = Model { functions: vec![function.encode_to_vec().into()], ..model(vec![head("hidden")]) };
    assert!(matches!(describe(within.encode_to_vec()), Err(Error::Escapes { .. })));
}

#[test]
fn a_graph_tells_its_precision() {
    let precision = |model: Model| describe(model.encode_to_vec()).unwrap().precision;
    assert_eq!(precision(model(vec![head("hidden")])), Precision::Single);
    let mut half = model(vec![head("hidden")]);
    half.graph.as_mut().unwrap().initializer[1].data_type = Some(10);
    assert_eq!(precision(half.clone()), Precision::Half);
    let cast = vec![
        Node::new("Cast", &["head"], "wide").with_int("to", 1),
        Node::new("MatMul", &["hidden", "wide"], "logits"),
    ];
    half.graph.as_mut().unwrap().node = cast;
    let facts = describe(half.encode_to_vec()).unwrap();
    assert!(facts.precision == Precision::Single && facts.half_weights, "kept in half precision, computed in single");
    assert_eq!(precision(model(vec![Node::new("MatMulInteger", &["hidden", "head"], "logits")])), Precision::Integer);
    assert!(describe(Vec::new()).unwrap_err().to_string().contains("holds no graph"));
}

#[test]
fn a_very_deep_graph_does_not_overflow_the_stack() {
    let mut node: Vec<Node> =
        (0..20_000).map(|at| Node::new("Erf", &[&format!("v{at}")], &format!("v{}", at + 1))).collect();
    node[0].input = vec!["hidden".to_owned()];
    node.reverse();
    node.insert(0, head("v20000"));
    assert_eq!(frontier(node), ["hidden"]);
}

proptest! {
    #[test]
    fn bytes_that_are_no_model_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(rewrite(bytes).is_err());
    }

    #[test]
    fn a_damaged_model_never_panics(cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let mut bytes = file(FIXTURES[0]).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = rewrite(bytes.clone());
        let _ = super::convert(bytes.clone(), super::Half::Float16, &Weights::Within, |_| Err(String::new()));
        bytes.truncate(cut.index(bytes.len()));
        let _ = rewrite(bytes);
    }
}
