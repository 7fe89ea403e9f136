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
use tamis::scorer::{Model, Scorer, Settings, Stop};

/// Documents of about a hundred tokens: the demo's texts, a few to each, some of them German by their tag.
fn documents(dir: &Path) -> String {
    let sample = std::fs::read(broker::root().join("pipelines/demo/sample.jsonl")).unwrap();
    let sample = String::from_utf8_lossy(&sample);
    let texts: Vec<String> = sample
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["text"].as_str().map(str::to_owned))
        .filter(|text| text.len() > 40)
        .collect();
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
    let settings = engine::Settings { path, device: engine::Device::Cpu, threads: 1, ..engine::Settings::default() };
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
