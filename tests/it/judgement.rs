//! Owns what rules and routes do on a genuine broker: annotating, deciding early, overrides, review without a topic, missing numbers.

use crate::broker;
use crate::kafka_road::{header, hex};
use crate::referee::Referee;
use crate::worker::Worker;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Writes a pipeline file that reads `<name>.raw` with the bundled model; signals, rules and routes are the test's.
fn pipeline(name: &str, rest: &str) -> PathBuf {
    let dir = broker::folder(name);
    let path = dir.join("pipeline.toml");
    let text = format!(
        r#"name = "{name}"
[source.kafka]
brokers = "{brokers}"
topics = ["{name}.raw"]
group = "{name}"
[models.default]
path = "{model}"
threads = 1
head_check = "warn"
[cache]
path = "{cache}"
[admin]
listen = "127.0.0.1:0"
{rest}
"#,
        brokers = broker::bootstrap(),
        model = broker::root().join("models/tamis-en").display(),
        cache = dir.join("cache").display(),
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn document(id: &str, text: &str, more: Value) -> Value {
    let mut value = json!({"id": id, "text": text});
    value.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({"value": hex(value.to_string().as_bytes()), "key": hex(id.as_bytes()), "partition": 0})
}

/// All records of `topics`, once there are `wanted`.
fn wait_for(referee: &mut Referee, topics: &[&str], wanted: usize, worker: &Worker) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let records = referee.ask("dump", json!({ "topics": topics }))["records"].as_array().unwrap().clone();
        if records.len() >= wanted {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} records:\n{}", records.len(), worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// Starts a worker, takes `wanted` records from `topics`, and drains it. What the device did for them (not for the warming) comes with them.
fn outcome(
    referee: &mut Referee,
    file: &Path,
    more: &[&str],
    topics: &[&str],
    wanted: usize,
) -> (Vec<Value>, String, f64) {
    let mut worker = Worker::run("judge", file, more);
    worker.wait_ready();
    let records = wait_for(referee, topics, wanted, &worker);
    // Those of the head's check at the start are among them, the same number each time.
    let rows = worker.metric("tamis_device_rows_total");
    let (_, metrics) = worker.get("/metrics").unwrap();
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    (records, metrics, rows)
}

fn key(record: &Value) -> String {
    let text = record["key"].as_str().unwrap_or_default().to_owned();
    (0..text.len()).step_by(2).map(|at| char::from(u8::from_str_radix(&text[at..at + 2], 16).unwrap())).collect()
}

fn of<'a>(records: &'a [Value], id: &str) -> &'a Value {
    let found: Vec<&Value> = records.iter().filter(|record| key(record) == id).collect();
    assert_eq!(found.len(), 1, "{id} must be there once: {found:#?}");
    found[0]
}

fn json_header(record: &Value, name: &str) -> Value {
    serde_json::from_str(&header(record, name).unwrap_or_else(|| panic!("no {name}: {record}"))).unwrap()
}

fn verdict(record: &Value) -> String {
    header(record, "tamis-verdict").unwrap()
}

const GOOD: &str = "The committee met on Tuesday to discuss the annual budget.";
const BAD: &str = "xq zzv kkj wpt qqo lld vvk";

