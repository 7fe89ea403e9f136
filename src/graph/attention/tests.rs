//! Proofs on small graphs made here, one for each form, and on the fixtures' graphs. What they compute is proved by running them: tests/it/attention.rs.

use super::super::proto::{FLOAT, Graph, INT64, Model, Node, OperatorSet, Tensor, ValueInfo};
use super::super::{Error, Half, Outputs, Weights, convert, describe, rewrite};
use super::{Fused, fuse};
use prost::Message;
use std::collections::BTreeMap;

fn constant(name: &str, number: f32) -> Tensor {
    Tensor::float(name, number)
}

/// Q, K and V of four numbers a head, and two heads.
fn projections() -> Vec<Node> {
    let heads = |from: &str, to: &str| Node::new("Reshape", &[from, "heads"], to);
    let moved = |from: &str, perm: &[i64], to: &str| Node::new("Transpose", &[from], to).with_ints("perm", perm);
    vec![
        heads("x", "q.apart"),
        heads("x", "k.apart"),
        heads("x", "v.apart"),
        moved("q.apart", &[0, 2, 1, 3], "q"),
        moved("k.apart", &[0, 2, 3, 1], "k"),
        moved("v.apart", &[0, 2, 1, 3], "v"),
    ]
}

/// What follows the softmax.
fn context(probabilities: &str, value: &str) -> Vec<Node> {
    vec![
        Node::new("MatMul", &[probabilities, value], "context"),
        Node::new("Transpose", &["context"], "y").with_ints("perm", &[0, 2, 1, 3]),
    ]
}

fn softmax(scores: &str) -> Node {
    Node::new("Softmax", &[scores], "p").with_int("axis", -1)
}

fn model(nodes: Vec<Node>) -> Model {
    let weights = vec![
        Tensor::int64s("heads", &[0, -1, 2, 4]),
        Tensor::int64s("last", &[3]),
        constant("root", 2.0),
        constant("half", 0.5),
        constant("fourth", 0.7),
        constant("zero", 0.0),
        constant("masked", f32::MIN),
        constant("little", -10.0),
    ];
    let input = vec![ValueInfo::of_any_shape("x", FLOAT), ValueInfo::of_any_shape("mask", FLOAT)];
    let output = vec![ValueInfo::of_any_shape("y", FLOAT)];
    let graph = Graph { node: nodes, initializer: weights, input, output, ..Graph::default() };
    let set = OperatorSet { domain: None, version: Some(17) };
    Model { opset_import: vec![set], graph: Some(graph), ..Model::default() }
}

/// A model of the nodes between the projections and the softmax, with an own softmax and context where asked.
fn attention(scores: Vec<Node>) -> Model {
    model([projections(), scores, context("p", "v")].concat())
}

/// A fused graph, by the names of what its nodes make.
struct Made {
    nodes: BTreeMap<String, Node>,
    attentions: usize,
}

impl Made {
    fn of(model: &Model) -> Result<Self, Error> {
        let Fused { bytes, attentions } = fuse(model.encode_to_vec())?;
        let model = Model::decode(bytes.as_slice()).unwrap();
        assert!(model.opset_import.iter().any(|set| set.domain() == "com.microsoft" && set.version() == 1));
        let nodes = model.graph.unwrap().node.into_iter().map(|node| (node.output[0].clone(), node)).collect();
        Ok(Self { nodes, attentions })
    }

    fn operator(&self) -> &Node {
        let node = &self.nodes["tamis.fused.0.context"];
        assert_eq!((node.op_type(), node.domain()), ("MultiHeadAttention", "com.microsoft"));
        node
    }

    fn scale(&self) -> f32 {
        self.operator().attribute("scale").unwrap().f.unwrap()
    }

    /// The first node on the way back from an input of the operator that is none of ours.
    fn source(&self, input: usize) -> &str {
        let mut value = self.operator().input[input].as_str();
        while let Some(node) = self.nodes.get(value).filter(|node| node.output[0].starts_with("tamis.fused.")) {
            value = &node.input[0];
        }
        value
    }

    fn has(&self, op_type: &str) -> bool {
        self.nodes.values().any(|node| node.op_type() == op_type)
    }
}

