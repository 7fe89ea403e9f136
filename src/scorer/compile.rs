//! Owns models in half precision: converted as they are loaded, or into a directory of their own, with the proof that scores stay.

use super::model::{GRAPH, Model, describe, hoisted_with};
use super::{Error, health};
use crate::engine::{self, HeadCheck, Needs, Precision};
use crate::graph::{self, Converted, Half, Place, Weights};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Weights of models from this size on, in bytes of half precision, go into a file of their own.
const APART_BYTES_MIN: u64 = 1 << 30;
/// Weights of so many bytes go there; smaller ones stay in the graph.
const APART_WEIGHT_BYTES_MIN: usize = 1 << 16;
/// That file's name.
const WEIGHTS: &str = "model.onnx_data";
/// What is copied beside the graph: what tamis and people read. Weights in other formats are left behind.
const COPIED: [&str; 4] = ["json", "md", "model", "txt"];
/// Files of these names are copied without an ending.
const LICENCES: [&str; 3] = ["LICENSE", "LICENCE", "NOTICE"];

/// What was made, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compiled {
    /// `fp16` or `bf16`.
    pub precision: &'static str,
    /// Bytes of the graph and its weights before.
    pub bytes_before: u64,
    /// Bytes of the graph and its weights after.
    pub bytes_after: u64,
    /// Nodes that compute in half precision.
    pub half_nodes: usize,
    /// Nodes that activations go through in single precision.
    pub single_nodes: usize,
    /// Tokens of plain English that were scored by both.
    pub tokens: usize,
    /// The difference of the means, nats a token: what a document's score moves by.
    pub mean_nats: f64,
    /// The largest difference of one token, nats.
    pub worst_nats: f64,
    /// What the difference of the means may be at most.
    pub mean_nats_max: f64,
    /// What ran both: `cpu` or `cuda`.
    pub provider: &'static str,
    /// The sha256 of the graph that it was made of, in hexadecimal.
    pub source_sha256: String,
}

/// The number type that a setting asks for.
pub(super) fn half(precision: Precision) -> Option<Half> {
    match precision {
        Precision::AsExported => None,
        Precision::Fp16 => Some(Half::Float16),
        Precision::Bf16 => Some(Half::Bfloat16),
    }
}

/// How far one token's reading may move by conversion: what networks of noise need, which are worse than any trained one. A wrong
/// conversion is off by whole nats.
pub(super) fn one_token_nats_max(half: Half) -> f64 {
    match half {
        Half::Float16 => 0.1,
        Half::Bfloat16 => 0.8,
    }
}

/// How far the mean over some hundred tokens may move by conversion.
fn mean_nats_max(half: Half) -> f64 {
    match half {
        Half::Float16 => 1e-3,
        Half::Bfloat16 => 0.02,
    }
}

/// The model of `bytes` in half precision with its head behind the scored positions, or why that can't be.
pub(super) fn hoisted(dir: &Path, bytes: Vec<u8>, half: Half, needs: Needs) -> Result<Vec<u8>, String> {
    let Converted { bytes, half: nodes, single, beyond, .. } =
        convert(dir, bytes, half, &Weights::Within).map_err(|error| error.to_string())?;
    tracing::debug!(precision = half.as_str(), nodes, single, beyond, "converted the model");
    hoisted_with(bytes, needs, &Weights::Within)
}

fn convert(dir: &Path, bytes: Vec<u8>, half: Half, weights: &Weights) -> Result<Converted, graph::Error> {
    graph::convert(bytes, half, weights, |place| read(dir, place).map_err(|error| error.to_string()))
}

/// A part of a file of weights; the file is as long as it says, and it ends.
fn read(dir: &Path, place: &Place) -> io::Result<Vec<u8>> {
    let path = dir.join(&place.location);
    let found = std::fs::metadata(&path)?;
    let left = found.len().saturating_sub(place.offset);
    let length = place.length.unwrap_or(left);
    if !found.is_file() || length > left {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"));
    }
    let mut file = File::open(&path)?;
    file.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Converts the model of `settings`, whose `precision` says to what, into the new directory `out`: graph, tokenizer, configuration and a manifest.
/// Both are loaded and score the same plain English before the directory gets its name. Takes a minute for a model of BERT's size.
///
/// # Errors
/// The model can't be loaded or converted, what was made does not run on the device or does not score as the model itself does, or the
/// directory can't be written. Nothing is left behind then.
pub async fn compile(settings: &engine::Settings, out: &Path) -> Result<Compiled, Error> {
    let Some(half) = half(settings.precision) else {
        return Err(Error::Mismatch { name: "compile".to_owned(), why: "no precision to convert to".to_owned() });
    };
    let plain = engine::Settings { precision: Precision::AsExported, head_check: HeadCheck::Warn, ..settings.clone() };
    let (expected, _) = surprisals(&plain).await?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Error::Unreadable { path, why: error.to_string() }
    };
    let unfinished = Unfinished(parent.join(format!(".tamis-compile-{}", std::process::id())));
    std::fs::create_dir_all(&unfinished.0).map_err(failed(&unfinished.0))?;
    let (from, to) = (settings.path.clone(), unfinished.0.clone());
    let mut compiled = tokio::task::spawn_blocking(move || write(&from, &to, half)).await??;
    let made = engine::Settings { path: unfinished.0.clone(), manifest_sha256: String::new(), ..plain };
    let refused = |error: Error| {
        let (path, asked) = (settings.path.join(GRAPH), half.as_str());
        let why = format!("what was made of it does not run on this device, and can't be compared here: {error}");
        engine::Error::Precision { path, asked, why }
    };
    let (found, provider) = surprisals(&made).await.map_err(refused)?;
    compiled.provider = provider;
    compiled.compare(&expected, &found);
    compiled.check(&settings.path.join(GRAPH), half)?;
    engine::write_manifest(&unfinished.0, &compiled)?;
    std::fs::rename(&unfinished.0, out).map_err(failed(out))?;
    Ok(compiled)
}

