//! Owns the proof of the reload on a genuine broker, under load: what is refused changes nothing, what is taken changes at one point, and every
//! output's verdict, route and policy belong together.

use crate::kafka_road::{header, unhex};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

const DOCUMENTS: u64 = 4_000;
const PARTITIONS: u32 = 3;
const EAGER: &str = "[delivery]\ncommit_interval_ms = 20\nmax_batch_documents = 40\nmax_documents = 300\n";

fn status(worker: &Worker) -> Value {
    serde_json::from_str(&worker.get("/status").expect("an answer").1).unwrap()
}

/// Asks for a reload and waits for what came of it.
fn reload(worker: &Worker) -> Value {
    let before = status(worker)["reload"].clone();
    worker.signal("-HUP");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let after = status(worker)["reload"].clone();
        if after != before {
            return after;
        }
        assert!(Instant::now() < deadline, "no reload:\n{}", worker.log());
        sleep(Duration::from_millis(50));
    }
}

fn wait_for(referee: &mut Referee, topics: &[&str], wanted: u64, worker: &Worker) {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let seen = referee.ask("count", json!({ "topics": topics }))["records"].as_u64().unwrap();
        if seen >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{seen} of {wanted}:\n{}", worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// The verdict that these thresholds mean for an output's own signals.
fn expected(record: &Value, max: f64, review_above: f64) -> &'static str {
    let signals: Value = serde_json::from_str(&header(record, "tamis-signals").unwrap()).unwrap();
    match signals["pll.nll_token"].as_f64() {
        Some(value) if value <= review_above => "pass",
        Some(value) if value <= max => "review",
        Some(_) | None => "fail",
    }
}

#[test]
fn a_reload_under_load_changes_rules_and_routes_at_one_point_or_nothing_at_all() {
    let mut referee = Referee::start();
    let topics = Topics::new("reload");
    let other_pass = "reload.pass-2";
    let outputs = [topics.pass.as_str(), &topics.review, &topics.fail, &topics.dead, other_pass];
    referee.create(&topics.all(), PARTITIONS);
    referee.create(&[other_pass], PARTITIONS);
    let input = json!({"topic": topics.input, "first": 0, "count": DOCUMENTS, "partitions": PARTITIONS, "seed": 11});
    referee.ask("produce", input);
    let file = pipeline("reload", &topics, EAGER);
    let first = fs::read_to_string(&file).unwrap();
    let mut worker = Worker::run("reload", &file, &[]);
    worker.admin(); // From then on signals are heard,
    worker.signal("-HUP"); // and one that comes while the model loads waits until it has.
    worker.wait_ready();
    wait_for(&mut referee, &outputs, 200, &worker);
    assert_eq!(status(&worker)["reload"]["outcome"], "unchanged");
    let old = status(&worker)["policy"].as_str().unwrap().to_owned();

    let wrong = [
        ("max = 7.0", "max = \"high\"", "rules"),
        ("review_above = 5.0", "review_above = 9.0", "review_above"),
        ("threads = 1", "threads = 2", "models.default.threads"),
        ("pass = \"reload.pass\"", "pass = \"reload.nowhere\"", "reload.nowhere"),
    ];
    for (good, bad, named) in wrong {
        let text = first.replace(good, bad);
        assert_ne!(text, first, "{good}");
        fs::write(&file, text).unwrap();
        let outcome = reload(&worker);
        assert_eq!(outcome["outcome"], "refused", "{bad}: {outcome}");
        assert!(outcome["why"].as_str().unwrap().contains(named), "{bad}: {outcome}");
        assert_eq!(status(&worker)["policy"], old.as_str());
    }
    let changed = first
        .replace("max = 7.0\nreview_above = 5.0", "max = 4.5\nreview_above = 4.0")
        .replace("pass = \"reload.pass\"", "pass = \"reload.pass-2\"");
    fs::write(&file, changed).unwrap();
    let outcome = reload(&worker);
    assert_eq!(outcome["outcome"], "applied", "{outcome}");
    assert_eq!(outcome["why"], "routes.pass, rules.fluent.max, rules.fluent.review_above");
    let new = status(&worker)["policy"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(worker.metric("tamis_reloads_total{outcome=\"refused\"}"), 4.0);
    assert_eq!(reload(&worker)["outcome"], "unchanged");
    wait_for(&mut referee, &outputs, DOCUMENTS, &worker);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());

    let records = referee.ask("dump", json!({ "topics": outputs }))["records"].as_array().unwrap().clone();
    each_output_belongs_to_one_policy(&records, &topics, other_pass, [&old, &new]);
}