fn made(model: &Model) -> Made {
    let made = Made::of(model).unwrap();
    assert_eq!(made.attentions, 1);
    assert_eq!(made.operator().int("num_heads", 0), 2);
    assert_eq!(made.nodes["y"].op_type(), "Reshape");
    assert!(!made.has("Softmax") && !made.has("MatMul"), "the plain attention is still there");
    made
}

#[test]
fn scores_that_are_divided_and_masked_are_fused_with_their_mask_as_a_bias() {
    let made = made(&attention(vec![
        Node::new("MatMul", &["q", "k"], "scores"),
        Node::new("Div", &["scores", "root"], "scaled"),
        Node::new("Add", &["scaled", "mask"], "sum"),
        softmax("sum"),
    ]));
    let operator = made.operator();
    assert_eq!((operator.input.len(), made.scale()), (6, 0.5));
    assert!(operator.input[3].is_empty() && operator.input[4].is_empty());
    // What was reshaped to heads is reshaped back, and nothing is moved.
    assert_eq!([made.source(0), made.source(1), made.source(2)], ["q.apart", "k.apart", "v.apart"]);
    assert!(!made.has("Transpose"));
    let bias = &made.nodes[&operator.input[5]];
    assert_eq!((bias.op_type(), bias.input[0].as_str()), ("Expand", "mask"));
    // Rows of queries and columns of keys may differ in number.
    let shape = &made.nodes[&bias.input[1]];
    let of = |value: &str| made.nodes[&made.nodes[value].input[0]].input[0].clone();
    assert_eq!([of(&shape.input[1]), of(&shape.input[2])], [operator.input[0].clone(), operator.input[1].clone()]);
}

#[test]
fn a_scale_that_is_split_onto_both_factors_is_one_scale() {
    let made = made(&attention(vec![
        Node::new("Mul", &["q", "fourth"], "q.scaled"),
        Node::new("Mul", &["fourth", "k"], "k.scaled"),
        Node::new("MatMul", &["q.scaled", "k.scaled"], "scores"),
        softmax("scores"),
    ]));
    assert!((made.scale() - 0.49).abs() < 1e-6);
    assert_eq!(made.operator().input.len(), 3, "there is no mask");
    assert_eq!([made.source(0), made.source(1)], ["q.apart", "k.apart"]);
}

#[test]
fn a_scale_that_the_graph_computes_stays_where_it_is() {
    let made = made(&attention(vec![
        Node::new("Shape", &["q"], "shape"),
        Node::new("Gather", &["shape", "last"], "width"),
        Node::new("Cast", &["width"], "number").with_int("to", 1),
        Node::new("Sqrt", &["number"], "factor"),
        Node::new("Mul", &["q", "factor"], "q.scaled"),
        Node::new("Mul", &["k", "factor"], "k.scaled"),
        Node::new("MatMul", &["q.scaled", "k.scaled"], "scores"),
        softmax("scores"),
    ]));
    assert!((made.scale() - 1.0).abs() < f32::EPSILON);
    assert_eq!([made.source(0), made.source(1)], ["q.scaled", "k.scaled"]);
    assert_eq!(made.nodes["tamis.fused.0.query.moved"].attribute("perm").unwrap().ints, [0, 2, 1, 3]);
    assert_eq!(made.nodes["tamis.fused.0.key.moved"].attribute("perm").unwrap().ints, [0, 3, 1, 2]);
}

/// K transposed by way of three axes, with one part of that changed.
fn turned(change: fn(&mut Vec<Node>)) -> Made {
    let slice = |from: &str, to: &str, name: &str| Node::new("Slice", &["shape", from, to], name);
    let mut nodes = vec![
        Node::new("Transpose", &["k.apart"], "k.own").with_ints("perm", &[0, 2, 1, 3]),
        Node::new("Shape", &["k.own"], "shape").with_int("start", 0),
        slice("least", "minus.two", "before"),
        slice("minus.two", "minus.one", "rows"),
        slice("minus.one", "greatest", "columns"),
        Node::new("Concat", &["minus.one", "rows", "columns"], "flattened").with_int("axis", 0),
        Node::new("Concat", &["before", "columns", "rows"], "wanted").with_int("axis", 0),
        Node::new("Reshape", &["k.own", "flattened"], "three"),
        Node::new("Transpose", &["three"], "turned").with_ints("perm", &[0, 2, 1]),
        Node::new("Reshape", &["turned", "wanted"], "k.turned"),
        Node::new("MatMul", &["q", "k.turned"], "scores"),
        softmax("scores"),
    ];
    change(&mut nodes);
    let mut model = attention(nodes);
    let numbers = [("least", i64::MIN), ("minus.two", -2), ("minus.one", -1), ("greatest", i64::MAX), ("one", 1)];
    let weights = &mut model.graph.as_mut().unwrap().initializer;
    weights.extend(numbers.map(|(name, number)| Tensor::int64s(name, &[number])));
    made(&model)
}

