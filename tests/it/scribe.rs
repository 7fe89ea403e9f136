//! Owns the scribe's process: Confluent's serializers and a stand-in for their schema registry (`scribe.py`), spoken to in JSON lines.

use crate::broker;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Scribe {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub url: String,
}

impl Scribe {
    /// One whose registry is up; `how` may bring "cert" and "key".
    pub fn start(how: Value) -> Self {
        let python = broker::root().join("var/venv/bin/python");
        assert!(python.exists(), "NO PYTHON at {}: `make test` installs it", python.display());
        let mut child = Command::new(python)
            .arg(broker::root().join("tests/it/scribe.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut scribe = Self { child, stdin, stdout, url: String::new() };
        scribe.url = scribe.ask("serve", how)["url"].as_str().unwrap().to_owned();
        scribe
    }

    pub fn ask(&mut self, deed: &str, mut request: Value) -> Value {
        request["do"] = json!(deed);
        writeln!(self.stdin, "{request}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("scribe: {error}: {line:?}"));
        assert!(answer.get("error").is_none(), "scribe, asked to {deed}: {}", answer["error"]);
        answer
    }

    /// Values in Avro, framed, in hexadecimal.
    pub fn avro(&mut self, topic: &str, schema: &Value, references: &Value, values: &Value) -> Vec<String> {
        let request = json!({"topic": topic, "schema": schema, "references": references, "values": values});
        strings(&self.ask("avro", request)["values"])
    }

    /// Messages in Protobuf, framed, in hexadecimal.
    pub fn protobuf(&mut self, topic: &str, protos: &Value, message: &str, values: &Value) -> Vec<String> {
        let request = json!({"topic": topic, "protos": protos, "message": message, "values": values});
        strings(&self.ask("protobuf", request)["values"])
    }

    /// Values in JSON, framed, in hexadecimal.
    pub fn json(&mut self, topic: &str, schema: &Value, values: &Value) -> Vec<String> {
        strings(&self.ask("json_schema", json!({"topic": topic, "schema": schema, "values": values}))["values"])
    }

    /// From now on the registry answers tamis so: well, broken, proxy, garbage, endless or hang.
    pub fn mode(&mut self, mode: &str) {
        self.ask("mode", json!({"mode": mode}));
    }
}

fn strings(values: &Value) -> Vec<String> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

impl Drop for Scribe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
