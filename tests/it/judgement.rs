//! Owns what rules and routes do on a genuine broker: annotating, deciding early, overrides, review without a topic, missing numbers.

use crate::broker;
use crate::kafka_road::{header, hex};
use crate::referee::Referee;
use crate::worker::Worker;
use serde_json::{Value, json};
use std::path::PathBuf;
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
    file: &PathBuf,
    more: &[&str],
    topics: &[&str],
    wanted: usize,
) -> (Vec<Value>, String, f64) {
    let mut worker = Worker::run("judge", file, more);
    worker.wait_ready();
    let warmed = worker.metric("tamis_device_rows_total");
    let records = wait_for(referee, topics, wanted, &worker);
    let rows = worker.metric("tamis_device_rows_total") - warmed;
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
    let (out, metrics, rows) = outcome(&mut referee, &file, &[], &["annotate.scored", "annotate.dead"], 5);
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
    assert!(rows > 0.0);

    // Another opinion later, with a place of their own for dead letters: another policy, the same signals, no forward pass.
    let more = [
        "--set",
        "source.kafka.group=annotate-2",
        "--set",
        "rules.fluent.max=1.0",
        "--set",
        "routes.dead_letter=annotate.dead",
    ];
    let (out, _, rows) = outcome(&mut referee, &file, &more, &["annotate.scored", "annotate.dead"], 10);
    assert_eq!((out.len(), rows), (10, 0.0));
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
