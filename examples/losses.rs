//! Records the losses of tokens under a model, so that ways of stopping early can be tried on them without running it again:
//!
//! ```sh
//! zstd -dc dev.jsonl.zst | cargo run --release --example losses -- models/tamis-en strided:7 510 5000 4 > strided.jsonl
//! ```
//!
//! Arguments: the model's directory; `single`, `strided:STRIDE` or `unmasked`; content tokens of a window; how many pieces at most, and how many
//! of one document. Standard input holds JSON lines with a `text`. Each text is cut into windows as tamis cuts it, and the windows that
//! are at least three quarters full are scored as documents of their own. Written is a line that says by what, and a line for each: `nll`, nats of each token in order, in
//! float32; for `unmasked`, the means `aul` and `aul_b`.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::corpus::{Document, SignalValue};
use tamis::engine;
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tamis::tokenize::{Tokenizer, windows};
use tokio::task::JoinSet;

/// Documents in the engine at once.
const IN_FLIGHT: usize = 16;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, masking, window, most, each] = arguments.as_slice() else {
        return Err(
            "usage: losses MODEL single|strided:STRIDE|unmasked WINDOW_TOKENS PIECES PIECES_OF_A_DOCUMENT".into()
        );
    };
    let (window, most, each): (usize, usize, usize) = (window.parse()?, most.parse()?, each.parse()?);
    let settings = match masking.split_once(':') {
        Some(("strided", stride)) => {
            Settings { masking: Masking::Strided, stride: Some(stride.parse()?), ..Settings::default() }
        }
        None if masking == "single" => Settings::default(),
        None if masking == "unmasked" => {
            Settings { masking: Masking::Unmasked, corrected: true, ..Settings::default() }
        }
        Some(_) | None => return Err(format!("unknown masking {masking:?}").into()),
    };
    let settings = Settings { window_tokens: window, ..settings };
    let loading = engine::Settings { path: PathBuf::from(path), threads: 1, ..engine::Settings::default() };
    let model = Arc::new(Model::load("default", &loading, settings.needs()).await?);
    let scorer = Arc::new(Scorer::build("s", &settings, Arc::clone(&model), Cache::disabled())?);
    println!("{}", json!({"scorer": scorer.identity(), "masking": masking, "window_tokens": window}));
    let pieces = std::io::stdin().lock().lines().flat_map(|line| match line {
        Ok(line) => pieces(model.tokenizer(), &line, window, each),
        Err(_) => Vec::new(),
    });
    let mut pieces = pieces.take(most).enumerate();
    let (mut running, mut done, mut next) = (JoinSet::new(), std::collections::BTreeMap::new(), 0);
    loop {
        while running.len() < IN_FLIGHT
            && let Some((number, text)) = pieces.next()
        {
            let scorer = Arc::clone(&scorer);
            running.spawn(async move { (number, losses(&scorer, text).await) });
        }
        let Some(scored) = running.join_next().await else { return Ok(()) };
        let (number, line) = scored?;
        done.insert(number, line?);
        while let Some(line) = done.remove(&next) {
            writeln!(std::io::stdout(), "{line}")?;
            next += 1;
        }
    }
}

/// The first `each` windows of a line's text that are nearly full.
fn pieces(tokenizer: &Tokenizer, line: &str, window: usize, each: usize) -> Vec<String> {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = value["text"].as_str().unwrap_or_default();
    let Ok(encoding) = tokenizer.encode(text) else { return Vec::new() };
    let full = |range: &std::ops::Range<usize>| range.len() * 4 >= window * 3;
    let cut = windows::cut(text, &encoding, window);
    let start = |at: usize| encoding.spans.get(at).map_or(text.len(), |span| span.0 as usize);
    cut.into_iter()
        .filter(full)
        .take(each)
        .map(|range| text[start(range.start)..start(range.end)].trim().to_owned())
        .collect()
}

async fn losses(scorer: &Scorer, text: String) -> Result<String, Failure> {
    let fault = |fault: tamis::corpus::Fault| Failure::from(fault.to_string());
    let names = scorer.signal_names();
    if names.iter().any(|name| &**name == "s.aul_b") {
        let document = Document { id: None, text, language: None, source: None };
        let signals = scorer.score(&document).await.map_err(fault)?;
        let number = |name: &str| signals.get(name).and_then(SignalValue::as_number);
        return Ok(json!({"aul": number("s.nll_token"), "aul_b": number("s.aul_b")}).to_string());
    }
    let tokens = scorer.surprisals(&text).await.map_err(fault)?;
    #[allow(clippy::cast_possible_truncation, reason = "as the engine computes them")]
    let nll: Vec<f32> = tokens.iter().map(|token| token.nll as f32).collect();
    Ok(json!({ "nll": nll }).to_string())
}
