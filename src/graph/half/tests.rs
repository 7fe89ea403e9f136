//! Proofs on small graphs made here, and on the fixtures' graphs. What they compute is proved by running them: tests/it/precision.rs.

use super::super::proto::{Attribute, Entry, FLOAT, Graph, INT64, Model, Node, OperatorSet, Tensor, ValueInfo};
use super::super::{Error, Precision, Weights, describe};
use super::{Converted, Half, Place, convert};
use half::{bf16, f16};
use prost::Message;
use std::collections::BTreeMap;

const NOWHERE: fn(&Place) -> Result<Vec<u8>, String> = |place| Err(format!("{} is not there", place.location));

fn to(half: Half, model: &Model) -> Result<Converted, Error> {
    convert(model.encode_to_vec(), half, &Weights::Within, NOWHERE)
}

fn tensor(name: &str, dims: &[i64], number: f32) -> Tensor {
    let count = usize::try_from(dims.iter().product::<i64>()).unwrap();
    Tensor { dims: dims.to_vec(), float_data: vec![number; count], ..Tensor::float(name, 0.0) }
}

/// Rows of an embedding, `node`s over them from `x` to `y`, and a decoder with a bias.
fn model(node: Vec<Node>, weights: Vec<Tensor>) -> Model {
    let mut nodes = vec![Node::new("Gather", &["words", "input_ids"], "x")];
    nodes.extend(node);
    nodes.push(Node::new("MatMul", &["y", "decoder"], "product"));
    nodes.push(Node::new("Add", &["product", "bias"], "logits"));
    let mut initializer =
        vec![tensor("words", &[9, 4], 0.1), tensor("decoder", &[4, 9], 0.1), tensor("bias", &[9], 0.1)];
    initializer.extend(weights);
    let input = ["input_ids", "attention_mask"].map(|name| ValueInfo::of_any_shape(name, INT64)).to_vec();
    let output = vec![ValueInfo::of_any_shape("logits", FLOAT)];
    let graph = Graph { node: nodes, initializer, input, output, ..Graph::default() };
    let set = OperatorSet { domain: None, version: Some(17) };
    Model { opset_import: vec![set], graph: Some(graph), ..Model::default() }
}

/// What is left of a converted graph: its nodes by their first output, and the types and numbers of its weights.
struct Made {
    nodes: BTreeMap<String, Node>,
    weights: BTreeMap<String, Tensor>,
}

impl Made {
    fn of(half: Half, model: &Model) -> Self {
        let graph = Model::decode(to(half, model).unwrap().bytes.as_slice()).unwrap().graph.unwrap();
        let nodes = graph.node.into_iter().map(|node| (node.output[0].clone(), node)).collect();
        let weights = graph.initializer.into_iter().map(|tensor| (tensor.name().to_owned(), tensor)).collect();
        Self { nodes, weights }
    }

    fn numbers(&self, weight: &str) -> Vec<f32> {
        let tensor = &self.weights[weight];
        let raw = tensor.raw_data.as_ref().unwrap();
        let bits = raw.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        match tensor.data_type() {
            10 => bits.map(|bits| f16::from_bits(bits).to_f32()).collect(),
            _ => bits.map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        }
    }

    /// Which of `values` are made in half precision.
    fn halves<'v>(&self, values: &[&'v str]) -> Vec<&'v str> {
        let computed =
            |value: &&&str| self.nodes.get(&format!("tamis.half.{value}")).is_some_and(|node| node.op_type() != "Cast");
        values.iter().filter(computed).copied().collect()
    }
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn weights_are_halved_and_the_product_that_makes_the_logits_stays_single() {
    let layer = vec![Node::new("MatMul", &["x", "w"], "h"), Node::new("Softmax", &["h"], "y").with_int("axis", -1)];
    for (half, element) in [(Half::Float16, 10), (Half::Bfloat16, 16)] {
        let made = Made::of(half, &model(layer.clone(), vec![tensor("w", &[4, 4], 0.3)]));
        assert_eq!(made.halves(&["x", "h", "y", "product", "logits"]), ["x", "h", "y"]);
        let types: Vec<(&str, i32)> =
            made.weights.iter().map(|(name, tensor)| (name.as_str(), tensor.data_type())).collect();
        let decoder = ("tamis.half.decoder", element);
        assert_eq!(types, [("bias", 1), decoder, ("tamis.half.w", element), ("tamis.half.words", element)]);
        // Both factors are widened: their product is a sum of numbers that half precision holds, in single precision.
        assert_eq!(made.nodes["product"].input, ["y", "tamis.half.wide.decoder"]);
        assert!(["y", "tamis.half.wide.decoder"].iter().all(|value| made.nodes[*value].int("to", 0) == 1));
        assert_eq!(made.nodes["logits"].input, ["product", "bias"]);
    }
}

