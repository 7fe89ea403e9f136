//! Owns what the cache does to the whole program: looked at and cleared beside a worker, damaged, on a full disk.

use crate::broker;
use crate::kafka_road::hex;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn tamis(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tamis")).args(args).current_dir(broker::root()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_cache_is_looked_at_and_cleared_beside_a_running_worker() {
    let mut referee = Referee::start();
    let topics = Topics::new("stores");
    referee.create(&topics.all(), 1);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": 60, "partitions": 1, "seed": 2}));
    let file = pipeline("stores", &topics, "");
    let path = file.to_str().unwrap().to_owned();
    // An instance that ran before, and one that runs now.
    let scored = tamis(&[
        "score",
        &path,
        "--input",
        "pipelines/demo/sample.jsonl",
        "--set",
        "delivery.instance=5",
        "--set",
        "signals.pll.stride=1",
    ]);
    assert!(scored.status.success(), "{scored:?}");
    let mut worker = Worker::run("stores", &file, &[]);
    worker.wait_ready();
    let deadline = Instant::now() + Duration::from_secs(120);
    while worker.metric("tamis_documents_total") < 60.0 {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(100));
    }
    let (code, out, err) = said(&tamis(&["cache", "stats", &path]));
    assert_eq!(code, Some(0), "{err}");
    let row =
        |number: &str| out.lines().find(|line| line.split_whitespace().next() == Some(number)).unwrap().to_owned();
    let (running, idle) = (row("0"), row("5"));
    assert_eq!(running.split_whitespace().collect::<Vec<_>>()[1..4], ["yes", "1", "1"], "{out}");
    assert_eq!(idle.split_whitespace().collect::<Vec<_>>()[1..4], ["no", "1", "1"], "{out}");
    let entries: u64 = idle.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(entries > 100, "{out}");

    let (code, out, _) = said(&tamis(&["cache", "clear", &path, "--dry-run", "--instance", "5"]));
    assert!(code == Some(0) && out.starts_with("would remove instance 5: "), "{out}");
    let (code, out, err) = said(&tamis(&["cache", "clear", &path]));
    assert!(code == Some(69) && err.contains("instance 0 is in use"), "{code:?} {err}");
    assert!(out.starts_with("removed instance 5: ") && !out.contains("instance 0"), "{out}");
    let (code, _, err) = said(&tamis(&["cache", "clear", &path, "--instance", "5"]));
    assert!(code == Some(64) && err.contains("there is 0"), "{code:?} {err}");
    // The worker did not notice.
    assert!(worker.metric("tamis_cache_errors_total") == 0.0 && worker.metric("tamis_cache_breaker_open") == 0.0);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let (code, out, _) = said(&tamis(&["cache", "clear", &path]));
    assert!(code == Some(0) && out.starts_with("removed instance 0: "), "{out}");
    let (code, out, _) = said(&tamis(&["cache", "stats", &path]));
    assert!(code == Some(0) && out.contains("no instance has a store"), "{out}");
}

/// A pipeline for `score`, and a part of the demo's sample.
fn scoring(name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let dir = broker::folder(name);
    let (file, input, cache) = (dir.join("score.toml"), dir.join("input.jsonl"), dir.join("cache"));
    let text = format!(
        "[models.default]\npath = {:?}\nhead_check = \"warn\"\n[signals.pll]\nkind = \"pll\"\nmasking = \"strided\"\n[[rules]]\nname = \"fluent\"\nsignal = \"pll.nll_token\"\nmax = 6.0\n[cache]\npath = {cache:?}\n",
        broker::root().join("models/tamis-en")
    );
    fs::write(&file, text).unwrap();
    let sample = fs::read(broker::root().join("pipelines/demo/sample.jsonl")).unwrap();
    let lines: Vec<&[u8]> = sample.split_inclusive(|byte| *byte == b'\n').step_by(9).collect();
    fs::write(&input, lines.concat()).unwrap();
    (file, input, cache)
}

