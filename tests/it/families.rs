//! Every model family through both of PyTorch's exporters, in single and half precision and quantised: the head is hoisted, at a
//! cut that stands here, and scores are those of a brute force over PyTorch's own model (tools/fixtures/families.py).

use crate::precision;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::engine::{self, HeadCheck, Needs};
use tamis::graph;
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Attention's context and the residual: what follows them in the last layer is hoisted with the head.
const LAST_LAYER: &str = "5 behind LayerNormalization Reshape";
/// Families, and the operators that make what is gathered from the graph of each exporter.
const FAMILIES: [(&str, &str, &str); 10] = [
    ("albert", "5 behind Reshape LayerNormalization", "5 behind Reshape LayerNormalization"),
    ("bert", LAST_LAYER, LAST_LAYER),
    ("convbert", LAST_LAYER, LAST_LAYER),
    ("deberta-v3", LAST_LAYER, LAST_LAYER),
    ("distilbert", LAST_LAYER, LAST_LAYER),
    ("electra", LAST_LAYER, LAST_LAYER),
    ("modernbert", "3 behind Add Slice Slice", "5 behind Add Reshape"),
    ("mpnet", LAST_LAYER, LAST_LAYER),
    ("roberta", LAST_LAYER, LAST_LAYER),
    ("xlm-roberta", LAST_LAYER, LAST_LAYER),
];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(family)
}

/// A model directory with one of a family's graphs.
fn directory(family: &str, graph: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = [(format!("{graph}.onnx"), "model.onnx")];
    let same = ["config.json", "tokenizer.json", "tokenizer_config.json"].map(|name| (name.to_owned(), name));
    for (from, to) in files.into_iter().chain(same) {
        std::fs::copy(folder(family).join(&from), dir.path().join(to))
            .unwrap_or_else(|error| panic!("{family}/{from}: {error}"));
    }
    dir
}

fn settings(path: &Path) -> engine::Settings {
    precision::settings(path, engine::Precision::default())
}

async fn load(path: &Path) -> Arc<Model> {
    Arc::new(Model::load("tiny", &settings(path), Needs::default()).await.unwrap())
}

fn goldens() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/families.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The largest difference to a family's goldens of one kind, in nats a token.
async fn worst(model: &Arc<Model>, family: &str, kind: &str) -> f64 {
    let mut worst: f64 = 0.0;
    let goldens: Vec<Value> =
        goldens().into_iter().filter(|case| case["model"] == family && case["graph"] == kind).collect();
    assert!(goldens.len() >= 4, "{family} {kind}");
    for case in goldens {
        let masking: Masking = serde_json::from_value(case["masking"].clone()).unwrap();
        let window_tokens = usize::try_from(case["window_tokens"].as_u64().unwrap()).unwrap();
        let settings = Settings { masking, window_tokens, ..Settings::default() };
        let scorer = Scorer::build("pll", &settings, Arc::clone(model), Cache::disabled()).unwrap();
        let tokens = scorer.surprisals(case["text"].as_str().unwrap()).await.unwrap();
        let flat = |key: &str| -> Vec<Value> {
            let windows = case["windows"].as_array().unwrap().iter();
            windows.flat_map(|window| window[key].as_array().unwrap().clone()).collect()
        };
        let (ids, nll) = (flat("ids"), flat("nll"));
        assert_eq!(tokens.iter().map(|token| Value::from(token.id)).collect::<Vec<_>>(), ids, "{family} {case}");
        for (token, nll) in tokens.iter().zip(nll) {
            worst = worst.max((token.nll - nll.as_f64().unwrap()).abs());
        }
    }
    worst
}