#[test]
fn annotating_publishes_every_record_once_on_one_topic_with_its_verdict() {
    let mut referee = Referee::start();
    referee.create(&["annotate.raw", "annotate.scored", "annotate.dead"], 1);
    let records = json!([
        document("good", GOOD, json!({})),
        document("bad", BAD, json!({})),
        document("empty", "", json!({})),
        {"value": null, "key": hex(b"gone"), "partition": 0},
        {"value": hex(b"{not json"), "key": hex(b"broken"), "partition": 0},
    ]);
    referee.ask("put", json!({"topic": "annotate.raw", "records": records}));
    let file = pipeline(
        "annotate",
        r#"
[signals.pll]
kind = "pll"
masking = "strided"
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 7.0
[routes]
annotate = "annotate.scored"
"#,
    );
    let (out, metrics, scoring) = outcome(&mut referee, &file, &[], &["annotate.scored", "annotate.dead"], 5);
    assert_eq!(out.len(), 5, "{out:#?}");
    assert!(out.iter().all(|record| record["topic"] == "annotate.scored"), "{out:#?}");
    let verdicts = ["good", "bad", "empty", "gone", "broken"].map(|id| verdict(of(&out, id)));
    assert_eq!(verdicts, ["pass", "fail", "fail", "tombstone", "dead-letter"]);
    assert!(json_header(of(&out, "good"), "tamis-signals")["pll.nll_token"].as_f64().is_some());
    assert_eq!(json_header(of(&out, "bad"), "tamis-reasons")[0]["rule"], "fluent");
    assert_eq!(json_header(of(&out, "broken"), "tamis-error")["class"], "bad-json");
    assert!(of(&out, "gone")["value"].is_null());
    // The labels tell verdicts, although all went one way.
    for line in [r#"{route="pass"} 1"#, r#"{route="fail"} 2"#, r#"{route="dead-letter"} 1"#] {
        assert!(metrics.contains(&format!("tamis_documents_total{line}")), "{line}\n{metrics}");
    }

    // Another opinion later, with a place of their own for dead letters: another policy, the same signals, no forward pass.
    let more = [
        "--set",
        "source.kafka.group=annotate-2",
        "--set",
        "rules.fluent.max=1.0",
        "--set",
        "routes.dead_letter=annotate.dead",
    ];
    let (out, metrics, checking) = outcome(&mut referee, &file, &more, &["annotate.scored", "annotate.dead"], 10);
    assert_eq!(out.len(), 10);
    assert!(scoring > checking && metrics.contains("tamis_cache_misses_total 0"), "{scoring} {checking}\n{metrics}");
    let (dead, scored): (Vec<Value>, Vec<Value>) =
        out.into_iter().partition(|record| record["topic"] == "annotate.dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(verdict(of(&dead, "broken")), "dead-letter");
    let of_good: Vec<&Value> = scored.iter().filter(|record| key(record) == "good").collect();
    assert_eq!([verdict(of_good[0]), verdict(of_good[1])], ["pass", "fail"]);
    assert_eq!(header(of_good[0], "tamis-signals"), header(of_good[1], "tamis-signals"));
    assert_ne!(header(of_good[0], "tamis-policy"), header(of_good[1], "tamis-policy"));
    assert_eq!(scored.iter().filter(|record| verdict(record) == "tombstone").count(), 2, "one for each run");
}

/// Two model signals, whose names sort against their cost, and a text rule.
const EARLY: &str = r#"
[signals.a]
kind = "pll"
window_tokens = 16
[signals.b]
kind = "pll"
masking = "strided"
[signals.text]
kind = "text"
[judge]
evaluate = "until-decided"
[[rules]]
name = "exact"
signal = "a.nll_token"
max = 6.5
[[rules]]
name = "near"
signal = "b.nll_token"
max = 6.5
review_above = 6.0
[[rules]]
name = "long-enough"
signal = "text.words"
min = 5
"#;

#[test]
fn a_document_that_a_text_rule_fails_costs_no_row_on_the_device() {
    let mut referee = Referee::start();
    referee.create(&["early.raw", "early.out"], 1);
    let records: Vec<Value> =
        (0..30).map(|n| document(&format!("short-{n}"), &format!("number {n}"), json!({}))).collect();
    referee.ask("put", json!({"topic": "early.raw", "records": records}));
    let file = pipeline("early", &format!("{EARLY}\n[routes]\nannotate = \"early.out\"\n"));
    let (out, metrics, skipping) = outcome(&mut referee, &file, &[], &["early.out"], 30);
    assert_eq!(out.len(), 30);
    assert!(metrics.contains("tamis_scores_skipped_total 60"), "{metrics}");
    let short = of(&out, "short-7");
    assert_eq!(verdict(short), "fail");
    assert_eq!(json_header(short, "tamis-reasons").as_array().unwrap().len(), 1);
    let skipped = json_header(short, "tamis-skipped");
    assert!(
        ["a.nll_token", "b.nll_token"].iter().all(|name| skipped.as_array().unwrap().contains(&json!(name))),
        "{skipped}"
    );
    // The same records again, with every rule evaluated: the same verdicts, and now the device works.
    let more = ["--set", "source.kafka.group=early-2", "--set", "judge.evaluate=all"];
    let (out, metrics, scoring) = outcome(&mut referee, &file, &more, &["early.out"], 60);
    assert!(
        scoring > skipping
            && metrics.contains("tamis_scores_skipped_total 0")
            && out.iter().all(|record| verdict(record) == "fail")
    );
    assert!(out[30..].iter().all(|record| header(record, "tamis-skipped").is_none()));
}

/// The lines of `tamis score` over a part of the demo's sample.
fn scored(file: &Path, input: &Path, evaluate: &str) -> Vec<Value> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tamis"))
        .args(["score", "--set", &format!("judge.evaluate={evaluate}"), "--set", "cache.enabled=false"])
        .arg(file)
        .arg("--input")
        .arg(input)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn deciding_early_gives_the_same_verdicts_with_fewer_reasons() {
    let dir = broker::folder("same");
    let (file, input) = (dir.join("same.toml"), dir.join("input.jsonl"));
    let model = broker::root().join("models/tamis-en");
    let cache = dir.join("cache");
    std::fs::write(
        &file,
        format!("[models.default]\npath = {model:?}\nhead_check = \"warn\"\n[cache]\npath = {cache:?}\n{EARLY}"),
    )
    .unwrap();
    let sample = std::fs::read(broker::root().join("pipelines/demo/sample.jsonl")).unwrap();
    let mut lines: Vec<&[u8]> = sample.split_inclusive(|byte| *byte == b'\n').step_by(20).collect();
    lines.push(b"{\"id\": \"short\", \"text\": \"Too short.\"}\n");
    lines.push(b"{\"id\": \"empty\", \"text\": \"\"}\n");
    std::fs::write(&input, lines.concat()).unwrap();
    let (all, early) = (scored(&file, &input, "all"), scored(&file, &input, "until-decided"));
    assert_eq!((all.len(), early.len()), (lines.len(), lines.len()));
    let (mut skips, mut kinds) = (0, std::collections::BTreeSet::new());
    for (all, early) in all.iter().zip(&early) {
        for same in ["id", "verdict", "policy", "scorer"] {
            assert_eq!(all[same], early[same], "{all}\n{early}");
        }
        assert!(all["skipped"].as_array().unwrap().is_empty());
        let (told, whole) = (early["reasons"].as_array().unwrap(), all["reasons"].as_array().unwrap());
        let near = |a: &Value, b: &Value| {
            a["rule"] == b["rule"]
                && (a["value"].as_f64().unwrap_or(0.0) - b["value"].as_f64().unwrap_or(0.0)).abs() < 1e-3
        };
        assert!(told.iter().all(|told| whole.iter().any(|reason| near(told, reason))), "{told:?} {whole:?}");
        let skipped = early["skipped"].as_array().unwrap();
        skips += usize::from(!skipped.is_empty());
        let (a, b) = (skipped.contains(&json!("a.nll_token")), skipped.contains(&json!("b.nll_token")));
        assert!(a || !b, "the cheap one is measured first: {skipped:?}");
        kinds.insert((early["verdict"].as_str().unwrap().to_owned(), a, b));
    }
    eprintln!("{skips} of {} documents skipped something: {kinds:?}", lines.len());
    // The sample holds all that this is about: decided by the text, by the cheap score, by the dear one, and not at all.
    for kind in [("fail", true, true), ("fail", true, false), ("pass", false, false)] {
        assert!(kinds.contains(&(kind.0.to_owned(), kind.1, kind.2)), "{kind:?} is not in {kinds:?}");
    }
}

const OVERRIDES: &str = r#"
[signals.pll]
kind = "pll"
masking = "strided"
[signals.text]
kind = "text"
[[rules]]
name = "length"
signal = "text.words"
min = 3
review_below = 6
review_above = 20
max = 40
by_language = { de = { review_below = 4, max = 100 } }
by_source = { books = { review_above = 50, max = 50 }, void = { min = 0, review_below = 0 } }
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 50
missing = "review"
[[rules]]
name = "letters"
signal = "text.letter_rate"
min = 0.1
missing = "pass"
[routes]
pass = "over.pass"
fail = "over.fail"
dead_letter = "over.dead"
"#;

#[test]
fn overrides_bands_and_missing_numbers_decide_the_topic() {
    // (words, language, source, verdict, the bound that decided)
    let golden = [
        (2, None, None, "fail", json!({"min": 3.0})),
        (5, None, None, "review", json!({"review_below": 6.0})),
        (5, Some("xx"), Some("elsewhere"), "review", json!({"review_below": 6.0})),
        (5, Some("de"), None, "pass", json!({})),
        (3, Some("de"), None, "review", json!({"review_below": 4.0})),
        (10, None, None, "pass", json!({})),
        (25, None, None, "review", json!({"review_above": 20.0})),
        (25, None, Some("books"), "pass", json!({})),
        (45, None, None, "fail", json!({"max": 40.0})),
        (45, Some("de"), None, "review", json!({"review_above": 20.0})),
        (45, Some("de"), Some("books"), "pass", json!({})),
        (60, Some("de"), None, "review", json!({"review_above": 20.0})),
        (60, Some("de"), Some("books"), "fail", json!({"max": 50.0})),
        (0, None, Some("void"), "review", json!({"missing": "review"})),
    ];
    let mut referee = Referee::start();
    referee.create(&["over.raw", "over.pass", "over.review", "over.fail", "over.dead"], 1);
    let records: Vec<Value> = golden
        .iter()
        .enumerate()
        .map(|(n, (words, language, source, ..))| {
            let text = vec!["word"; *words].join(" ");
            document(&n.to_string(), &text, json!({"language": language, "source": source}))
        })
        .collect();
    referee.ask("put", json!({"topic": "over.raw", "records": records}));
    let outputs = ["over.pass", "over.review", "over.fail", "over.dead"];
    let check = |out: &[Value], place: &dyn Fn(&str) -> String, skip: usize| {
        for (n, (words, language, source, expected, bound)) in golden.iter().enumerate() {
            let record = out
                .iter()
                .filter(|record| key(record) == n.to_string())
                .nth(skip)
                .unwrap_or_else(|| panic!("no {n}: {out:#?}"));
            let at = format!("{words} words, {language:?}, {source:?}");
            assert_eq!(
                (verdict(record), record["topic"].as_str().unwrap().to_owned()),
                ((*expected).to_owned(), place(expected)),
                "{at}"
            );
            let reasons = json_header(record, "tamis-reasons");
            for (name, value) in bound.as_object().unwrap() {
                assert_eq!(&reasons[0][name], value, "{at}: {reasons}");
            }
        }
    };

    let without = pipeline("over", OVERRIDES);
    let (out, ..) = outcome(&mut referee, &without, &[], &outputs, golden.len());
    // Without a topic for review, the verdict stays and the place is that of fail.
    check(&out, &|verdict| if verdict == "pass" { "over.pass".into() } else { "over.fail".into() }, 0);

    let more = ["--set", "source.kafka.group=over-2", "--set", "routes.review=over.review"];
    let (mut both, ..) = outcome(&mut referee, &without, &more, &outputs, 2 * golden.len());
    both.retain(|record| record["topic"] != "over.fail" || verdict(record) == "fail");
    both.sort_by_key(|record| record["offset"].as_u64());
    let (review, rest): (Vec<Value>, Vec<Value>) =
        both.into_iter().partition(|record| record["topic"] == "over.review");
    assert_eq!(review.len(), golden.iter().filter(|case| case.3 == "review").count());
    assert!(rest.iter().all(|record| verdict(record) != "review"));
    check(&[review, rest].concat(), &|verdict| format!("over.{verdict}"), 0);

    // A rule that passes what it can't measure; the other rules decide.
    let more = [
        "--set",
        "source.kafka.group=over-3",
        "--set",
        "routes.review=over.review",
        "--set",
        "rules.fluent.missing=pass",
    ];
    let (out, ..) = outcome(&mut referee, &without, &more, &outputs, 3 * golden.len());
    let void: Vec<&Value> = out.iter().filter(|record| key(record) == "13").collect();
    assert_eq!(void.iter().filter(|record| record["topic"] == "over.pass").count(), 1, "{void:#?}");
}
