//! Owns the command line as a shell sees it: readers that go away, help, what is generated.

use crate::broker;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

fn tamis(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamis"));
    command.args(args).current_dir(broker::root()).stdin(Stdio::null());
    command
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let args = ["score", "pipelines/stdin.toml", "--input", "pipelines/demo/sample.jsonl"];
    let cheap = ["--set", "signals.pll.masking=strided", "--set", "cache.enabled=false"];
    let cache = format!("cache.path={}", broker::folder("head").display());
    let mut child = tamis(&[&args[..], &cheap[..], &["--set", &cache]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.contains("\"verdict\""), "{first}");
    drop(lines);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn help_is_a_command_too_and_what_is_generated_goes_to_standard_output() {
    let said = |args: &[&str]| {
        let output = tamis(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said(&["help"]), said(&["--help"]));
    assert_eq!(said(&["help", "cache", "clear"]), said(&["cache", "clear", "--help"]));
    assert!(said(&["completions", "bash"]).contains("complete -F _tamis"));
}
