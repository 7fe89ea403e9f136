//! Pipelines for models of one's own, their windows and their normalisation as the files say them: on the tiny exports of `heads`, given as many positions
//! as a genuine model has.

use crate::heads::scored;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Positions of a widened model: more than a window of 510 and its special tokens take.
const POSITIONS: usize = 600;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// One field of a protobuf message.
struct Field<'a> {
    number: u64,
    /// With its tag.
    whole: &'a [u8],
    /// What it holds, where it has a length.
    held: Option<&'a [u8]>,
    /// Its number, where it is one.
    value: u64,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let from = bytes;
        let tag = varint(&mut bytes);
        let value = if tag & 7 == 0 || tag & 7 == 2 { varint(&mut bytes) } else { 0 };
        let length = match tag & 7 {
            0 => 0,
            1 => 8,
            2 => usize::try_from(value).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let held = (tag & 7 == 2).then(|| &bytes[..length]);
        bytes = &bytes[length..];
        fields.push(Field { number: tag >> 3, whole: &from[..from.len() - bytes.len()], held, value });
    }
    fields
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The message with what its fields of a number hold replaced.
fn replaced(message: &[u8], number: u64, mut by: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(message) {
        match field.held.filter(|_| field.number == number) {
            Some(held) => {
                let held = by(held);
                put(&mut out, number << 3 | 2);
                put(&mut out, held.len() as u64);
                out.extend(held);
            }
            None => out.extend(field.whole),
        }
    }
    out
}

/// A tensor of embeddings `[from, H]` or of numbers `[1, from]`, made longer: rows again from the first, numbers on from the last; any other as it is.
fn longer(tensor: &[u8], from: usize, changed: &mut u32) -> Vec<u8> {
    let fields_of = fields(tensor);
    let dims: Vec<u64> = fields_of.iter().filter(|field| field.number == 1).map(|field| field.value).collect();
    let (wide, to) = (from as u64, POSITIONS as u64);
    let dims = match dims[..] {
        [rows, width] if rows == wide => [to, width],
        [1, count] if count == wide => [1, to],
        _ => return tensor.to_vec(),
    };
    *changed += 1;
    let mut out = Vec::new();
    for dim in dims {
        put(&mut out, 1 << 3);
        put(&mut out, dim);
    }
    let more = |raw: &[u8]| -> Vec<u8> {
        if dims[0] == to {
            return raw.iter().copied().cycle().take(raw.len() / from * POSITIONS).collect();
        }
        let counts = raw.iter().any(|byte| *byte != 0);
        (0..POSITIONS as i64).flat_map(|at| if counts { at } else { 0 }.to_le_bytes()).collect()
    };
    let rest: Vec<u8> =
        fields_of.iter().filter(|field| field.number != 1).flat_map(|field| field.whole).copied().collect();
    out.extend(replaced(&rest, 9, more));
    out
}

/// A copy of a tiny export with [`POSITIONS`] positions.
fn widened(name: &str) -> tempfile::TempDir {
    let (from, dir) = (fixtures().join("heads").join(name), tempfile::tempdir().unwrap());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    let positions = usize::try_from(config["max_position_embeddings"].as_u64().unwrap()).unwrap();
    config["max_position_embeddings"] = POSITIONS.into();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let model = std::fs::read(from.join("model.onnx")).unwrap();
    let mut changed = 0;
    // A model's graph; its initializers, and the tensors in its nodes' attributes.
    let model = replaced(&model, 7, |graph| {
        let graph = replaced(graph, 5, |tensor| longer(tensor, positions, &mut changed));
        replaced(&graph, 1, |node| {
            replaced(node, 5, |attribute| replaced(attribute, 5, |tensor| longer(tensor, positions, &mut changed)))
        })
    });
    // DeBERTa has relative positions alone, and no table of them to be made longer.
    assert_eq!(changed, if config["model_type"] == "deberta-v2" { 0 } else { 2 }, "{name}");
    std::fs::write(dir.path().join("model.onnx"), model).unwrap();
    dir
}

fn number(line: &Value, signal: &str) -> f64 {
    line["signals"][signal].as_f64().unwrap_or_else(|| panic!("{signal} of {line}"))
}

/// Scores a text that fills a window, one of a word more, and that word alone: they are of one window, of two, and of one, and the second's `signal` is
/// the others' greatest, or their mean by tokens.
fn windows_are_of(pipeline: &str, key: &str, window: usize, signal: &str, greatest: bool, sets: &[String]) {
    let table = signal.split_once('.').unwrap().0;
    // With a space before it, as it stands in the text: that is a part of the token for some tokenizers.
    let texts = [vec!["a"; window].join(" "), vec!["a"; window + 1].join(" "), " a".to_owned()];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let lines = scored(pipeline, key, &texts, sets);
    let count = |name: &str| lines.iter().map(|line| number(line, &format!("{table}.{name}"))).collect::<Vec<_>>();
    let full = window as f64;
    assert_eq!((count("tokens"), count("windows")), (vec![full, full + 1.0, 1.0], vec![1.0, 2.0, 1.0]), "{pipeline}");
    let [first, both, last] = [0, 1, 2].map(|at| number(&lines[at], signal));
    let expected = if greatest { first.max(last) } else { (first * full + last) / (full + 1.0) };
    assert!((both - expected).abs() < 1e-5, "{pipeline}: {both} is not {expected}, of {first} and {last}");
}