#[test]
fn keys_that_are_turned_by_way_of_three_axes_need_not_be_turned_back() {
    let plain = turned(|_| {});
    assert_eq!(plain.source(1), "k.apart");
    assert!(!plain.has("Transpose") && !plain.has("Slice"));
    let changes: [fn(&mut Vec<Node>); 5] = [
        |nodes| nodes[1].attribute.clear(),
        |nodes| nodes[8].attribute[0].ints = vec![1, 0, 2],
        |nodes| nodes[6].input[1] = "rows".to_owned(),
        |nodes| nodes[4].input[1] = "minus.two".to_owned(),
        |nodes| nodes[1].input[0] = "q".to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        // The first changes nothing: a shape is told from its start. What any other makes of K is taken as it is.
        let source = if number == 0 { "k.apart" } else { "k.turned" };
        assert_eq!(turned(change).source(1), source, "{number}");
    }
}

#[test]
fn numbers_in_place_of_scores_become_a_term_that_does_not_ask_for_the_scores() {
    for where_true in [true, false] {
        let (one, two) = if where_true { ("masked", "scores") } else { ("scores", "masked") };
        let made = made(&attention(vec![
            Node::new("MatMul", &["q", "k"], "scores"),
            Node::new("Shape", &["scores"], "shape"),
            Node::new("Expand", &["mask", "shape"], "wide"),
            Node::new("Cast", &["wide"], "condition").with_int("to", 9),
            Node::new("Where", &["condition", one, two], "chosen"),
            softmax("chosen"),
        ]));
        let term = &made.nodes["tamis.fused.0.chosen.0"];
        let nothing = "tamis.fused.0.nothing.0";
        let (one, two) = if where_true { ("masked", nothing) } else { (nothing, "masked") };
        assert_eq!(term.input[1..], [one, two]);
        let condition = &made.nodes[&term.input[0]];
        assert_eq!((condition.op_type(), condition.input[0].as_str(), condition.int("to", 0)), ("Cast", "mask", 9));
    }
}

#[test]
fn relative_positions_and_padding_are_added_to_one_bias() {
    let made = made(&attention(vec![
        Node::new("MatMul", &["q", "k"], "scores"),
        Node::new("Relu", &["mask"], "positions"),
        Node::new("Add", &["positions", "scores"], "one"),
        Node::new("Add", &["one", "mask"], "two"),
        softmax("two"),
    ]));
    let bias = &made.nodes[&made.operator().input[5]];
    assert_eq!(made.nodes[&bias.input[0]].input, ["positions", "mask"]);
}

#[test]
fn casts_around_the_softmax_and_its_guard_are_understood() {
    let inner = vec![
        Node::new("MatMul", &["q", "k"], "scores"),
        Node::new("Add", &["scores", "mask"], "sum"),
        Node::new("Cast", &["sum"], "wide").with_int("to", 1),
        softmax("wide"),
        Node::new("Cast", &["p"], "narrow").with_int("to", 1),
        Node::new("IsNaN", &["narrow"], "is_nan"),
        Node::new("Where", &["is_nan", "zero", "narrow"], "guarded"),
    ];
    let made = made(&model([projections(), inner, context("guarded", "v")].concat()));
    assert_eq!(made.nodes["y"].input[0], "tamis.fused.0.guarded");
    assert_eq!(made.nodes["tamis.fused.0.guarded"].input[1], "zero");
}

