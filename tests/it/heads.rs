//! One-pass heads on tiny exports of every shape that they may have (tools/fixtures/heads.py), held to a brute force over PyTorch's own models;
//! what must not change them, and models that are none of the kind.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tamis::cache::{self, Cache};
use tamis::corpus::{Document, SignalValue, Signals};
use tamis::engine::{self, HeadCheck, OnePass};
use tamis::scorer::{
    Activation, EmbeddingSettings, Head, HeadScorer, Model, Pool, Pooling, PromptSettings, SequenceSettings,
    TokenSettings,
};

/// Of probabilities, and of nats a token.
const TOLERANCE: f64 = 2e-5;
/// Text classifiers, and their labels in order.
const CLASSIFIERS: [(&str, &[&str]); 4] = [
    ("toxicity", &["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]),
    ("phishing", &["benign", "phishing"]),
    ("injection", &["safe", "injection"]),
    ("machine", &["fake", "real"]),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heads").join(name)
}

fn settings(path: &Path) -> engine::Settings {
    engine::Settings {
        path: path.to_owned(),
        device: engine::Device::Cpu.into(),
        head_check: HeadCheck::Refuse,
        threads: 1,
        budget_tokens: 512,
        ..engine::Settings::default()
    }
}

async fn model(name: &str, pass: OnePass) -> Arc<Model> {
    Arc::new(Model::load_one_pass("tiny", &settings(&folder(name)), pass).await.unwrap())
}

/// Why a directory is no model for `pass`.
async fn refused(path: &Path, pass: OnePass) -> String {
    Model::load_one_pass("mine", &settings(path), pass).await.err().unwrap().to_string()
}

fn document(text: &str) -> Document {
    Document { id: None, text: text.to_owned(), language: None, source: None }
}

fn number(signals: &Signals, name: &str) -> Option<f64> {
    signals.get(&format!("s.{name}")).and_then(SignalValue::as_number)
}

fn goldens(head: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/heads.json");
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases: Vec<Value> = all.into_iter().filter(|case| case["head"] == head).collect();
    assert!(cases.len() >= 8, "{head}");
    cases
}

fn sequence(labels: &[&str], pool: Pool) -> SequenceSettings {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    SequenceSettings { labels, pool, window_tokens: 24, ..SequenceSettings::default() }
}

/// Whether signals have a golden's counts, and no number where there are no tokens.
fn counts(signals: &Signals, case: &Value) {
    for name in ["tokens", "windows"] {
        assert_eq!(number(signals, name), case[name].as_f64(), "{name} of {case}");
    }
    assert_eq!(number(signals, "unk_rate").is_some(), case["tokens"] != 0, "{case}");
}

/// The largest difference of `names`' signals to numbers, all of which must be there.
fn apart(signals: &Signals, names: &[&str], expected: &[Option<f64>], case: &Value) -> f64 {
    names.iter().zip(expected).fold(0.0, |worst, (name, expected)| match (number(signals, name), expected) {
        (Some(ours), Some(theirs)) => f64::max(worst, (ours - theirs).abs()),
        (None, None) => worst,
        (ours, theirs) => panic!("{name}: {ours:?} is not {theirs:?} in {case}"),
    })
}

fn pooled(case: &Value, pool: Pool, labels: usize) -> Vec<Option<f64>> {
    let rule = if pool == Pool::Max { "max" } else { "mean" };
    (0..labels).map(|at| case[rule].get(at).and_then(Value::as_f64)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_classifiers_say_what_pytorch_says_pooled_as_declared() {
    for (name, labels) in CLASSIFIERS {
        let model = model(name, OnePass::Sequence).await;
        assert_eq!(model.engine().head(), "one-pass");
        for pool in [Pool::Max, Pool::Mean] {
            let settings = sequence(labels, pool);
            let head = Head::Sequence(&settings);
            let scorer = HeadScorer::build("s", head, Arc::clone(&model), Cache::disabled()).await.unwrap();
            let mut worst: f64 = 0.0;
            for case in goldens(name) {
                let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
                counts(&signals, &case);
                worst = worst.max(apart(&signals, labels, &pooled(&case, pool, labels.len()), &case));
            }
            println!("{name} {pool:?}: {worst:.1e}");
            assert!(worst <= TOLERANCE, "{name} {pool:?}: {worst}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_classifiers_flag_what_pytorch_flags() {
    let names = ["flagged_rate", "nll_token", "max_log_odds", "worst_decile"];
    let own = |labels: &[&str], flags: &[&str]| TokenSettings {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        flags: flags.iter().map(|label| (*label).to_owned()).collect(),
        window_tokens: 24,
        ..TokenSettings::default()
    };
    let cases =
        [("replaced", own(&[], &[])), ("inserted", own(&["kept", "inserted", "moved"], &["inserted", "moved"]))];
    for (name, settings) in cases {
        let model = model(name, OnePass::Tokens).await;
        let head = Head::Tokens(&settings);
        let scorer = HeadScorer::build("s", head, Arc::clone(&model), Cache::disabled()).await.unwrap();
        let mut worst: f64 = 0.0;
        for case in goldens(name) {
            let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
            counts(&signals, &case);
            worst = worst.max(apart(&signals, &names, &names.map(|name| case[name].as_f64()), &case));
        }
        println!("{name}: {worst:.1e}");
        assert!(worst <= TOLERANCE, "{name}: {worst}");
    }
}

#[tokio::test]
async fn labels_that_are_not_the_models_and_windows_that_do_not_fit_are_refused() {
    let model = model("phishing", OnePass::Sequence).await;
    let told = async |settings: SequenceSettings| {
        let built = HeadScorer::build("s", Head::Sequence(&settings), Arc::clone(&model), Cache::disabled()).await;
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(told(sequence(&["phishing", "benign"], Pool::Max)).await.contains("in this order, benign, phishing"));
    assert!(told(sequence(&["phishing"], Pool::Max)).await.contains("signals.s.labels: 1 labels are given"));
    let long = SequenceSettings { window_tokens: 39, ..sequence(&["benign", "phishing"], Pool::Max) };
    assert!(told(long).await.contains("at most 38"));
    let rtd = Arc::new(Model::load_one_pass("tiny", &settings(&folder("inserted")), OnePass::Tokens).await.unwrap());
    let unnamed = TokenSettings { window_tokens: 24, ..TokenSettings::default() };
    let built = HeadScorer::build("s", Head::Tokens(&unnamed), rtd, Cache::disabled()).await;
    assert!(built.err().unwrap().to_string().contains("3 logits a token; name its labels"));
}

#[tokio::test]
async fn models_of_another_kind_are_refused_by_name_or_by_the_shape_of_what_they_say() {
    let masked = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tamis-en");
    let told = refused(&masked, OnePass::Sequence).await;
    assert!(told.contains("models.mine: BertForMaskedLM is no sequence classifier: it fills masks"), "{told}");
    let told = refused(&folder("replaced"), OnePass::Sequence).await;
    assert!(told.contains("ElectraForPreTraining") && told.contains("token-classifier"), "{told}");
    let told = refused(&folder("toxicity"), OnePass::Tokens).await;
    assert!(told.contains("BertForSequenceClassification") && told.contains("sequence-classifier"), "{told}");
    let told = Model::load("mine", &settings(&folder("toxicity")), engine::Needs::default()).await;
    assert!(told.err().unwrap().to_string().contains("has no masked-LM head"));
    // The same where config.json says nothing: the axes of the output tell.
    for (name, pass, part) in [
        ("toxicity", OnePass::Tokens, "6 numbers for each text, and numbers for each token are wanted"),
        ("inserted", OnePass::Sequence, "3 numbers for each token, and numbers for each text are wanted"),
        ("replaced", OnePass::Sequence, "1 numbers for each token, and numbers for each text are wanted"),
    ] {
        let dir = nameless(name);
        let told = refused(dir.path(), pass).await;
        assert!(told.contains(part), "{name}: {told}");
    }
}

/// A copy of a fixture whose config.json names no architecture and no labels.
fn nameless(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for key in ["architectures", "id2label", "problem_type"] {
        config.as_object_mut().unwrap().remove(key);
    }
    std::fs::write(path, config.to_string()).unwrap();
    dir
}

#[tokio::test]
async fn without_a_mask_token_a_head_runs_all_the_same() {
    let dir = nameless("phishing");
    let path = dir.path().join("tokenizer_config.json");
    let mut names: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    names.as_object_mut().unwrap().remove("mask_token");
    std::fs::write(path, names.to_string()).unwrap();
    let model = Arc::new(Model::load_one_pass("tiny", &settings(dir.path()), OnePass::Sequence).await.unwrap());
    let settings = sequence(&["benign", "phishing"], Pool::Max);
    let scorer = HeadScorer::build("s", Head::Sequence(&settings), model, Cache::disabled()).await.unwrap();
    let case = goldens("phishing").remove(0);
    let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
    assert!(apart(&signals, &["benign", "phishing"], &pooled(&case, Pool::Max, 2), &case) <= TOLERANCE);
}

#[tokio::test]
async fn documents_at_once_get_the_numbers_that_they_get_alone() {
    let model = model("toxicity", OnePass::Sequence).await;
    let settings = sequence(CLASSIFIERS[0].1, Pool::Mean);
    let scorer = HeadScorer::build("s", Head::Sequence(&settings), model, Cache::disabled()).await.unwrap();
    let scorer = Arc::new(scorer);
    let mut running = tokio::task::JoinSet::new();
    for case in goldens("toxicity").into_iter().cycle().take(40) {
        let scorer = Arc::clone(&scorer);
        running.spawn(async move {
            let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
            apart(&signals, CLASSIFIERS[0].1, &pooled(&case, Pool::Mean, 6), &case)
        });
    }
    assert!(running.join_all().await.into_iter().all(|apart| apart <= TOLERANCE));
}

fn cache(dir: &Path) -> Cache {
    Cache::open(&cache::Settings { path: dir.to_owned(), ..cache::Settings::default() }, "0")
}

#[tokio::test]
async fn the_cache_keeps_what_the_model_said_whatever_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let model = model("toxicity", OnePass::Sequence).await;
    let text = document(goldens("toxicity")[0]["text"].as_str().unwrap());
    let build = async |settings: SequenceSettings| {
        HeadScorer::build("s", Head::Sequence(&settings), Arc::clone(&model), cache.clone()).await.unwrap()
    };
    let first = build(sequence(CLASSIFIERS[0].1, Pool::Max)).await;
    let signals = first.score(&text).await.unwrap();
    let passes = model.passes();
    assert!(passes > 0);
    assert_eq!(first.score(&text).await.unwrap(), signals, "from the cache");
    let soft = SequenceSettings { activation: Some(Activation::Softmax), ..sequence(CLASSIFIERS[0].1, Pool::Max) };
    let mean = sequence(CLASSIFIERS[0].1, Pool::Mean);
    for other in [soft, mean] {
        let other = build(other).await;
        assert_ne!(other.identity(), first.identity(), "other numbers are another score");
        other.score(&text).await.unwrap();
    }
    assert_eq!(model.passes(), passes, "none of them took the device");
    model.close(Duration::from_secs(10)).await.unwrap();
}

fn embedding(file: &str, labels: &[&str], pooling: Pooling, pool: Pool) -> EmbeddingSettings {
    EmbeddingSettings {
        head: folder("encoder").join(file),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        pooling,
        pool,
        window_tokens: 24,
        ..EmbeddingSettings::default()
    }
}

/// The kinds of heads in files: their labels, and how they take an encoder's states.
const FILES: [(&str, &[&str], Pooling); 3] = [
    ("linear.json", &["ham", "spam"], Pooling::Mean),
    ("trees.json", &["spam"], Pooling::First),
    ("head.onnx", &["ham", "spam"], Pooling::Mean),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linear_heads_trees_and_onnx_heads_over_an_encoder_say_what_numpy_says() {
    for (file, labels, pooling) in FILES {
        for pool in [Pool::Max, Pool::Mean] {
            let settings = embedding(file, labels, pooling, pool);
            let pass = if pooling == Pooling::Mean { OnePass::Mean } else { OnePass::First };
            let model = model("encoder", pass).await;
            let scorer = HeadScorer::build("s", Head::Embedding(&settings), model, Cache::disabled()).await.unwrap();
            let mut worst: f64 = 0.0;
            for case in goldens("encoder").into_iter().filter(|case| case["file"] == file) {
                let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
                counts(&signals, &case);
                worst = worst.max(apart(&signals, labels, &pooled(&case, pool, labels.len()), &case));
            }
            println!("{file} {pool:?}: {worst:.1e}");
            assert!(worst <= TOLERANCE, "{file} {pool:?}: {worst}");
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_fit_its_encoder_is_refused_with_what_is_wrong() {
    let model = model("encoder", OnePass::Mean).await;
    let told = async |settings: EmbeddingSettings, model: &Arc<Model>| {
        let built = HeadScorer::build("s", Head::Embedding(&settings), Arc::clone(model), Cache::disabled()).await;
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let with = |file: &str, labels: &[&str]| embedding(file, labels, Pooling::Mean, Pool::Max);
    assert_eq!(told(with("linear.json", &["ham", "spam"]), &model).await, "");
    assert!(told(with("linear.json", &["spam", "ham"]), &model).await.contains("signals.s.labels: the head's are"));
    assert!(told(with("head.onnx", &["spam"]), &model).await.contains("1 labels are given, and the head has 2"));
    assert!(told(with("trees.json", &["spam"]), &model).await.contains("signals.s.pooling: "));
    let fitted = tempfile::tempdir().unwrap();
    let mut json: Value = serde_json::from_slice(&std::fs::read(with("linear.json", &[]).head).unwrap()).unwrap();
    json["window_tokens"] = 25.into();
    let longer = fitted.path().join("longer.json");
    std::fs::write(&longer, json.to_string()).unwrap();
    let longer = EmbeddingSettings { head: longer, ..with("linear.json", &["ham", "spam"]) };
    assert!(told(longer.clone(), &model).await.contains("signals.s.window_tokens: "));
    assert_eq!(told(EmbeddingSettings { window_tokens: 25, ..longer }, &model).await, "");
    assert!(told(with("none.json", &["spam"]), &model).await.contains("none.json: can't be read"));
    assert!(told(with("config.json", &["spam"]), &model).await.contains("not a head"));
    // Another model of the same width: its graph's checksum is not the one that the head was fitted on.
    let masked = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/bert");
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in
        [("script.onnx", "model.onnx"), ("config.json", ""), ("tokenizer.json", ""), ("tokenizer_config.json", "")]
    {
        std::fs::copy(masked.join(from), dir.path().join(if to.is_empty() { from } else { to })).unwrap();
    }
    let other = Arc::new(Model::load_one_pass("tiny", &settings(dir.path()), OnePass::Mean).await.unwrap());
    assert!(told(with("linear.json", &["ham", "spam"]), &other).await.contains("fitted on another encoder"));
}

#[tokio::test]
async fn every_familys_masked_model_is_an_encoder_before_its_last_product() {
    let families =
        ["albert", "bert", "deberta-v3", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta"];
    let mut refused = Vec::new();
    for family in families {
        for graph in ["script", "dynamo"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(family);
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(from.join(format!("{graph}.onnx")), dir.path().join("model.onnx")).unwrap();
            for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
                std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
            }
            match Model::load_one_pass("tiny", &settings(dir.path()), OnePass::Mean).await {
                Ok(model) => assert!([8, 16].contains(&model.engine().width()), "{family} {graph}"),
                Err(error) => refused.push(format!("{family} {graph}: {error}")),
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_say_what_numpy_says_of_the_words_at_the_mask() {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/bert");
    std::fs::copy(from.join("script.onnx"), dir.path().join("model.onnx")).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let own = engine::Settings { head_check: HeadCheck::Warn, ..settings(dir.path()) };
    let model = Arc::new(Model::load("tiny", &own, engine::Needs::default()).await.unwrap());
    assert_eq!(model.engine().head(), "hoisted", "nothing as wide as the vocabulary leaves the device");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let base = PromptSettings {
        template: "They said: {text} It was about {mask}.".replace(" about", ""),
        window_tokens: 12,
        labels: [("place", words(&["there"])), ("time", words(&["when"])), ("work", words(&["one", "do"]))]
            .map(|(label, words)| (label.to_owned(), words))
            .into(),
        ..PromptSettings::default()
    };
    let labels = ["place", "time", "work"];
    let mut worst: f64 = 0.0;
    for case in goldens("prompt") {
        for pool in [Pool::Max, Pool::Mean] {
            let free = if case["calibrated"] == true { base.content_free.clone() } else { Vec::new() };
            let most = usize::try_from(case["max_windows"].as_u64().unwrap()).unwrap();
            let settings = PromptSettings { pool, max_windows: most, content_free: free, ..base.clone() };
            let head = Head::Prompt(&settings);
            let scorer = HeadScorer::build("s", head, Arc::clone(&model), Cache::disabled()).await.unwrap();
            let signals = scorer.score(&document(case["text"].as_str().unwrap())).await.unwrap();
            counts(&signals, &case);
            assert_eq!(number(&signals, "tokens_left_out"), case["left_out"].as_f64(), "{case}");
            worst = worst.max(apart(&signals, &labels, &pooled(&case, pool, 3), &case));
        }
    }
    println!("prompt: {worst:.1e}");
    assert!(worst <= TOLERANCE, "{worst}");
    for (word, part) in [("supercalifragilistic", "tokens of the model"), ("there", "the token of another word")] {
        let mut settings = base.clone();
        settings.labels.insert("zother".to_owned(), words(&[word]));
        let built = HeadScorer::build("s", Head::Prompt(&settings), Arc::clone(&model), Cache::disabled()).await;
        let told = built.err().unwrap().to_string();
        assert!(told.contains("signals.s.labels: zother: ") && told.contains(part), "{told}");
    }
    let long = PromptSettings { window_tokens: 38, ..base };
    let built = HeadScorer::build("s", Head::Prompt(&long), Arc::clone(&model), Cache::disabled()).await;
    assert!(built.err().unwrap().to_string().contains("tokens of the template"));
}

/// Scores texts by a pipeline file as it stands, but for `sets`; the output's lines.
pub fn scored(pipeline: &str, key: &str, texts: &[&str], sets: &[String]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ key: text }).to_string()).collect();
    std::fs::write(&input, lines.join("\n")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tamis"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["score", pipeline, "--input"]).arg(input);
    let own = [format!("cache.path={}", dir.path().display())];
    own.iter().chain(sets).for_each(|set| _ = command.args(["--set", set]));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{pipeline}: {}", String::from_utf8_lossy(&output.stderr));
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn pipelines_for_models_of_ones_own_run_on_a_tiny_export_of_that_shape() {
    for (pipeline, table, fixture, signal, key) in [
        ("toxicity", "toxicity", "toxicity", "toxicity.toxic", "text"),
        ("phishing-urls", "phishing", "phishing", "phishing.phishing", "url"),
        ("prompt-injection", "injection", "injection", "injection.injection", "text"),
        ("machine-text", "detector", "machine", "detector.fake", "text"),
    ] {
        let cases = goldens(fixture);
        let (labels, pool) = match fixture {
            "machine" => (["fake", "real"].to_vec(), Pool::Mean),
            _ => (CLASSIFIERS.iter().find(|(name, _)| *name == fixture).unwrap().1.to_vec(), Pool::Max),
        };
        let at = labels.iter().position(|label| signal.ends_with(&format!(".{label}"))).unwrap();
        let sets = [
            format!("models.{table}.path=tests/fixtures/heads/{fixture}"),
            // The fixtures have 40 positions, and are scored as they are written.
            format!("signals.{table}.window_tokens=24"),
            "document.normalize=none".to_owned(),
        ];
        let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
        let lines = scored(&format!("pipelines/bring-your-own/{pipeline}.toml"), key, &texts, &sets);
        assert_eq!(lines.len(), cases.len());
        for (line, case) in lines.iter().zip(&cases) {
            match (line["signals"][signal].as_f64(), pooled(case, pool, labels.len())[at]) {
                (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() <= TOLERANCE, "{line} {case}"),
                (ours, theirs) => assert_eq!(ours, theirs, "{line}"),
            }
            assert_eq!(line["status"], if case["tokens"] == 0 { "unscorable" } else { "scored" }, "{line}");
        }
    }
}

#[test]
fn the_spam_pipeline_runs_as_it_stands() {
    let texts = [
        "URGENT! You have won a 1 week FREE membership in our 100,000 pounds prize draw. Call 09061701461 now to claim, 150p/min",
        "Are you still coming over tonight? I'll be home around eight, just let yourself in.",
        "The committee will meet again in March to discuss the remaining points of the report.",
    ];
    let lines = scored("pipelines/spam.toml", "text", &texts, &[]);
    let verdicts: Vec<&str> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["fail", "pass", "pass"], "{lines:#?}");
}
