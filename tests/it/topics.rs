//! Owns the proof on what a source's topics may do: be several, match a pattern, appear later, grow, go away, stay empty.

use crate::broker::is_long;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline, pipeline_of};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn produce(referee: &mut Referee, topic: &str, first: u64, count: u64, partitions: u32) {
    let deed = json!({"topic": topic, "first": first, "count": count, "partitions": partitions, "seed": first + 1});
    assert_eq!(referee.ask("produce", deed)["failed"], json!([]));
}

fn wait_for(referee: &mut Referee, topics: &Topics, wanted: u64, worker: &Worker) {
    let outputs = topics.outputs();
    let outputs: Vec<&Value> = outputs.as_object().unwrap().values().collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let seen = referee.ask("count", json!({ "topics": outputs }))["records"].as_u64().unwrap();
        if seen >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{seen} of {wanted} records:\n{}", worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// Waits until the worker has exactly this many partitions.
fn wait_partitions(worker: &Worker, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while worker.partitions().len() != count {
        assert!(Instant::now() < deadline, "{:?}, not {count}\n{}", worker.partitions(), worker.log());
        sleep(Duration::from_millis(100));
    }
}

fn topics_come_grow_and_go(name: &str, properties: &str) {
    let mut referee = Referee::start();
    let topics = Topics::new(name);
    let [early, late, extra] = ["raw.early", "raw.late", "extra"].map(|suffix| format!("{name}.{suffix}"));
    referee.create(&topics.all()[1..], 2);
    referee.create(&[early.as_str(), extra.as_str()], 2);
    produce(&mut referee, &early, 0, 200, 2);
    produce(&mut referee, &extra, 1_000, 100, 2);
    let reads = format!(r#"topics = ["^{name}\\.raw\\..*", "{extra}"]{}group = "{name}""#, "\n");
    let file = pipeline_of(name, &reads, properties, &topics, "[delivery]\ncommit_interval_ms = 50\n");
    let mut worker = Worker::run(name, &file, &[]);
    worker.wait_ready();
    wait_partitions(&worker, 4);
    wait_for(&mut referee, &topics, 300, &worker);

    referee.create(&[late.as_str()], 1);
    produce(&mut referee, &late, 2_000, 100, 1);
    wait_partitions(&worker, 5);
    referee.ask("grow", json!({"topic": extra, "partitions": 3}));
    wait_partitions(&worker, 6);
    produce(&mut referee, &extra, 3_000, 100, 3);
    wait_for(&mut referee, &topics, 500, &worker);
    let verdict = referee.ask("verify", json!({"input": [early, late, extra], "outputs": topics.outputs()}));
    assert_eq!((&verdict["lost"], &verdict["problems"]), (&json!(0), &json!(0)), "{verdict}");
    assert_eq!((&verdict["input"], &verdict["output"]), (&json!(500), &json!(500)), "{verdict}");

    // A topic goes away under the worker's feet, with work in it; the others go on.
    produce(&mut referee, &late, 4_000, 300, 1);
    referee.ask("delete", json!({"topics": [late]}));
    wait_partitions(&worker, 5);
    produce(&mut referee, &early, 5_000, 100, 2);
    wait_for(&mut referee, &topics, 600, &worker);
    let deadline = Instant::now() + Duration::from_secs(120);
    for topic in [&early, &extra] {
        while referee.ask("committed", json!({"topic": topic, "group": name}))["lag"] != 0 {
            assert!(Instant::now() < deadline, "{topic}\n{}", worker.log());
            sleep(Duration::from_millis(200));
        }
    }
    assert!(worker.get("/livez").is_some_and(|(status, _)| status == 200));
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

#[test]
fn topics_of_a_pattern_come_grow_and_go_while_a_worker_runs() {
    topics_come_grow_and_go("pat", r#""topic.metadata.refresh.interval.ms" = "500", "session.timeout.ms" = "6000""#);
    if is_long() {
        topics_come_grow_and_go(
            "pat848",
            r#""topic.metadata.refresh.interval.ms" = "500", "group.protocol" = "consumer""#,
        );
    }
}

/// Found by `make chaos`: the worker began again at the new topic's first record, as `auto.offset.reset` says, and then took everything up to its old
/// offset for records that it had read before; they were never delivered, and the next commit went past them.
#[test]
fn a_topic_made_anew_under_a_running_worker_is_read_from_its_beginning() {
    let mut referee = Referee::start();
    let topics = Topics::new("anew");
    referee.create(&topics.all(), 1);
    produce(&mut referee, &topics.input, 0, 400, 1);
    let properties = r#""topic.metadata.refresh.interval.ms" = "60000", "session.timeout.ms" = "6000""#;
    let reads = format!("topics = [{:?}]\ngroup = \"anew\"", topics.input);
    let file = pipeline_of("anew", &reads, properties, &topics, "[delivery]\ncommit_interval_ms = 50\n");
    let mut worker = Worker::run("anew", &file, &[]);
    worker.wait_ready();
    wait_for(&mut referee, &topics, 400, &worker);

    // So soon that the group does not notice; shorter than the old one at first, then longer.
    referee.ask("delete", json!({"topics": [topics.input]}));
    referee.create(&[topics.input.as_str()], 1);
    produce(&mut referee, &topics.input, 10_000, 30, 1);
    wait_for(&mut referee, &topics, 430, &worker);
    produce(&mut referee, &topics.input, 20_000, 500, 1);
    wait_for(&mut referee, &topics, 930, &worker);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let lag = referee.ask("committed", json!({"topic": topics.input, "group": "anew"}));
    assert_eq!(lag["lag"], 0, "{lag}");
    let outputs = topics.outputs();
    let outputs: Vec<&Value> = outputs.as_object().unwrap().values().collect();
    assert_eq!(referee.ask("count", json!({ "topics": outputs }))["records"], 930, "none lost, none twice");
}

#[test]
fn an_empty_topic_is_no_stall_and_drains_at_once() {
    let mut referee = Referee::start();
    let topics = Topics::new("idle");
    referee.create(&topics.all(), 2);
    let file = pipeline("idle", &topics, "[delivery]\nstall_exit_ms = 400\n");
    let mut worker = Worker::run("idle", &file, &["--set", "admin.stall_after_ms=200"]);
    worker.wait_ready();
    let rebalances = worker.metric("tamis_rebalances_total");
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        for path in ["/livez", "/readyz"] {
            assert_eq!(worker.get(path).map(|(status, _)| status), Some(200), "{path}\n{}", worker.log());
        }
        sleep(Duration::from_millis(100));
    }
    assert_eq!(worker.metric("tamis_rebalances_total"), rebalances, "nothing churns\n{}", worker.log());
    assert!(worker.metric("tamis_kafka_fetching_paused_total") == 0.0);
    assert!(worker.metric("tamis_kafka_brokers_up") >= 1.0, "the broker is shown as up");
    worker.signal("-TERM");
    assert_eq!(worker.wait(15).code(), Some(0), "{}", worker.log());
}
