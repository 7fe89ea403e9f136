//! Owns traces on a genuine broker: spans that a collector reads with OpenTelemetry's own code, whose parents the records name; and a collector that is away.

use crate::broker;
use crate::kafka_road::{hex, unhex};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TEXT: &str = "The committee met on Tuesday to discuss the annual budget.";
const LEGS: [&str; 5] = ["decode", "deliver", "judge", "score", "tokenize"];

/// The collector's process (`collector.py`).
struct Collector {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Collector {
    fn start() -> Self {
        let mut child = Command::new(broker::root().join("var/venv/bin/python"))
            .arg(broker::root().join("tests/it/collector.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, request: Value) -> Value {
        writeln!(self.stdin, "{request}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("collector: {error}: {line:?}"))
    }

    fn mode(&mut self, mode: &str) {
        self.ask(json!({"do": "mode", "mode": mode}));
    }

    /// What came, once there are so many journeys.
    fn journeys(&mut self, wanted: usize, worker: &Worker) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let told = self.ask(json!({"do": "spans", "text": "committee"}));
            if told["spans"].as_array().unwrap().iter().filter(|span| span["name"] == "document").count() >= wanted {
                return told;
            }
            assert!(Instant::now() < deadline, "{told}\n{}", worker.log());
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn table(collector: &mut Collector, more: &str) -> String {
    let url = collector.ask(json!({"do": "url"}))["url"].as_str().unwrap().to_owned();
    format!("[telemetry.otlp]\nendpoint = {url:?}\n{more}")
}

fn delivered(referee: &mut Referee, topics: &Topics, wanted: usize, worker: &Worker) -> Vec<Value> {
    let outputs = [&topics.pass, &topics.review, &topics.fail, &topics.dead];
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let records = referee.ask("dump", json!({ "topics": outputs }))["records"].as_array().unwrap().clone();
        if records.len() >= wanted {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} records:\n{}", records.len(), worker.log());
        sleep(Duration::from_millis(200));
    }
}

fn stop(mut worker: Worker) -> String {
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    worker.log()
}

#[test]
fn a_journey_is_a_span_below_the_one_that_its_record_names() {
    let (mut referee, mut collector) = (Referee::start(), Collector::start());
    let topics = Topics::new("traced");
    referee.create(&topics.all(), 1);
    let headers_file = broker::folder("traced").join("headers");
    std::fs::write(&headers_file, "authorization: Bearer hunter2\n").unwrap();
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let header = |flags: &str| format!("00-{trace}-{parent}-{flags}");
    let record =
        |value: &str, headers: Value| json!({"value": hex(value.as_bytes()), "partition": 0, "headers": headers});
    // No two texts are the same: a score that is found in the cache needs no tokens, and its journey would lack that leg.
    let good = |count: &str| format!("{{\"text\": \"{TEXT} It was the {count} time.\"}}");
    let records = json!([
        record(&good("first"), json!([["traceparent", hex(header("01").as_bytes())], ["tracestate", hex(b"a=b")]])),
        record(&good("second"), json!([["traceparent", hex(header("00").as_bytes())]])),
        record(&good("third"), json!([["traceparent", hex(b"nonsense")]])),
        record("no json", json!([])),
    ]);
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    let more = format!("headers_file = {headers_file:?}\nservice_name = \"corpus-filter\"\n");
    let file = pipeline("traced", &topics, &table(&mut collector, &more));
    let mut worker = Worker::run("traced", &file, &["--log", "trace"]);
    worker.wait_ready();
    let out = delivered(&mut referee, &topics, 4, &worker);
    let kept = |record: &Value| {
        record["headers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|header| header[0] == "traceparent")
            .map(|header| unhex(&header[1]))
    };
    let mut passed: Vec<_> = out.iter().filter_map(kept).collect();
    passed.sort();
    assert_eq!(passed, [header("00").into_bytes(), header("01").into_bytes(), b"nonsense".to_vec()]);
    let told = collector.journeys(3, &worker);
    let spans = told["spans"].as_array().unwrap();
    assert!(told["holds_text"] == false, "a text is told");
    assert!(
        told["headers"].as_array().unwrap().iter().all(|headers| headers["authorization"] == "Bearer hunter2"),
        "{told}"
    );
    let journeys: Vec<&Value> = spans.iter().filter(|span| span["name"] == "document").collect();
    assert_eq!(journeys.len(), 3, "the one that its sender leaves out is left out");
    for journey in &journeys {
        let legs: Vec<&Value> = spans.iter().filter(|span| span["parent"] == journey["span"]).collect();
        let mut names: Vec<&str> = legs.iter().map(|leg| leg["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let dead = journey["attributes"]["tamis.verdict"] == "dead-letter";
        assert_eq!(names, if dead { vec!["decode", "deliver"] } else { LEGS.to_vec() }, "{told}");
        assert_eq!((journey["failed"] == true, journey["attributes"]["error.type"] == "bad-json"), (dead, dead));
        for leg in legs {
            let time = |span: &Value, end: &str| span[end].as_u64().unwrap();
            assert!(leg["trace"] == journey["trace"], "{leg}");
            assert!(time(leg, "from") >= time(journey, "from") && time(leg, "to") <= time(journey, "to"), "{leg}");
            assert!(time(leg, "from") <= time(leg, "to"), "{leg}");
        }
        assert!(journey["service"] == "corpus-filter" && journey["kind"] == 5, "{journey}");
        assert_eq!(journey["attributes"]["messaging.destination.name"], topics.input);
    }
    let below: Vec<&&Value> = journeys.iter().filter(|span| span["parent"] == parent).collect();
    assert!(
        below.len() == 1 && below[0]["trace"] == trace && below[0]["attributes"]["messaging.kafka.offset"] == 0,
        "{below:?}"
    );
    assert!(journeys.iter().filter(|span| span["parent"] == "").all(|span| span["trace"] != trace));
    assert!(!stop(worker).contains("hunter2"), "a header is in the log");
}

#[test]
fn a_collector_that_is_away_holds_nothing_up() {
    let (mut referee, mut collector) = (Referee::start(), Collector::start());
    let topics = Topics::new("untraced");
    referee.create(&topics.all(), 1);
    let file = pipeline("untraced", &topics, &table(&mut collector, "max_queue = 16\ntimeout_ms = 1000\n"));
    let produce = |referee: &mut Referee, first: u32, count: u32| {
        referee
            .ask("produce", json!({"topic": topics.input, "first": first, "count": count, "partitions": 1, "seed": 5}));
    };
    collector.mode("hang");
    produce(&mut referee, 0, 150);
    let mut worker = Worker::run("untraced", &file, &[]);
    worker.wait_ready();
    assert_eq!(delivered(&mut referee, &topics, 150, &worker).len(), 150);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !worker.log().contains("the collector of traces can't be reached") {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(100));
    }
    collector.mode("broken");
    produce(&mut referee, 150, 20);
    assert_eq!(delivered(&mut referee, &topics, 170, &worker).len(), 170);
    // Back again: the next document is told.
    sleep(Duration::from_secs(2));
    collector.mode("well");
    produce(&mut referee, 170, 1);
    collector.journeys(1, &worker);
    assert!(worker.metric("tamis_trace_requests_total") >= 2.0);
    collector.mode("hang");
    produce(&mut referee, 171, 5);
    assert_eq!(delivered(&mut referee, &topics, 176, &worker).len(), 176);
    let began = Instant::now();
    let log = stop(worker);
    assert!(began.elapsed() < Duration::from_secs(20), "the end waits for a collector");
    let told = log.matches("the collector of traces can't be reached").count();
    assert!((1..=3).contains(&told), "{told} times:\n{log}");
}
