//! Owns the proof of dead letters looked at and sent back: on a genuine broker, killed in the middle, read by a client that is not ours.

use crate::broker;
use crate::kafka_road::{header, hex};
use crate::referee::Referee;
use crate::worker::{Said, Topics, Worker, said, tamis};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A pipeline that needs no model, and looks for the text in the wrong place.
fn pipeline(name: &str, topics: &Topics) -> PathBuf {
    let dir = broker::folder(name);
    let path = dir.join("pipeline.toml");
    let text = format!(
        r#"name = "{name}"
[source.kafka]
brokers = "{brokers}"
topics = ["{input}"]
group = "{name}"
[document]
text = "/body"
[signals.text]
kind = "text"
[[rules]]
name = "long-enough"
signal = "text.words"
min = 3
[routes]
pass = "{pass}"
fail = "{fail}"
review = "{review}"
dead_letter = "{dead}"
[cache]
path = "{cache}"
enabled = false
[admin]
listen = "127.0.0.1:0"
"#,
        brokers = broker::bootstrap(),
        input = topics.input,
        pass = topics.pass,
        fail = topics.fail,
        review = topics.review,
        dead = topics.dead,
        cache = dir.join("cache").display(),
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn dlq(command: &str, file: &Path, more: &[&str]) -> Said {
    said(&[&["dlq", command, file.to_str().unwrap()], more].concat())
}

fn replay(file: &Path, more: &[&str]) -> String {
    let done = dlq("replay", file, more);
    assert_eq!(done.code, Some(0), "{more:?}: {}", done.err);
    done.err
}

/// The JSON lines of `dlq list`.
fn listed(file: &Path, more: &[&str]) -> Vec<Value> {
    let done = dlq("list", file, &[&["--json"], more].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn dump(referee: &mut Referee, topic: &str) -> Vec<Value> {
    referee.ask("dump", json!({ "topics": [topic] }))["records"].as_array().unwrap().clone()
}

fn wait_for(referee: &mut Referee, topic: &str, wanted: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let records = dump(referee, topic);
        if records.len() >= wanted {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} records on {topic}", records.len());
        sleep(Duration::from_millis(200));
    }
}

/// Runs the daemon until there are `wanted` records on `topic`, and drains it.
fn run_until(referee: &mut Referee, file: &Path, more: &[&str], topic: &str, wanted: usize) -> Vec<Value> {
    let mut worker = Worker::run("dlq", file, more);
    worker.wait_ready();
    let records = wait_for(referee, topic, wanted);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    records
}

/// `count` documents that the pipeline buries, with a key, a header and a time each.
fn bury(referee: &mut Referee, file: &Path, topics: &Topics, count: usize) {
    let records: Vec<Value> = (0..count)
        .map(|n| {
            let value = format!(r#"{{"id": "{n}", "text": "the committee met on tuesday {n}"}}"#);
            json!({"value": hex(value.as_bytes()), "key": hex(format!("k{n}").as_bytes()), "partition": n % 2,
                   "timestamp": 1_700_000_000_000_u64 + n as u64, "headers": [["number", hex(n.to_string().as_bytes())]]})
        })
        .collect();
    referee.ask("put", json!({"topic": topics.input, "records": records}));
    run_until(referee, file, &[], &topics.dead, count);
}

#[test]
fn what_died_of_a_mended_cause_is_judged_after_a_replay() {
    let mut referee = Referee::start();
    let topics = Topics::new("dlq-mended");
    referee.create(&topics.all(), 2);
    let file = pipeline("dlq-mended", &topics);
    bury(&mut referee, &file, &topics, 20);

    let all = listed(&file, &[]);
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|l| l["class"] == "missing-text" && l["stage"] == "decode" && l.get("value").is_none()));
    assert_eq!(listed(&file, &["--key", "k7"]).len(), 1);
    assert_eq!(listed(&file, &["--class", "device"]).len(), 0);
    assert_eq!(listed(&file, &["--source", &format!("{}/1/2-4", topics.input)]).len(), 3);
    assert_eq!(listed(&file, &["--since", "2023-11-14T22:13:20.015Z"]).len(), 5);
    assert_eq!(listed(&file, &["--reason", "/BODY", "--limit", "4"]).len(), 4);
    let one = listed(&file, &["--key", "k7", "--values"]);
    assert!(one[0]["value"].as_str().unwrap().contains("tuesday 7"), "{one:?}");
    let table = dlq("list", &file, &["--key", "k7"]);
    assert!(table.out.starts_with("LETTER") && table.out.lines().count() == 2, "{table:?}");
    assert!(table.err.contains("1 dead letters") && table.err.contains("missing-text at decode"), "{table:?}");

    let refused = dlq("replay", &file, &[]);
    assert!(refused.code == Some(64) && refused.err.contains("--all"), "{refused:?}");
    let dry = dlq("replay", &file, &["--all", "--dry-run"]);
    assert!(dry.out.lines().count() == 21 && dry.err.contains("20 records would go back"), "{dry:?}");
    assert_eq!(dump(&mut referee, &topics.input).len(), 20, "a dry run writes nothing");

    // A part, the same part again, an overlapping one, and the rest.
    assert!(replay(&file, &["--key", "k7"]).contains("1 records went back"));
    assert!(replay(&file, &["--key", "k7"]).contains("0 records went back"));
    let part = replay(&file, &["--source", &format!("{}/1", topics.input), "--limit", "4"]);
    assert!(part.contains("4 records went back") && part.contains("run it again"), "{part}");
    let rest = replay(&file, &["--all"]);
    assert!(rest.contains("15 records went back") && rest.contains("5  stay: they went back by an earlier"), "{rest}");
    assert!(replay(&file, &["--all"]).contains("0 records went back"));

    let passed = run_until(&mut referee, &file, &["--set", "document.text=/text"], &topics.pass, 20);
    assert_eq!(passed.len(), 20);
    let sources: BTreeMap<String, &Value> =
        passed.iter().map(|r| (String::from_utf8(crate::kafka_road::unhex(&r["key"])).unwrap(), r)).collect();
    assert_eq!(sources.len(), 20, "each once");
    let seventh = sources["k7"];
    assert_eq!(seventh["timestamp"], 1_700_000_000_007_u64);
    assert_eq!(seventh["partition"], 1);
    let names: Vec<&str> = seventh["headers"].as_array().unwrap().iter().map(|h| h[0].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["number", "tamis-replay"], "its own, the mark, then the new verdict's: {names:?}");
    assert!(names[2..].iter().all(|name| *name != "tamis-error"), "{names:?}");
    let mark: Value = serde_json::from_str(&header(seventh, "tamis-replay").unwrap()).unwrap();
    assert!(mark["count"] == 1 && mark["from"].as_str().unwrap().starts_with(&topics.dead), "{mark}");
}

#[test]
fn a_replay_killed_in_the_middle_loses_and_doubles_nothing() {
    const LETTERS: usize = 600;
    let mut referee = Referee::start();
    let topics = Topics::new("dlq-killed");
    referee.create(&topics.all(), 2);
    let file = pipeline("dlq-killed", &topics);
    bury(&mut referee, &file, &topics, LETTERS);
    let arguments = ["dlq", "replay", file.to_str().unwrap(), "--all", "--batch", "3"];
    let mut seen = Vec::new();
    for kill_at in [10, 150, 300] {
        let mut command = tamis(&arguments);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // How far it says that it came; asking for that is quicker than reading what it wrote.
        let group = json!({"topic": topics.dead, "group": "dlq-killed-dlq-replay"});
        while referee.ask("committed", group.clone())["lag"].as_u64() > Some((LETTERS - kill_at) as u64) {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it ended before it was killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen.push(dump(&mut referee, &topics.input).len() - LETTERS);
    }
    assert!(seen[2] < LETTERS, "killed while letters were left: {seen:?}");
    let rest = replay(&file, &arguments[3..]);
    eprintln!("a replay of {LETTERS} letters, killed with {seen:?} back: the last run says {rest}");
    let back = dump(&mut referee, &topics.input);
    let mut froms: Vec<String> = back
        .iter()
        .filter_map(|record| header(record, "tamis-replay"))
        .map(|mark| serde_json::from_str::<Value>(&mark).unwrap()["from"].to_string())
        .collect();
    froms.sort();
    let all = froms.len();
    froms.dedup();
    assert_eq!((all, froms.len()), (LETTERS, LETTERS), "{seen:?}");
}

#[test]
fn what_goes_round_in_circles_or_came_from_elsewhere_stays() {
    let mut referee = Referee::start();
    let topics = Topics::new("dlq-circle");
    referee.create(&topics.all(), 1);
    let file = pipeline("dlq-circle", &topics);
    bury(&mut referee, &file, &topics, 1);
    // The cause is not mended: it dies again, and again.
    for round in 1..=3 {
        let said = replay(&file, &["--all"]);
        assert!(said.contains("1 records went back"), "round {round}: {said}");
        run_until(&mut referee, &file, &[], &topics.dead, round + 1);
    }
    let said = replay(&file, &["--all"]);
    assert!(said.contains("0 records went back") && said.contains("1  stay: they went back --max-replays"), "{said}");
    let said = replay(&file, &["--all", "--max-replays", "4"]);
    assert!(said.contains("1 records went back") && said.contains("3  stay: they went back by an earlier"), "{said}");

    let forged = |source: &str, class: &str| {
        let error = format!(r#"{{"stage":"decode","class":"{class}","message":"m","attempt":1}}"#);
        json!({"value": hex(b"x"), "headers": [["tamis-verdict", hex(b"dead-letter")],
            ["tamis-source", hex(source.as_bytes())], ["tamis-error", hex(error.as_bytes())]]})
    };
    let own = format!("{}/0/0", topics.input);
    let strange = json!({"value": hex(b"no letter at all")});
    let records = json!([forged("somebody.elses/0/0", "bad-json"), forged(&own, "header-name"), strange]);
    referee.ask("put", json!({"topic": topics.dead, "records": records}));
    let said = replay(&file, &["--all", "--max-replays", "4"]);
    for part in ["0 records went back", "1  stay: they came from topics", "1  stay: headers", "1  records there are no"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(replay(&file, &["--class", "header-name"]).contains("1 records went back"));
    assert!(referee.ask("listing", json!({}))["topics"].as_array().unwrap().iter().all(|t| t != "somebody.elses"));
}

#[test]
fn dead_letters_that_are_no_records_of_a_topic_are_told_with_what_to_do() {
    let topics = Topics::new("dlq-files");
    let file = pipeline("dlq-files", &topics);
    let said = dlq("list", &file, &["--set", "sink.files.dir=out"]);
    assert!(
        said.code == Some(64) && said.err.contains("out/dlq-files.dead.jsonl") && said.err.contains("tamis score"),
        "{said:?}"
    );
    let said = dlq("replay", &file, &["--all", "--set", "sink.kafka.brokers=127.0.0.1:1"]);
    assert!(said.code == Some(64) && said.err.contains("another cluster"), "{said:?}");
    let said = dlq("list", &file, &["--set", "routes.dead_letter=dlq-files.none"]);
    assert!(said.code == Some(69) && said.err.contains("dlq-files.none"), "{said:?}");
}
