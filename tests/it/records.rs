//! Owns the proof on what real logs hold: every compression codec, gaps from compaction and aborted transactions, offsets that retention
//! deleted, headers of every kind.

use crate::broker;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline, pipeline_of};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SOON: &str = "[delivery]\ncommit_interval_ms = 50\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seen(referee: &mut Referee, topics: &Topics) -> u64 {
    let outputs = [&topics.pass, &topics.review, &topics.fail, &topics.dead];
    referee.ask("count", json!({ "topics": outputs }))["records"].as_u64().unwrap()
}

fn wait_for(referee: &mut Referee, topics: &Topics, wanted: u64, worker: &Worker) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let seen = seen(referee, topics);
        if seen >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{seen} of {wanted} records:\n{}", worker.log());
        sleep(Duration::from_millis(200));
    }
}

fn drain(worker: &mut Worker) {
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

/// Nothing lost, nothing repeated, order and bytes kept.
fn check(referee: &mut Referee, topics: &Topics, wanted: u64) {
    let verdict = referee.ask("verify", json!({"input": topics.input, "outputs": topics.outputs()}));
    assert_eq!((&verdict["lost"], &verdict["problems"]), (&json!(0), &json!(0)), "{verdict}");
    assert_eq!((&verdict["input"], &verdict["output"]), (&json!(wanted), &json!(wanted)), "{verdict}");
}

/// The codec of the first batch in a partition's log, as the log itself says: the low three bits of the batch's attributes.
fn codec(topic: &str) -> Option<u8> {
    let log = broker::folder("broker").join("data").join(format!("{topic}-0/00000000000000000000.log"));
    std::fs::read(log).ok()?.get(22).map(|attributes| attributes & 7)
}

#[test]
fn every_codec_is_read_and_written() {
    const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut referee = Referee::start();
    let mut running = Vec::new();
    for (name, reads) in CODECS.iter().zip(CODECS.iter().cycle().skip(1)) {
        let topics = Topics::new(&format!("codec-{name}"));
        referee.create(&topics.all(), 1);
        referee.ask(
            "produce",
            json!({"topic": topics.input, "first": 0, "count": 100, "partitions": 1, "seed": 2,
                   "config": {"compression.type": reads}}),
        );
        let set = format!("sink.kafka.properties={{\"compression.type\"=\"{name}\"}}");
        let file = pipeline(&format!("codec-{name}"), &topics, SOON);
        running.push((topics, Worker::run(name, &file, &["--set", &set])));
    }
    for (written, (topics, worker)) in running.iter_mut().enumerate() {
        wait_for(&mut referee, topics, 100, worker);
        drain(worker);
        check(&mut referee, topics, 100);
        let read = (written + 1) % CODECS.len();
        assert_eq!(codec(&topics.input), u8::try_from(read).ok(), "the input of {}", CODECS[written]);
        assert_eq!(codec(&topics.pass), u8::try_from(written).ok(), "the output of {}", CODECS[written]);
    }
}

/// Waits until compaction has removed records and then none for a while. Returns how many are left.
fn wait_compacted(referee: &mut Referee, topic: &str, from: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(120);
    let (mut left, mut since) = (from, Instant::now());
    while left == from || since.elapsed() < Duration::from_secs(3) {
        assert!(Instant::now() < deadline, "{topic} was not compacted: {left} of {from}");
        sleep(Duration::from_millis(200));
        let now = referee.ask("count", json!({ "topics": [topic] }))["records"].as_u64().unwrap();
        if now != left {
            (left, since) = (now, Instant::now());
        }
    }
    left
}

#[test]
fn gaps_of_compaction_and_of_aborted_transactions_are_no_obstacle() {
    let mut referee = Referee::start();
    let topics = Topics::new("gaps");
    referee.create(&topics.all()[1..], 1);
    let config = json!({"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01"});
    referee.ask("create", json!({"topics": [{"name": topics.input, "partitions": 1, "config": config}]}));
    let transact = |referee: &mut Referee, first: u64| {
        let deed = json!({"topic": topics.input, "first": first, "count": 240, "each": 8, "keys": 60});
        referee.ask("transact", deed)["committed"].as_u64().unwrap()
    };
    let first = transact(&mut referee, 0);
    let left = wait_compacted(&mut referee, &topics.input, first);
    let file = pipeline("gaps", &topics, SOON);
    let mut worker = Worker::run("first", &file, &[]);
    wait_for(&mut referee, &topics, left, &worker);
    drain(&mut worker);
    check(&mut referee, &topics, left);
    // The next worker begins at a committed offset that may stand in a gap.
    let second = transact(&mut referee, 1_000);
    let mut worker = Worker::run("second", &file, &[]);
    wait_for(&mut referee, &topics, left + 1, &worker);
    let deadline = Instant::now() + Duration::from_secs(120);
    // Compaction goes on behind the worker's back, so the end is where nothing is in flight and the last record is out.
    loop {
        let (read, out) = (worker.metric("tamis_records_read_total"), worker.metric("tamis_documents_total"));
        let lag = referee.ask("committed", json!({"topic": topics.input, "group": "gaps"}))["lag"].as_u64().unwrap();
        // Behind the last record stand its marker and the last transaction, eight aborted records and a marker.
        if read > 0.0 && (read - out).abs() < 0.5 && lag == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "lag {lag}, {read} read, {out} out\n{}", worker.log());
        sleep(Duration::from_millis(200));
    }
    drain(&mut worker);
    let out = seen(&mut referee, &topics) - left;
    assert!(out > 0 && out <= second, "{out} of {second} committed records, none of the aborted ones");
    let rows = referee.ask("dump", json!({ "topics": [topics.pass, topics.review, topics.fail, topics.dead] }));
    let mut keys: Vec<&str> =
        rows["records"].as_array().unwrap().iter().filter_map(|row| row["key"].as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 60, "the last record of every key came through");
}