const PLAIN: &str = "the work of the people";
/// The same to a reader: with letters of another script, a space without width, and full-width letters.
const DISGUISED: &str = "th\u{435} w\u{43e}rk \u{ff4f}\u{ff46} the peo\u{200b}ple";

/// A disguised text has the plain one's signals, and others with `document.normalize = "none"`.
fn disguises_are_seen_through(pipeline: &str, key: &str, table: &str, sets: &[String]) {
    let lines = scored(pipeline, key, &[PLAIN, DISGUISED], sets);
    assert!(number(&lines[0], &format!("{table}.tokens")) > 0.0);
    assert_eq!(lines[0]["signals"], lines[1]["signals"], "{pipeline}");
    let off = [sets, &["document.normalize=none".to_owned()]].concat();
    let lines = scored(pipeline, key, &[PLAIN, DISGUISED], &off);
    assert_ne!(lines[0]["signals"], lines[1]["signals"], "{pipeline}");
}

#[test]
fn windows_and_normalisation_of_pipelines_for_models_of_ones_own_are_as_their_files_say() {
    // Of the window, the file's own line, or the default where it has none.
    for (pipeline, fixture, key, window, signal, greatest) in [
        ("toxicity", "toxicity", "text", 510, "toxicity.toxic", true),
        ("phishing-urls", "phishing", "url", 126, "phishing.phishing", true),
        ("prompt-injection", "injection", "text", 126, "injection.injection", true),
        ("machine-text", "machine", "text", 510, "detector.fake", false),
    ] {
        let (dir, table) = (widened(fixture), signal.split_once('.').unwrap().0);
        let file = format!("pipelines/bring-your-own/{pipeline}.toml");
        let mut sets = vec![format!("models.{table}.path={}", dir.path().display())];
        windows_are_of(&file, key, window, signal, greatest, &sets);
        if pipeline != "prompt-injection" {
            sets.push("document.normalize=lookalikes".to_owned());
        }
        disguises_are_seen_through(&file, key, table, &sets);
    }
    windows_are_of("pipelines/spam.toml", "text", 128, "spam.spam", true, &[]);
}

#[test]
fn windows_and_normalisation_of_every_kind_of_head_are_as_a_pipeline_says() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = fixtures().display().to_string();
    let masked = dir.path().join("masked");
    std::fs::create_dir(&masked).unwrap();
    for (from, to) in
        [("script.onnx", "model.onnx"), ("config.json", ""), ("tokenizer.json", ""), ("tokenizer_config.json", "")]
    {
        let to = if to.is_empty() { from } else { to };
        std::fs::copy(format!("{fixtures}/families/bert/{from}"), masked.join(to)).unwrap();
    }
    let heads = |name: &str| format!("{fixtures}/heads/{name}");
    let embedding =
        format!("kind = \"embedding\"\nhead = \"{fixtures}/heads/encoder/linear.json\"\nlabels = [\"ham\", \"spam\"]");
    let prompt = "kind = \"prompt\"\nmax_windows = 0\ntemplate = \"They said: {text} It was {mask}.\"\nlabels = { place = [\"there\"], time = [\"when\"] }";
    let inserted =
        "kind = \"token-classifier\"\nlabels = [\"kept\", \"inserted\", \"moved\"]\nflags = [\"inserted\", \"moved\"]";
    for (name, model, head, signal, greatest) in [
        ("replaced", heads("replaced"), "kind = \"token-classifier\"", "head.nll_token", false),
        ("inserted", heads("inserted"), inserted, "head.nll_token", false),
        ("embedding", heads("encoder"), &*embedding, "head.spam", true),
        ("prompt", masked.display().to_string(), prompt, "head.place", true),
    ] {
        for window in [12, 17] {
            let text = format!(
                "[source.stdin]\n[sink.stdout]\n[document]\nnormalize = \"lookalikes\"\n[models.tiny]\npath = \"{model}\"\nhead_check = \"warn\"\n\
                 [signals.head]\nmodel = \"tiny\"\nwindow_tokens = {window}\n{head}\n[[rules]]\nname = \"any\"\nsignal = \"{signal}\"\nmax = 1000\n"
            );
            let path = dir.path().join(format!("{name}.toml"));
            std::fs::write(&path, text).unwrap();
            windows_are_of(path.to_str().unwrap(), "text", window, signal, greatest, &[]);
            disguises_are_seen_through(path.to_str().unwrap(), "text", "head", &[]);
        }
    }
}
