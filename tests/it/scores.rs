//! Scores against an independent brute force (tools/reference/pll.py), and what must not change them: batches, order, padding,
//! literal special tokens, length. On tiny random models, through ONNX Runtime.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tamis::cache::Cache;
use tamis::corpus::{Document, SignalValue, Signals};
use tamis::engine::{self, Engine, Export, HeadCheck, Needs, Passes, Reading, Spread, Vocabulary};
use tamis::graph;
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// Nats a token.
const TOLERANCE: f64 = 1e-4;
const ALL: Needs = Needs { ranks: true, odds: true };
const MODELS: [&str; 3] = ["tiny-bert-wordpiece", "tiny-unigram-mask-piece", "tiny-bpe"];

/// Written by the test that measures this process's memory, read by those that load a large
/// model or run large batches meanwhile.
static LARGE: RwLock<()> = RwLock::const_new(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled model or a fixture, by name.
fn fixture(name: &str) -> PathBuf {
    let models = if name == "tamis-en" { "models" } else { "tests/fixtures/models" };
    root().join(models).join(name)
}

async fn model(name: &str, budget_tokens: usize) -> Arc<Model> {
    let settings = engine::Settings {
        path: fixture(name),
        device: engine::Device::Cpu.into(),
        head_check: HeadCheck::Warn,
        threads: 1,
        budget_tokens,
        ..engine::Settings::default()
    };
    let model = Model::load("tiny", &settings, Needs::default()).await.unwrap();
    assert_eq!(model.engine().head(), "hoisted", "{name}");
    Arc::new(model)
}

fn scorer(model: &Arc<Model>, masking: Masking, window_tokens: usize, cache: Cache) -> Arc<Scorer> {
    let settings = Settings { masking, window_tokens, ..Settings::default() };
    Arc::new(Scorer::build("pll", &settings, Arc::clone(model), cache).unwrap())
}

fn document(text: &str) -> Document {
    Document { id: None, text: text.to_owned(), language: None, source: None }
}

fn number(signals: &Signals, name: &str) -> Option<f64> {
    signals.get(name).and_then(SignalValue::as_number)
}

struct Golden {
    model: String,
    text: String,
    masking: Masking,
    window_tokens: usize,
    windows: Vec<(Vec<u32>, Vec<f64>)>,
    nll_token: Option<f64>,
}

fn goldens() -> Vec<Golden> {
    let bytes = std::fs::read(root().join("tests/goldens/pll.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    let window = |window: &Value| {
        let ids = serde_json::from_value(window["ids"].clone()).unwrap();
        (ids, serde_json::from_value(window["nll"].clone()).unwrap())
    };
    let golden = |case: &Value| Golden {
        model: case["model"].as_str().unwrap().to_owned(),
        text: case["text"].as_str().unwrap().to_owned(),
        masking: serde_json::from_value(case["masking"].clone()).unwrap(),
        window_tokens: usize::try_from(case["window_tokens"].as_u64().unwrap()).unwrap(),
        windows: case["windows"].as_array().unwrap().iter().map(window).collect(),
        nll_token: case["nll_token"].as_f64(),
    };
    assert!(cases.len() > 300);
    cases.iter().map(golden).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_scores_as_the_brute_force_says() {
    let mut worst: f64 = 0.0;
    for name in MODELS.into_iter().chain(["tamis-en"]) {
        let model = model(name, 2048).await;
        for golden in goldens().into_iter().filter(|golden| golden.model == name) {
            let scorer = scorer(&model, golden.masking, golden.window_tokens, Cache::disabled());
            let tokens = scorer.surprisals(&golden.text).await.unwrap();
            let expected: Vec<(usize, u32, f64)> = golden
                .windows
                .iter()
                .enumerate()
                .flat_map(|(window, (ids, nll))| ids.iter().zip(nll).map(move |(id, nll)| (window, *id, *nll)))
                .collect();
            let places: Vec<(usize, u32)> = tokens.iter().map(|token| (token.window, token.id)).collect();
            let expected_places: Vec<(usize, u32)> = expected.iter().map(|(window, id, _)| (*window, *id)).collect();
            assert_eq!(places, expected_places, "{name} {:?}", golden.text);
            for (token, (_, _, nll)) in tokens.iter().zip(&expected) {
                worst = worst.max((token.nll - nll).abs());
                assert!((token.nll - nll).abs() <= TOLERANCE, "{name} {:?}: {token:?} is not {nll}", golden.text);
            }
            let signals = scorer.score(&document(&golden.text)).await.unwrap();
            assert_eq!(number(&signals, "pll.windows"), Some(golden.windows.len() as f64));
            assert_eq!(number(&signals, "pll.tokens"), Some(expected.len() as f64));
            match (number(&signals, "pll.nll_token"), golden.nll_token) {
                (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() <= TOLERANCE),
                (ours, theirs) => assert_eq!(ours, theirs, "{:?}", golden.text),
            }
        }
    }
    println!("largest difference: {worst:.1e} nats");
}

/// An engine without its tokenizer; ids are only numbers here.
fn engine(path: &Path, vocabulary: &Vocabulary, needs: Needs, hoisted: bool) -> Engine {
    let settings = engine::Settings {
        path: path.to_owned(),
        device: engine::Device::Cpu.into(),
        threads: 2,
        budget_tokens: 600,
        ..engine::Settings::default()
    };
    let rewrite = move |bytes| match hoisted {
        true => rewrite(bytes, needs),
        false => Err("full logits are wanted".to_owned()),
    };
    let export =
        Export { weights: Vec::new(), tolerance_nats: TOLERANCE, leaps: false, converted_nats: None, rewrite, fuse };
    let engine = Engine::load(&settings, vocabulary.clone(), needs, export).unwrap();
    assert_eq!(engine.head(), if hoisted { "hoisted" } else { "full" });
    engine
}

fn rewrite(bytes: Vec<u8>, needs: Needs) -> Result<Vec<u8>, String> {
    let outputs = graph::Outputs { ranks: needs.ranks, odds: needs.odds };
    graph::rewrite(bytes, outputs, &graph::Weights::Within)
        .map(|rewritten| rewritten.bytes)
        .map_err(|error| error.to_string())
}

/// Attention is plain on the CPU: nobody asks.
fn fuse(_: &[u8]) -> Result<(Vec<u8>, usize), String> {
    Err("it is not asked for".to_owned())
}

fn vocabulary(config: &Value) -> Vocabulary {
    let number = |name: &str| u32::try_from(config[name].as_u64().unwrap()).unwrap();
    let (size, pad_id) = (number("vocab_size"), number("pad_token_id"));
    Vocabulary { mask_id: 4, pad_id, size: size as usize, width: size as usize, max_positions: 500 }
}

/// Windows of random ids and lengths with random masks, and with scores apart from them: batches of them are padded.
fn random_passes(size: u32, seed: u32) -> Vec<Passes> {
    let mut state = seed;
    let mut draw = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut pass = |_| {
        let tokens = 2 + draw(90);
        let ids: Vec<u32> = (0..tokens).map(|_| draw(size)).collect();
        let mut passes = Passes::over(ids.into());
        for _ in 0..1 + draw(3) {
            passes.mask((draw(tokens)..tokens).step_by(1 + draw(12) as usize));
        }
        passes.mask_and_score(draw(tokens)..tokens, [draw(tokens)]);
        passes.mask_and_score([], 0..tokens);
        passes
    };
    (0..40).map(&mut pass).collect()
}

/// Scores everything at once, so that batches mix.
async fn score_all(engine: Engine, passes: &[Passes]) -> Vec<Vec<Reading>> {
    let engine = Arc::new(engine);
    let mut running = JoinSet::new();
    for (at, pass) in passes.iter().cloned().enumerate() {
        let engine = Arc::clone(&engine);
        running.spawn(async move { (at, engine.score(pass).await.unwrap()) });
    }
    let scores: BTreeMap<usize, Vec<Reading>> = running.join_all().await.into_iter().collect();
    scores.into_values().collect()
}

/// The largest difference of two readings in nats; ranks may be one apart, by rounding.
fn apart(one: &Reading, two: &Reading) -> f64 {
    let (Some(here), Some(there)) = (one.spread, two.spread) else { panic!("no spread in {one:?} or {two:?}") };
    assert!(here.rank.abs_diff(there.rank) <= 1, "{one:?} {two:?}");
    let pairs = [
        (one.logprob, two.logprob),
        (here.entropy, there.entropy),
        (here.max_logprob, there.max_logprob),
        (one.log_odds.unwrap(), two.log_odds.unwrap()),
    ];
    pairs.into_iter().map(|(one, two)| (one - two).abs()).fold(0.0, f64::max)
}

/// One pass of tools/reference/readings.py.
#[derive(serde::Deserialize)]
struct Case {
    model: String,
    mask_id: u32,
    ids: Vec<u32>,
    masked: Vec<u32>,
    scored: Vec<u32>,
    /// logprob, rank, entropy, max_logprob, log_odds
    readings: Vec<(f64, u32, f64, f64, f64)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reading_is_what_the_definitions_say() {
    let bytes = std::fs::read(root().join("tests/goldens/readings.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&bytes).unwrap();
    let mut worst: f64 = 0.0;
    for (name, hoisted) in MODELS.into_iter().flat_map(|name| [(name, true), (name, false)]) {
        let config = std::fs::read(fixture(name).join("config.json")).unwrap();
        let mine: Vec<&Case> = cases.iter().filter(|case| case.model == name).collect();
        assert!(mine.len() >= 8, "{name}");
        let known = vocabulary(&serde_json::from_slice(&config).unwrap());
        let vocabulary = Vocabulary { mask_id: mine[0].mask_id, ..known };
        let passes = |case: &&Case| {
            let mut passes = Passes::over(case.ids.as_slice().into());
            passes.mask_and_score(case.masked.iter().copied(), case.scored.iter().copied());
            passes
        };
        let passes: Vec<Passes> = mine.iter().map(passes).collect();
        let scored = score_all(engine(&fixture(name), &vocabulary, ALL, hoisted), &passes).await;
        for (case, readings) in mine.iter().zip(&scored) {
            assert_eq!(readings.len(), case.readings.len());
            for (reading, (logprob, rank, entropy, max_logprob, log_odds)) in readings.iter().zip(&case.readings) {
                let spread = Spread { rank: *rank, entropy: *entropy, max_logprob: *max_logprob };
                let expected = Reading { logprob: *logprob, spread: Some(spread), log_odds: Some(*log_odds) };
                let difference = apart(reading, &expected);
                assert!(difference <= TOLERANCE, "{name} {hoisted}: {reading:?} is not {expected:?}");
                worst = worst.max(difference);
            }
        }
    }
    println!("largest difference: {worst:.1e} nats");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hoisted_head_scores_as_the_full_logits_do() {
    let _large = LARGE.read().await;
    let paths = MODELS.map(fixture).into_iter().chain([root().join("models/tamis-en")]);
    for path in paths {
        let Ok(config) = std::fs::read(path.join("config.json")) else {
            println!("SKIPPED: no {} here", path.display());
            continue;
        };
        let vocabulary = vocabulary(&serde_json::from_slice(&config).unwrap());
        let passes = random_passes(u32::try_from(vocabulary.size).unwrap(), vocabulary.pad_id + 1);
        let full = score_all(engine(&path, &vocabulary, ALL, false), &passes).await;
        let hoisted = score_all(engine(&path, &vocabulary, ALL, true), &passes).await;
        let bare = score_all(engine(&path, &vocabulary, Needs::default(), true), &passes).await;
        assert_eq!(full.concat().len(), hoisted.concat().len());
        assert!(bare.concat().iter().all(|reading| reading.spread.is_none() && reading.log_odds.is_none()));
        let pairs = full.iter().flatten().zip(hoisted.iter().flatten()).zip(bare.iter().flatten());
        let worst = pairs.map(|((full, hoisted), bare)| apart(full, hoisted).max((full.logprob - bare.logprob).abs()));
        let worst = worst.fold(0.0, f64::max);
        println!("{}: {worst:.1e} nats at most", path.display());
        assert!(worst <= TOLERANCE, "{}: {worst} nats", path.display());
    }
}

#[tokio::test]
async fn a_rewritten_graph_that_is_not_the_models_is_not_used() {
    let settings = engine::Settings {
        path: fixture(MODELS[0]),
        device: engine::Device::Cpu.into(),
        ..engine::Settings::default()
    };
    let vocabulary = Vocabulary { mask_id: 4, pad_id: 0, size: 426, width: 426, max_positions: 500 };
    let other = std::fs::read(fixture(MODELS[2]).join("model.onnx")).unwrap();
    let other = rewrite(other, Needs::default()).unwrap();
    for wrong in [other, b"not a graph".to_vec()] {
        let export = Export {
            weights: Vec::new(),
            tolerance_nats: TOLERANCE,
            leaps: false,
            converted_nats: None,
            rewrite: |_| Ok(wrong),
            fuse,
        };
        let engine = Engine::load(&settings, vocabulary.clone(), Needs::default(), export).unwrap();
        assert!(engine.head() == "full" && engine.standing().why_full.is_some());
        let mut passes = Passes::over(vec![2, 9, 9, 3].into());
        passes.mask([1]);
        assert!(engine.score(passes).await.unwrap()[0].logprob < 0.0);
    }
}

/// This machine's library has no CUDA provider, or it has no such device.
#[tokio::test]
async fn a_gpu_that_can_not_be_used_is_an_error_unless_the_cpu_is_allowed_by_name() {
    let vocabulary = Vocabulary { mask_id: 4, pad_id: 0, size: 426, width: 426, max_positions: 500 };
    let load = |device_fallback| {
        let device = engine::Device::Cuda(4095).into();
        let settings = engine::Settings { path: fixture(MODELS[0]), device, device_fallback, ..Default::default() };
        let rewrite = move |bytes| rewrite(bytes, Needs::default());
        let export = Export {
            weights: Vec::new(),
            tolerance_nats: TOLERANCE,
            leaps: false,
            converted_nats: None,
            rewrite,
            fuse,
        };
        Engine::load(&settings, vocabulary.clone(), Needs::default(), export)
    };
    let refused = load(engine::Fallback::None).err().unwrap().to_string();
    for part in ["cuda:4095", "onnxruntime-gpu", "libcublasLt", "TAMIS_ORT_LIB", "device_fallback"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let engine = load(engine::Fallback::Cpu).unwrap();
    assert_eq!((engine.provider(), engine.head()), ("cpu", "hoisted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_order_and_padding_change_nothing() {
    let _large = LARGE.read().await;
    let texts: Vec<String> = goldens().into_iter().filter(|g| g.model == MODELS[0]).map(|g| g.text).collect();
    for masking in [Masking::Single, Masking::Strided] {
        let mut alone = BTreeMap::new();
        for (budget, reversed) in [(1, false), (300, false), (2048, true), (16_384, false)] {
            let model = model(MODELS[0], budget).await;
            let scorer = scorer(&model, masking, 64, Cache::disabled());
            let mut running = JoinSet::new();
            let mut order: Vec<String> = texts.clone();
            if reversed {
                order.reverse();
            }
            let mixed: BTreeMap<String, Signals> = if budget == 1 {
                let mut scored = BTreeMap::new();
                for text in order {
                    scored.insert(text.clone(), scorer.score(&document(&text)).await.unwrap());
                }
                scored
            } else {
                for text in order {
                    let scorer = Arc::clone(&scorer);
                    running.spawn(async move { (text.clone(), scorer.score(&document(&text)).await.unwrap()) });
                }
                running.join_all().await.into_iter().collect()
            };
            if alone.is_empty() {
                alone = mixed;
                continue;
            }
            for (text, signals) in &mixed {
                for (name, value) in signals.iter().filter(|(name, _)| !name.ends_with("pppl")) {
                    let (ours, theirs) = (value.as_number().unwrap(), number(&alone[text], name).unwrap());
                    let scale = if name.ends_with("nll_word") { 20.0 } else { 1.0 };
                    assert!((ours - theirs).abs() <= TOLERANCE * scale, "{name} of {text:?}: {ours} is not {theirs}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_document_without_tokens_has_counts_and_no_number() {
    let model = model(MODELS[0], 2048).await;
    let scorer = scorer(&model, Masking::Single, 128, Cache::disabled());
    for text in ["", " \n\t "] {
        let signals = scorer.score(&document(text)).await.unwrap();
        let names: Vec<&str> = signals.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["pll.tokens", "pll.windows"]);
        assert_eq!(number(&signals, "pll.tokens"), Some(0.0));
    }
    let signals = scorer.score(&document("...")).await.unwrap();
    assert!(signals.get("pll.nll_word").is_none() && signals.get("pll.nll_token").is_some());
    let every = scorer.signal_names();
    let full = scorer.score(&document("the work of the people")).await.unwrap();
    assert_eq!(full.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), {
        let mut names: Vec<String> = every.iter().map(ToString::to_string).collect();
        names.sort();
        names
    });
}

#[tokio::test]
async fn the_identity_tells_scores_apart_that_are_not_the_same() {
    let (bert, bpe) = (model(MODELS[0], 2048).await, model(MODELS[2], 2048).await);
    let identity =
        |model: &Arc<Model>, masking, window| scorer(model, masking, window, Cache::disabled()).identity().to_owned();
    let base = identity(&bert, Masking::Single, 128);
    assert_eq!(base, identity(&model(MODELS[0], 64).await, Masking::Single, 128), "batches are no part of it");
    for other in [
        identity(&bert, Masking::Strided, 128),
        identity(&bert, Masking::Single, 127),
        identity(&bpe, Masking::Single, 128),
    ] {
        assert_ne!(base, other);
    }
}

#[tokio::test]
async fn a_window_that_does_not_fit_and_a_head_that_talks_nonsense_are_refused() {
    let tiny = model(MODELS[0], 2048).await;
    let settings = Settings { window_tokens: 511, ..Settings::default() };
    let error = Scorer::build("pll", &settings, Arc::clone(&tiny), Cache::disabled()).err().unwrap().to_string();
    assert!(error.contains("signals.pll.window_tokens") && error.contains("at most 510"), "{error}");
    let settings = engine::Settings {
        path: fixture(MODELS[0]),
        device: engine::Device::Cpu.into(),
        ..engine::Settings::default()
    };
    let error = Model::load("default", &settings, Needs::default()).await.err().unwrap().to_string();
    assert!(error.contains("health check") && error.contains("head_check = \"warn\""), "{error}");
}

#[tokio::test]
async fn a_tokenizer_of_another_model_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for (name, from) in [("model.onnx", 0), ("tokenizer.json", 2), ("tokenizer_config.json", 2), ("config.json", 2)] {
        std::fs::copy(fixture(MODELS[from]).join(name), dir.path().join(name)).unwrap();
    }
    let settings = engine::Settings {
        path: dir.path().to_owned(),
        device: engine::Device::Cpu.into(),
        head_check: HeadCheck::Warn,
        ..engine::Settings::default()
    };
    let error = Model::load("default", &settings, Needs::default()).await.err().unwrap().to_string();
    assert!(error.contains("do tokenizer and model belong together?"), "{error}");
}

#[tokio::test]
async fn a_device_asked_for_and_absent_is_an_error() {
    let settings = engine::Settings {
        path: fixture(MODELS[0]),
        device: engine::Device::Cuda(99).into(),
        ..engine::Settings::default()
    };
    let error = Model::load("default", &settings, Needs::default()).await.err().unwrap().to_string();
    assert!(error.contains("\"cuda:99\" was asked for"), "{error}");
}

/// Resident memory of this process, MiB.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_tokens_are_scored_in_bounded_memory() {
    let _alone = LARGE.write().await;
    let model = model(MODELS[2], 2048).await;
    let scorer = scorer(&model, Masking::Strided, 128, Cache::disabled());
    let sentence = "the work of the people was long, and they had to find water. ";
    let _ = scorer.score(&document(&sentence.repeat(200))).await.unwrap();
    let text = sentence.repeat(250_000 / scorer.surprisals(sentence).await.unwrap().len());
    let (before, start) = (resident_mib(), std::time::Instant::now());
    let (document, mut peak) = (document(&text), before);
    let scoring = scorer.score(&document);
    tokio::pin!(scoring);
    let signals = loop {
        tokio::select! {
            scored = &mut scoring => break scored.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => peak = peak.max(resident_mib()),
        }
    };
    let tokens = number(&signals, "pll.tokens").unwrap();
    println!("{tokens} tokens in {:?}, memory {before} to {peak} MiB", start.elapsed());
    assert!(tokens >= 200_000.0);
    assert!(peak < before + 150, "memory grew from {before} to {peak} MiB");
}

#[tokio::test]
async fn a_second_pass_with_the_cache_runs_no_forward_pass() {
    let model = model(MODELS[1], 2048).await;
    let cache = Cache::memory(10_000);
    let scorer = |masking| scorer(&model, masking, 24, cache.clone());
    let text = "the work of the people was long. They had to find water! And then? ".repeat(20);
    let first = scorer(Masking::Strided).score(&document(&text)).await.unwrap();
    model.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(scorer(Masking::Strided).score(&document(&text)).await.unwrap(), first, "bit for bit");
    let fault = scorer(Masking::Single).score(&document(&text)).await.unwrap_err();
    assert_eq!(fault.class.as_str(), "engine-gone", "another score is not served by this one's sums");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bundled_model_passes_its_health_check() {
    let _large = LARGE.read().await;
    let path = root().join("models/tamis-en");
    let settings = engine::Settings { path, device: engine::Device::Cpu.into(), ..engine::Settings::default() };
    let model = Arc::new(Model::load("default", &settings, Needs::default()).await.unwrap());
    assert_eq!(model.engine().head(), "hoisted");
    let scorer = scorer(&model, Masking::Strided, 128, Cache::disabled());
    let nll = async |text: &str| number(&scorer.score(&document(text)).await.unwrap(), "pll.nll_token").unwrap();
    let (good, bad) = (
        nll("The old man sat down by the fire and began to tell a story.").await,
        nll("Fire the by old began story a sat tell man down the to and.").await,
    );
    assert!(good < bad, "{good} against {bad}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_int8_variant_is_another_scorer_that_says_nearly_the_same() {
    let _large = LARGE.read().await;
    let sample = std::fs::read(root().join("pipelines/demo/sample.jsonl")).unwrap();
    let lines = sample.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let is_book = |line: &Value| line["id"].as_str().is_some_and(|id| id.starts_with("book"));
    let texts: Vec<Value> = lines.filter(is_book).take(8).collect();
    assert_eq!(texts.len(), 8);
    let mut found = Vec::new();
    for name in ["tamis-en", "tamis-en-int8"] {
        let path = root().join("models").join(name);
        let settings = engine::Settings { path, device: engine::Device::Cpu.into(), ..engine::Settings::default() };
        let model = Arc::new(Model::load("default", &settings, Needs::default()).await.unwrap());
        assert_eq!(model.engine().head(), "hoisted", "{name}");
        let scorer = scorer(&model, Masking::Strided, 128, Cache::disabled());
        let mut scores = Vec::new();
        for text in &texts {
            let signals = scorer.score(&document(text["text"].as_str().unwrap())).await.unwrap();
            scores.push(number(&signals, "pll.nll_token").unwrap());
        }
        found.push((scorer.identity().to_owned(), scores));
    }
    let [(single, scores), (int8, others)] = found.as_slice() else { unreachable!("two models") };
    assert_ne!(single, int8, "cached scores of one would be taken for the other's");
    let apart: Vec<f64> = scores.iter().zip(others).map(|(one, other)| (one - other).abs()).collect();
    assert!(apart.iter().all(|gap| *gap < 0.05), "nats a token: {apart:?}");
    assert!(apart.iter().any(|gap| *gap > 0.0), "they are the same model");
}
