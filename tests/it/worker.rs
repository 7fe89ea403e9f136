//! Owns a tamis process under test: its pipeline file, its signals, its endpoints, and what a command says that ends by itself.

use crate::broker;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The topics of one test.
pub struct Topics {
    pub input: String,
    pub pass: String,
    pub review: String,
    pub fail: String,
    pub dead: String,
}

impl Topics {
    pub fn new(name: &str) -> Self {
        let topic = |suffix: &str| format!("{name}.{suffix}");
        Self {
            input: topic("raw"),
            pass: topic("pass"),
            review: topic("review"),
            fail: topic("fail"),
            dead: topic("dead"),
        }
    }

    pub fn all(&self) -> [&str; 5] {
        [&self.input, &self.pass, &self.review, &self.fail, &self.dead]
    }

    pub fn outputs(&self) -> serde_json::Value {
        serde_json::json!({"pass": self.pass, "review": self.review, "fail": self.fail, "dead": self.dead})
    }
}

/// Writes a pipeline file that scores with the bundled model, every worker of it taking a free admin port.
pub fn pipeline(name: &str, topics: &Topics, extra: &str) -> PathBuf {
    let reads = format!("topics = [{:?}]\ngroup = {name:?}", topics.input);
    let properties = r#""session.timeout.ms" = "6000", "heartbeat.interval.ms" = "500""#;
    pipeline_of(name, &reads, properties, topics, extra)
}

/// The same with what it `reads` (topics and group) and the source's `properties`, both as TOML.
pub fn pipeline_of(name: &str, reads: &str, properties: &str, topics: &Topics, extra: &str) -> PathBuf {
    pipeline_at(broker::bootstrap(), name, reads, properties, topics, extra)
}

/// The same at the broker of this address.
pub fn pipeline_at(brokers: &str, name: &str, reads: &str, properties: &str, topics: &Topics, extra: &str) -> PathBuf {
    let dir = broker::folder(name);
    let path = dir.join("pipeline.toml");
    let text = format!(
        r#"name = "{name}"
[source.kafka]
brokers = "{brokers}"
{reads}
properties = {{ {properties} }}
[sink.kafka]
properties = {{ "transaction.timeout.ms" = "12000" }}
[models.default]
path = "{model}"
threads = 1
head_check = "warn"
[signals.pll]
kind = "pll"
masking = "strided"
stride = 4
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 7.0
review_above = 5.0
[routes]
pass = "{pass}"
review = "{review}"
fail = "{fail}"
dead_letter = "{dead}"
[cache]
path = "{cache}"
[admin]
listen = "127.0.0.1:0"
{extra}
"#,
        model = broker::root().join("models/tamis-en").display(),
        pass = topics.pass,
        review = topics.review,
        fail = topics.fail,
        dead = topics.dead,
        cache = dir.join("cache").display(),
    );
    fs::write(&path, text).unwrap();
    path
}

/// The program with these arguments, in the repository's root and with nothing to read.
pub fn tamis<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamis"));
    command.args(args).current_dir(broker::root()).stdin(Stdio::null());
    command
}

/// What a command said until it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// What the program says with these arguments.
pub fn said<S: AsRef<OsStr>>(args: &[S]) -> Said {
    Said::of(&mut tamis(args))
}

pub struct Worker {
    child: Child,
    log: Arc<Mutex<String>>,
    name: String,
    /// What `/status` listed when it was last asked on purpose: a stopped process can't be asked.
    noted: Vec<String>,
}

impl Worker {
    /// Starts `tamis run FILE` with more arguments.
    pub fn run(name: &str, pipeline: &Path, more: &[&str]) -> Self {
        Self::run_in(name, pipeline, more, &[])
    }

    /// The same with variables in its environment.
    pub fn run_in(name: &str, pipeline: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tamis"))
            .arg("run")
            .arg(pipeline)
            .args(more)
            .envs(environment.iter().copied())
            .current_dir(broker::root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, name: name.to_owned(), noted: Vec::new() }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The admin address that the worker printed on stderr.
    pub fn admin(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log();
            if let Some(at) = log.find("http://127.0.0.1:") {
                let rest = &log[at + "http://".len()..];
                return rest.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "{} printed no admin address:\n{log}", self.name);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// GET `path`; status and body. None while the endpoint does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tamis\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    }

    /// The value of a series in `/metrics`, all its labels summed; 0 if absent.
    pub fn metric(&self, name: &str) -> f64 {
        let Some((_, body)) = self.get("/metrics") else { panic!("no answer to /metrics:\n{}", self.log()) };
        body.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The source partitions that `/status` lists.
    pub fn partitions(&self) -> Vec<String> {
        let Some((_, body)) = self.get("/status") else { return Vec::new() };
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        let list = status["partitions"]["list"].as_array().unwrap();
        list.iter().map(|lane| lane.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    }

    /// Waits until `/readyz` says 200.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while self.get("/readyz").map(|(status, _)| status) != Some(200) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, self.log());
            }
            assert!(Instant::now() < deadline, "{} did not become ready:\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is gone.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes which partitions this worker has now.
    pub fn note_partitions(&mut self) {
        self.noted = self.partitions();
    }

    /// What was noted last.
    pub fn partitions_before_stop(&self) -> Vec<String> {
        self.noted.clone()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}");
    }

    /// Waits for the end, at most `seconds`.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= deadline {
                let log = self.log();
                let _ = self.child.kill();
                panic!("{} did not end within {seconds} s:\n{log}", self.name);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