/// The operators at the cut of a graph.
fn cut(family: &str, graph: &str) -> String {
    let bytes = std::fs::read(folder(family).join(format!("{graph}.onnx"))).unwrap();
    let cut = match graph::rewrite(bytes, graph::Outputs::default(), &graph::Weights::Within) {
        Ok(cut) => cut,
        Err(error) => return error.to_string(),
    };
    let operators: Vec<String> = cut.frontier.into_iter().map(|cut| cut.operator).collect();
    format!("{} behind {}", cut.products, operators.join(" "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_family_is_hoisted_and_scores_as_pytorch_says() {
    let mut cuts = Vec::new();
    for (family, script, dynamo) in FAMILIES {
        for (graph, expected) in [("script", script), ("dynamo", dynamo)] {
            let dir = directory(family, graph);
            let model = load(dir.path()).await;
            let standing = model.engine().standing();
            let worst = worst(&model, family, "single").await;
            println!("{family} {graph}: {worst:.1e} nats; {}; {standing:?}", cut(family, graph));
            assert_eq!((standing.head, &standing.why_full), ("hoisted", &None), "{family} {graph}");
            assert!(worst <= 1e-4, "{family} {graph}: {worst} nats");
            assert_eq!(standing.padded, family != "convbert", "{family} {graph}: {standing:?}");
            cuts.push((family, graph, cut(family, graph), expected));
        }
    }
    let other: Vec<_> = cuts.iter().filter(|(_, _, found, expected)| found != expected).collect();
    assert!(other.is_empty(), "{other:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_several_lengths_stay_apart_where_padding_would_be_seen() {
    let dir = directory("convbert", "script");
    let model = load(dir.path()).await;
    let standing = model.engine().standing();
    assert!(!standing.padded && standing.company_nats.unwrap() > 1e-3, "{standing:?}");
    let passes = |tokens: u32| {
        let mut passes = engine::Passes::over((0..tokens).map(|at| 6 + at * 7 % 90).collect::<Vec<u32>>().into());
        passes.mask([tokens - 1]);
        passes
    };
    let mut alone = Vec::new();
    for tokens in 20..40 {
        alone.push(model.engine().score(passes(tokens)).await.unwrap()[0].logprob);
    }
    let mut running = JoinSet::new();
    for tokens in 20..40 {
        let model = Arc::clone(&model);
        running.spawn(async move { (tokens, model.engine().score(passes(tokens)).await.unwrap()[0].logprob) });
    }
    for (tokens, together) in running.join_all().await {
        let alone = alone[tokens as usize - 20];
        assert!((alone - together).abs() <= 1e-4, "{tokens} tokens: {alone} alone, {together} in company");
    }
}

/// What the same graph may differ by, one row at a time or in batches: half precision has three digits, and activations that are
/// quantised batch by batch take other steps in company. The weights of these models are noise, and make the most of it.
const REDUCED: [(&str, &str, f64); 6] = [
    ("bert", "half", 0.1),
    ("xlm-roberta", "half", 0.1),
    ("modernbert", "half", 0.1),
    ("bert", "int8", 0.5),
    ("roberta", "int8", 0.5),
    ("modernbert", "int8", 0.5),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_precision_and_quantised_graphs_are_hoisted_and_stay_within_their_tolerance() {
    let mut wrong = Vec::new();
    for (family, graph, tolerance) in REDUCED {
        let dir = directory(family, graph);
        let model = load(dir.path()).await;
        let standing = model.engine().standing();
        let worst = worst(&model, family, graph).await;
        println!("{family} {graph}: {worst:.1e} nats; {}; {standing:?}", cut(family, graph));
        if standing.head != "hoisted" || worst > tolerance {
            wrong.push(format!("{family} {graph}: {worst} nats, {standing:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_model_takes_as_many_positions_as_its_family_has_and_not_one_more() {
    for (family, _, _) in FAMILIES {
        let dir = directory(family, "script");
        let model = load(dir.path()).await;
        assert_eq!(model.tokenizer().max_positions(), 40, "{family}");
        let full = |tokens: usize| {
            let mut passes = engine::Passes::over(vec![9; tokens].into());
            passes.mask([1]);
            passes
        };
        let reading = model.engine().score(full(40)).await.unwrap()[0];
        assert!(reading.logprob < 0.0, "{family}");
        assert!(matches!(model.engine().score(full(41)).await, Err(engine::Error::Request { .. })), "{family}");
    }
}

#[tokio::test]
async fn weights_in_a_file_of_their_own_are_found_hoisted_scored_and_part_of_the_fingerprint() {
    let dir = directory("bert", "external");
    let weights = dir.path().join("external.onnx_data");
    assert!(Model::load("tiny", &settings(dir.path()), Needs::default()).await.is_err(), "the weights are not there");
    std::fs::copy(folder("bert").join("external.onnx_data"), &weights).unwrap();
    let model = load(dir.path()).await;
    assert_eq!(model.engine().head(), "hoisted");
    let worst = worst(&model, "bert", "single").await;
    assert!(worst <= 1e-4, "{worst} nats");
    let before = model.engine().fingerprint();
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(load(dir.path()).await.engine().fingerprint(), before);
}

#[tokio::test]
async fn a_second_head_beside_the_first_is_left_out() {
    let dir = directory("bert", "pretraining");
    let model = load(dir.path()).await;
    let standing = model.engine().standing();
    assert_eq!((standing.head, &standing.why_full), ("hoisted", &None), "{standing:?}");
    assert_eq!(cut("bert", "pretraining"), LAST_LAYER);
    let worst = worst(&model, "bert", "single").await;
    assert!(worst <= 1e-4, "{worst} nats");
}

/// Nothing here asks for it.
fn unfused(_: &[u8]) -> Result<(Vec<u8>, usize), String> {
    Err("it is not asked for".to_owned())
}

/// What a graph's file reads at every fifth position of a row, with its weights copied into the rewritten graph or left in the file.
async fn readings(
    dir: &Path,
    weights: graph::Weights,
    tolerance_nats: f64,
    leaps: bool,
) -> (engine::Standing, Vec<f64>) {
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let size = usize::try_from(config["vocab_size"].as_u64().unwrap()).unwrap();
    let vocabulary = engine::Vocabulary { mask_id: 4, pad_id: 0, size, width: size, max_positions: 40 };
    let rewrite = move |bytes| match graph::rewrite(bytes, graph::Outputs::default(), &weights) {
        Ok(rewritten) => Ok(rewritten.bytes),
        Err(error) => Err(error.to_string()),
    };
    let (weights, fuse) = (Vec::new(), unfused);
    let export = engine::Export { weights, tolerance_nats, leaps, converted_nats: None, rewrite, fuse };
    let engine = engine::Engine::load(&settings(dir), vocabulary, Needs::default(), export).unwrap();
    let mut passes = engine::Passes::over((0..31_u32).map(|at| 5 + at * 7 % 80).collect::<Vec<_>>().into());
    (0..31).step_by(5).for_each(|at| passes.mask([at]));
    let readings = engine.score(passes).await.unwrap();
    (engine.standing().clone(), readings.into_iter().map(|reading| reading.logprob).collect())
}

/// As models above half a gigabyte run. Every weight of these is left in the file, at whatever address it lies there.
#[tokio::test]
async fn weights_left_in_the_models_file_are_the_same_weights() {
    for (family, _, _) in FAMILIES {
        let dir = directory(family, "script");
        let left = graph::Weights::InFile { name: "model.onnx".to_owned(), bytes_min: 1 };
        let (standing, left) = readings(dir.path(), left, 1e-4, false).await;
        assert_eq!((standing.head, &standing.why_full), ("hoisted", &None), "{family}");
        let (_, copied) = readings(dir.path(), graph::Weights::Within, 1e-4, false).await;
        for (left, copied) in left.iter().zip(&copied) {
            assert!((left - copied).abs() <= 1e-5, "{family}: {left} is not {copied}");
        }
    }
}

/// Twelve layers of noise, quantised as they come (`tools/bench/make_model.py tests/fixtures/models/tiny-deep --vocab 400 --hidden 32
/// --layers 12 --heads 4 --positions 64 --int8`): a rounding more or less moves their scores by tenths of nats and more.
#[tokio::test]
async fn a_deep_quantised_model_is_hoisted_by_proof_where_rounding_makes_leaps() {
    let deep = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-deep-int8");
    // No rounding is allowed at all, as if every one were a leap.
    let (standing, hoisted) = readings(&deep, graph::Weights::Within, 1e-9, true).await;
    println!("{standing:?}");
    assert_eq!((standing.head, &standing.why_full), ("hoisted", &None));
    let exact = standing.exact_nats.unwrap();
    assert!(exact <= 1e-4 && exact <= standing.difference_nats.unwrap(), "{standing:?}");
    let (standing, full) = readings(&deep, graph::Weights::Within, 1e-9, false).await;
    assert!(standing.head == "full" && standing.exact_nats.unwrap() > 1e-9, "{standing:?}");
    // The same model: as far apart as rounding goes, where another model would be apart by tens of nats.
    let apart = hoisted.iter().zip(&full).map(|(one, two)| (one - two).abs()).fold(0.0, f64::max);
    println!("{apart:.3} nats between hoisted and full, scores from {hoisted:?}");
    assert!(apart < 2.0, "{apart}");
    // In single precision the optimiser rounds too, by little: beyond the tolerance that is proved as well, and not beyond ten times it.
    let exact = exact.max(1e-9);
    let (standing, _) = readings(&deep, graph::Weights::Within, 2.0 * exact, false).await;
    assert!(standing.head == "full" && standing.why_full.unwrap().contains("can be explained"));
    let model = load(&deep).await;
    assert_eq!(model.engine().head(), "hoisted", "{:?}", model.engine().standing());
}

#[tokio::test]
async fn another_quantised_model_is_not_taken_for_rounding() {
    let deep = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-deep-int8");
    let other = std::fs::read(folder("bert").join("script.onnx")).unwrap();
    let other = graph::rewrite(other, graph::Outputs::default(), &graph::Weights::Within).unwrap().bytes;
    let vocabulary = engine::Vocabulary { mask_id: 4, pad_id: 0, size: 90, width: 90, max_positions: 40 };
    let export = engine::Export {
        weights: Vec::new(),
        tolerance_nats: 0.1,
        leaps: true,
        converted_nats: None,
        rewrite: |_| Ok(other),
        fuse: unfused,
    };
    let engine = engine::Engine::load(&settings(&deep), vocabulary, Needs::default(), export).unwrap();
    let standing = engine.standing();
    assert!(standing.head == "full" && standing.exact_nats.is_some_and(|nats| nats > 0.1), "{standing:?}");
    assert!(standing.why_full.as_ref().unwrap().contains("without optimisation"), "{standing:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_graph_without_an_end_is_refused_unread() {
    let dir = directory("bert", "script");
    std::fs::remove_file(dir.path().join("model.onnx")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("model.onnx")).unwrap();
    let refused = Model::load("mine", &settings(dir.path()), Needs::default()).await.err().unwrap().to_string();
    assert!(refused.contains("model.onnx") && refused.contains("not a regular file"), "{refused}");
}

#[tokio::test]
async fn axes_of_fixed_size_are_refused_with_what_to_do() {
    let dir = directory("bert", "script");
    let path = dir.path().join("model.onnx");
    // The names of the axes of input_ids, as dimensions on the wire: field 2 (a name) becomes field 1 (a size) of 2 and 11.
    let mut bytes = std::fs::read(&path).unwrap();
    let (named, fixed) = (b"\n\x03\x12\x01B\n\x03\x12\x01T", b"\n\x03\x08\x82\x00\n\x03\x08\x8b\x00");
    let found = bytes.windows(named.len()).position(|bytes| bytes == named).unwrap();
    bytes[found..found + fixed.len()].copy_from_slice(fixed);
    std::fs::write(&path, bytes).unwrap();
    let refused = Model::load("mine", &settings(dir.path()), Needs::default()).await.err().unwrap().to_string();
    assert!(refused.contains("input_ids") && refused.contains("dynamic axes"), "{refused}");
}

#[tokio::test]
async fn weights_outside_of_the_models_directory_are_not_opened() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    for entry in std::fs::read_dir(directory("bert", "external").path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    // A location of the same length, so that the file stays a model.
    let (inside, outside) = (b"external.onnx_data", b"../ernal.onnx_data");
    std::fs::copy(folder("bert").join("external.onnx_data"), outer.path().join("ernal.onnx_data")).unwrap();
    let mut bytes = std::fs::read(dir.join("model.onnx")).unwrap();
    for at in 0..bytes.len() - inside.len() {
        if &bytes[at..at + inside.len()] == inside {
            bytes[at..at + inside.len()].copy_from_slice(outside);
        }
    }
    std::fs::write(dir.join("model.onnx"), bytes).unwrap();
    let refused = Model::load("mine", &settings(&dir), Needs::default()).await.err().unwrap().to_string();
    assert!(refused.contains("outside of the model's directory") && refused.contains("../ernal"), "{refused}");
}

#[tokio::test]
async fn a_discriminator_and_a_deberta_without_its_head_are_refused_by_name() {
    let dir = directory("electra", "script");
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), config.replace("ForMaskedLM", "ForPreTraining")).unwrap();
    let refused = Model::load("mine", &settings(dir.path()), Needs::default()).await.err().unwrap().to_string();
    assert!(refused.contains("models.mine: ElectraForPreTraining") && refused.contains("generator"), "{refused}");
    let dir = directory("deberta-v3", "dynamo");
    let refuse = engine::Settings { head_check: HeadCheck::Refuse, ..settings(dir.path()) };
    let refused = Model::load("mine", &refuse, Needs::default()).await.err().unwrap().to_string();
    assert!(refused.contains("fails the health check") && refused.contains("known of DeBERTa"), "{refused}");
}
