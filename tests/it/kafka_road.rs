//! Owns the contract of records on a genuine broker: bytes through, verdicts in headers, deletions, dead letters, the cache, exit codes.

use crate::broker;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The last header of this name, as text.
pub fn header(record: &Value, name: &str) -> Option<String> {
    let headers = record["headers"].as_array().unwrap();
    let last = headers.iter().rev().find(|header| header[0] == name)?;
    Some(String::from_utf8(unhex(&last[1])).unwrap())
}

fn wait_for(referee: &mut Referee, topics: &Topics, wanted: u64, worker: &Worker) -> Vec<Value> {
    let outputs = [&topics.pass, &topics.review, &topics.fail, &topics.dead];
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = referee.ask("dump", json!({ "topics": outputs }));
        let records = answer["records"].as_array().unwrap().clone();
        if records.len() as u64 >= wanted {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} records:\n{}", records.len(), worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// The one deletion stands on pass, review and fail, and nowhere else.
fn check_deletions(out: &[Value], topics: &Topics) {
    let deletions: Vec<&Value> =
        out.iter().filter(|r| header(r, "tamis-verdict").as_deref() == Some("tombstone")).collect();
    let mut places: Vec<&str> = deletions.iter().map(|record| record["topic"].as_str().unwrap()).collect();
    places.sort_unstable();
    let mut expected = [topics.pass.as_str(), &topics.review, &topics.fail];
    expected.sort_unstable();
    assert_eq!(places, expected);
    assert!(deletions.iter().all(|record| record["value"].is_null() && record["key"] == hex(b"gone")));
}

/// Each dead letter names its class, and why.
fn check_dead_letters(out: &[Value], topics: &Topics) {
    let mut classes: Vec<String> = out
        .iter()
        .filter(|record| record["topic"] == topics.dead)
        .map(|record| {
            let error: Value = serde_json::from_str(&header(record, "tamis-error").unwrap()).unwrap();
            assert!(!error["message"].as_str().unwrap().is_empty() && error["attempt"] == 1, "{error}");
            error["class"].as_str().unwrap().to_owned()
        })
        .collect();
    classes.sort_unstable();
    assert_eq!(
        classes,
        ["bad-json", "bad-utf8", "missing-text", "text-not-string", "tombstone-without-key", "too-large"]
    );
}

#[test]
fn records_pass_byte_for_byte_and_carry_their_verdict() {
    let mut referee = Referee::start();
    let topics = Topics::new("bytes");
    referee.create(&topics.all(), 2);
    let good =
        br#"{"id": "a1", "text": "The committee met on Tuesday to discuss the annual budget.", "language": "en"}"#;
    let records = json!([
        {"value": hex(good), "key": hex(b"\x00\xff key"), "partition": 1, "timestamp": 1_700_000_000_123_u64,
         "headers": [["trace", hex(b"abc")], ["trace", hex(b"")], ["none", null], ["tamis-verdict", hex(b"forged")]]},
        {"value": null, "key": hex(b"gone"), "partition": 0},
        {"value": null, "key": null, "partition": 0},
        {"value": hex(b"{not json"), "key": hex(b"bad"), "partition": 0},
        {"value": hex(b"\xff\xfe"), "partition": 0},
        {"value": hex(br#"{"id": 7}"#), "partition": 0},
        {"value": hex(br#"{"text": ["no", "string"]}"#), "partition": 0},
        {"value": hex(format!(r#"{{"text": "{}"}}"#, "long ".repeat(1_000)).as_bytes()), "key": hex(b"big"), "partition": 0},
        {"value": hex(br#"{"id": "empty", "text": ""}"#), "partition": 0},
    ]);
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    let file = pipeline("bytes", &topics, "[document]\nmax_bytes = 4096\n");
    let mut worker = Worker::run("bytes", &file, &[]);
    worker.wait_ready();
    // Eight documents, one of them a deletion that goes to pass, review and fail.
    let out = wait_for(&mut referee, &topics, 11, &worker);
    assert_eq!(out.len(), 11, "{out:#?}");

    let kept = out.iter().find(|record| record["value"] == hex(good)).expect("the good one");
    assert_eq!(kept["key"], hex(b"\x00\xff key"));
    assert_eq!(kept["timestamp"], 1_700_000_000_123_u64);
    assert_eq!(kept["partition"], 1, "the source's partition, as the counts match");
    let own = &kept["headers"].as_array().unwrap()[..4];
    assert_eq!(
        own,
        [
            json!(["trace", hex(b"abc")]),
            json!(["trace", ""]),
            json!(["none", null]),
            json!(["tamis-verdict", hex(b"forged")])
        ]
    );
    assert_ne!(header(kept, "tamis-verdict").unwrap(), "forged", "ours is appended, the last wins");
    assert_eq!(header(kept, "tamis-source").unwrap(), format!("{}/1/0", topics.input));
    let signals: Value = serde_json::from_str(&header(kept, "tamis-signals").unwrap()).unwrap();
    assert!(signals["pll.nll_token"].as_f64().unwrap() > 0.0 && signals["language"] == "en", "{signals}");
    assert!(!header(kept, "tamis-policy").unwrap().is_empty() && !header(kept, "tamis-scorer").unwrap().is_empty());

    check_deletions(&out, &topics);
    check_dead_letters(&out, &topics);
    let empty =
        out.iter().find(|record| record["value"] == hex(br#"{"id": "empty", "text": ""}"#)).expect("the empty one");
    assert_eq!(empty["topic"], topics.fail, "an unscorable document fails by default");
    let reasons: Value = serde_json::from_str(&header(empty, "tamis-reasons").unwrap()).unwrap();
    assert_eq!(reasons[0]["missing"], "fail", "{reasons}");
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

#[test]
fn a_second_pass_and_a_changed_threshold_run_no_forward_pass() {
    let mut referee = Referee::start();
    let topics = Topics::new("cached");
    referee.create(&topics.all(), 4);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": 400, "partitions": 4, "seed": 5}));
    let file = pipeline("cached", &topics, "");
    let mut rows = Vec::new();
    for (pass, more) in [
        &[][..],
        &["--set", "source.kafka.group=cached-again"],
        &["--set", "source.kafka.group=cached-third", "--set", "rules.fluent.max=6.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let mut worker = Worker::run("cached", &file, more);
        worker.wait_ready();
        wait_for(&mut referee, &topics, 400 * (pass as u64 + 1), &worker);
        // Those of the head's check at the start are among them, the same number each time.
        rows.push(worker.metric("tamis_device_rows_total"));
        if pass > 0 {
            assert!(worker.metric("tamis_cache_hits_total") > 0.0);
            let misses = worker.metric("tamis_cache_misses_total");
            assert!(misses == 0.0, "{misses} misses, {} rows\n{}", rows[pass], worker.log());
        }
        worker.signal("-TERM");
        assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    }
    eprintln!(
        "rows through the device: first pass {}, second pass {}, changed threshold {}",
        rows[0], rows[1], rows[2]
    );
    assert!(rows[0] > rows[1] && rows[1] == rows[2], "{rows:?}");
}

#[test]
fn readiness_follows_the_assignment() {
    let mut referee = Referee::start();
    let topics = Topics::new("ready");
    referee.create(&topics.all(), 1);
    let file = pipeline("ready", &topics, "");
    let mut worker = Worker::run("ready", &file, &[]);
    assert_eq!(worker.get("/livez").map(|(status, _)| status), Some(200));
    worker.wait_ready();
    assert_eq!(worker.partitions(), ["0"]);
    let (status, body) = worker.get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(body.contains("# TYPE tamis_documents_total counter"), "{body}");
    worker.signal("-INT");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

fn exit(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .args(args)
        .current_dir(broker::root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_unavailable_exits_69_and_says_what_to_do() {
    let mut referee = Referee::start();
    let topics = Topics::new("exits");
    referee.create(&[topics.input.as_str()], 1);
    let file = pipeline("exits", &topics, "");
    let file = file.to_str().unwrap();
    let (code, said) = exit(&["run", file]);
    assert!(code == Some(69) && said.contains("exits.dead") && said.contains("create it"), "{code:?} {said}");
    let (code, said) = exit(&["run", file, "--set", "models.default.path=models/none"]);
    assert!(code == Some(69) && said.contains("models/none"), "{code:?} {said}");
    let (code, said) = exit(&["run", file, "--set", "models.default.device=cuda:7"]);
    assert!(code == Some(69) && said.contains("cuda"), "{code:?} {said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("admin.listen={}", taken.local_addr().unwrap());
    let (code, said) = exit(&["run", file, "--set", &listen]);
    assert!(code == Some(69) && said.contains("admin.listen"), "{code:?} {said}");
    let (code, said) = exit(&["run", file, "--set", "signals.pll.window_tokens=0"]);
    assert!(code == Some(64) && said.contains("window_tokens"), "{code:?} {said}");
    let (code, said) = exit(&["run", "no/such/file.toml"]);
    assert!(code == Some(64) && said.contains("no/such/file.toml"), "{code:?} {said}");
}

/// Text that no codec makes smaller.
fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(letters[usize::try_from(state >> 33).unwrap() % letters.len()])
        })
        .collect()
}

#[test]
fn an_output_too_large_for_its_topic_is_buried_alone_and_its_neighbours_pass() {
    let mut referee = Referee::start();
    let topics = Topics::new("large");
    referee.create(&[topics.input.as_str(), topics.dead.as_str()], 1);
    let small: Vec<Value> = [&topics.pass, &topics.review, &topics.fail]
        .iter()
        .map(|name| json!({"name": name, "partitions": 1, "config": {"max.message.bytes": "3000"}}))
        .collect();
    referee.ask("create", json!({ "topics": small }));
    let guilty = [7, 30, 31, 47];
    let records: Vec<Value> = (0..60)
        .map(|n| {
            let text = if guilty.contains(&n) {
                noise(6_000)
            } else {
                format!("the committee met on tuesday, number {n} {}", noise(20))
            };
            json!({"value": hex(json!({"id": n.to_string(), "text": text}).to_string().as_bytes()), "partition": 0})
        })
        .collect();
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    // All of them in one step, and so in one request, which the topics don't take even without the one that is too large.
    let file = pipeline("large", &topics, "[delivery]\ncommit_interval_ms = 8000\n");
    let mut worker = Worker::run("large", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 60, &worker);
    let dead: Vec<&Value> = out.iter().filter(|record| record["topic"] == topics.dead).collect();
    assert_eq!((out.len(), dead.len()), (60, guilty.len()), "{}", worker.log());
    for (dead, n) in dead.iter().zip(guilty) {
        let error: Value = serde_json::from_str(&header(dead, "tamis-error").unwrap()).unwrap();
        assert!(error["class"] == "output-too-large" && error["stage"] == "deliver", "{error}");
        assert_eq!(header(dead, "tamis-source").unwrap(), format!("{}/0/{n}", topics.input));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    check_order(&mut referee, &topics);
}

/// The topic would take a batch of its size, but none of its segments would hold it. The worker once tried for minutes, ended, and began again.
#[test]
fn an_output_larger_than_its_topic_s_segments_is_buried() {
    let mut referee = Referee::start();
    let topics = Topics::new("segments");
    let is_output = |name: &str| name != topics.input && name != topics.dead;
    let made = topics.all().map(|name| {
        let segment = if is_output(name) { "1048576" } else { "104857600" };
        json!({"name": name, "partitions": 1, "config": {"max.message.bytes": "10485760", "segment.bytes": segment}})
    });
    referee.ask("create", json!({ "topics": made }));
    let records: Vec<Value> = (0..5)
        .map(|n| {
            let rest = if n == 2 { noise(2 << 20) } else { noise(20) };
            let text = "The committee met on Tuesday to discuss the annual budget.";
            json!({"value": hex(json!({"id": n.to_string(), "text": text, "rest": rest}).to_string().as_bytes())})
        })
        .collect();
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    let file = pipeline("segments", &topics, "[delivery]\ncommit_interval_ms = 3000\n");
    let mut worker = Worker::run("segments", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 5, &worker);
    let dead: Vec<&Value> = out.iter().filter(|record| record["topic"] == topics.dead).collect();
    assert_eq!((out.len(), dead.len()), (5, 1), "{}", worker.log());
    let error: Value = serde_json::from_str(&header(dead[0], "tamis-error").unwrap()).unwrap();
    assert!(error["class"] == "output-too-large" && error["stage"] == "deliver", "{error}");
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    check_order(&mut referee, &topics);
}

/// Nothing is lost, repeated or out of order.
fn check_order(referee: &mut Referee, topics: &Topics) {
    let verdict = referee.ask("verify", json!({"input": topics.input, "outputs": topics.outputs()}));
    assert!(verdict["lost"] == 0 && verdict["problems"] == 0, "{verdict}");
}

#[test]
fn records_that_a_compacted_topic_refuses_are_buried_and_thousands_of_neighbours_pass() {
    const RECORDS: usize = 4_000;
    let mut referee = Referee::start();
    let topics = Topics::new("compacted");
    referee.create(&[topics.input.as_str(), topics.dead.as_str()], 1);
    let compacted: Vec<Value> = [&topics.pass, &topics.review, &topics.fail]
        .iter()
        .map(|name| json!({"name": name, "partitions": 1, "config": {"cleanup.policy": "compact"}}))
        .collect();
    referee.ask("create", json!({ "topics": compacted }));
    let text = "The committee met on Tuesday to discuss the annual budget.";
    let guilty = [7, 2_600, 2_601, RECORDS - 1];
    let records: Vec<Value> = (0..RECORDS)
        .map(|n| {
            let value = hex(json!({"id": n.to_string(), "text": text}).to_string().as_bytes());
            let key = (!guilty.contains(&n)).then(|| hex(format!("k{n}").as_bytes()));
            json!({"value": value, "key": key, "partition": 0})
        })
        .collect();
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    // Nearly all of them in one step. Delivered one by one, they would not fit into half of transaction.timeout.ms.
    let file = pipeline("compacted", &topics, "[delivery]\ncommit_interval_ms = 10000\n");
    let mut worker = Worker::run("compacted", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, RECORDS as u64, &worker);
    let dead: Vec<&Value> = out.iter().filter(|record| record["topic"] == topics.dead).collect();
    assert_eq!((out.len(), dead.len()), (RECORDS, guilty.len()), "{}", worker.log());
    for (dead, n) in dead.iter().zip(guilty) {
        let error: Value = serde_json::from_str(&header(dead, "tamis-error").unwrap()).unwrap();
        assert!(error["class"] == "output-refused" && error["stage"] == "deliver", "{error}");
        assert_eq!(header(dead, "tamis-source").unwrap(), format!("{}/0/{n}", topics.input));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

#[test]
fn a_batch_too_large_once_decompressed_ends_the_worker_by_name_and_passes_under_a_larger_bound() {
    let mut referee = Referee::start();
    let topics = Topics::new("packed");
    referee.create(&topics.all(), 1);
    let good = json!({"value": hex(br#"{"text": "The committee met on Tuesday."}"#), "key": hex(b"k")});
    for record in [&good, &json!({"fill": 12_000_000, "key": hex(b"packed")}), &good] {
        let zstd = json!({"compression.type": "zstd"});
        referee.ask("put", json!({"topic": topics.input, "records": [record], "config": zstd}));
    }
    let file = pipeline("packed", &topics, "[delivery]\ncommit_interval_ms = 50\n");
    let bound = "source.kafka.properties={\"receive.message.max.bytes\"=\"9000000\"}";
    let mut worker = Worker::run("bound", &file, &["--set", bound]);
    assert_eq!(worker.wait(90).code(), Some(69), "{}", worker.log());
    let place = format!("{}/0/1: it is damaged", topics.input);
    assert!(worker.log().contains(&place) && worker.log().contains("receive.message.max.bytes"), "{}", worker.log());
    let mut worker = Worker::run("packed", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 3, &worker);
    let dead: Vec<&Value> = out.iter().filter(|record| record["topic"] == topics.dead).collect();
    let error: Value = serde_json::from_str(&header(dead[0], "tamis-error").unwrap()).unwrap();
    assert_eq!((out.len(), dead.len(), &error["class"]), (3, 1, &json!("too-large")));
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

#[test]
fn at_least_once_loses_nothing_when_killed() {
    let mut referee = Referee::start();
    let topics = Topics::new("alo");
    referee.create(&topics.all(), 4);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": 2_000, "partitions": 4, "seed": 9}));
    let more = "[delivery]\nguarantee = \"at-least-once\"\ncommit_interval_ms = 50\nmax_documents = 400\n";
    let file = pipeline("alo", &topics, more);
    for kill_at in [200, 700] {
        let mut worker = Worker::run("killed", &file, &[]);
        worker.wait_ready();
        wait_for(&mut referee, &topics, kill_at, &worker);
        worker.signal("-KILL");
        worker.wait(10);
    }
    let mut worker = Worker::run("last", &file, &[]);
    worker.wait_ready();
    let deadline = Instant::now() + Duration::from_secs(120);
    while referee.ask("committed", json!({"topic": topics.input, "group": "alo"}))["lag"] != 0 {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(300));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let verdict = referee.ask("verify", json!({"input": topics.input, "outputs": topics.outputs()}));
    eprintln!("at-least-once, two kills: {verdict}");
    assert_eq!(verdict["lost"], 0, "{verdict}");
    assert!(verdict["output"].as_u64() >= verdict["input"].as_u64(), "{verdict}");
}