/// A directory that goes away unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a model says of plain English, and what ran it.
async fn surprisals(settings: &engine::Settings) -> Result<(Vec<f64>, &'static str), Error> {
    let (name, owned) = (settings.path.display().to_string(), settings.clone());
    let model = tokio::task::spawn_blocking(move || Model::load_parts(name, &owned, Needs::default())).await??;
    let model = Arc::new(model);
    let found = health::surprisals_of_sentences(&model).await;
    model.close(Duration::from_secs(10)).await?;
    Ok((found?, model.engine().provider()))
}

/// Writes the converted graph and copies what belongs to it.
fn write(from: &Path, to: &Path, half: Half) -> Result<Compiled, Error> {
    let path = from.join(GRAPH);
    let unreadable = |error: io::Error| Error::Unreadable { path: path.clone(), why: error.to_string() };
    let size = |dir: &Path, name: &str| std::fs::metadata(dir.join(name)).map_or(0, |found| found.len());
    let facts = describe(from)?;
    let source_sha256 = engine::graph_sha256(from)?;
    let bytes_before = facts.external.iter().map(|name| size(from, name)).sum::<u64>() + size(from, GRAPH);
    let weights = match bytes_before / 2 < APART_BYTES_MIN {
        true => Weights::Within,
        false => Weights::InFile { name: WEIGHTS.to_owned(), bytes_min: APART_WEIGHT_BYTES_MIN },
    };
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    let made = convert(from, bytes, half, &weights).map_err(|source| Error::Export { path: path.clone(), source })?;
    if made.half == 0 {
        let source = graph::Error::Unfamiliar { what: format!("been converted to {} already", half.as_str()) };
        return Err(Error::Export { path, source });
    }
    let written = || -> io::Result<()> {
        std::fs::write(to.join(GRAPH), &made.bytes)?;
        if !made.apart.is_empty() {
            std::fs::write(to.join(WEIGHTS), &made.apart)?;
        }
        copy(from, to)
    };
    written().map_err(|error| Error::Unreadable { path: to.to_owned(), why: error.to_string() })?;
    Ok(Compiled {
        precision: half.as_str(),
        bytes_before,
        bytes_after: size(to, GRAPH) + size(to, WEIGHTS),
        half_nodes: made.half,
        single_nodes: made.single,
        tokens: 0,
        mean_nats: 0.0,
        worst_nats: 0.0,
        mean_nats_max: mean_nats_max(half),
        provider: "",
        source_sha256,
    })
}

/// Copies what is no weight; the manifest is written anew.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|name| *name != "manifest.json") else { continue };
        let ending = path.extension().map_or("", |ending| ending.to_str().unwrap_or(""));
        let is_wanted = COPIED.contains(&ending) || name.to_str().is_some_and(|name| LICENCES.contains(&name));
        if is_wanted && path.is_file() {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

impl Compiled {
    #[allow(clippy::cast_precision_loss, reason = "some hundred tokens")]
    fn compare(&mut self, expected: &[f64], found: &[f64]) {
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let worst = expected.iter().zip(found).map(|(one, two)| (one - two).abs()).fold(0.0, f64::max);
        self.tokens = found.len();
        self.mean_nats = (mean(expected) - mean(found)).abs();
        self.worst_nats = if expected.len() == found.len() { worst } else { f64::INFINITY };
    }

    /// Refuses what does not score as the model itself does.
    fn check(&self, path: &Path, half: Half) -> Result<(), Error> {
        let worst_nats_max = one_token_nats_max(half);
        if self.mean_nats <= self.mean_nats_max && self.worst_nats <= worst_nats_max {
            return Ok(());
        }
        let why = format!(
            "on {} tokens of plain English its mean moves by {:.1e} nats (at most {} is allowed) and one token by {:.1e} (at most {worst_nats_max})",
            self.tokens, self.mean_nats, self.mean_nats_max, self.worst_nats
        );
        Err(engine::Error::Precision { path: path.to_owned(), asked: self.precision, why }.into())
    }
}
