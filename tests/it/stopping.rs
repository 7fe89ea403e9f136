//! Scores that stop early, on the bundled model: the same verdicts as the full score's, and what was revealed is gone on from.

use crate::broker;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tamis::cache::Cache;
use tamis::corpus::{Document, Edge, SignalValue, Signals};
use tamis::engine;
use tamis::scorer::{Losses, Masking, Model, Record, Scorer, Settings, Stop, Stratum, Table};

/// The demo's texts, but for the shortest.
fn texts() -> Vec<String> {
    let sample = std::fs::read(broker::root().join("pipelines/demo/sample.jsonl")).unwrap();
    let sample = String::from_utf8_lossy(&sample);
    let texts =
        sample.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["text"].as_str().map(str::to_owned));
    texts.filter(|text| text.len() > 40).collect()
}

/// Documents of about a hundred tokens: the demo's texts, a few to each, some of them German by their tag.
fn documents(dir: &Path) -> String {
    let texts = texts();
    let lines: Vec<String> = texts
        .chunks(3)
        .take(14)
        .enumerate()
        .map(|(at, texts)| {
            let language = if at % 4 == 0 { "de" } else { "en" };
            serde_json::json!({"id": at.to_string(), "text": texts.join("\n"), "language": language}).to_string()
        })
        .chain([serde_json::json!({"id": "empty", "text": ""}).to_string()])
        .collect();
    let path = dir.join("documents.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

fn pipeline(dir: &Path) -> String {
    let text = format!(
        r#"
[models.default]
path = "{}"
threads = 1
[signals.pll]
kind = "pll"
clip_nats = 12
window_tokens = 32
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 6.0
review_above = 3.0
by_language = {{ de = {{ max = 2.5, review_above = 2.0 }} }}
[[rules]]
name = "plain"
signal = "pll.bpb"
max = 4.0
min = 0.2
[cache]
enabled = false
path = "{}"
"#,
        broker::root().join("models/tamis-en").display(),
        dir.join("cache").display()
    );
    let path = dir.join("pipeline.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn score(pipeline: &str, input: &str, sets: &[&str]) -> BTreeMap<String, Value> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let output = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .args(["score", pipeline, "--input", input])
        .args(sets)
        .current_dir(broker::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
}

/// What a verdict says, but for the numbers: the decision, and each reason's rule and bound.
fn said(line: &Value) -> Value {
    let reasons = line["reasons"].as_array().unwrap().iter().map(|reason| {
        let mut reason = reason.clone();
        reason.as_object_mut().unwrap().remove("value");
        reason
    });
    serde_json::json!([line["verdict"], line["status"], reasons.collect::<Vec<_>>()])
}

#[test]
fn certified_verdicts_are_those_of_the_full_score_and_estimates_say_that_they_are() {
    let dir = broker::folder("certified");
    let (file, input) = (pipeline(&dir), documents(&dir));
    let full = score(&file, &input, &[]);
    let early = score(&file, &input, &["signals.pll.stop=certified", "signals.pll.stop_key=a secret"]);
    assert_eq!(full.len(), 15);
    let mut stopped = 0;
    for (id, line) in &early {
        assert_eq!(said(line), said(&full[id]), "{id}");
        assert_eq!((&line["policy"], &line["scorer"]), (&full[id]["policy"], &full[id]["scorer"]));
        let (signals, exact) = (&line["signals"], &full[id]["signals"]);
        assert_eq!(signals["pll.tokens"], exact["pll.tokens"]);
        let estimated: Vec<&str> =
            line["estimated"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if estimated.is_empty() {
            assert!(line.get("estimated").is_none());
            assert_eq!(signals["pll.revealed"], signals["pll.tokens"]);
            let close = |name: &str| match (signals[name].as_f64(), exact[name].as_f64()) {
                (Some(one), Some(two)) => (one - two).abs() < 1e-4,
                (one, two) => one == two,
            };
            assert!(close("pll.nll_token") && close("pll.worst_decile") && close("pll.bpb"), "{signals} {exact}");
        } else {
            stopped += 1;
            assert_eq!(estimated, ["pll.bpb", "pll.nll_token", "pll.nll_word", "pll.pppl"]);
            assert!(signals["pll.revealed"].as_u64() < signals["pll.tokens"].as_u64());
            assert!(signals.get("pll.worst_decile").is_none(), "{signals}");
        }
    }
    assert!(stopped >= 4, "{stopped} of 14 stopped early");
}

async fn model() -> Arc<Model> {
    let path = broker::root().join("models/tamis-en");
    let settings =
        engine::Settings { path, device: engine::Device::Cpu.into(), threads: 1, ..engine::Settings::default() };
    Arc::new(Model::load("default", &settings, engine::Needs::default()).await.unwrap())
}

fn number(signals: &Signals, name: &str) -> f64 {
    signals.get(name).and_then(SignalValue::as_number).unwrap()
}

const TEXT: &str = "The committee met on Tuesday to discuss the annual budget, and agreed that the road along the river would be closed \
    for the winter. In the morning the children walked to school in the rain, because the bus had not come. The old house behind the church \
    was sold to a family from the north, who painted its doors green and planted apple trees in front of it.";

#[tokio::test]
async fn what_was_revealed_for_one_threshold_is_gone_on_from_for_another() {
    let settings = Settings { stop: Stop::Certified, clip_nats: Some(12.0), window_tokens: 32, ..Settings::default() };
    let build =
        |model: &Arc<Model>, cache: &Cache| Scorer::build("s", &settings, Arc::clone(model), cache.clone()).unwrap();
    let document = Document { id: None, text: TEXT.to_owned(), language: None, source: None };
    let edges = |at: f64| vec![Edge { signal: "s.nll_token".into(), at }];
    let (first, cache) = (model().await, Cache::memory(1000));
    let exact = build(&first, &Cache::disabled()).score(&document).await.unwrap();
    let mean = number(&exact, "s.nll_token");

    let scorer = build(&first, &cache);
    let near = scorer.score_until(&document, &edges(mean * 0.55)).await.unwrap();
    assert!(near.is_estimate("s.nll_token") && !near.is_estimate("s.tokens"), "{near:?}");
    assert!(number(&near, "s.nll_token") > mean * 0.55 && number(&near, "s.revealed") < number(&near, "s.tokens"));
    // Where the device is gone only the cache can answer: it does, for this threshold and for a laxer one, and not for a stricter one.
    first.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(scorer.score_until(&document, &edges(mean * 0.55)).await.unwrap(), near);
    let lax = scorer.score_until(&document, &edges(mean * 0.3)).await.unwrap();
    assert!(lax.is_estimate("s.nll_token") && number(&lax, "s.revealed") <= number(&near, "s.revealed"));
    assert!(scorer.score_until(&document, &edges(mean * 0.999)).await.is_err());

    // Another process goes on to the end, where the score is the exact one; then even the full score costs no pass.
    let second = model().await;
    let scorer = build(&second, &cache);
    let whole = scorer.score_until(&document, &edges(mean)).await.unwrap();
    assert_eq!(whole.estimates().count(), 0);
    assert!((number(&whole, "s.nll_token") - mean).abs() < 1e-4);
    assert_eq!(number(&whole, "s.revealed"), number(&whole, "s.tokens"));
    second.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(scorer.score(&document).await.unwrap(), whole, "bit for bit");
    assert_eq!(
        scorer.score_until(&document, &edges(mean * 0.3)).await.unwrap(),
        whole,
        "what is known is not estimated"
    );
    assert_eq!(scorer.score_until(&document, &[]).await.unwrap(), whole, "without an edge there is nothing to decide");
}

/// What an early score leaves in the cache of a window of which these losses are known.
fn revealed(losses: &[Option<f64>]) -> Vec<u8> {
    let mut known = vec![0_u8; losses.len().div_ceil(8)];
    let ranks = losses.iter().enumerate().filter(|(_, loss)| loss.is_some()).map(|(rank, _)| rank);
    ranks.for_each(|rank| known[rank / 8] |= 1 << (rank % 8));
    let count = u32::try_from(losses.len()).unwrap().to_le_bytes();
    let logprobs = losses.iter().flatten().flat_map(|loss| (-loss).to_le_bytes());
    [3].into_iter().chain(count).chain(known).chain(logprobs).collect()
}

#[tokio::test]
async fn a_full_score_runs_only_the_passes_that_an_early_one_left() {
    let strided = Settings { masking: Masking::Strided, stride: Some(4), window_tokens: 32, ..Settings::default() };
    for settings in [Settings { window_tokens: 32, ..Settings::default() }, strided] {
        let (model, cache) = (model().await, Cache::memory(1000));
        let build = |cache: &Cache| Scorer::build("s", &settings, Arc::clone(&model), cache.clone()).unwrap();
        let document = Document { id: None, text: TEXT.to_owned(), language: None, source: None };
        let losses = build(&cache).surprisals(TEXT).await.unwrap();
        let exact = build(&Cache::disabled()).score(&document).await.unwrap();
        // Of every window the tokens 1 and 5 are known, which stride 4 masks with others, and 2, 6, 10 and so on, which are a pass of it. No model says
        // 100 nats of a token: that tells what was taken from the cache.
        let known = |rank: usize| (rank == 1 || rank == 5 || rank % 4 == 2).then_some(100.0);
        let (keys, mut entries, mut expected) = (build(&cache).keys(TEXT).await.unwrap(), Vec::new(), 0.0);
        for (key, tokens) in keys.into_iter().zip(losses.chunk_by(|one, two| one.window == two.window)) {
            let losses: Vec<Option<f64>> = (0..tokens.len()).map(known).collect();
            entries.push((key, revealed(&losses)));
            let taken = |rank: usize| losses[rank].filter(|_| settings.stride.is_none() || rank % 4 == 2);
            expected += tokens.iter().enumerate().map(|(rank, token)| taken(rank).unwrap_or(token.nll)).sum::<f64>();
        }
        cache.put_many(entries).await;
        let found = build(&cache).score(&document).await.unwrap();
        let (mean, tokens) = (number(&found, "s.nll_token"), number(&found, "s.tokens"));
        assert!((mean - expected / tokens).abs() < 1e-4, "{mean} is not {}", expected / tokens);
        assert!(mean > number(&exact, "s.nll_token") + 20.0);
        // The windows are known whole from now on: sums, whose layout is 2.
        let kept = cache.get_many(&build(&cache).keys(TEXT).await.unwrap()).await;
        assert!(kept.len() > 1 && kept.iter().flatten().filter(|bytes| bytes[0] == 2).count() == kept.len());
    }
}

#[tokio::test]
async fn a_full_score_after_an_early_one_is_that_without_it() {
    let full = Settings { clip_nats: Some(12.0), window_tokens: 32, ..Settings::default() };
    let early = Settings { stop: Stop::Certified, ..full.clone() };
    let (model, cache) = (model().await, Cache::memory(1000));
    let build = |settings, cache: &Cache| Scorer::build("s", settings, Arc::clone(&model), cache.clone()).unwrap();
    let document = Document { id: None, text: TEXT.to_owned(), language: None, source: None };
    let exact = build(&full, &Cache::disabled()).score(&document).await.unwrap();
    let mean = number(&exact, "s.nll_token");
    let edges = [Edge { signal: "s.nll_token".into(), at: mean * 0.55 }];
    assert!(build(&early, &cache).score_until(&document, &edges).await.unwrap().estimates().count() > 0);
    let after = build(&full, &cache).score(&document).await.unwrap();
    assert_eq!(after.estimates().count(), 0);
    for name in ["s.nll_token", "s.nll_word", "s.bpb", "s.worst_decile", "s.tokens"] {
        assert!((number(&after, name) - number(&exact, name)).abs() < 1e-4, "{name}");
    }
}

/// Orders that each population is tried in, and the most errors that a rate of `DELTA` explains: four standard deviations above its mean.
const ORDERS: u32 = 500;
const DELTA: f64 = 0.05;
const ALLOWED: u32 = 45;

/// How many of the orders make the score tell the wrong side of an edge that is `off` nats from the sum of `losses`, which stand for those of TEXT's tokens.
/// They lie in the cache: what is tried is all of the score but the device.
async fn errors(model: &Arc<Model>, settings: &Settings, losses: &[f64], off: f64) -> u32 {
    let cache = Cache::memory(100);
    let build = |key: u32| {
        let settings = Settings { stop_key: Some(key.to_string()), ..settings.clone() };
        Scorer::build("s", &settings, Arc::clone(model), cache.clone()).unwrap()
    };
    let windows = build(0).surprisals(TEXT).await.unwrap();
    let (keys, mut from) = (build(0).keys(TEXT).await.unwrap(), 0);
    let windows = windows.chunk_by(|one, two| one.window == two.window).map(|window| {
        from += window.len();
        revealed(&losses[from - window.len()..from].iter().copied().map(Some).collect::<Vec<_>>())
    });
    let entries: Vec<_> = keys.into_iter().zip(windows).collect();
    assert!(entries.len() > 1);
    let (sum, tokens) = (losses.iter().sum::<f64>(), losses.len() as f64);
    let document = Document { id: None, text: TEXT.to_owned(), language: None, source: None };
    let edges = [Edge { signal: "s.nll_token".into(), at: (sum + off) / tokens }];
    let mut wrong = 0;
    for key in 0..ORDERS {
        // A score that came to its end leaves sums.
        cache.put_many(entries.clone()).await;
        let signals = build(key).score_until(&document, &edges).await.unwrap();
        let mean = number(&signals, "s.nll_token");
        assert!(
            signals.is_estimate("s.nll_token") || (mean * tokens - sum).abs() < 1e-9,
            "{mean} for {}",
            sum / tokens
        );
        wrong += u32::from((mean > edges[0].at) != (off < 0.0));
    }
    wrong
}

#[tokio::test]
async fn early_verdicts_of_the_certificate_are_wrong_as_seldom_as_it_says_and_those_of_a_rule_that_peeks_are_not() {
    let dir = broker::folder("errors");
    let model = model().await;
    let certified = Settings {
        stop: Stop::Certified,
        delta: Some(DELTA),
        clip_nats: Some(10.0),
        window_tokens: 32,
        ..Settings::default()
    };
    // With a pass for each token and a boundary of z standard errors, a table is what one is tempted to do instead: to look at a t statistic after each
    // few tokens. It is there so that the test can fail.
    let path = dir.join("table.json");
    let strided = Settings { masking: Masking::Strided, stride: Some(32), window_tokens: 32, ..Settings::default() };
    let plain = Scorer::build("s", &strided, Arc::clone(&model), Cache::disabled()).unwrap();
    let losses = plain.surprisals(TEXT).await.unwrap();
    let strata = vec![Stratum {
        tokens_max: Some(128),
        longest: None,
        documents: 5000,
        boundary: (2.0 * (1.0 / DELTA).ln()).sqrt(),
        flips: 0,
    }];
    let scorer = plain.identity().to_owned();
    let table = Table { version: 1, scorer, flip_rate: DELTA, confidence: 0.95, strata };
    std::fs::write(&path, serde_json::to_string(&table).unwrap()).unwrap();
    let peeking =
        Settings { stop: Stop::Calibrated, stop_table: Some(path), audit_share: Some(0.0), ..strided.clone() };

    // Whatever stands last, an order that is the text's would never see it in time.
    let tokens = losses.len();
    let last =
        |few: usize, high: f64, low: f64| (0..tokens).map(|at| if at + few < tokens { low } else { high }).collect();
    let populations: [(&str, Vec<f64>); 4] = [
        ("the model's own", losses.iter().map(|token| token.nll.clamp(0.0, 10.0)).collect()),
        ("the last tokens at the ceiling", last(8, 10.0, 0.5)),
        ("the last half above the first", last(tokens / 2, 6.0, 1.0)),
        ("the last token below all others", last(1, 0.0, 6.0)),
    ];
    let mut convicted = 0;
    for (name, losses) in &populations {
        for off in [1e-6, -1e-6, 2.0, -2.0] {
            let wrong = errors(&model, &certified, losses, off).await;
            assert!(wrong <= ALLOWED, "{name}, {off} nats off: {wrong} of {ORDERS} verdicts are wrong");
            let peeked = errors(&model, &peeking, losses, off).await;
            convicted += u32::from(peeked > ALLOWED);
            println!("{name}, {off}: {wrong} and {peeked} of {ORDERS}");
        }
    }
    assert!(convicted >= 3, "a rule that peeks was found out in {convicted} of 16 cases");
}

#[tokio::test]
async fn nothing_is_certified_of_a_model_whose_losses_depend_on_their_neighbours() {
    let path = broker::root().join("tests/fixtures/models/tiny-deep-int8");
    let settings =
        engine::Settings { path, threads: 1, head_check: engine::HeadCheck::Warn, ..engine::Settings::default() };
    let model = Arc::new(Model::load("default", &settings, engine::Needs::default()).await.unwrap());
    let build = |stop| {
        let settings = Settings { stop, window_tokens: 32, ..Settings::default() };
        Scorer::build("s", &settings, Arc::clone(&model), Cache::disabled())
    };
    assert!(build(Stop::Never).is_ok());
    let why = build(Stop::Certified).err().unwrap().to_string();
    assert!(why.starts_with("signals.s.stop: ") && why.contains("int8"), "{why}");
}

#[tokio::test]
async fn calibrated_stopping_goes_by_its_table_and_audits_to_the_end() {
    let dir = broker::folder("calibrated");
    let path = dir.join("table.json");
    let strided = Settings { masking: Masking::Strided, stride: Some(4), window_tokens: 32, ..Settings::default() };
    let stopping = |audit_share| Settings {
        stop: Stop::Calibrated,
        stop_table: Some(path.clone()),
        audit_share: Some(audit_share),
        ..strided.clone()
    };
    let model = model().await;
    let build = |settings: &Settings| Scorer::build("s", settings, Arc::clone(&model), Cache::disabled());
    let plain = build(&strided).unwrap();
    let wrong = |settings: &Settings| build(settings).err().unwrap().to_string();
    assert!(wrong(&stopping(0.0)).starts_with("signals.s.stop_table: "), "{}", wrong(&stopping(0.0)));
    let table = |scorer: &str, tokens_max| {
        let strata = vec![Stratum { tokens_max, longest: None, documents: 5000, boundary: 3.0, flips: 0 }];
        let table = Table { version: 1, scorer: scorer.to_owned(), flip_rate: 0.001, confidence: 0.95, strata };
        std::fs::write(&path, serde_json::to_string(&table).unwrap()).unwrap();
    };
    table("another", Some(128));
    assert!(wrong(&stopping(0.0)).contains("was made for the scorer another"), "{}", wrong(&stopping(0.0)));

    table(plain.identity(), Some(128));
    let document = Document { id: None, text: TEXT.to_owned(), language: None, source: None };
    let exact = plain.score(&document).await.unwrap();
    let (mean, tokens) = (number(&exact, "s.nll_token"), number(&exact, "s.tokens"));
    assert!(tokens > 64.0 && tokens <= 128.0, "{tokens}");
    let edges = |at: f64| vec![Edge { signal: "s.nll_token".into(), at }];
    let scorer = build(&stopping(0.0)).unwrap();
    for at in [mean * 0.4, mean * 1.8] {
        let early = scorer.score_until(&document, &edges(at)).await.unwrap();
        assert!(early.is_estimate("s.nll_token") && number(&early, "s.revealed") < tokens, "{early:?}");
        assert_eq!(number(&early, "s.nll_token") > at, mean > at);
    }
    // Too near, audited, or of a length that the table does not know: the full score.
    let near = scorer.score_until(&document, &edges(mean * 1.001)).await.unwrap();
    let audited = build(&stopping(1.0)).unwrap().score_until(&document, &edges(mean * 0.4)).await.unwrap();
    table(plain.identity(), Some(32));
    let unknown = build(&stopping(0.0)).unwrap().score_until(&document, &edges(mean * 0.4)).await.unwrap();
    // Nor is a table tried on documents of which windows are known.
    table(plain.identity(), Some(128));
    let cache = Cache::memory(1000);
    let cached = Scorer::build("s", &stopping(0.0), Arc::clone(&model), cache).unwrap();
    let first = Document { text: TEXT[..TEXT.len() / 2].to_owned(), ..document.clone() };
    cached.score(&first).await.unwrap();
    let in_part = cached.score_until(&document, &edges(mean * 0.4)).await.unwrap();
    for full in [near, audited, unknown, in_part] {
        assert_eq!((full.estimates().count(), number(&full, "s.revealed")), (0, tokens));
        assert!((number(&full, "s.nll_token") - mean).abs() < 1e-4);
    }
}

/// As `examples/losses.rs` records a whole document, and `examples/early_stopping.rs` reads it.
async fn recorded(scorer: &Scorer, text: &str, stride: usize) -> Record {
    let tokens = scorer.surprisals(text).await.unwrap();
    let windows = tokens.chunk_by(|one, two| one.window == two.window).map(|tokens| Losses {
        ids: tokens.iter().map(|token| token.id).collect(),
        nll: tokens.iter().map(|token| token.nll).collect(),
    });
    Record::drawn(&windows.collect::<Vec<_>>(), stride)
}

#[tokio::test]
async fn a_table_from_whole_documents_stops_those_of_several_windows_where_its_trial_does() {
    let dir = broker::folder("whole");
    let (model, texts) = (model().await, texts());
    let strided = Settings { masking: Masking::Strided, stride: Some(4), window_tokens: 32, ..Settings::default() };
    let plain = Scorer::build("s", &strided, Arc::clone(&model), Cache::disabled()).unwrap();
    let mut records = Vec::new();
    for text in texts.iter().filter(|text| (150..600).contains(&text.len())).take(90) {
        records.push((text, recorded(&plain, text, 4).await));
    }
    // Of more than two windows; what is longer than any of those is in no stratum.
    let (served, longer): (Vec<_>, Vec<_>) =
        records.into_iter().filter(|(_, record)| record.tokens() > 64).partition(|(_, record)| record.tokens() <= 120);
    let known: Vec<Record> = served.iter().map(|(_, record)| record.clone()).collect();
    let table = Table::calibrate(plain.identity(), &known, 0.2, 0.95);
    let longest = known.iter().map(Record::tokens).max();
    assert_eq!(
        table.strata.iter().map(|made| (made.tokens_max, made.longest)).collect::<Vec<_>>(),
        [(Some(128), longest)]
    );
    let path = dir.join("table.json");
    std::fs::write(&path, serde_json::to_string(&table).unwrap()).unwrap();
    assert!(served.len() >= 20 && longer.len() >= 5, "{} and {}", served.len(), longer.len());

    let lines = served
        .iter()
        .chain(&longer)
        .enumerate()
        .map(|(at, (text, _))| serde_json::json!({"id": at.to_string(), "text": text}));
    let input = dir.join("whole.jsonl");
    std::fs::write(&input, lines.map(|line| line.to_string() + "\n").collect::<String>()).unwrap();
    let mut means: Vec<f64> = known.iter().map(Record::mean).collect();
    means.sort_by(f64::total_cmp);
    let (mut early, mut in_full) = (0, 0);
    for threshold in [means[means.len() / 4], means[means.len() * 9 / 10]].map(|mean| mean + 1e-3) {
        let lines = score(&calibrated(&dir, &path, threshold), input.to_str().unwrap(), &[]);
        for (at, (text, record)) in served.iter().chain(&longer).enumerate() {
            let (line, trial) = (
                &lines[&at.to_string()],
                table.boundary(record.tokens()).map(|(_, boundary)| record.trial(threshold, boundary)),
            );
            let (revealed, flipped) = trial.map_or((record.tokens(), false), |trial| (trial.revealed, trial.flipped));
            assert_eq!(line["signals"]["pll.revealed"], revealed, "{text}");
            assert_eq!(line.get("estimated").is_some(), revealed < record.tokens(), "{line}");
            assert_eq!(line["verdict"] == "fail", (record.mean() > threshold) != flipped, "{line}");
            assert!(line["signals"]["pll.windows"].as_u64().unwrap() > 2);
            let count = if revealed < record.tokens() { &mut early } else { &mut in_full };
            *count += 1;
        }
    }
    assert!(early >= 10 && in_full > 2 * longer.len(), "{early} ended early, {in_full} were scored in full");
}

/// A pipeline of one rule, whose score ends by the table at `path`.
fn calibrated(dir: &Path, path: &Path, threshold: f64) -> String {
    let text = format!(
        r#"
[models.default]
path = "{}"
device = "cpu"
threads = 1
[signals.pll]
kind = "pll"
masking = "strided"
stride = 4
window_tokens = 32
stop = "calibrated"
stop_table = "{}"
audit_share = 0.0
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = {threshold}
[cache]
enabled = false
"#,
        broker::root().join("models/tamis-en").display(),
        path.display()
    );
    let path = dir.join("calibrated.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn what_a_score_costs_is_learned_from_what_it_took() {
    let model = model().await;
    let build = |masking, stride| {
        let settings = Settings { masking, stride, window_tokens: 16, ..Settings::default() };
        Scorer::build("s", &settings, Arc::clone(&model), Cache::disabled()).unwrap()
    };
    let (exact, strided) = (build(Masking::Single, None), build(Masking::Strided, Some(4)));
    assert!(exact.cost_seconds() > 3.9 * strided.cost_seconds());
    for _ in 0..32 {
        let document = |text: &str| Document { id: None, text: text.to_owned(), language: None, source: None };
        exact.score(&document("yes")).await.unwrap();
        strided.score(&document(&TEXT[..120])).await.unwrap();
    }
    // The exact score of a word is cheaper than the strided one of a sentence.
    assert!(exact.cost_seconds() * 2.0 < strided.cost_seconds());
}
