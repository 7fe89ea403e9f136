//! Owns Parquet at both ends of `score`: tables of Arrow's own writer in, tables that Arrow's own reader reads out, and files that are none.

use crate::broker;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `arrow.py` with these arguments; what it printed.
fn arrow(arguments: &[&str]) -> String {
    let done = Command::new(broker::root().join("var/venv/bin/python"))
        .arg(broker::root().join("tests/it/arrow.py"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A pipeline without a model, and a folder for its files.
fn pipeline(name: &str, document: &str) -> (PathBuf, PathBuf) {
    let dir = broker::folder(name);
    let file = dir.join("pipeline.toml");
    let cache = dir.join("cache");
    fs::write(
        &file,
        format!(
            "[document]\n{document}\n[signals.text]\nkind = \"text\"\n[[rules]]\nname = \"long\"\nsignal = \"text.words\"\nmin = 4\n[cache]\npath = {cache:?}\n"
        ),
    )
    .unwrap();
    (dir, file)
}

fn score(file: &Path, arguments: &[&str]) -> Output {
    let tamis = env!("CARGO_BIN_EXE_tamis");
    Command::new(tamis).arg("score").arg(file).args(arguments).current_dir(broker::root()).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Rows, some of which can't be judged, with columns that nobody asks for.
fn rows(count: usize) -> Vec<Value> {
    let row = |number: usize| {
        let words = "The committee met on Tuesday. ".repeat(number % 5);
        let body = if number % 7 == 3 { Value::Null } else { json!(format!("{words}é{number}")) };
        json!({"blob": "bytes", "id": number, "tag": (["en", "de"][number % 2]), "page": {"body": body, "parts": [number, 2]}, "score": 0.5})
    };
    (0..count).map(row).collect()
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn tables_of_arrow_are_scored_as_lines_are_and_the_table_of_scores_is_read_by_arrow() {
    let (dir, file) = pipeline("tables", "text = \"/page/body\"\nlanguage = \"/tag\"");
    let (plain, table, out) = (dir.join("in.jsonl"), dir.join("in.parquet"), dir.join("out.parquet"));
    fs::write(&plain, lines(&rows(1_000))).unwrap();
    let said = score(&file, &["--input", text(&plain)]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let expected = String::from_utf8(said.stdout).unwrap();
    for compression in ["none", "snappy", "gzip", "zstd", "lz4"] {
        arrow(&["write", text(&plain), text(&table), compression, "300"]);
        let said = score(&file, &["--input", text(&table)]);
        assert!(said.status.success(), "{compression}: {}", String::from_utf8_lossy(&said.stderr));
        assert!(
            String::from_utf8(said.stdout).unwrap() == expected,
            "{compression}: the rows are not judged as the lines are"
        );
    }
    let said = score(&file, &["--input", text(&table), "--output", text(&out)]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(!dir.join("out.parquet.unfinished").exists());
    let read = arrow(&["read", text(&out)]);
    let mut read = read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let schema = read.next().unwrap();
    assert!(schema["id"] == "string" && schema["signals"].as_str().unwrap().contains("text.words: double"), "{schema}");
    let mut count = 0;
    for (row, line) in read.by_ref().zip(expected.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        for name in ["id", "verdict", "status", "policy", "scorer"] {
            assert_eq!(row[name], line[name]);
        }
        for name in ["reasons", "skipped", "error"] {
            let held = row[name].as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            assert_eq!(held, line[name]);
        }
        for (name, value) in line["signals"].as_object().unwrap() {
            assert!(row["signals"][name] == *value || row["signals"][name].as_f64() == value.as_f64(), "{name}: {row}");
        }
        count += 1;
    }
    assert_eq!((count, read.count()), (1_000, 0));
}

#[test]
fn files_that_are_no_tables_end_with_65_and_their_place() {
    let (dir, file) = pipeline("no-tables", "text = \"/text\"");
    let (plain, table) = (dir.join("in.jsonl"), dir.join("in.parquet"));
    let values: Vec<Value> =
        (0..500).map(|n| json!({"text": format!("{n} {}", "some words of a text ".repeat(20)), "blob": "x"})).collect();
    fs::write(&plain, lines(&values)).unwrap();
    arrow(&["write", text(&plain), text(&table), "zstd", "100"]);
    let whole = fs::read(&table).unwrap();
    let ends = |bytes: &[u8], more: &[&str]| {
        let spoilt = dir.join("spoilt.parquet");
        fs::write(&spoilt, bytes).unwrap();
        let done = score(&file, &[&["--input", text(&spoilt)], more].concat());
        let rows = String::from_utf8_lossy(&done.stdout).lines().count();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned(), rows)
    };
    assert_eq!(ends(&whole, &[]).0, Some(0));
    for (bytes, told) in [
        (&whole[..whole.len() / 2], "no Parquet file"),
        (b"PAR1", "no Parquet file"),
        (b"PAR1PAR1PAR1", "no Parquet file"),
    ] {
        let (code, said, _) = ends(bytes, &[]);
        assert!(code == Some(65) && said.contains(told) && said.contains("spoilt.parquet"), "{code:?} {said}");
    }
    let (code, said, _) = ends(&whole, &["--set", "document.text=/body"]);
    assert!(code == Some(65) && said.contains("no column \"body\"") && said.contains("text, blob"), "{said}");
    let (code, said, _) = ends(&whole, &["--set", "document.text=/blob"]);
    assert!(code == Some(65) && said.contains("bytes that nothing says to be text"), "{said}");
    for set in ["document.format=text", "document.text="] {
        assert_eq!(ends(&whole, &["--set", set]).0, Some(64), "{set}");
    }
    // Bytes spoilt anywhere: read all the same, or refused with 65, and never a panic's end.
    let (mut refused, mut state) = (0, 12_345_u64);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (state >> 33) as usize % bytes.len();
            bytes[place] = (state >> 20) as u8;
        }
        let (code, said, rows) = ends(&bytes, &[]);
        assert!(code == Some(0) || code == Some(65), "{code:?}: {said}");
        if code == Some(65) {
            refused += 1;
            assert!(said.contains("spoilt.parquet") && rows <= 500, "{said}");
        }
    }
    assert!(refused > 20, "{refused} of 60");
    // A run over files says what to do with one.
    let run = dir.join("run.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&run, format!("name = \"no-tables\"\n{settings}\n[source.files]\npaths = [{table:?}]\nstate = {:?}\n[sink.stdout]\n[admin]\nlisten = \"127.0.0.1:0\"\n", dir.join("state"))).unwrap();
    let done =
        Command::new(env!("CARGO_BIN_EXE_tamis")).arg("run").arg(&run).current_dir(broker::root()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(65) && said.contains("tamis score --input"), "{said}");
}

#[test]
fn a_large_table_takes_no_more_memory_than_some_of_its_pages() {
    let (dir, file) = pipeline("large-table", "text = \"/text\"");
    let (plain, table, out) = (dir.join("in.jsonl"), dir.join("in.parquet"), dir.join("out.parquet"));
    let held = |rows: usize| {
        let filler = "a text of some length that is not worth reading ".repeat(40);
        let values: Vec<Value> = (0..rows).map(|n| json!({"text": format!("{n} {filler}{n}")})).collect();
        fs::write(&plain, lines(&values)).unwrap();
        arrow(&["write", text(&plain), text(&table), "none", "1000000"]);
        let command = [
            "peak",
            env!("CARGO_BIN_EXE_tamis"),
            "score",
            text(&file),
            "--input",
            text(&table),
            "--output",
            text(&out),
        ];
        let flags = ["--set", "delivery.max_in_flight_bytes=4194304", "--set", "document.id="];
        let said = arrow(&[&command[..], &flags[..]].concat());
        said.lines().last().unwrap().parse::<u64>().unwrap() / 1024
    };
    let (small, large) = (held(3_000), held(60_000));
    let size = fs::metadata(&table).unwrap().len() >> 20;
    eprintln!(
        "a table of {size} MiB in one group of rows: {large} MiB held at most, {small} MiB with a twentieth of it"
    );
    assert!(size > 100 && large < small + size / 4, "{small} MiB, then {large} MiB of {size} MiB");
}