#[test]
fn heads_are_found_behind_rotations_of_one_common_projection() {
    let common = vec![
        Node::new("Reshape", &["x", "thrice"], "all"),
        Node::new("Transpose", &["all"], "moved").with_ints("perm", &[0, 3, 2, 1, 4]),
        Node {
            output: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..Node::new("Split", &["moved"], "a").with_int("axis", 2)
        },
        Node::new("Squeeze", &["a", "axes"], "q"),
        Node::new("Squeeze", &["b", "axes"], "k.own"),
        Node::new("Squeeze", &["c", "axes"], "v"),
        Node::new("Neg", &["q"], "q.back"),
        Node::new("Mul", &["q", "mask"], "q.one"),
        Node::new("Mul", &["q.back", "mask"], "q.two"),
        Node::new("Add", &["q.one", "q.two"], "q.turned"),
        Node::new("Transpose", &["k.own"], "k").with_ints("perm", &[0, 1, 3, 2]),
        Node::new("MatMul", &["q.turned", "k"], "scores"),
        softmax("scores"),
    ];
    let mut model = model([common, context("p", "v")].concat());
    let weights = &mut model.graph.as_mut().unwrap().initializer;
    weights.extend([Tensor::int64s("thrice", &[0, -1, 3, 2, 4]), Tensor::int64s("axes", &[2])]);
    let made = made(&model);
    assert_eq!([made.source(0), made.source(1), made.source(2)], ["q.turned", "k.own", "v"]);
}

#[test]
fn other_forms_are_left_as_they_are() {
    let product = || Node::new("MatMul", &["q", "k"], "scores");
    let forms: Vec<(&str, Vec<Node>)> = vec![
        (
            "a scale behind the mask",
            vec![
                product(),
                Node::new("Add", &["scores", "mask"], "sum"),
                Node::new("Mul", &["sum", "half"], "scaled"),
                softmax("scaled"),
            ],
        ),
        (
            "two products in one sum",
            vec![
                product(),
                Node::new("MatMul", &["k", "q"], "others"),
                Node::new("Add", &["scores", "others"], "sum"),
                softmax("sum"),
            ],
        ),
        (
            "a number that scores can compete with",
            vec![product(), Node::new("Where", &["mask", "little", "scores"], "sum"), softmax("sum")],
        ),
        ("a scale below zero", vec![product(), Node::new("Mul", &["scores", "little"], "sum"), softmax("sum")]),
        ("another axis", vec![product(), Node::new("Softmax", &["scores"], "p").with_int("axis", 1)]),
        ("no axis", vec![product(), Node::new("Softmax", &["scores"], "p")]),
        ("something between", vec![product(), Node::new("Tanh", &["scores"], "sum"), softmax("sum")]),
    ];
    for (what, nodes) in forms {
        let left = Made::of(&attention(nodes));
        assert!(matches!(&left, Err(Error::Unfamiliar { what }) if what.contains("no attention")), "{what}");
    }
}

#[test]
fn an_attention_that_others_look_into_is_left_as_it_is() {
    let plain = || attention(vec![Node::new("MatMul", &["q", "k"], "scores"), softmax("scores")]);
    assert!(Made::of(&plain()).is_ok());
    let changed = |change: fn(&mut Graph)| {
        let mut model = plain();
        change(model.graph.as_mut().unwrap());
        Made::of(&model).err().map(|error| error.to_string())
    };
    let none = Some("the graph has no attention of a form that is known".to_owned());
    assert_eq!(changed(|graph| graph.output.push(ValueInfo::of_any_shape("p", FLOAT))), none);
    assert_eq!(changed(|graph| graph.output.push(ValueInfo::of_any_shape("context", FLOAT))), none);
    let reader = |graph: &mut Graph| {
        graph.node.push(Node::new("ReduceSum", &["p"], "total"));
        graph.output.push(ValueInfo::of_any_shape("total", FLOAT));
    };
    assert_eq!(changed(reader), none);
    // Nobody says how many heads there are, or two say otherwise.
    assert_eq!(changed(|graph| graph.initializer[0] = Tensor::int64s("heads", &[0, 0, -1, 4])), none);
    assert_eq!(changed(|graph| graph.node[2].input[1] = "last".to_owned()), None, "the others tell");
    let other = |graph: &mut Graph| {
        graph.node[2].input[1] = "others".to_owned();
        graph.initializer.push(Tensor::int64s("others", &[0, -1, 4, 2]));
    };
    assert_eq!(changed(other), none);
    // Scores may be read by others: they are then computed for these alone.
    assert_eq!(changed(|graph| graph.output.push(ValueInfo::of_any_shape("scores", FLOAT))), None);
}

