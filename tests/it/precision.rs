//! Half precision: every family converted at load and held to the brute force over PyTorch's own model, `tamis model compile`, and what is refused.
//! ONNX Runtime on the CPU computes float16 by casts, and has no bfloat16: that is run by onnx's NumPy evaluator. Neither is a GPU.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::engine::{self, HeadCheck, Needs, Precision};
use tamis::graph::{self, Half, Weights};
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tempfile::TempDir;

const FAMILIES: [&str; 10] = [
    "albert",
    "bert",
    "convbert",
    "deberta-v3",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn folder(family: &str) -> PathBuf {
    root("tests/fixtures/families").join(family)
}

/// A model directory with one of a family's graphs.
fn directory(family: &str, graph: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let same = ["config.json", "tokenizer.json", "tokenizer_config.json"].map(|name| (name.to_owned(), name));
    for (from, to) in std::iter::once((format!("{graph}.onnx"), "model.onnx")).chain(same) {
        std::fs::copy(folder(family).join(from), dir.path().join(to)).unwrap();
    }
    dir
}

/// A model on the CPU, in batches that hold few rows.
pub fn settings(path: &Path, precision: Precision) -> engine::Settings {
    engine::Settings {
        path: path.to_owned(),
        device: engine::Device::Cpu.into(),
        head_check: HeadCheck::Warn,
        threads: 1,
        budget_tokens: 512,
        precision,
        ..engine::Settings::default()
    }
}

async fn load(path: &Path, precision: Precision) -> Arc<Model> {
    Arc::new(Model::load("tiny", &settings(path, precision), Needs::default()).await.unwrap())
}

fn scorer(model: &Arc<Model>, settings: &Settings) -> Scorer {
    Scorer::build("pll", settings, Arc::clone(model), Cache::disabled()).unwrap()
}

/// How far a family's scores are from its goldens, in nats: the difference of the means over all tokens, and the largest of one token.
pub async fn apart(model: &Arc<Model>, family: &str) -> (f64, f64) {
    let goldens: Vec<Value> =
        serde_json::from_slice(&std::fs::read(root("tests/goldens/families.json")).unwrap()).unwrap();
    let mut differences = Vec::new();
    for case in goldens.iter().filter(|case| case["model"] == family && case["graph"] == "single") {
        let masking: Masking = serde_json::from_value(case["masking"].clone()).unwrap();
        let window_tokens = usize::try_from(case["window_tokens"].as_u64().unwrap()).unwrap();
        let scorer = scorer(model, &Settings { masking, window_tokens, ..Settings::default() });
        let tokens = scorer.surprisals(case["text"].as_str().unwrap()).await.unwrap();
        let windows = case["windows"].as_array().unwrap().iter();
        let expected: Vec<f64> =
            windows.flat_map(|window| window["nll"].as_array().unwrap()).filter_map(Value::as_f64).collect();
        assert_eq!(tokens.len(), expected.len(), "{family}");
        differences.extend(tokens.iter().zip(expected).map(|(token, expected)| token.nll - expected));
    }
    assert!(differences.len() > 100, "{family}: {}", differences.len());
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    (mean.abs(), differences.iter().fold(0.0, |worst, difference| difference.abs().max(worst)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_family_scores_in_fp16_as_pytorch_does_in_single_precision() {
    for family in FAMILIES {
        for graph in ["script", "dynamo"] {
            let dir = directory(family, graph);
            let model = load(dir.path(), Precision::Fp16).await;
            let standing = model.engine().standing();
            let (mean, worst) = apart(&model, family).await;
            println!("{family} {graph}: {mean:.1e} nats a token, {worst:.1e} one token; {standing:?}");
            assert_eq!((standing.head, standing.precision), ("hoisted", "fp16"), "{family} {graph}");
            assert_eq!(standing.padded, family != "convbert", "as it is in single precision");
            assert!(mean <= 1e-3 && worst <= 0.1, "{family} {graph}: {mean} {worst}");
            assert!(worst > 1e-5, "{family} {graph}: nothing was converted");
        }
    }
}

/// As onnx's own evaluator has it, on padded rows: the shortest leaves whole rows of local attention masked, which must stay numbers.
fn evaluated(model: &Path, half: Half, vocabulary: u64) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("converted.onnx");
    let bytes = std::fs::read(model).unwrap();
    let converted = graph::convert(bytes, half, &Weights::Within, |_| Err("none".to_owned())).unwrap();
    std::fs::write(&path, converted.bytes).unwrap();
    let mut python = Command::new(root("var/venv/bin/python"));
    let python =
        python.arg(root("tests/it/halves.py")).args([model, &path]).arg(vocabulary.to_string()).output().unwrap();
    assert!(python.status.success(), "{}: {}", model.display(), String::from_utf8_lossy(&python.stderr));
    let told = String::from_utf8(python.stdout).unwrap();
    let numbers: Vec<f64> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn fp16_and_bf16_graphs_are_sound_and_right_where_every_node_rounds() {
    // The evaluator lacks what DeBERTa does with indices.
    for family in FAMILIES.into_iter().filter(|family| *family != "deberta-v3") {
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder(family).join("config.json")).unwrap()).unwrap();
        let graph = folder(family).join(if family < "e" { "script.onnx" } else { "dynamo.onnx" });
        for (half, mean_max, worst_max) in [(Half::Float16, 2e-3, 0.1), (Half::Bfloat16, 0.02, 0.8)] {
            let (mean, worst) = evaluated(&graph, half, config["vocab_size"].as_u64().unwrap());
            println!("{family} {half:?}: {mean:.1e} nats a token, {worst:.1e} one token");
            assert!(mean <= mean_max && worst <= worst_max && worst > 1e-5, "{family} {half:?}: {mean} {worst}");
        }
    }
}

#[tokio::test]
async fn the_precision_is_part_of_the_scores_identity() {
    let dir = directory("bert", "script");
    let window = Settings { window_tokens: 24, ..Settings::default() };
    let identity = |model: &Arc<Model>| scorer(model, &window).identity().to_owned();
    let plain = identity(&load(dir.path(), Precision::AsExported).await);
    let half = identity(&load(dir.path(), Precision::Fp16).await);
    assert_ne!(plain, half);
    assert_eq!(plain, identity(&load(dir.path(), Precision::AsExported).await));
    assert_eq!(half, identity(&load(dir.path(), Precision::Fp16).await));
}

fn compile(from: &Path, precision: &str, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamis"));
    command.args(["model", "compile"]).arg(from).args(["--precision", precision, "--json", "--out"]).arg(out);
    command.args(["--device", "cpu", "--threads", "1"]).output().unwrap()
}

fn refused(output: &Output, code: i32, parts: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part} is missing from\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiled_model_is_a_model_directory_that_scores_as_the_model_does() {
    let outer = tempfile::tempdir().unwrap();
    let out = outer.path().join("half");
    let model = root("models/tamis-en");
    let made = compile(&model, "fp16", &out);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let told: Value = serde_json::from_slice(&made.stdout).unwrap();
    println!("{told}");
    assert!(told["mean_nats"].as_f64().unwrap() <= 1e-3 && told["worst_nats"].as_f64().unwrap() <= 0.02, "{told}");
    assert!(told["tokens"].as_u64().unwrap() > 300 && told["bytes_after"].as_u64().unwrap() < 11_200_000, "{told}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    for name in ["model.onnx", "tokenizer.json", "tokenizer_config.json", "config.json", "MODEL_CARD.md"] {
        assert_eq!(manifest["files"][name]["sha256"].as_str().unwrap().len(), 64, "{name}");
    }
    assert_eq!(manifest["made"]["precision"], "fp16");
    assert_eq!(manifest["made"]["source_sha256"], engine::graph_sha256(&model).unwrap());
    let found: Vec<_> = std::fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found, ["half"], "nothing else is left");
    // The directory runs as any other, and as the model does that is converted as it is loaded.
    let refuse =
        |path: &Path, precision| engine::Settings { head_check: HeadCheck::Refuse, ..settings(path, precision) };
    let (one, two) = (refuse(&out, Precision::AsExported), refuse(&model, Precision::Fp16));
    let text = "The committee will meet on Thursday to discuss what the survey has found.";
    let mut scores = Vec::new();
    for settings in [one, two] {
        let model = Arc::new(Model::load("en", &settings, Needs::default()).await.unwrap());
        assert_eq!(model.engine().head(), "hoisted");
        scores.push(scorer(&model, &Settings::default()).surprisals(text).await.unwrap());
    }
    for (one, two) in scores[0].iter().zip(&scores[1]) {
        assert!((one.nll - two.nll).abs() < 1e-5, "{} {}", one.nll, two.nll);
    }
    refused(&compile(&model, "fp16", &out), 64, &["half", "is there already"]);
    refused(&compile(&out, "fp16", &outer.path().join("again")), 69, &["been converted to fp16 already"]);
    refused(&compile(&out, "bf16", &outer.path().join("again")), 69, &["another type already"]);
}

#[test]
fn what_can_not_be_compiled_is_refused_with_its_reason_and_leaves_nothing_behind() {
    let outer = tempfile::tempdir().unwrap();
    let out = outer.path().join("out");
    let quantised = directory("bert", "int8");
    let parts = ["model.onnx", "it is quantised", "the model that it was made of"];
    refused(&compile(quantised.path(), "fp16", &out), 69, &parts);
    let half = directory("bert", "half");
    refused(&compile(half.path(), "fp16", &out), 69, &["in half precision already", "as it is"]);
    // This machine's ONNX Runtime has no kernels for it on the CPU: nothing can be proved.
    let plain = directory("bert", "script");
    let parts = ["precision = \"bf16\"", "does not run on this device", "find an implementation"];
    refused(&compile(plain.path(), "bf16", &out), 69, &parts);
    refused(&compile(plain.path(), "fp8", &out), 64, &["fp16 or bf16"]);
    refused(&compile(Path::new("nowhere"), "fp16", &out), 64, &["no such directory"]);
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0, "something is left behind");
}

#[tokio::test]
async fn a_pipeline_does_not_fall_back_from_the_precision_that_it_asks_for() {
    let dir = directory("bert", "script");
    let why = |path: &Path, precision| {
        let settings = settings(path, precision);
        async move { Model::load("mine", &settings, Needs::default()).await.err().unwrap().to_string() }
    };
    let told = why(dir.path(), Precision::Bf16).await;
    assert!(told.contains("precision = \"bf16\" can't be used") && told.contains("as-exported"), "{told}");
    let told = why(directory("bert", "int8").path(), Precision::Fp16).await;
    assert!(told.contains("it is quantised"), "{told}");
    let encoder = settings(&root("tests/fixtures/heads/encoder"), Precision::Fp16);
    let told = Model::load_one_pass("mine", &encoder, engine::OnePass::Mean).await.err().unwrap().to_string();
    assert!(told.contains("read in one pass"), "{told}");
}