fn verdicts(file: &Path, input: &Path) -> (Vec<Value>, String) {
    let output = tamis(&["score", file.to_str().unwrap(), "--input", input.to_str().unwrap()]);
    let (code, out, err) = said(&output);
    assert_eq!(code, Some(0), "{err}");
    (out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), err)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_store_changes_no_verdict() {
    let (file, input, cache) = scoring("damaged");
    let (expected, _) = verdicts(&file, &input);
    type Damage = fn(&Path, &mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("bits are flipped", |_, bytes| bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 0x10)),
        ("files are cut", |_, bytes| bytes.truncate(bytes.len() / 3)),
        ("the snapshot is garbage", |path, bytes| {
            if path.file_name().unwrap().to_str().unwrap().starts_with("snap") {
                bytes.fill(0xab);
            }
        }),
        ("everything is empty", |_, bytes| bytes.clear()),
        ("the layout is of another program", |path, bytes| {
            if path.ends_with("layout") {
                *bytes = b"tamis-cache 99\n".to_vec();
            }
        }),
    ];
    for (name, damage) in damages {
        // A second run over a sound store, so that there is a snapshot to damage, too.
        verdicts(&file, &input);
        let mut damaged = 0;
        for path in files(&cache.join("0")) {
            let sound = fs::read(&path).unwrap();
            let mut bytes = sound.clone();
            damage(&path, &mut bytes);
            damaged += usize::from(bytes != sound);
            fs::write(&path, bytes).unwrap();
        }
        assert!(damaged > 0, "{name}: there was nothing to damage");
        let (found, log) = verdicts(&file, &input);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((&found["id"], &found["verdict"]), (&expected["id"], &expected["verdict"]), "{name}");
            let score = |line: &Value| line["signals"]["pll.nll_token"].as_f64();
            let near = score(found).zip(score(expected)).is_none_or(|(a, b)| (a - b).abs() < 1e-3);
            assert!(near && score(found).is_some() == score(expected).is_some(), "{name}: {found}\n{expected}");
        }
        if name.starts_with("the layout") {
            assert!(log.contains("set aside") && log.contains("tamis-cache 99"), "{log}");
        }
    }
}