/// What scales workers by the committed lag must see it reach 0, though what stands at the end is read by nobody.
fn nothing_is_behind(name: &str, guarantee: &str) {
    let mut referee = Referee::start();
    let topics = Topics::new(name);
    referee.create(&topics.all(), 1);
    let transact = |referee: &mut Referee, first: u64| {
        let deed = json!({"topic": topics.input, "first": first, "count": 24, "each": 8, "keys": 60});
        referee.ask("transact", deed)["committed"].as_u64().unwrap()
    };
    let extra = format!("[delivery]\ncommit_interval_ms = 50\nguarantee = \"{guarantee}\"\n");
    let file = pipeline(name, &topics, &extra);
    let wait_level = |referee: &mut Referee, worker: &Worker| {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let now = referee.ask("committed", json!({"topic": topics.input, "group": name}));
            if now["lag"] == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{now}\n{}", worker.log());
            sleep(Duration::from_millis(200));
        }
    };
    let mut wanted = 0;
    for first in [0, 100] {
        wanted += transact(&mut referee, first);
        let mut worker = Worker::run(&format!("{name}-{first}"), &file, &[]);
        wait_for(&mut referee, &topics, wanted, &worker);
        wait_level(&mut referee, &worker);
        // And while it runs.
        wanted += transact(&mut referee, first + 50);
        wait_for(&mut referee, &topics, wanted, &worker);
        wait_level(&mut referee, &worker);
        drain(&mut worker);
    }
    check(&mut referee, &topics, wanted);
}

#[test]
fn a_topic_that_ends_in_aborted_records_has_no_lag_exactly_once() {
    nothing_is_behind("level", "exactly-once");
}

#[test]
fn a_topic_that_ends_in_aborted_records_has_no_lag_at_least_once() {
    nothing_is_behind("levelled", "at-least-once");
}

#[test]
fn an_offset_that_retention_deleted_is_loud_and_can_be_made_an_error() {
    let mut referee = Referee::start();
    let topics = Topics::new("retained");
    referee.create(&topics.all(), 1);
    let produce = |referee: &mut Referee, first: u64, count: u64| {
        referee.ask("produce", json!({"topic": topics.input, "first": first, "count": count, "partitions": 1}));
    };
    produce(&mut referee, 0, 60);
    let file = pipeline("retained", &topics, SOON);
    let mut worker = Worker::run("first", &file, &[]);
    wait_for(&mut referee, &topics, 60, &worker);
    assert!(worker.metric("tamis_kafka_offset_resets_total") == 0.0, "beginning without an offset is no reset");
    drain(&mut worker);
    produce(&mut referee, 60, 60);
    referee.ask("forget", json!({"topic": topics.input, "partition": 0, "before": 90}));

    let strict = pipeline_of(
        "retained-strict",
        &format!("topics = [{:?}]\ngroup = \"retained\"", topics.input),
        r#""auto.offset.reset" = "error""#,
        &topics,
        SOON,
    );
    let mut refusing = Worker::run("strict", &strict, &[]);
    assert_eq!(refusing.wait(60).code(), Some(69), "{}", refusing.log());
    assert!(refusing.log().contains("auto.offset.reset"), "{}", refusing.log());

    let mut worker = Worker::run("second", &file, &[]);
    wait_for(&mut referee, &topics, 90, &worker);
    assert!(worker.metric("tamis_kafka_offset_resets_total") >= 1.0, "{}", worker.log());
    assert!(worker.log().contains("may have been deleted unread"), "{}", worker.log());
    drain(&mut worker);
    assert_eq!(seen(&mut referee, &topics), 90);
}

