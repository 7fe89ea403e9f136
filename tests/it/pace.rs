//! Owns the proof that nothing waits for what it need not: a full pipeline commits before its interval is over, and a delivery step does not wait for
//! the client library's batches to fill.

use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs a worker over `count` documents with these settings. All but `rest` must be through within `seconds`, less than the wait that must not be;
/// the rest are when it stops.
fn flows(name: &str, (count, rest): (u64, u64), seconds: u64, more: &str, set: &str) {
    let mut referee = Referee::start();
    let topics = Topics::new(name);
    referee.create(&topics.all(), 2);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": count, "partitions": 2, "seed": 4}));
    let file = pipeline(name, &topics, more);
    let mut worker = Worker::run(name, &file, &["--set", set]);
    worker.wait_ready();
    let began = Instant::now();
    loop {
        let outputs = [&topics.pass, &topics.review, &topics.fail, &topics.dead];
        let seen = referee.ask("count", json!({ "topics": outputs }))["records"].as_u64().unwrap();
        if seen + rest >= count {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(seconds), "{seen} of {count} records:\n{}", worker.log());
        sleep(Duration::from_millis(100));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let verdict = referee.ask("verify", json!({"input": topics.input, "outputs": topics.outputs()}));
    assert_eq!((&verdict["lost"], &verdict["problems"]), (&json!(0), &json!(0)), "{verdict}");
    assert_eq!(verdict["output"], count, "{verdict}");
}

#[test]
fn verdicts_that_hold_all_permits_are_committed_before_the_interval_is_over() {
    // Five times as many documents as there are permits: by the interval alone they would take ten minutes.
    flows("permits", (200, 19), 110, "[delivery]\nmax_documents = 40\n", "delivery.commit_interval_ms=120000");
}

#[test]
fn a_delivery_step_does_not_linger() {
    let more = "[delivery]\ncommit_interval_ms = 50\n";
    let set = r#"sink.kafka.properties={"transaction.timeout.ms"="360000","linger.ms"="120000","message.timeout.ms"="150000"}"#;
    flows("linger", (30, 0), 100, more, set);
}