#[test]
fn masks_beyond_the_types_range_become_masks_within_it() {
    // As exports have them: by arithmetic on the attention mask, and chosen.
    let masked = vec![
        Node::new("Cast", &["attention_mask"], "real").with_int("to", 1),
        Node::new("Sub", &["one", "real"], "padding"),
        Node::new("Mul", &["padding", "least"], "mask"),
        Node::new("Unsqueeze", &["mask", "axes"], "wide"),
        Node::new("Cast", &["attention_mask"], "is_real").with_int("to", 9),
        Node::new("Add", &["x", "wide"], "a"),
        Node::new("Where", &["is_real", "a", "least"], "y"),
    ];
    let constants = vec![tensor("one", &[], 1.0), tensor("least", &[], f32::MIN), Tensor::int64s("axes", &[1])];
    for (half, limit) in [(Half::Float16, 3e4), (Half::Bfloat16, 1e38)] {
        let model = model(masked.clone(), constants.clone());
        let made = Made::of(half, &model);
        // The arithmetic stays in single precision, and is clipped before it is cast: a cast alone would make infinities.
        assert_eq!(made.halves(&["padding", "mask", "wide", "a", "y"]), ["a", "y"]);
        assert_eq!(made.nodes["tamis.half.wide"].input, ["tamis.half.clipped.wide"]);
        assert_eq!(made.nodes["tamis.half.clipped.wide"].input, ["wide", "tamis.half.least", "tamis.half.most"]);
        let chosen = made.nodes["tamis.half.y"].input[2].clone();
        let found = made.numbers(&chosen)[0];
        assert!((found / limit + 1.0).abs() < 0.01, "{found}");
        // Two masks add up to a number.
        let twice = 2.0 * found;
        assert!(if half == Half::Float16 {
            f16::from_f32(twice).is_finite()
        } else {
            bf16::from_f32(twice).is_finite()
        });
        assert_eq!(to(half, &model).unwrap().beyond, 1);
    }
    let infinite = vec![Node::new("Where", &["is_real", "x", "least"], "y"), masked[4].clone()];
    let made = Made::of(Half::Float16, &model(infinite, vec![tensor("least", &[], f32::NEG_INFINITY)]));
    assert!(made.weights.values().filter(|tensor| tensor.data_type() == 10 && tensor.dims.is_empty()).count() == 1);
    assert!(
        made.nodes["tamis.half.y"]
            .input
            .iter()
            .any(|input| made.weights.contains_key(input) && made.numbers(input)[0] == -3e4)
    );
}

#[test]
fn a_statistic_stays_single_until_its_norm_is_scaled() {
    let norm = vec![
        Node::new("ReduceMean", &["x"], "mean").with_ints("axes", &[-1]),
        Node::new("Sub", &["x", "mean"], "away"),
        Node::new("Pow", &["away", "two"], "squares"),
        Node::new("ReduceMean", &["squares"], "variance").with_ints("axes", &[-1]),
        Node::new("Add", &["variance", "epsilon"], "above"),
        Node::new("Sqrt", &["above"], "deviation"),
        Node::new("Div", &["away", "deviation"], "normal"),
        Node::new("Mul", &["normal", "scale"], "scaled"),
        Node::new("Add", &["scaled", "shift"], "y"),
    ];
    let weights = vec![
        tensor("two", &[], 2.0),
        tensor("epsilon", &[], 1e-12),
        tensor("scale", &[4], 1.0),
        tensor("shift", &[4], 0.5),
    ];
    let made = Made::of(Half::Float16, &model(norm.clone(), weights));
    let all = ["x", "mean", "away", "squares", "variance", "above", "deviation", "normal", "scaled", "y"];
    assert_eq!(made.halves(&all), ["x", "scaled", "y"]);
}

