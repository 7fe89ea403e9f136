//! Fused attention: every family through both of PyTorch's exporters, its attentions one operator each, held to the plain graph and to the brute force
//! over PyTorch's own model. On the CPU: its kernel of the operator is not a GPU's, but reads the same inputs.

use crate::precision;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::engine::{self, Attention, HeadCheck, Needs, Precision};
use tamis::graph;
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// All have two layers.
const LAYERS: usize = 2;
/// Families whose attention is plain, and graphs of today's exports besides, with PyTorch's own attention operator.
const PLAIN: [(&str, &[&str]); 9] = [
    ("albert", &["script", "dynamo"]),
    ("bert", &["script", "dynamo", "sdpa-script", "sdpa-dynamo"]),
    ("convbert", &["script", "dynamo"]),
    ("distilbert", &["script", "dynamo", "sdpa-script", "sdpa-dynamo"]),
    ("electra", &["script", "dynamo"]),
    ("modernbert", &["script", "dynamo", "sdpa-script", "sdpa-dynamo"]),
    ("mpnet", &["script", "dynamo"]),
    ("roberta", &["script", "dynamo"]),
    ("xlm-roberta", &["script", "dynamo"]),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A model directory with one of a family's graphs.
fn directory(family: &str, graph: &str) -> TempDir {
    let (dir, folder) = (tempfile::tempdir().unwrap(), root("tests/fixtures/families").join(family));
    let same = ["config.json", "tokenizer.json", "tokenizer_config.json"].map(|name| (name.to_owned(), name));
    for (from, to) in std::iter::once((format!("{graph}.onnx"), "model.onnx")).chain(same) {
        std::fs::copy(folder.join(&from), dir.path().join(to))
            .unwrap_or_else(|error| panic!("{family}/{from}: {error}"));
    }
    dir
}

fn settings(path: &Path, attention: Attention, precision: Precision) -> engine::Settings {
    engine::Settings { attention, ..precision::settings(path, precision) }
}

async fn load(dir: &TempDir, attention: Attention, precision: Precision) -> Arc<Model> {
    let settings = settings(dir.path(), attention, precision);
    Arc::new(Model::load("tiny", &settings, Needs::default()).await.unwrap())
}

/// What a model reads of rows of many lengths, all of them waiting at once, so that they are padded to each other's lengths.
async fn readings(model: &Arc<Model>) -> Vec<f64> {
    let size = u32::try_from(model.tokenizer().vocab_size()).unwrap();
    let mut running = JoinSet::new();
    for tokens in (3..=40_u32).rev() {
        let model = Arc::clone(model);
        let ids: Vec<u32> = (0..tokens).map(|at| 6 + (at * 7 + tokens * 3) % (size - 6)).collect();
        let mut passes = engine::Passes::over(ids.into());
        passes.mask([tokens / 2]);
        passes.mask([0, tokens - 1]);
        running.spawn(async move { (tokens, model.engine().score(passes).await.unwrap()) });
    }
    let mut all = running.join_all().await;
    all.sort_by_key(|(tokens, _)| *tokens);
    all.into_iter().flat_map(|(_, readings)| readings).map(|reading| reading.logprob).collect()
}

fn worst(one: &[f64], two: &[f64]) -> f64 {
    assert_eq!(one.len(), two.len());
    assert!(one.len() >= 38 * 3);
    one.iter().zip(two).map(|(one, two)| (one - two).abs()).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plain_family_is_fused_layer_by_layer_and_scores_as_it_did() {
    for (family, graphs) in PLAIN {
        for graph in graphs {
            let dir = directory(family, graph);
            let (fused, plain) = (
                load(&dir, Attention::Fused, Precision::AsExported).await,
                load(&dir, Attention::Plain, Precision::AsExported).await,
            );
            let (standing, other) = (fused.engine().standing(), plain.engine().standing());
            let apart = worst(&readings(&fused).await, &readings(&plain).await);
            let (_, golden) = precision::apart(&fused, family).await;
            println!("{family} {graph}: {apart:.1e} nats to plain, {golden:.1e} to PyTorch; {standing:?}");
            assert_eq!((standing.fused_attentions, &standing.why_plain), (LAYERS, &None), "{family} {graph}");
            assert_eq!((other.fused_attentions, &other.why_plain), (0, &None), "{family} {graph}");
            assert_eq!((standing.head, standing.padded), ("hoisted", family != "convbert"), "{family} {graph}");
            assert!(apart <= 1e-4 && golden <= 1e-4, "{family} {graph}: {apart} {golden}");
        }
    }
}

/// Its rows are long enough for the second part of the check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bundled_model_is_fused_and_scores_as_it_did() {
    let path = root("models/tamis-en");
    let mut scores = Vec::new();
    for (attention, fused) in [(Attention::Plain, 0), (Attention::Fused, 4)] {
        let settings = engine::Settings {
            head_check: HeadCheck::Refuse,
            budget_tokens: 2048,
            ..settings(&path, attention, Precision::AsExported)
        };
        let model = Arc::new(Model::load("en", &settings, Needs::default()).await.unwrap());
        assert_eq!(model.engine().standing().fused_attentions, fused, "{:?}", model.engine().standing());
        let window = Settings { masking: Masking::Strided, window_tokens: 256, ..Settings::default() };
        let scorer = Scorer::build("pll", &window, model, Cache::disabled()).unwrap();
        let text = "The committee will meet on Thursday to discuss what the survey has found. ".repeat(30);
        let tokens = scorer.surprisals(&text).await.unwrap();
        scores.push(tokens.iter().map(|token| token.nll).collect::<Vec<f64>>());
    }
    let apart = worst(&scores[0], &scores[1]);
    println!("{apart:.1e} nats");
    assert!(apart <= 1e-4, "{apart}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_in_half_precision_are_fused_too() {
    for (family, graphs) in PLAIN {
        for graph in graphs {
            let dir = directory(family, graph);
            let fused = load(&dir, Attention::Fused, Precision::Fp16).await;
            let standing = fused.engine().standing();
            let (mean, golden) = precision::apart(&fused, family).await;
            println!("{family} {graph}: {mean:.1e} nats a token to PyTorch, {golden:.1e} one token; {standing:?}");
            assert_eq!((standing.fused_attentions, standing.precision), (LAYERS, "fp16"), "{family} {graph}");
            assert!(mean <= 1e-3 && golden <= 0.1, "{family} {graph}: {mean} {golden}");
        }
    }
    for family in ["bert", "xlm-roberta", "modernbert"] {
        let dir = directory(family, "half");
        let fused = load(&dir, Attention::Fused, Precision::AsExported).await;
        let plain = load(&dir, Attention::Plain, Precision::AsExported).await;
        let apart = worst(&readings(&fused).await, &readings(&plain).await);
        let standing = fused.engine().standing();
        println!("{family} half: {apart:.1e} nats to plain; {standing:?}");
        assert_eq!((standing.fused_attentions, standing.head), (LAYERS, "hoisted"), "{family}");
        assert!(apart <= 0.1, "{family}: {apart}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_fused_runs_plain_and_says_why() {
    for (family, graph, why) in [
        ("deberta-v3", "script", "no attention of a form that is known"),
        ("deberta-v3", "dynamo", "no attention of a form that is known"),
        ("bert", "int8", "it is quantised"),
    ] {
        let dir = directory(family, graph);
        let model = load(&dir, Attention::Fused, Precision::AsExported).await;
        let standing = model.engine().standing();
        assert_eq!((standing.fused_attentions, standing.head), (0, "hoisted"), "{family} {graph}");
        assert!(standing.why_plain.as_ref().unwrap().contains(why), "{standing:?}");
        if graph != "int8" {
            let (_, golden) = precision::apart(&model, family).await;
            assert!(golden <= 1e-4, "{family} {graph}: {golden}");
        }
    }
}

/// An engine over BERT's graph, fused as `fuse` does it.
fn engine_with(fuse: engine::Fuse) -> engine::Engine {
    let dir = directory("bert", "script");
    let vocabulary = engine::Vocabulary { mask_id: 4, pad_id: 0, size: 90, width: 90, max_positions: 40 };
    let rewrite = |bytes| {
        let rewritten = graph::rewrite(bytes, graph::Outputs::default(), &graph::Weights::Within);
        rewritten.map(|rewritten| rewritten.bytes).map_err(|error| error.to_string())
    };
    let (weights, tolerance_nats) = (Vec::new(), 1e-4);
    let export = engine::Export { weights, tolerance_nats, leaps: false, converted_nats: None, rewrite, fuse };
    let settings = settings(dir.path(), Attention::Fused, Precision::AsExported);
    engine::Engine::load(&settings, vocabulary, Needs::default(), export).unwrap()
}

/// A graph fused, with every scale tenfold.
fn scaled_wrongly(bytes: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let graph::Fused { mut bytes, attentions } = graph::fuse(bytes.to_vec()).map_err(|error| error.to_string())?;
    let named: Vec<usize> = (5..bytes.len()).filter(|at| bytes[at - 5..*at] == *b"scale").collect();
    for name in &named {
        // Behind the attribute's name stands its number, a tag before it.
        let scale = 8_f32.sqrt().recip();
        let number = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let at = (*name..name + 8).find(|at| (number(*at) - scale).abs() < 1e-5).unwrap();
        bytes[at..at + 4].copy_from_slice(&(10.0 * scale).to_le_bytes());
    }
    assert_eq!(named.len(), LAYERS);
    Ok((bytes, attentions))
}

#[tokio::test]
async fn a_fused_graph_that_scores_otherwise_is_found_out_and_the_plain_one_runs() {
    let why = |engine: &engine::Engine| {
        let standing = engine.standing();
        assert_eq!((standing.fused_attentions, standing.head, &standing.why_full), (0, "hoisted", &None));
        assert!(standing.difference_nats.unwrap() <= 1e-4, "{standing:?}");
        standing.why_plain.clone().unwrap()
    };
    let told = why(&engine_with(scaled_wrongly));
    assert!(told.contains("scores differ by"), "{told}");
    let told = why(&engine_with(|_| Ok((b"no graph".to_vec(), 2))));
    assert!(told.contains("not a model"), "{told}");
    let told = why(&engine_with(|_| Err("a reason".to_owned())));
    assert_eq!(told, "a reason");
    let right = engine_with(|bytes| {
        graph::fuse(bytes.to_vec()).map(|fused| (fused.bytes, fused.attentions)).map_err(|error| error.to_string())
    });
    assert_eq!(right.standing().fused_attentions, LAYERS);
}

/// Rounding is all that it changes, and rounding is no part of an identity: scores come out of the cache whichever attention made them.
#[tokio::test]
async fn the_identity_of_scores_does_not_depend_on_how_attention_is_computed() {
    let dir = directory("bert", "script");
    let window = Settings { window_tokens: 24, ..Settings::default() };
    let mut identities = Vec::new();
    for (attention, fused) in [(Attention::Auto, 0), (Attention::Plain, 0), (Attention::Fused, LAYERS)] {
        let model = load(&dir, attention, Precision::AsExported).await;
        let standing = model.engine().standing();
        assert_eq!((standing.fused_attentions, &standing.why_plain), (fused, &None), "{attention:?} on the CPU");
        let scorer = Scorer::build("pll", &window, Arc::clone(&model), Cache::disabled()).unwrap();
        identities.push(scorer.identity().to_owned());
    }
    assert!(identities.iter().all(|identity| *identity == identities[0]), "{identities:?}");
}

#[test]
fn the_inspection_tells_how_many_attentions_are_fused() {
    let inspect = |family: &str, words: &[&str]| {
        let dir = directory(family, "script");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tamis"));
        command.args(["model", "inspect"]).arg(dir.path()).args(["--device", "cpu", "--threads", "1"]).args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let told: Value = serde_json::from_str(&inspect("bert", &["--attention", "fused", "--json"])).unwrap();
    assert_eq!(told["standing"]["fused_attentions"], LAYERS);
    let line = |page: String| page.lines().find(|line| line.starts_with("attention")).map(str::to_owned).unwrap();
    assert_eq!(line(inspect("bert", &["--attention", "fused"])), "attention    fused: 2");
    assert_eq!(line(inspect("bert", &[])), "attention    plain, as exported");
    let told = line(inspect("deberta-v3", &["--attention", "fused"]));
    assert!(told.contains("plain: the graph has no attention of a form that is known"), "{told}");
}
