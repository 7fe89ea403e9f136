//! Owns the referee's process: a Kafka client that isn't ours (`referee.py`), spoken to in JSON lines.

use crate::broker;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Referee {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    brokers: String,
}

impl Referee {
    pub fn start() -> Self {
        Self::at(broker::bootstrap())
    }

    /// A referee on a broker of the test's own.
    pub fn at(brokers: &str) -> Self {
        let python = broker::root().join("var/venv/bin/python");
        assert!(python.exists(), "NO PYTHON CLIENT at {}: `make test` installs it", python.display());
        let mut child = Command::new(python)
            .arg(broker::root().join("tests/it/referee.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout, brokers: brokers.to_owned() }
    }

    /// One request; the answer, or a panic with the referee's error.
    pub fn ask(&mut self, deed: &str, mut request: Value) -> Value {
        request["do"] = json!(deed);
        request["brokers"] = json!(self.brokers);
        writeln!(self.stdin, "{request}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("referee: {error}: {line:?}"));
        assert!(answer.get("error").is_none(), "referee, asked to {deed}: {}", answer["error"]);
        answer
    }

    /// Creates topics of `partitions` each.
    pub fn create(&mut self, names: &[&str], partitions: u32) {
        let topics: Vec<Value> = names.iter().map(|name| json!({"name": name, "partitions": partitions})).collect();
        self.ask("create", json!({ "topics": topics }));
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