#[test]
fn an_epsilon_or_a_scale_that_half_precision_does_not_hold_keeps_its_node_single() {
    for (operator, number, is_half) in [
        ("Add", 1e-9, false),
        ("Add", 1e-3, true),
        ("Div", 1e6, false),
        ("Mul", 1e6, false),
        ("Mul", 0.125, true),
        ("Max", 1e-7, false),
    ] {
        let node = vec![Node::new(operator, &["x", "number"], "y")];
        let made = Made::of(Half::Float16, &model(node.clone(), vec![tensor("number", &[], number)]));
        assert_eq!(made.halves(&["y"]).len(), usize::from(is_half), "{operator} {number}");
        let made = Made::of(Half::Bfloat16, &model(node, vec![tensor("number", &[], number)]));
        assert_eq!(made.halves(&["y"]).len(), 1, "bf16 holds {number}");
    }
}

#[test]
fn what_takes_no_bfloat16_stays_single_there() {
    let node = vec![Node::new("Elu", &["x"], "y")];
    assert_eq!(Made::of(Half::Float16, &model(node.clone(), Vec::new())).halves(&["x", "y"]), ["x", "y"]);
    assert_eq!(Made::of(Half::Bfloat16, &model(node, Vec::new())).halves(&["x", "y"]), ["x"]);
}

#[test]
fn positions_and_angles_stay_single() {
    let rotation = vec![
        Node::new("Cast", &["attention_mask"], "positions").with_int("to", 1),
        Node::new("MatMul", &["frequencies", "positions"], "angles"),
        Node::new("Cos", &["angles"], "cosines"),
        Node::new("Mul", &["x", "cosines"], "y"),
    ];
    let made = Made::of(Half::Float16, &model(rotation, vec![tensor("frequencies", &[1, 4, 1], 0.1)]));
    assert_eq!(made.halves(&["angles", "cosines", "y"]), ["y"], "a position of 4097 is no float16");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let why = |half, model: &Model| to(half, model).unwrap_err().to_string();
    let with = |node: Node| model(vec![node], vec![tensor("w", &[4, 4], 0.3)]);
    assert!(why(Half::Float16, &with(Node::new("STFT", &["x"], "y"))).contains("the operator STFT"));
    let own = Node { domain: Some("my.own".to_owned()), ..Node::new("Erf", &["x"], "y") };
    assert!(why(Half::Float16, &with(own)).contains("my.own.Erf"));
    assert!(
        why(Half::Float16, &with(Node::new("MatMulInteger", &["x", "w"], "y")))
            .contains("MatMulInteger: it is quantised")
    );
    let identity = with(Node::new("Identity", &["x"], "y"));
    let older = Model { opset_import: vec![OperatorSet { domain: None, version: Some(15) }], ..identity.clone() };
    assert!(to(Half::Float16, &older).is_ok() && why(Half::Bfloat16, &older).contains("opset 15"));
    let mut last = identity.clone();
    last.graph.as_mut().unwrap().node[2].op_type = Some("Conv".to_owned());
    assert!(why(Half::Float16, &last).contains("logits that are no product"));
    let large = model(vec![Node::new("MatMul", &["x", "w"], "y")], vec![tensor("w", &[4, 4], 1e5)]);
    assert!(
        why(Half::Float16, &large).contains("\"w\"") && to(Half::Bfloat16, &large).is_ok(),
        "{}",
        why(Half::Float16, &large)
    );
    let turned = vec![Node::new("Transpose", &["w"], "turned"), Node::new("MatMul", &["x", "turned"], "y")];
    let large = model(turned, vec![tensor("w", &[4, 4], 1e5)]);
    assert!(why(Half::Float16, &large).contains("\"turned\""), "a weight is no smaller for being turned");
    let mut named = model(vec![Node::new("Identity", &["x"], "y")], Vec::new());
    let graph = named.graph.as_mut().unwrap();
    graph.node.last_mut().unwrap().output[0] = "capped".to_owned();
    graph.node.push(Node::new("Tanh", &["capped"], "prediction_logits"));
    graph.output[0] = ValueInfo::of_any_shape("prediction_logits", FLOAT);
    assert!(why(Half::Float16, &named).contains("logits that are no product"));
    let mut half = identity.clone();
    half.graph.as_mut().unwrap().initializer[0].data_type = Some(10);
    half.graph.as_mut().unwrap().node[1] = Node::new("Erf", &["x"], "y");
    assert!(why(Half::Float16, &half).contains("Erf in half precision already"));
    assert!(
        convert(Vec::new(), Half::Float16, &Weights::Within, NOWHERE).unwrap_err().to_string().contains("no graph")
    );
}