#[test]
fn what_is_quantised_fused_or_no_model_is_refused() {
    let mut model = attention(vec![Node::new("MatMul", &["q", "k"], "scores"), softmax("scores")]);
    let told = |bytes: Vec<u8>| fuse(bytes).unwrap_err().to_string();
    let fused = fuse(model.encode_to_vec()).unwrap().bytes;
    assert!(told(fused).contains("tamis.fused."));
    model.opset_import[0].version = Some(10);
    assert!(told(model.encode_to_vec()).contains("opset 10"));
    model.opset_import[0].version = Some(17);
    model.graph.as_mut().unwrap().node.push(Node::new("DynamicQuantizeLinear", &["x"], "z"));
    assert!(told(model.encode_to_vec()).contains("it is quantised"));
    assert!(told(vec![1, 2, 3]).contains("not an ONNX model"));
    assert!(matches!(fuse(Vec::new()), Err(Error::Bytes { .. })));
}

fn file(family: &str, graph: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(family);
    std::fs::read(folder.join(format!("{graph}.onnx"))).unwrap()
}

/// As exported, and as they run: with the head behind the scored positions, in single and in half precision.
#[test]
fn every_layer_of_every_plain_family_is_fused_whatever_was_done_to_the_graph_before() {
    let hoisted = |bytes: Vec<u8>| rewrite(bytes, Outputs::default(), &Weights::Within).unwrap().bytes;
    let halved =
        |bytes: Vec<u8>, half| convert(bytes, half, &Weights::Within, |_| Err("none".to_owned())).unwrap().bytes;
    let families =
        ["albert", "bert", "convbert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta"];
    let usual = families.iter().flat_map(|family| [(*family, "script"), (*family, "dynamo")]);
    let more = [
        ("bert", "sdpa-script"),
        ("bert", "sdpa-dynamo"),
        ("bert", "half"),
        ("xlm-roberta", "half"),
        ("modernbert", "half"),
        ("bert", "pretraining"),
    ];
    for (family, graph) in usual.chain(more) {
        let bytes = file(family, graph);
        let mut forms = vec![bytes.clone(), hoisted(bytes.clone())];
        if graph != "half" {
            forms.extend([Half::Float16, Half::Bfloat16].map(|half| hoisted(halved(bytes.clone(), half))));
        }
        for (form, bytes) in forms.into_iter().enumerate() {
            let before = describe(bytes.clone()).unwrap();
            let fused = fuse(bytes).unwrap_or_else(|error| panic!("{family} {graph} {form}: {error}"));
            assert_eq!(fused.attentions, 2, "{family} {graph} {form}");
            let after = describe(fused.bytes).unwrap();
            assert_eq!((before.inputs, before.outputs), (after.inputs, after.outputs), "{family} {graph} {form}");
        }
    }
    // Nothing is moved twice, in either precision.
    let single = file("bert", "sdpa-dynamo");
    for bytes in [single.clone(), halved(single, Half::Float16)] {
        let fused = fuse(bytes).unwrap().bytes;
        assert!(!fused.windows(6).any(|part| part == b".moved"), "a factor is transposed, and was before");
    }
    for graph in ["script", "dynamo"] {
        let told = fuse(file("deberta-v3", graph)).unwrap_err().to_string();
        assert!(told.contains("no attention of a form that is known"), "{told}");
    }
    for family in ["bert", "roberta", "modernbert"] {
        assert!(fuse(file(family, "int8")).unwrap_err().to_string().contains("it is quantised"));
    }
}

#[test]
fn a_graph_that_leads_nowhere_ends() {
    // Sums over sums, each read twice: what is looked at is bounded, however the sums branch.
    let mut nodes = projections();
    nodes.push(Node::new("MatMul", &["q", "k"], "s0"));
    for at in 1..200 {
        let (one, two, to) = (format!("s{}", at - 1), format!("s{}", at / 2), format!("s{at}"));
        nodes.push(Node::new("Add", &[&one, &two], &to));
    }
    nodes.push(softmax("s199"));
    nodes.extend(context("p", "v"));
    assert!(Made::of(&model(nodes)).is_err());
    let ids = ValueInfo::of_any_shape("ids", INT64);
    let empty = Graph { input: vec![ids], ..Graph::default() };
    let set = OperatorSet { domain: None, version: Some(17) };
    let model = Model { opset_import: vec![set], graph: Some(empty), ..Model::default() };
    assert!(Made::of(&model).is_err());
}
