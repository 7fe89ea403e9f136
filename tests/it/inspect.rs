//! `tamis model inspect` as a person runs it: the page, the JSON, and the codes it ends with.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn inspect(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamis"));
    command.args(["model", "inspect"]).args(words).args(["--device", "cpu", "--threads", "1"]).output().unwrap()
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_bundled_model_is_told_in_full() {
    let path = root("models/tamis-en");
    let page = inspect(&[path.to_str().unwrap()]);
    let told = text(&page.stdout);
    assert_eq!(page.status.code(), Some(0), "{told} {}", text(&page.stderr));
    for part in [
        "bert (",
        "[MASK]",
        "hoisted: 5 matrix products",
        "files are as manifest.json says",
        "makes sense",
        "rows of several lengths",
        "row tokens/s",
    ] {
        assert!(told.contains(part), "{part} is missing from\n{told}");
    }
    let json = inspect(&[path.to_str().unwrap(), "--json"]);
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["standing"]["head"], "hoisted");
    assert_eq!(told["graph"]["precision"], "fp32");
    assert!(told["standing"]["difference_nats"].as_f64().unwrap() <= 1e-4);
    assert!(told["peak_memory_bytes"].as_u64().unwrap() > 0 && told["health"]["better"].as_u64().unwrap() >= 19);
    assert_eq!(told["pace"].as_array().unwrap().len(), 2);
}

#[test]
fn a_head_that_makes_no_sense_is_shown_and_ends_with_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let family = root("tests/fixtures/families/deberta-v3");
    for (from, to) in [("script.onnx", "model.onnx"), ("config.json", "config.json")] {
        std::fs::copy(family.join(from), dir.path().join(to)).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let broken = inspect(&[path]);
    assert_eq!(broken.status.code(), Some(69), "there is no tokenizer");
    assert!(text(&broken.stderr).contains("tokenizer.json"), "{}", text(&broken.stderr));
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(family.join(name), dir.path().join(name)).unwrap();
    }
    let page = inspect(&[path]);
    let told = text(&page.stdout);
    assert_eq!(page.status.code(), Some(69), "{told}");
    assert!(told.contains("makes no sense") && told.contains("known of DeBERTa") && told.contains("Unigram"), "{told}");
    assert!(text(&page.stderr).contains("head_check = \"warn\""), "{}", text(&page.stderr));
}

#[test]
fn a_classifier_is_told_as_what_it_is_with_its_labels_and_the_kind_that_reads_it() {
    for (name, parts) in [
        ("toxicity", ["a text classifier, 6 numbers by sigmoid", "kind = \"sequence-classifier\"", "identity_hate"]),
        ("replaced", ["a token classifier, 1 numbers", "kind = \"token-classifier\"", "ElectraForPreTraining"]),
        ("encoder", ["an encoder, 16 numbers", "kind = \"embedding\"", "last_hidden_state"]),
    ] {
        let path = root("tests/fixtures/heads").join(name);
        let page = inspect(&[path.to_str().unwrap()]);
        let told = text(&page.stdout);
        assert_eq!(page.status.code(), Some(0), "{told} {}", text(&page.stderr));
        for part in parts {
            assert!(told.contains(part), "{part} is missing from\n{told}");
        }
        assert!(!told.contains("health") && told.contains("one pass"), "{told}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_the_callers_fault() {
    let page = inspect(&["/nowhere/model"]);
    assert_eq!(page.status.code(), Some(64));
    assert!(text(&page.stderr).contains("/nowhere/model: no such directory"), "{}", text(&page.stderr));
}