#[test]
fn converting_twice_is_converting_once() {
    for name in [
        "tests/fixtures/families/bert/script.onnx",
        "tests/fixtures/families/modernbert/dynamo.onnx",
        "models/tamis-en/model.onnx",
    ] {
        for (half, other) in [(Half::Float16, Half::Bfloat16), (Half::Bfloat16, Half::Float16)] {
            let once = convert(file(name), half, &Weights::Within, NOWHERE).unwrap();
            assert!(once.half > 40, "{name}: {}", once.half);
            assert_eq!(describe(once.bytes.clone()).unwrap().precision, Precision::Half, "{name}");
            let twice = convert(once.bytes.clone(), half, &Weights::Within, NOWHERE).unwrap();
            assert!(twice.bytes == once.bytes && twice.half == 0, "{name}");
            let crossed = convert(once.bytes.clone(), other, &Weights::Within, NOWHERE).unwrap_err();
            assert!(crossed.to_string().contains("another type already"), "{crossed}");
            assert!(
                super::super::rewrite(once.bytes, super::super::Outputs::default(), &Weights::Within).is_ok(),
                "{name}: its head moves"
            );
        }
    }
}

#[test]
fn a_weight_is_kept_once_though_it_is_read_in_both_precisions() {
    // Output embeddings that are the input embeddings, turned.
    let mut tied = model(vec![Node::new("Identity", &["x"], "y")], Vec::new());
    let graph = tied.graph.as_mut().unwrap();
    graph.initializer.retain(|tensor| tensor.name() != "decoder");
    graph.node.push(Node::new("Transpose", &["words"], "decoder"));
    let made = Made::of(Half::Float16, &tied);
    assert_eq!(made.weights.keys().collect::<Vec<_>>(), ["bias", "tamis.half.words"]);
    // A number that a node of half precision reads first, and one of single precision after it: no second value is made of its name.
    let nodes = vec![Node::new("MatMul", &["x", "w"], "h"), Node::new("Mul", &["h", "s"], "y")];
    let mut shared = model(nodes, vec![tensor("w", &[4, 4], 0.3), tensor("s", &[], 0.5)]);
    shared.graph.as_mut().unwrap().node.last_mut().unwrap().input[1] = "s".to_owned();
    let made = Made::of(Half::Float16, &shared);
    assert_eq!(made.halves(&["y"]), ["y"]);
    assert!(made.weights.contains_key("s") && made.weights.contains_key("tamis.half.s"));
    assert!(!made.nodes.contains_key("s"), "{:?}", made.nodes["s"]);
    // Weights that the file keeps in half precision already, and widens where it uses them.
    let mut kept = model(
        vec![Node::new("MatMul", &["x", "wide"], "y"), Node::new("Cast", &["w"], "wide").with_int("to", 1)],
        Vec::new(),
    );
    let w = Tensor {
        data_type: Some(10),
        raw_data: Some(vec![0; 32].into()),
        float_data: Vec::new(),
        ..tensor("w", &[4, 4], 0.0)
    };
    kept.graph.as_mut().unwrap().initializer.push(w);
    let made = Made::of(Half::Float16, &kept);
    assert!(made.weights.contains_key("w") && made.halves(&["y"]) == ["y"]);
    assert_eq!(made.nodes["tamis.half.wide"].input, ["w"]);
}

