//! Owns the proof of files as source and sink: the built daemon, killed again and again, and outputs read by other people's programs.

use crate::broker;
use crate::referee::Referee;
use crate::worker::{Topics, Worker};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One commit after another, few documents each, so that a kill finds one under way.
const EAGER: &str = "[delivery]\ncommit_interval_ms = 1\nmax_batch_documents = 10\nmax_documents = 40\n";
const FILES_SINK: &str = "[routes]\npass = \"pass\"\nreview = \"review\"\nfail = \"fail\"\ndead_letter = \"dead\"\n";

/// A pipeline that needs no model, with `ends` for its source and sink.
fn pipeline(dir: &Path, name: &str, ends: &str) -> PathBuf {
    let path = dir.join(format!("{name}.toml"));
    let cache = dir.join("cache");
    let text = format!(
        r#"name = "{name}"
[signals.text]
kind = "text"
[[rules]]
name = "long-enough"
signal = "text.words"
min = 5
review_below = 8
[cache]
path = "{cache}"
enabled = false
[admin]
listen = "127.0.0.1:0"
{ends}
"#,
        cache = cache.display()
    );
    fs::write(&path, text).unwrap();
    path
}

/// One numbered line; a few of each kind of trouble, blank lines not counted.
fn document(number: usize) -> Vec<u8> {
    match number % 50 {
        7 => format!("{{\"id\": \"{number}\", \"text\": ").into_bytes(),
        17 => [b"\xff\xfe ".as_slice(), number.to_string().as_bytes()].concat(),
        27 => format!("{{\"id\": {number}}}").into_bytes(),
        37 => format!("{{\"id\": {number}, \"text\": \"\"}}").into_bytes(),
        _ => {
            let words = vec!["word"; number % 11].join(" ");
            format!("{{\"id\": {number}, \"n\": {number}.10e2, \"text\": \"{words} é {number}\"}}").into_bytes()
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The lines from `first` on, in frames or members of 100 lines each, line ends and blank lines varied.
fn lines(first: usize, count: usize, pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let numbers: Vec<usize> = (first..first + count).collect();
    let chunk = |numbers: &[usize]| {
        let line = |number: &usize| {
            let end: &[u8] = if number.is_multiple_of(3) {
                b"\r\n"
            } else if number % 40 == 1 {
                b"\n\n  \n"
            } else {
                b"\n"
            };
            [document(*number), end.to_vec()].concat()
        };
        pack(&numbers.iter().flat_map(line).collect::<Vec<u8>>())
    };
    numbers.chunks(100).flat_map(chunk).collect()
}

/// `count` numbered documents over four files: plain, with a byte-order mark, in frames, in members.
fn inputs(dir: &Path, count: usize) {
    let folder = dir.join("in/deep");
    fs::create_dir_all(&folder).unwrap();
    let quarter = count / 4;
    let plain = |bytes: &[u8]| bytes.to_vec();
    fs::write(dir.join("in/1.jsonl"), lines(0, quarter, plain)).unwrap();
    let marked = [b"\xef\xbb\xbf".to_vec(), lines(quarter, quarter, plain)].concat();
    fs::write(dir.join("in/2.jsonl"), &marked[..marked.len() - 1]).unwrap();
    fs::write(folder.join("3.jsonl.zst"), lines(2 * quarter, quarter, |bytes| zstd::encode_all(bytes, 1).unwrap()))
        .unwrap();
    fs::write(folder.join("4.jsonl.gz"), lines(3 * quarter, quarter, gzip)).unwrap();
    fs::write(folder.join("5.jsonl"), "").unwrap();
}

fn files_to_files(dir: &Path, name: &str, sink: &str) -> PathBuf {
    let ends = format!(
        "[source.files]\npaths = [\"{0}/in/**/*.jsonl*\", \"{0}/in/*.jsonl*\"]\n[sink.files]\ndir = \"{0}/out\"\n{sink}\n{FILES_SINK}{EAGER}",
        dir.display()
    );
    pipeline(dir, name, &ends)
}

/// What somebody else's program makes of a file.
fn unpacked(path: &Path) -> Vec<u8> {
    let name = path.to_str().unwrap();
    let program = if name.ends_with(".zst") {
        "zstd"
    } else if name.ends_with(".gz") {
        "gzip"
    } else {
        return fs::read(path).unwrap();
    };
    let output = Command::new(program).args(["-dc", name]).output();
    let output = output.unwrap_or_else(|error| panic!("NO {program} to check {name} with: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The outputs' lines with the route that each is on.
fn outputs(dir: &Path, suffix: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for route in ["pass", "review", "fail", "dead"] {
        let path = dir.join(format!("out/{route}.jsonl{suffix}"));
        for line in unpacked(&path).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            found.push((route.to_owned(), serde_json::from_slice(line).unwrap()));
        }
    }
    found
}

/// Every document is there once, on the route of its verdict, with its own bytes.
fn check(dir: &Path, suffix: &str, count: usize) {
    let mut seen = BTreeMap::new();
    for (route, line) in outputs(dir, suffix) {
        let facts = &line["tamis"];
        assert_eq!(facts["verdict"].as_str().unwrap().replace("dead-letter", "dead"), route, "{line}");
        let number = number(&line);
        assert!(seen.insert(number, route).is_none(), "{number} is there twice");
    }
    let lost: Vec<usize> = (0..count).filter(|number| !seen.contains_key(number)).collect();
    assert!(lost.is_empty() && seen.len() == count, "{} of {count} are there; lost: {lost:?}", seen.len());
    let whole = outputs_text(dir, suffix);
    for number in (0..count).filter(|number| ![7, 17, 27, 37].contains(&(number % 50))) {
        let document = String::from_utf8(document(number)).unwrap();
        let kept = &document[..document.len() - 1];
        assert!(whole.contains(&format!("\n{kept},\"tamis\":{{")), "{document} did not keep its bytes");
    }
}

fn outputs_text(dir: &Path, suffix: &str) -> String {
    let routes = ["pass", "review", "fail"].map(|route| unpacked(&dir.join(format!("out/{route}.jsonl{suffix}"))));
    format!("\n{}", String::from_utf8(routes.concat()).unwrap())
}

/// The number in a line's document, whatever became of it.
fn number(line: &Value) -> usize {
    if let Some(number) = line["id"].as_u64() {
        return usize::try_from(number).unwrap();
    }
    let base64 = line["raw_base64"].as_str().map(|text| {
        let python = "import sys,base64; sys.stdout.buffer.write(base64.b64decode(sys.argv[1])[3:])";
        let output = Command::new("python3").args(["-c", python, text]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let raw = base64.unwrap_or_else(|| line["raw"].as_str().unwrap().to_owned());
    let digits: String = raw.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

/// Runs the pipeline and kills it as soon as its checkpoint has grown by `bytes`. False if it ended before that.
fn run_and_kill(file: &Path, journal: &Path, bytes: u64) -> bool {
    let mut worker = Worker::run("killed", file, &[]);
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut begun = None;
    while Instant::now() < deadline {
        if worker.ended() {
            assert_eq!(worker.wait(1).code(), Some(0), "{}", worker.log());
            return false;
        }
        // The start writes the journal anew; it grows from then on.
        if begun.is_none() && worker.log().contains("running, waiting for records") {
            begun = Some(length(journal));
        }
        if begun.is_some_and(|begun| length(journal) > begun + bytes) {
            worker.signal("-KILL");
            worker.wait(10);
            return true;
        }
        sleep(Duration::from_micros(300));
    }
    panic!("nothing happened:\n{}", worker.log());
}

fn killed_and_resumed(name: &str, sink: &str, suffix: &str) {
    let dir = broker::folder(name);
    inputs(&dir, 2_000);
    let file = files_to_files(&dir, name, sink);
    let journal = dir.join("out/tamis.checkpoint");
    let mut kills = 0;
    for attempt in 0..8_u64 {
        // Uneven, so that kills come at different points of a commit.
        sleep(Duration::from_micros(attempt * 331 % 1_000));
        kills += u32::from(run_and_kill(&file, &journal, 300 + attempt * 1_777 % 5_000));
    }
    assert!(kills >= 4, "only {kills} kills came before the end");
    let mut last = Worker::run("last", &file, &[]);
    assert_eq!(last.wait(120).code(), Some(0), "{}", last.log());
    check(&dir, suffix, 2_000);
    let before = outputs_text(&dir, suffix);
    let mut again = Worker::run("again", &file, &[]);
    assert_eq!(again.wait(60).code(), Some(0), "{}", again.log());
    assert!(again.log().contains("there is nothing to do"), "{}", again.log());
    assert_eq!(outputs_text(&dir, suffix), before, "a run more changes nothing");
    eprintln!("{name}: {kills} kills, 2000 documents once each");
}

#[test]
fn killed_again_and_again_nothing_is_repeated_or_lost() {
    killed_and_resumed("files-plain", "", "");
}

#[test]
fn killed_again_and_again_zstd_stays_whole() {
    killed_and_resumed("files-zstd", "compression = \"zstd\"", ".zst");
}

#[test]
fn killed_again_and_again_gzip_stays_whole() {
    killed_and_resumed("files-gzip", "compression = \"gzip\"\nlevel = 1", ".gz");
}

#[test]
fn a_drain_in_the_middle_ends_with_0_and_the_next_run_finishes() {
    let dir = broker::folder("files-drain");
    inputs(&dir, 2_000);
    let file = files_to_files(&dir, "files-drain", "");
    let mut worker = Worker::run("drained", &file, &[]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while length(&dir.join("out/tamis.checkpoint")) < 2_000 && !worker.ended() {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(1));
    }
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let drained = outputs(&dir, "").len();
    let mut other = Worker::run("rest", &file, &[]);
    assert_eq!(other.wait(60).code(), Some(0), "{}", other.log());
    check(&dir, "", 2_000);
    eprintln!("drained after {drained} documents");
}

/// What `tamis` says and with which code it ends.
fn said(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .args(args)
        .current_dir(broker::root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn inputs_that_cannot_be_read_are_65_and_say_where() {
    let dir = broker::folder("files-broken");
    fs::create_dir_all(dir.join("in")).unwrap();
    let whole = lines(0, 300, |bytes| zstd::encode_all(bytes, 1).unwrap());
    fs::write(dir.join("in/a.jsonl.zst"), &whole[..whole.len() - 9]).unwrap();
    fs::write(dir.join("in/b.jsonl.gz"), [gzip(&lines(300, 1, <[u8]>::to_vec)), b"trailing garbage".to_vec()].concat())
        .unwrap();
    fs::write(dir.join("in/c.jsonl.gz"), "").unwrap();
    fs::write(dir.join("in/d.jsonl"), document(301)).unwrap();
    let file = files_to_files(&dir, "files-broken", "");
    let file = file.to_str().unwrap();
    let (code, _, told) = said(&["run", file]);
    assert_eq!(code, Some(65), "{told}");
    for part in [
        "3 of the files could not be read to the end",
        "in/a.jsonl.zst: reading stopped at line ",
        "cut off",
        "in/b.jsonl.gz: reading stopped at line 2: what follows the gzip data is not gzip data",
        "in/c.jsonl.gz: is empty",
    ] {
        assert!(told.contains(part), "{part} is missing from {told}");
    }
    let mut numbers: Vec<usize> = outputs(&dir, "").iter().map(|(_, line)| number(line)).collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 200 && numbers.ends_with(&[300, 301]), "what could be read was delivered: {numbers:?}");
    // Mended, the rest comes, and what was delivered does not come again.
    fs::write(dir.join("in/a.jsonl.zst"), &whole).unwrap();
    fs::write(dir.join("in/b.jsonl.gz"), gzip(&lines(300, 1, <[u8]>::to_vec))).unwrap();
    fs::remove_file(dir.join("in/c.jsonl.gz")).unwrap();
    let (code, _, told) = said(&["run", file]);
    assert_eq!(code, Some(0), "{told}");
    check(&dir, "", 302);
    // What was delivered has changed: refused, and nothing is touched.
    let before = outputs_text(&dir, "");
    fs::write(dir.join("in/d.jsonl"), "{\"text\": \"another text in its place\"}").unwrap();
    let (code, _, told) = said(&["run", file]);
    assert!(code == Some(65) && told.contains("in/d.jsonl: the first 1 lines are not those"), "{code:?} {told}");
    assert_eq!(outputs_text(&dir, ""), before);
}

#[test]
fn wrong_paths_and_directories_are_told_at_once() {
    let dir = broker::folder("files-wrong");
    inputs(&dir, 8);
    let file = files_to_files(&dir, "files-wrong", "");
    let (file, out) = (file.to_str().unwrap(), dir.join("out"));
    let sets = |set: String| said(&["run", file, "--set", &set]);
    let (code, _, told) = sets(format!("source.files.paths=[\"{}/in/*.txt\"]", dir.display()));
    assert!(code == Some(65) && told.contains("matches no file"), "{code:?} {told}");
    let (code, _, told) = sets(format!("source.files.paths=[\"{}/in\"]", dir.display()));
    assert!(code == Some(65) && told.contains("is a directory"), "{code:?} {told}");
    let (code, _, told) = sets("delivery.guarantee=exactly-once".to_owned());
    assert!(code == Some(64) && told.contains("delivery.guarantee"), "{code:?} {told}");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("pass.jsonl"), "somebody's\n").unwrap();
    let (code, _, told) = sets("name=x".to_owned());
    assert!(code == Some(69) && told.contains("tamis did not write it"), "{code:?} {told}");
    let (code, _, told) = sets(format!("source.files.paths=[\"{}/**/*.jsonl\"]", dir.display()));
    assert!(code == Some(65) && told.contains("come back as inputs"), "{code:?} {told}");
    assert_eq!(fs::read(out.join("pass.jsonl")).unwrap(), b"somebody's\n");
    fs::remove_file(out.join("pass.jsonl")).unwrap();
    let lock = fs::File::create(out.join("tamis.lock")).unwrap();
    lock.lock().unwrap();
    let (code, _, told) = sets("name=x".to_owned());
    assert!(code == Some(69) && told.contains("held by another process"), "{code:?} {told}");
}

#[test]
fn a_full_disk_is_69_and_the_next_run_goes_on() {
    let dir = broker::folder("files-full");
    inputs(&dir, 400);
    let file = files_to_files(&dir, "files-full", "");
    // A limit on the size of files stands for the disk: the write that crosses it fails half way.
    let limited = format!("ulimit -f 12; trap '' XFSZ; exec {} run {}", env!("CARGO_BIN_EXE_tamis"), file.display());
    let output = Command::new("bash").args(["-c", &limited]).current_dir(broker::root()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(69) && told.contains("nothing of this step counts as delivered"), "{told}");
    let (code, _, told) = said(&["run", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    check(&dir, "", 400);
}

#[test]
fn a_file_of_somebody_else_s_among_the_outputs_is_told_before_a_model_is_loaded() {
    let dir = broker::folder("files-foreign");
    inputs(&dir, 40);
    let file = files_to_files(&dir, "files-foreign", "");
    fs::create_dir_all(dir.join("out")).unwrap();
    fs::write(dir.join("out/pass.jsonl"), "years of work\n").unwrap();
    let model = ["--set", "signals.pll.kind=pll", "--set", "models.default.path=no/such/model"];
    let (code, _, told) = said(&[&["run", file.to_str().unwrap()], &model[..]].concat());
    assert!(code == Some(69) && told.contains("out/pass.jsonl") && !told.contains("no/such/model"), "{code:?} {told}");
    assert_eq!(fs::read_to_string(dir.join("out/pass.jsonl")).unwrap(), "years of work\n");
}

#[test]
fn score_reads_what_is_compressed() {
    let dir = broker::folder("files-score");
    let file = files_to_files(&dir, "files-score", "");
    let file = file.to_str().unwrap();
    let plain = lines(0, 40, <[u8]>::to_vec);
    let zst = lines(0, 40, |bytes| {
        [zstd::encode_all(&bytes[..bytes.len() / 2], 1), zstd::encode_all(&bytes[bytes.len() / 2..], 1)]
            .map(Result::unwrap)
            .concat()
    });
    let mut answers = Vec::new();
    for (name, bytes) in
        [("a.jsonl", plain.clone()), ("a.jsonl.zst", zst.clone()), ("a.jsonl.gz", gzip(&plain)), ("a", zst.clone())]
    {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        let (code, out, told) = said(&["score", file, "--input", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{told}");
        answers.push(out);
    }
    assert!(answers[0].lines().count() >= 40 && answers.iter().all(|answer| *answer == answers[0]));
    let path = dir.join("cut.zst");
    fs::write(&path, &zst[..zst.len() - 5]).unwrap();
    let (code, out, told) = said(&["score", file, "--input", path.to_str().unwrap()]);
    assert!(
        code == Some(65) && told.contains("cut.zst: reading stopped at line ") && !out.is_empty(),
        "{code:?} {told}"
    );
    let (code, _, told) = said(&["score", file, "--input", dir.join("none").to_str().unwrap()]);
    assert!(code == Some(65) && told.contains("check the path"), "{code:?} {told}");
}

#[test]
fn what_stands_in_the_place_of_an_output_of_score_is_not_destroyed_by_a_mistake() {
    let dir = broker::folder("files-score-over");
    let file = files_to_files(&dir, "files-score-over", "");
    let file = file.to_str().unwrap();
    let (input, link, output) = (dir.join("a.jsonl"), dir.join("link.jsonl"), dir.join("out.jsonl"));
    let text = lines(0, 3, <[u8]>::to_vec);
    fs::write(&input, &text).unwrap();
    std::os::unix::fs::symlink("a.jsonl", &link).unwrap();
    for own in [&input, &link] {
        let (code, _, told) =
            said(&["score", file, "--input", input.to_str().unwrap(), "--output", own.to_str().unwrap()]);
        assert!(code == Some(64) && told.contains("is the input, which writing would destroy"), "{code:?} {told}");
        assert_eq!(fs::read(&input).unwrap(), text);
    }
    fs::write(&output, "what took a night to make\n".repeat(1_000)).unwrap();
    let broken = dir.join("broken.toml");
    let model = "[models.default]\npath = \"none\"\n[signals.pll]\nkind = \"pll\"\nmodel = \"default\"\n[[rules]]\nname = \"x\"\nsignal = \"pll.nll_token\"\nmax = 9.0\n";
    fs::write(&broken, fs::read_to_string(file).unwrap() + model).unwrap();
    let both =
        |file: &str| said(&["score", file, "--input", input.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let (code, _, told) = both(broken.to_str().unwrap());
    assert!(code != Some(0) && fs::read_to_string(&output).unwrap().starts_with("what took"), "{code:?} {told}");
    let (code, _, told) = both(file);
    let written = fs::read_to_string(&output).unwrap();
    assert!(
        code == Some(0) && written.lines().count() >= 3 && written.lines().all(|line| line.starts_with('{')),
        "{code:?} {told} {written}"
    );
}

#[test]
fn text_files_become_lines_of_json() {
    let dir = broker::folder("files-text");
    fs::create_dir_all(dir.join("in")).unwrap();
    fs::write(dir.join("in/a.jsonl"), "\u{feff}say \"hi\" to all the people in the village\r\n\n\ttwo\n").unwrap();
    let file = files_to_files(&dir, "files-text", "");
    let (code, _, told) = said(&["run", file.to_str().unwrap(), "--set", "document.format=text"]);
    assert_eq!(code, Some(0), "{told}");
    let pass = fs::read_to_string(dir.join("out/pass.jsonl")).unwrap();
    assert!(
        pass.starts_with(
            "{\"text\":\"say \\\"hi\\\" to all the people in the village\",\"tamis\":{\"verdict\":\"pass\""
        ),
        "{pass}"
    );
    let fail: Value = serde_json::from_str(&fs::read_to_string(dir.join("out/fail.jsonl")).unwrap()).unwrap();
    assert!(fail["text"] == "\ttwo" && fail["tamis"]["source"].as_str().unwrap().ends_with("in/a.jsonl/0/2"), "{fail}");
    assert!(!dir.join("out/dead.jsonl").exists());
}

#[test]
fn the_pipeline_that_teaches_runs_as_it_stands() {
    let dir = broker::folder("files-teach");
    let out = format!("sink.files.dir={}", dir.join("out").display());
    let cache = format!("cache.path={}", dir.join("cache").display());
    let sets = ["run", "pipelines/files.toml", "--set", &out, "--set", &cache, "--set", "admin.listen=127.0.0.1:0"];
    let (code, _, told) = said(&sets);
    assert_eq!(code, Some(0), "{told}");
    let count = |route: &str| {
        unpacked(&dir.join(format!("out/{route}.jsonl.zst"))).iter().filter(|byte| **byte == b'\n').count()
    };
    let counts = ["pass", "review", "fail", "dead-letter"].map(count);
    assert!(counts.iter().sum::<usize>() == 360 && counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Waits for the group to have committed everything.
fn wait_for_group(referee: &mut Referee, topic: &str, group: &str, worker: &Worker) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while referee.ask("committed", json!({"topic": topic, "group": group}))["lag"] != 0 {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn from_kafka_to_files_nothing_is_lost_when_killed() {
    let mut referee = Referee::start();
    let (dir, topics) = (broker::folder("files-from-kafka"), Topics::new("files-from-kafka"));
    referee.create(&[topics.input.as_str()], 4);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": 2_000, "partitions": 4, "seed": 3}));
    let gone = json!([{"value": null, "key": "676f6e65", "partition": 0}]);
    referee.ask("put", json!({"topic": topics.input, "records": gone}));
    let ends = format!(
        "[source.kafka]\nbrokers = \"{}\"\ntopics = [\"{}\"]\ngroup = \"files-from-kafka\"\n\
         properties = {{ \"session.timeout.ms\" = \"6000\", \"heartbeat.interval.ms\" = \"500\" }}\n\
         [sink.files]\ndir = \"{}/out\"\ncompression = \"zstd\"\n{FILES_SINK}{EAGER}",
        broker::bootstrap(),
        topics.input,
        dir.display()
    );
    let file = pipeline(&dir, "files-from-kafka", &ends);
    let mut kills = 0;
    for bytes in [500, 2_000] {
        kills += u32::from(run_and_kill(&file, &dir.join("out/tamis.checkpoint"), bytes));
    }
    assert_eq!(kills, 2);
    let mut worker = Worker::run("last", &file, &[]);
    wait_for_group(&mut referee, &topics.input, "files-from-kafka", &worker);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
    let lines = outputs(&dir, ".zst");
    let mut sources = BTreeMap::new();
    for (_, line) in lines.iter().filter(|(_, line)| line["tamis"]["verdict"] != "tombstone") {
        *sources.entry(line["tamis"]["source"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        assert!(line["tamis"]["key"].as_str().unwrap().starts_with('k') && line["tamis"]["headers"][0][0] == "origin");
    }
    assert_eq!(sources.len(), 2_000, "nothing is lost");
    let repeated = sources.values().filter(|count| **count > 1).count();
    assert!(repeated <= 2 * 10, "{repeated} documents are there twice; a kill may repeat one batch of 10");
    let tombstones: Vec<_> = lines.iter().filter(|(_, line)| line["tamis"]["verdict"] == "tombstone").collect();
    assert!(tombstones.len() >= 3 && tombstones.iter().all(|(_, line)| line["tamis"]["key"] == "gone"));
    eprintln!("kafka to files, {kills} kills: 2000 documents, {repeated} of them twice");
}

#[test]
fn from_files_to_kafka_nothing_is_lost_when_killed() {
    let mut referee = Referee::start();
    let (dir, topics) = (broker::folder("files-to-kafka"), Topics::new("files-to-kafka"));
    referee.create(&topics.all()[1..], 4);
    inputs(&dir, 2_000);
    let ends = format!(
        "[source.files]\npaths = [\"{0}/in/**/*.jsonl*\"]\nstate = \"{0}/state\"\n[sink.kafka]\nbrokers = \"{1}\"\n\
         [routes]\npass = \"{2}\"\nreview = \"{3}\"\nfail = \"{4}\"\ndead_letter = \"{5}\"\n{EAGER}",
        dir.display(),
        broker::bootstrap(),
        topics.pass,
        topics.review,
        topics.fail,
        topics.dead
    );
    let file = pipeline(&dir, "files-to-kafka", &ends);
    let journal = dir.join("state/files-to-kafka/tamis.checkpoint");
    let kills = [500, 3_000, 1_000].into_iter().filter(|bytes| run_and_kill(&file, &journal, *bytes)).count();
    let mut worker = Worker::run("last", &file, &[]);
    assert_eq!(worker.wait(120).code(), Some(0), "{}", worker.log());
    let answer = referee.ask("dump", json!({ "topics": topics.all()[1..] }));
    let (mut sources, mut partitions) = (BTreeMap::new(), BTreeMap::new());
    for record in answer["records"].as_array().unwrap() {
        let headers = record["headers"].as_array().unwrap();
        let source = headers.iter().find(|header| header[0] == "tamis-source").unwrap()[1].as_str().unwrap();
        *sources.entry(source.to_owned()).or_insert(0) += 1;
        *partitions.entry(record["partition"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(sources.len(), 2_000, "nothing is lost");
    let repeated = sources.values().filter(|count| **count > 1).count();
    assert!(kills >= 2 && repeated <= kills * 10, "{kills} kills, {repeated} documents are there twice");
    assert!(partitions.len() == 4 && partitions.values().all(|count| *count > 300), "{partitions:?}");
    eprintln!("files to kafka, {kills} kills: 2000 documents, {repeated} of them twice, by partition {partitions:?}");
}
