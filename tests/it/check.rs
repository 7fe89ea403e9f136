//! Owns the contract of `tamis check`: every problem in one run, nothing left behind, and `run` refuses what it refuses.

use crate::broker;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline, pipeline_of};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A tamis command that ended by itself.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The lines marked as problems, without their mark.
    fn problems(&self) -> Vec<&str> {
        self.out.lines().filter_map(|line| line.trim_start().strip_prefix("problem")).map(str::trim).collect()
    }

    /// Whether a line with this mark holds all parts.
    #[track_caller]
    fn says(&self, mark: &str, parts: &[&str]) {
        let found = self
            .out
            .lines()
            .any(|line| line.trim_start().starts_with(mark) && parts.iter().all(|part| line.contains(part)));
        assert!(found, "no {mark} with {parts:?} in\n{}\n{}", self.out, self.err);
    }
}

fn tamis(command: &str, pipeline: &Path, more: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .arg(command)
        .arg(pipeline)
        .args(more)
        .current_dir(broker::root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said::new(&output)
}

#[test]
fn a_sound_pipeline_passes_and_a_check_disturbs_nothing() {
    let mut referee = Referee::start();
    let topics = Topics::new("check-good");
    referee.create(&topics.all(), 2);
    let file = pipeline("check-good", &topics, "");
    let said = tamis("check", &file, &[]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    // Other tests use this broker at the same time: what counts is what bears this test's name.
    let listing = referee.ask("listing", json!({}));
    let named = |what: &str| -> Vec<String> {
        let names = listing[what].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("check-good")).collect()
    };
    let mut created = topics.all().map(str::to_owned);
    created.sort();
    assert_eq!(
        (named("topics").as_slice(), named("groups")),
        (created.as_slice(), vec![]),
        "a topic or a group was made"
    );
    assert!(!file.with_file_name("cache").exists(), "the cache's folder was made");
    said.says("ok", &["source.kafka.topics", "check-good.raw: 2 partitions, may be read"]);
    said.says("ok", &["routes.pass", "may be written"]);
    said.says("ok", &["delivery.guarantee", "exactly-once", "check-good-", "-check"]);
    said.says("note", &["auto.offset.reset", "first record"]);
    for (what, part) in [
        ("read", "check-good.raw at"),
        ("score", "4 passes a full window, about 3.1 rows for 100 tokens"),
        ("judge", "fluent: pll.nll_token above 7 fails, above 5 is for review; without one, fails"),
        ("route", "dead-letter → check-good.dead"),
        ("deliver", "exactly-once"),
    ] {
        said.says(what, &[part]);
    }

    // Beside a worker: the group keeps its member, and the worker's transactions go on.
    let mut worker = Worker::run("check-good", &file, &[]);
    worker.wait_ready();
    referee.ask("produce", json!({"topic": topics.input, "partitions": 2, "first": 0, "count": 60}));
    wait_for_no_lag(&mut referee, &topics, &worker);
    let said = tamis("check", &file, &[]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    said.says("ok", &["source.kafka.group", "has 1 now"]);
    said.says("ok", &["0 records wait"]);
    said.says("note", &["delivery.instance", "as instance 0"]);
    referee.ask("produce", json!({"topic": topics.input, "partitions": 2, "first": 60, "count": 60}));
    wait_for_no_lag(&mut referee, &topics, &worker);
    assert!(!worker.ended(), "the check ended the worker:\n{}", worker.log());
    assert_eq!(worker.partitions().len(), 2, "the check took a partition");
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

fn wait_for_no_lag(referee: &mut Referee, topics: &Topics, worker: &Worker) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while referee.ask("committed", json!({"topic": topics.input, "group": "check-good"}))["lag"] != 0 {
        assert!(Instant::now() < deadline, "the lag stays:\n{}", worker.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A model directory that is the bundled one but for its manifest, which names another checksum.
fn forged_model(dir: &Path) -> std::path::PathBuf {
    let forged = dir.join("forged");
    fs::create_dir_all(&forged).unwrap();
    for entry in fs::read_dir(broker::root().join("models/tamis-en")).unwrap().flatten() {
        if entry.file_name() != "manifest.json" {
            std::os::unix::fs::symlink(entry.path(), forged.join(entry.file_name())).unwrap();
        }
    }
    let sum = "0".repeat(64);
    let manifest = json!({"files": {"model.onnx": {"sha256": sum}, "config.json": {"sha256": sum}}});
    fs::write(forged.join("manifest.json"), manifest.to_string()).unwrap();
    forged
}

#[test]
fn every_problem_is_told_in_one_run_and_run_refuses_too() {
    let mut referee = Referee::start();
    let topics = Topics::new("check-bad");
    referee.create(&[&topics.pass, &topics.dead], 1);
    let extra =
        "[[rules]]\nname = \"odd\"\nsignal = \"pll.nll_tokens\"\nmax = 1.0\nby_language = { de = { min = 2.0 } }";
    let file = pipeline("check-bad", &topics, extra);
    let forged = forged_model(file.parent().unwrap());
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let sets = [
        format!("models.default.path={}", forged.display()),
        "signals.pll.window_tokens=511".to_owned(),
        format!("admin.listen={}", held.local_addr().unwrap()),
        format!("cache.path={}", file.join("cache").display()),
    ];
    let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let before = referee.ask("listing", json!({}));
    let said = tamis("check", &file, &more);
    assert_eq!(said.code, Some(64), "{}\n{}", said.out, said.err);
    for parts in [
        &["rules.odd.signal", "pll.nll_tokens", "did you mean one of [\"pll.nll_token\""][..],
        &["rules.odd.by_language.de"],
        &["models.default.path", "model.onnx: sha256 is"],
        &["models.default.path", "config.json: sha256 is"],
        &["signals.pll.window_tokens", "at most 510"],
        &["cache.path", "can't be used"],
        &["admin.listen", "another port"],
        &["source.kafka.topics", "no topic \"check-bad.raw\""],
        &["routes.fail", "no topic \"check-bad.fail\""],
        &["routes.review", "no topic \"check-bad.review\""],
    ] {
        said.says("problem", parts);
    }
    assert_eq!(said.problems().len(), 10, "{}", said.out);
    assert!(said.err.contains("10 problems"), "{}", said.err);
    assert_eq!(referee.ask("listing", json!({})), before, "a check of missing topics must not make them");
    assert_eq!(tamis("run", &file, &more).code, Some(64), "run refuses wrong settings");

    // What programs read says the same.
    let mut as_json = more.clone();
    as_json.push("--json");
    let said = tamis("check", &file, &as_json);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    let problems = value["findings"].as_array().unwrap().iter().filter(|finding| finding["grade"] == "problem");
    assert_eq!((problems.count(), &value["exit"], said.code), (10, &json!(64), Some(64)));

    // With the settings right, what is left is unavailable; run refuses it in the same words.
    let right = pipeline("check-bad", &topics, "");
    let said = tamis("check", &right, &[]);
    assert_eq!(said.code, Some(69), "{}\n{}", said.out, said.err);
    let refused = tamis("run", &right, &[]);
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert_eq!(said.problems().len(), 3, "{}", said.out);
    for problem in said.problems() {
        assert!(refused.err.contains(problem), "run does not say {problem:?}:\n{}", refused.err);
    }
}

#[test]
fn topics_that_do_not_fit_and_a_group_that_would_refuse_are_told() {
    let mut referee = Referee::start();
    let topics = Topics::new("check-fit");
    referee.create(&[&topics.input, &topics.review, &topics.fail], 2);
    referee.ask(
        "create",
        json!({"topics": [
            {"name": topics.pass, "partitions": 3, "config": {"cleanup.policy": "compact"}},
            {"name": topics.dead, "partitions": 2, "config": {"max.message.bytes": "100000"}},
        ]}),
    );
    let file = pipeline("check-fit", &topics, "");
    let said = tamis("check", &file, &[]);
    assert_eq!(said.code, Some(0), "warnings are no problems:\n{}\n{}", said.out, said.err);
    said.says("note", &["routes.pass", "3 partitions", "murmur2"]);
    said.says("warning", &["routes.pass", "compact"]);
    said.says("warning", &["routes.dead_letter", "max.message.bytes", "stops the worker"]);

    referee.ask("join", json!({"topic": topics.input, "group": "check-fit", "assignor": "range"}));
    let said = tamis("check", &file, &[]);
    assert_eq!(said.code, Some(69), "{}\n{}", said.out, said.err);
    said.says("problem", &["source.kafka.group", "\"range\"", "cooperative-sticky"]);
    let refused = tamis("run", &file, &[]);
    assert_eq!((refused.code, refused.err.contains("\"range\"")), (Some(69), true), "{}", refused.err);
}

/// The pipeline of `user` on the broker that asks for passwords.
fn guarded(name: &str, topics: &Topics, user: &str, password: &str) -> (std::path::PathBuf, Vec<String>) {
    let file = pipeline(name, topics, "");
    let properties = [
        ("SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("SASL_MECHANISM", "PLAIN"),
        ("SASL_USERNAME", user),
        ("SASL_PASSWORD", password),
    ];
    let mut sets = vec![format!("source.kafka.brokers={}", broker::secured().guarded)];
    for (property, value) in properties {
        sets.push(format!("source.kafka.properties.{}={value}", property.to_lowercase().replace('_', ".")));
    }
    (file, sets.into_iter().flat_map(|set| ["--set".to_owned(), set]).collect())
}

#[test]
fn missing_permissions_are_told_by_topic_and_operation_and_run_refuses_too() {
    let mut referee = Referee::start();
    let open = &broker::secured().open;
    let topics = Topics::new("check-acl");
    let all: Vec<Value> = topics.all().iter().map(|name| json!({"name": name, "partitions": 1})).collect();
    referee.ask("create", json!({"brokers": open, "topics": all}));
    let allow = |referee: &mut Referee, user: &str, rules: Value| {
        referee.ask("allow", json!({"brokers": open, "user": user, "rules": rules}));
    };
    // Alice may read, and write to pass and review; the dead letters she may only see, the failures not even that.
    allow(
        &mut referee,
        "alice",
        json!([
            ["topic", topics.input, "literal", "read"],
            ["group", "check-acl", "literal", "read"],
            ["topic", topics.pass, "literal", "write"],
            ["topic", topics.review, "literal", "write"],
            ["topic", topics.dead, "literal", "describe"],
        ]),
    );
    let before = referee.ask("listing", json!({"brokers": open}));
    let (file, sets) = guarded("check-acl", &topics, "alice", "alice-secret");
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let said = tamis("check", &file, &sets);
    assert_eq!(said.code, Some(69), "{}\n{}", said.out, said.err);
    said.says("ok", &["source.kafka.topics", "may be read"]);
    said.says("ok", &["routes.pass", "may be written"]);
    said.says("problem", &["routes.dead_letter", "\"check-acl.dead\" may not be written", "Write"]);
    said.says("problem", &["routes.fail", "\"check-acl.fail\" may not be seen"]);
    said.says(
        "problem",
        &["delivery.guarantee", "no transaction", "check-acl-", "Write and Describe on transactional ids"],
    );
    assert_eq!(said.problems().len(), 3, "{}", said.out);
    assert_eq!(referee.ask("listing", json!({"brokers": open})), before);
    let refused = tamis("run", &file, &sets);
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    for part in ["\"check-acl.dead\" may not be written", "\"check-acl.fail\" may not be seen"] {
        assert!(refused.err.contains(part), "{part}:\n{}", refused.err);
    }

    // Without the permission on transactional ids alone, both still refuse; run by its own id.
    allow(
        &mut referee,
        "alice",
        json!([["topic", topics.dead, "literal", "write"], ["topic", topics.fail, "literal", "write"]]),
    );
    let said = tamis("check", &file, &sets);
    assert_eq!((said.code, said.problems().len()), (Some(69), 1), "{}", said.out);
    let refused = tamis("run", &file, &sets);
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    for part in ["transactional id check-acl-", "Write and Describe on transactional ids"] {
        assert!(refused.err.contains(part), "{part}:\n{}", refused.err);
    }

    allow(
        &mut referee,
        "alice",
        json!([
            ["transactional_id", "check-acl-", "prefixed", "write"],
            ["transactional_id", "check-acl-", "prefixed", "describe"]
        ]),
    );
    let said = tamis("check", &file, &sets);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
}

#[test]
fn a_user_who_may_do_nothing_and_a_wrong_password_are_told() {
    let mut referee = Referee::start();
    let topics = Topics::new("check-bob");
    let all: Vec<Value> = topics.all().iter().map(|name| json!({"name": name, "partitions": 1})).collect();
    referee.ask("create", json!({"brokers": broker::secured().open, "topics": all}));
    let (file, sets) = guarded("check-bob", &topics, "bob", "bob-secret");
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let said = tamis("check", &file, &sets);
    said.says("problem", &["source.kafka.topics", "\"check-bob.raw\" may not be seen"]);
    said.says("problem", &["source.kafka.group", "Read on the group"]);
    let (file, sets) = guarded("check-bob", &topics, "bob", "guessed");
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let said = tamis("check", &file, &sets);
    assert_eq!(said.code, Some(69), "{}\n{}", said.out, said.err);
    said.says("problem", &["source.kafka.brokers", "uthentication failed"]);
    assert!(!said.out.contains("guessed") && !said.err.contains("guessed"), "the password is shown");
}

#[test]
fn a_broker_that_is_not_there_is_told_in_time_and_offline_does_not_miss_it() {
    let topics = Topics::new("check-none");
    let file = pipeline("check-none", &topics, "");
    let nobody = ["--set", "source.kafka.brokers=127.0.0.1:1"];
    let begun = Instant::now();
    let said = tamis("check", &file, &nobody);
    assert!(begun.elapsed() < Duration::from_secs(150), "{:?}", begun.elapsed());
    assert_eq!(said.code, Some(69), "{}\n{}", said.out, said.err);
    said.says("problem", &["source.kafka.brokers", "127.0.0.1:1", "refused"]);
    assert_eq!(said.problems().len(), 1, "told once:\n{}", said.out);

    let said = tamis("check", &file, &["--offline", nobody[0], nobody[1]]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    said.says("note", &["--offline"]);
}

#[test]
fn every_pipeline_that_comes_with_tamis_passes_offline() {
    let free = ["--offline", "--set", "admin.listen=127.0.0.1:0"];
    let root = broker::root().join("pipelines");
    let mut seen = 0;
    for dir in [root.clone(), root.join("demo")] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|kind| kind == "toml") && !path.ends_with("reference.toml") {
                let said = tamis("check", &path, &free);
                assert_eq!(said.code, Some(0), "{}\n{}\n{}", path.display(), said.out, said.err);
                seen += 1;
            }
        }
    }
    assert!(seen >= 3);
    // The reference is not meant to be run; what is missing in it is told, and the rest looked at all the same.
    let said = tamis("check", &root.join("reference.toml"), &free);
    assert_eq!(said.code, Some(64));
    said.says("problem", &["routes.pass"]);
    said.says("ok", &["models.default.head_check"]);
    // A file that can't be read at all is one problem.
    let broken = broker::folder("check-broken").join("p.toml");
    fs::write(&broken, "[admin]\nlisen = \"x\"\n").unwrap();
    let said = tamis("check", &broken, &free);
    assert_eq!((said.code, said.problems().len()), (Some(64), 1), "{}", said.out);
    said.says("problem", &["lisen", "did you mean \"listen\"?"]);
}

#[test]
fn a_pattern_is_told_with_its_topics_and_none_of_them_is_a_warning() {
    let mut referee = Referee::start();
    let topics = Topics::new("check-pattern");
    referee.create(&topics.all(), 2);
    referee.create(&["check-pattern-more"], 1);
    let reads = "topics = [\"^check-pattern[.-](raw|more)\", \"^check-pattern-none.*\"]\ngroup = \"check-pattern\"";
    let file = pipeline_of("check-pattern", reads, "\"group.protocol\" = \"consumer\"", &topics, "");
    let said = tamis("check", &file, &[]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    said.says("ok", &["^check-pattern[.-](raw|more)", "matches 2 topics now"]);
    said.says("ok", &["check-pattern.raw: 2 partitions, may be read"]);
    said.says("warning", &["^check-pattern-none.*", "matches no topic"]);
    said.says("note", &["3 of 3 partitions have no committed offset"]);
}

#[test]
fn files_are_looked_at_as_a_run_would_and_nothing_is_left_behind() {
    let dir = broker::folder("check-files");
    let file = dir.join("files.toml");
    let text = format!(
        "name = \"check-files\"\n[source.files]\npaths = [\"{0}/in/*.jsonl\"]\n[sink.files]\ndir = \"{0}/out\"\n[routes]\npass = \"pass\"\n\
         fail = \"fail\"\ndead_letter = \"dead\"\n[signals.text]\nkind = \"text\"\n[[rules]]\nname = \"long\"\nsignal = \"text.words\"\n\
         min = 2\n[cache]\npath = \"{0}/cache\"\nenabled = false\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        dir.display()
    );
    fs::write(&file, text).unwrap();
    fs::create_dir(dir.join("in")).unwrap();
    let said = tamis("check", &file, &["--offline"]);
    assert_eq!((said.code, said.problems().len()), (Some(65), 1), "{}", said.out);
    said.says("problem", &["source.files.paths", "matches no file"]);
    let refused = tamis("run", &file, &[]);
    assert!(refused.code == Some(65) && refused.err.contains("matches no file"), "{}", refused.err);
    assert!(!dir.join("out").exists());

    fs::write(dir.join("in/a.jsonl"), "{\"text\": \"one two three\"}\n{\"text\": \"one\"}\n").unwrap();
    fs::create_dir(dir.join("out")).unwrap();
    fs::write(dir.join("out/fail.jsonl"), "mine").unwrap();
    let said = tamis("check", &file, &["--offline"]);
    assert_eq!((said.code, said.problems().len()), (Some(69), 1), "{}", said.out);
    said.says("problem", &["sink.files.dir", "fail.jsonl", "tamis did not write it"]);
    assert_eq!(fs::read_dir(dir.join("out")).unwrap().count(), 1);
    assert_eq!(tamis("run", &file, &[]).code, Some(69));
    fs::remove_dir_all(dir.join("out")).unwrap();

    let said = tamis("check", &file, &["--offline"]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    said.says("ok", &["sink.files.dir", "will be made"]);
    said.says("deliver", &["a kill repeats and loses nothing"]);
    assert!(!said.out.contains("until decided"), "{}", said.out);
    let early = ["--offline", "--set", "judge.evaluate=until-decided"];
    tamis("check", &file, &early).says("judge", &["until decided"]);
    said.says("ok", &["1 files, 1 of them still to be read"]);
    assert!(!dir.join("out").exists());
    assert_eq!(tamis("run", &file, &[]).code, Some(0));
    tamis("check", &file, &["--offline"]).says("warning", &["all delivered by earlier runs"]);
    fs::write(dir.join("in/a.jsonl"), "{\"text\": \"another\"}\n").unwrap();
    fs::remove_file(dir.join("out/pass.jsonl")).unwrap();
    let said = tamis("check", &file, &["--offline"]);
    assert_eq!((said.code, said.problems().len()), (Some(65), 2), "{}", said.out);
    said.says("problem", &["source.files.paths", "the file was changed since"]);
    said.says("problem", &["sink.files.dir", "pass.jsonl", "were written and committed"]);
}