#[test]
fn what_a_graph_within_a_node_reads_is_there_under_its_own_name() {
    let graph = Graph {
        node: vec![Node::new("Erf", &["h"], "inner")],
        output: vec![ValueInfo::of_any_shape("inner", FLOAT)],
        ..Graph::default()
    };
    let mut branch = Node::new("If", &["is_real"], "y");
    for name in ["then_branch", "else_branch"] {
        let g = Some(graph.encode_to_vec().into());
        branch.attribute.push(Attribute { name: Some(name.to_owned()), kind: Some(5), g, ..Attribute::default() });
    }
    let cast = Node::new("Cast", &["attention_mask"], "is_real").with_int("to", 9);
    let nodes = vec![Node::new("MatMul", &["x", "w"], "h"), cast, branch];
    let made = Made::of(Half::Float16, &model(nodes.clone(), vec![tensor("w", &[4, 4], 0.3)]));
    assert_eq!(made.nodes["h"].input, ["tamis.half.h"]);
    let mut untold = nodes;
    let silent = Graph { output: vec![ValueInfo { name: Some("inner".to_owned()), ..ValueInfo::default() }], ..graph };
    untold[2].attribute[0].g = Some(silent.encode_to_vec().into());
    let refused = to(Half::Float16, &model(untold, vec![tensor("w", &[4, 4], 0.3)])).unwrap_err();
    assert!(refused.to_string().contains("If that does not tell its types"), "{refused}");
}

#[test]
fn weights_in_files_of_their_own_are_brought_in_and_large_ones_put_apart() {
    let within =
        convert(file("tests/fixtures/families/bert/script.onnx"), Half::Float16, &Weights::Within, NOWHERE).unwrap();
    let data = file("tests/fixtures/families/bert/external.onnx_data");
    let fetch = |place: &Place| -> Result<Vec<u8>, String> {
        assert_eq!(place.location, "external.onnx_data");
        let start = usize::try_from(place.offset).unwrap();
        Ok(data[start..start + usize::try_from(place.length.unwrap()).unwrap()].to_vec())
    };
    let external = file("tests/fixtures/families/bert/external.onnx");
    let brought = convert(external.clone(), Half::Float16, &Weights::Within, fetch).unwrap();
    assert_eq!((brought.half, brought.single), (within.half, within.single));
    assert!(describe(brought.bytes.clone()).unwrap().external.is_empty());
    let weights = Weights::InFile { name: "w.bin".to_owned(), bytes_min: 512 };
    let apart = convert(external.clone(), Half::Float16, &weights, fetch).unwrap();
    assert_eq!(describe(apart.bytes.clone()).unwrap().external, ["w.bin"]);
    assert!(apart.bytes.len() < brought.bytes.len());
    let graph = |bytes: &[u8]| Model::decode(bytes).unwrap().graph.unwrap();
    let (whole, parted) = (graph(&brought.bytes), graph(&apart.bytes));
    let mut moved = 0;
    for (whole, parted) in
        whole.initializer.iter().zip(&parted.initializer).filter(|(_, parted)| parted.data_location == Some(1))
    {
        let entry =
            |key: &str| parted.external_data.iter().find(|entry| entry.key() == key).unwrap().value().parse::<usize>();
        let (offset, length) = (entry("offset").unwrap(), entry("length").unwrap());
        assert_eq!(&apart.apart[offset..offset + length], &whole.raw_data.as_ref().unwrap()[..]);
        assert!(offset % 4096 == 0 && length >= 512);
        moved += 1;
    }
    assert!(moved > 3, "{moved}");
    assert!(
        convert(external, Half::Float16, &Weights::Within, NOWHERE).unwrap_err().to_string().contains("is not there")
    );
    let mut outside = model(vec![Node::new("Identity", &["x"], "y")], Vec::new());
    let location = Entry { key: Some("location".to_owned()), value: Some("../secret".to_owned()) };
    outside.graph.as_mut().unwrap().initializer[0].external_data = vec![location];
    assert!(matches!(to(Half::Float16, &outside), Err(Error::Escapes { .. })));
}