/// How many entries the store of instance 0 says that it has.
fn entries(file: &Path) -> u64 {
    let (code, out, err) = said(&tamis(&["cache", "stats", file.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{err}");
    let row = out.lines().find(|line| line.starts_with("0 ")).unwrap_or_else(|| panic!("{out}"));
    row.split_whitespace().nth(4).unwrap().parse().unwrap()
}

#[test]
fn what_is_known_of_a_document_is_erased_on_request_and_nothing_else() {
    let (file, input, cache) = scoring("erased");
    let name = file.to_str().unwrap();
    let (expected, _) = verdicts(&file, &input);
    let before = entries(&file);
    let request = input.with_file_name("request.jsonl");
    let lines: Vec<String> = fs::read_to_string(&input).unwrap().lines().map(str::to_owned).collect();
    fs::write(&request, format!("{}\n\n{}\n", lines[3], lines[7])).unwrap();
    let erase = |how: &[&str]| said(&tamis(&[&["cache", "erase", name], how].concat()));

    // As a worker holds it.
    let lock = File::open(cache.join("0.store.lock")).unwrap();
    lock.lock().unwrap();
    let (code, out, err) = erase(&["--input", request.to_str().unwrap()]);
    assert!(
        code == Some(69) && out.is_empty() && err.contains("instance 0 is in use; stop its worker"),
        "{code:?} {err}"
    );
    drop(lock);

    let (code, out, err) = erase(&["--input", request.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    let kept = entries(&file);
    let gone = before - kept;
    assert!(gone >= 2 && out == format!("instance 0: {gone} entries erased, {kept} kept\n"), "{before} {out}");
    let (_, out, _) = erase(&["--input", request.to_str().unwrap()]);
    assert!(out.starts_with("instance 0: 0 entries erased"), "{out}");
    // Scored again: what was erased is put back, and everything else is found.
    let (found, _) = verdicts(&file, &input);
    assert_eq!(entries(&file), before);
    assert_eq!(found.len(), expected.len());

    let text = serde_json::from_str::<Value>(&lines[3]).unwrap()["text"].as_str().unwrap().to_owned();
    let (code, out, err) = erase(&["--text", &text, "--instance", "0"]);
    assert!(code == Some(0) && !out.contains(": 0 entries"), "{out} {err}");
    fs::write(&request, "{broken\n").unwrap();
    let (code, _, err) = erase(&["--input", request.to_str().unwrap()]);
    assert!(code == Some(65) && err.contains("1 lines of the input hold no document"), "{code:?} {err}");
    let (code, _, err) = erase(&[]);
    assert!(code == Some(64) && err.contains("--text") && err.contains("--input"), "{err}");
}

/// A small file system in memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said loudly, where mounting isn't permitted.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tamis-test"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            refused => {
                // Past the harness's capture, which print macros go through.
                let told =
                    format!("\n*** NOT RUN: the cache on a full disk; mounting a tmpfs was refused: {refused:?}\n");
                std::io::stderr().write_all(told.as_bytes()).unwrap();
                None
            }
        }
    }

    /// Writes until there is no room left; the file can be removed to make some.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).unwrap();
        for size in [64 * 1024, 4096, 512] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a worker that a failed test left may still have files there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_the_service_goes_on_without_its_cache_and_takes_it_up_again() {
    let Some(disk) = SmallDisk::mount(broker::folder("full").join("disk"), "8m") else { return };
    let mut referee = Referee::start();
    let topics = Topics::new("full");
    referee.create(&topics.all(), 1);
    let file = pipeline("full", &topics, "");
    let cache = format!("cache.path={}", disk.0.join("cache").display());
    let mut worker = Worker::run("full", &file, &["--set", &cache]);
    worker.wait_ready();
    let ballast = disk.fill();
    let mut sent = 0;
    let mut send = |referee: &mut Referee, count: u64| {
        let records: Vec<Value> = (sent..sent + count)
            .map(|n| json!({"value": hex(json!({"id": n.to_string(), "text": format!("The committee met, number {n}.")}).to_string().as_bytes())}))
            .collect();
        referee.ask("put", json!({"topic": topics.input, "records": records}));
        sent += count;
        sent
    };
    let deadline = Instant::now() + Duration::from_secs(180);
    let delivered = |worker: &Worker, wanted: u64| {
        while (worker.metric("tamis_documents_total") as u64) < wanted {
            assert!(Instant::now() < deadline, "{wanted} wanted\n{}", worker.log());
            sleep(Duration::from_millis(100));
        }
    };
    // Enough to need new room on disk: the store is written behind, within a second or so.
    while worker.metric("tamis_cache_breaker_open") == 0.0 {
        let wanted = send(&mut referee, 50);
        delivered(&worker, wanted);
    }
    assert!(worker.metric("tamis_cache_errors_total") > 0.0);
    assert!(
        worker.log().contains("the disk is full") || worker.log().contains("cache is bypassed"),
        "{}",
        worker.log()
    );
    let wanted = send(&mut referee, 200);
    delivered(&worker, wanted);
    // Room again: after a while the store is used again.
    fs::remove_file(ballast).unwrap();
    while worker.metric("tamis_cache_breaker_open") > 0.0 {
        let wanted = send(&mut referee, 5);
        delivered(&worker, wanted);
        sleep(Duration::from_millis(500));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let checked = referee.ask("verify", json!({"input": topics.input, "outputs": topics.outputs()}));
    assert!(checked["lost"] == 0 && checked["problems"] == 0 && checked["output"] == checked["input"], "{checked}");
}