/// The class of a dead letter.
fn class(row: &Value) -> String {
    let headers = row["headers"].as_array().unwrap();
    let error = headers.iter().rev().find(|header| header[0] == "tamis-error").unwrap()[1].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..error.len()).step_by(2).map(|at| u8::from_str_radix(&error[at..at + 2], 16).unwrap()).collect();
    serde_json::from_slice::<Value>(&bytes).unwrap()["class"].as_str().unwrap().to_owned()
}

#[test]
fn headers_of_every_kind_pass_whole_or_are_dead_letters_by_name() {
    let mut referee = Referee::start();
    let topics = Topics::new("headers");
    referee.create(&topics.all(), 1);
    let value =
        |n: u32| hex(format!(r#"{{"id": "{n}", "text": "the committee met on tuesday, number {n}"}}"#).as_bytes());
    let many: Vec<Value> = (0..10_000).map(|n| json!([format!("n{}", n % 7), hex(n.to_string().as_bytes())])).collect();
    referee.ask(
        "put",
        json!({"topic": topics.input, "records": [
            {"value": value(0), "headers": [["huge", "61".repeat(900_000)]]},
            {"value": value(1), "headers": many},
            {"value": value(2), "headers": [["", hex(b"no name")], ["", null], ["twice", ""], ["twice", hex(b"\x00\xff")]]},
        ]}),
    );
    let plain = json!([[hex(b"plain"), hex(b"v")], [hex("ü".as_bytes()), null]]);
    referee.ask(
        "wire",
        json!({"topic": topics.input, "records": [
            {"value": value(3), "headers": plain},
            {"value": value(4), "headers": [[hex(b"fine"), hex(b"v")], [hex(b"\xff\xfe"), hex(b"v")]]},
            {"value": value(5), "headers": [[hex(b"nul\x00led"), hex(b"v")], [hex(b"fine"), hex(b"v")]]},
            {"value": value(6), "headers": [[hex(b"nul at the end\x00"), ""]]},
        ]}),
    );
    let file = pipeline("headers", &topics, SOON);
    let mut worker = Worker::run("headers", &file, &[]);
    wait_for(&mut referee, &topics, 7, &worker);
    let rows = referee.ask("dump", json!({ "topics": [topics.pass, topics.review, topics.fail, topics.dead] }));
    let rows = rows["records"].as_array().unwrap();
    assert_eq!(rows.len(), 7);
    let row = |n: u32| rows.iter().find(|row| row["value"] == json!(value(n))).unwrap_or_else(|| panic!("record {n}"));
    let own = |n: u32, count: usize| row(n)["headers"].as_array().unwrap()[..count].to_vec();
    assert_eq!(own(0, 1), [json!(["huge", "61".repeat(900_000)])]);
    assert_eq!(own(1, 10_000), many);
    let odd =
        [json!(["", hex(b"no name")]), json!(["", null]), json!(["twice", ""]), json!(["twice", hex(b"\x00\xff")])];
    assert_eq!(own(2, 4), odd);
    assert_eq!(own(3, 2), [json!(["plain", hex(b"v")]), json!(["ü", null])]);
    for n in 0..4 {
        assert_ne!(row(n)["topic"], topics.dead, "record {n} passes");
    }
    for n in 4..7 {
        assert_eq!((&row(n)["topic"], class(row(n))), (&json!(topics.dead), "header-name".to_owned()), "record {n}");
    }
    drain(&mut worker);
}

/// librdkafka gives such a record without its headers, and says so to nobody who asks it from Rust: it passed without them.
#[test]
fn a_record_with_more_headers_than_can_be_read_is_a_dead_letter() {
    let mut referee = Referee::start();
    let topics = Topics::new("many-headers");
    referee.create(&topics.all(), 1);
    let value = hex(br#"{"id": "1", "text": "the committee met on tuesday to discuss the annual budget"}"#);
    let record = |headers: usize| json!({"value": value, "headers": vec![json!(["61", null]); headers]});
    referee.ask("wire", json!({"topic": topics.input, "records": [record(99_000)]}));
    referee.ask("wire", json!({"topic": topics.input, "records": [record(100_001)]}));
    let mut worker = Worker::run("many-headers", &pipeline("many-headers", &topics, SOON), &[]);
    wait_for(&mut referee, &topics, 2, &worker);
    drain(&mut worker);
    let rows = referee.ask("dump", json!({"topics": [topics.dead]}))["records"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 1, "{}", worker.log());
    assert_eq!(class(&rows[0]), "header-name");
}
