//! Records the losses of tokens under a model, so that ways of stopping early can be tried on them without running it again:
//!
//! ```sh
//! zstd -dc dev.jsonl.zst | cargo run --release --example losses -- models/tamis-en strided:7 510 5000 4 > strided.jsonl
//! ```
//!
//! Arguments: the model's directory; `single`, `strided:STRIDE` or `unmasked`; content tokens of a window; how many documents to record at most; what
//! of each text is one: a number, `whole`, `whole:MIN-MAX` or `first:MIN-MAX`; and the precision, `fp16` or `bf16`, if not the file's. Standard input
//! holds JSON lines with a `text`. Each text is cut into windows as tamis cuts it. With a number, so many of its windows at most that are at least
//! three quarters full are scored as documents of their own. With `whole` the text is one document with all of its windows, if there are at least MIN
//! and at most MAX of them. With `first` its beginning is one: so many windows as are drawn for it from MIN to MAX, if it has them. Written is a line
//! that says by what, and a line for each: `nll`, nats of each token in order, in float32; for documents of several windows that window by window, with
//! their `ids`; for `unmasked`, the means `aul` and `aul_b`. At most 128 documents are held at once.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::corpus::{Document, SignalValue};
use tamis::engine::{self, Precision};
use tamis::scorer::{Masking, Model, Scorer, Settings, Token};
use tamis::tokenize::{Tokenizer, windows};
use tokio::task::JoinSet;

/// Documents in the engine at once.
const IN_FLIGHT: usize = 16;
/// Those and the ones that wait for one before them to be written, so that a long document can't pile up what comes after it.
const HELD: usize = 128;

/// What of each text is a document.
#[derive(Debug, Clone)]
enum Of {
    /// So many windows at most, each alone.
    Windows(usize),
    /// All of it, where it has so many windows.
    Whole(RangeInclusive<usize>),
    /// So many windows from its first on, drawn by the text's number.
    First(RangeInclusive<usize>),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, masking, window, most, of, precision @ ..] = arguments.as_slice() else {
        return Err(
            "usage: losses MODEL single|strided:STRIDE|unmasked WINDOW_TOKENS DOCUMENTS WINDOWS_OF_A_TEXT|whole[:MIN-MAX]|first:MIN-MAX [PRECISION]"
                .into(),
        );
    };
    let (window, most, of): (usize, usize, Of) = (window.parse()?, most.parse()?, Of::parse(of)?);
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
    let precision: Precision =
        precision.first().map_or(Ok(Precision::default()), |word| serde_json::from_value(json!(word)))?;
    let loading = engine::Settings { path: PathBuf::from(path), threads: 1, precision, ..engine::Settings::default() };
    let model = Arc::new(Model::load("default", &loading, settings.needs()).await?);
    let scorer = Arc::new(Scorer::build("s", &settings, Arc::clone(&model), Cache::disabled())?);
    println!("{}", json!({"scorer": scorer.identity(), "masking": masking, "window_tokens": window}));
    let documents = std::io::stdin().lock().lines().zip(0..).flat_map(|(line, number)| match line {
        Ok(line) => documents(model.tokenizer(), &line, window, &of.of_text(number)),
        Err(_) => Vec::new(),
    });
    let mut documents = documents.take(most).enumerate();
    let (mut running, mut done, mut next) = (JoinSet::new(), BTreeMap::new(), 0);
    loop {
        while running.len() < IN_FLIGHT
            && running.len() + done.len() < HELD
            && let Some((number, text)) = documents.next()
        {
            let (scorer, whole) = (Arc::clone(&scorer), !matches!(of, Of::Windows(_)));
            running.spawn(async move { (number, losses(&scorer, text, whole).await) });
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

impl Of {
    fn parse(word: &str) -> Result<Self, Failure> {
        if word == "whole" {
            return Ok(Self::Whole(1..=usize::MAX));
        }
        let Some((of, range)) = word.split_once(':') else { return Ok(Self::Windows(word.parse()?)) };
        let (least, most) = range.split_once('-').ok_or_else(|| format!("{range:?} is not MIN-MAX, as in 2-8"))?;
        let range = least.parse()?..=most.parse()?;
        match of {
            _ if *range.start() == 0 || range.is_empty() => Err(format!("{word:?} holds no document").into()),
            "whole" => Ok(Self::Whole(range)),
            "first" => Ok(Self::First(range)),
            _ => Err(format!("{word:?} is neither a number nor whole:MIN-MAX nor first:MIN-MAX").into()),
        }
    }

    /// The same for one text: how many of its first windows make the document is settled, so that neighbours have other lengths.
    fn of_text(&self, number: u64) -> Self {
        let Self::First(range) = self else { return self.clone() };
        let (least, sizes) = (*range.start(), (range.end() - range.start() + 1) as u64);
        // The upper half of a product with 2^64 divided by the golden ratio: every length as often, in no pattern that halves of a recording would see.
        let drawn = ((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * sizes) >> 32;
        let windows = least + usize::try_from(drawn).unwrap_or(0);
        Self::First(windows..=windows)
    }
}

/// The documents that a line's text makes.
fn documents(tokenizer: &Tokenizer, line: &str, window: usize, of: &Of) -> Vec<String> {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = value["text"].as_str().unwrap_or_default();
    let Ok(encoding) = tokenizer.encode(text) else { return Vec::new() };
    let cut = windows::cut(text, &encoding, window);
    let start = |at: usize| encoding.spans.get(at).map_or(text.len(), |span| span.0 as usize);
    let each = match of {
        Of::Whole(range) if range.contains(&cut.len()) => return vec![text.to_owned()],
        Of::Whole(_) => return Vec::new(),
        Of::First(range) => {
            let last = cut.get(range.start() - 1);
            return last.map(|last| text[..start(last.end)].trim().to_owned()).into_iter().collect();
        }
        Of::Windows(each) => *each,
    };
    let full = |range: &std::ops::Range<usize>| range.len() * 4 >= window * 3;
    cut.into_iter()
        .filter(full)
        .take(each)
        .map(|range| text[start(range.start)..start(range.end)].trim().to_owned())
        .collect()
}

async fn losses(scorer: &Scorer, text: String, whole: bool) -> Result<String, Failure> {
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
    let nll = |tokens: &[Token]| -> Vec<f32> { tokens.iter().map(|token| token.nll as f32).collect() };
    if !whole {
        return Ok(json!({"nll": nll(&tokens)}).to_string());
    }
    let windows = || tokens.chunk_by(|one, two| one.window == two.window);
    let ids = |tokens: &[Token]| -> Vec<u32> { tokens.iter().map(|token| token.id).collect() };
    let (nll, ids): (Vec<_>, Vec<_>) = (windows().map(nll).collect(), windows().map(ids).collect());
    Ok(json!({"nll": nll, "ids": ids}).to_string())
}