/// Every output's route and verdict are those of the policy that it names; each source comes once; each lane turns from old to new once.
fn each_output_belongs_to_one_policy(records: &[Value], topics: &Topics, other_pass: &str, [old, new]: [&String; 2]) {
    let mut sources = BTreeSet::new();
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut lanes: BTreeMap<String, Vec<(u64, bool)>> = BTreeMap::new();
    for record in records {
        let said = |name: &str| header(record, name).unwrap();
        let (policy, verdict, source) = (said("tamis-policy"), said("tamis-verdict"), said("tamis-source"));
        assert!(sources.insert(source.clone()), "{source} came twice");
        let is_new = policy == *new;
        assert!(is_new || policy == *old, "a policy that never was: {policy}");
        let topic = record["topic"].as_str().unwrap();
        let place = match (verdict.as_str(), is_new) {
            ("pass", true) => other_pass,
            ("pass", false) => topics.pass.as_str(),
            ("review", _) => &topics.review,
            ("fail", _) => &topics.fail,
            _ => &topics.dead,
        };
        assert_eq!(topic, place, "{source}: {verdict} under {policy}");
        if verdict != "dead-letter" {
            let wanted = if is_new { expected(record, 4.5, 4.0) } else { expected(record, 7.0, 5.0) };
            assert_eq!(verdict, wanted, "{source}: verdict and policy belong together");
        }
        assert!(!unhex(&record["value"]).is_empty());
        *counts.entry((policy, verdict)).or_default() += 1;
        let (lane, offset) = source.rsplit_once('/').unwrap();
        lanes.entry(lane.to_owned()).or_default().push((offset.parse().unwrap(), is_new));
        let written = format!("out {topic}/{}", record["partition"]);
        lanes.entry(written).or_default().push((record["offset"].as_u64().unwrap(), is_new));
    }
    eprintln!("outputs by policy and verdict: {counts:?}");
    assert_eq!(sources.len() as u64, DOCUMENTS, "none lost");
    for policy in [old, new] {
        let verdicts = counts.keys().filter(|(named, _)| named == policy).count();
        assert!(verdicts >= 3, "the test wants several verdicts under {policy}: {counts:?}");
    }
    for (lane, mut places) in lanes {
        places.sort_unstable();
        let turns = places.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
        assert!(turns <= 1, "{lane} turns {turns} times between the policies");
    }
}

#[test]
fn a_watched_file_is_reloaded_when_it_changes_and_a_worker_that_has_nothing_to_do_takes_it_up_at_once() {
    let mut referee = Referee::start();
    let topics = Topics::new("watched-file");
    referee.create(&topics.all(), 1);
    let file = pipeline("watched-file", &topics, "[reload]\nwatch_ms = 100\n");
    let mut worker = Worker::run("watched-file", &file, &[]);
    worker.wait_ready();
    let text = fs::read_to_string(&file).unwrap();
    let old = status(&worker)["policy"].clone();
    fs::write(&file, text.replace("max = 7.0", "max = 6.0")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while status(&worker)["policy"] == old {
        assert!(Instant::now() < deadline, "not taken up:\n{}", worker.log());
        sleep(Duration::from_millis(50));
    }
    let scores = status(&worker)["scores"].clone();
    assert_eq!(scores[0]["rules"][0]["max"], 6.0, "what people see is what judges");
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}
