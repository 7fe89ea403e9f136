//! Owns the ONNX Runtime session: builds it, feeds it, reads its log-probabilities.
//!
//! A rewritten graph picks them itself, at the masked positions; of a graph as it is in its file, the whole `[B,T,V]` logits are
//! fetched and the targets picked after.

use super::batch::{Batch, Target};
use super::device::{Failure, Scored};
use super::{Device, Error, Settings, library, model};
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where log-probabilities are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// After the run, from logits `[B,T,V]`.
    Full,
    /// Within the graph, from logits `[M,V]`.
    Hoisted,
}

impl Head {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hoisted => "hoisted",
        }
    }
}

/// An input of the graph that this engine knows how to fill, of int64.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// `[B,T]`.
    Ids,
    /// `[B,T]`.
    Attention,
    /// `[B,T]`.
    Types,
    /// `[M,2]`: row, position.
    MaskIndex,
    /// `[M]`.
    TargetIds,
}

impl Input {
    fn by_name(name: &str, head: Head) -> Option<Self> {
        match (name, head) {
            ("input_ids", _) => Some(Self::Ids),
            ("attention_mask", _) => Some(Self::Attention),
            ("token_type_ids", _) => Some(Self::Types),
            ("mask_index", Head::Hoisted) => Some(Self::MaskIndex),
            ("target_ids", Head::Hoisted) => Some(Self::TargetIds),
            _ => None,
        }
    }

    /// What the graph gets for `batch`, row-major, and its axes.
    fn fill(self, batch: &Batch) -> (Vec<usize>, Cow<'_, [i64]>) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        match self {
            Self::Ids => (vec![batch.rows, batch.tokens], Cow::Borrowed(&batch.ids)),
            Self::Attention => (vec![batch.rows, batch.tokens], Cow::Borrowed(&batch.attention)),
            Self::Types => (vec![batch.rows, batch.tokens], Cow::Owned(vec![0; batch.ids.len()])),
            Self::MaskIndex => {
                let places = batch.targets.iter().flat_map(|target| [number(target.row), number(target.position)]);
                (vec![batch.targets.len(), 2], Cow::Owned(places.collect()))
            }
            Self::TargetIds => {
                let ids = batch.targets.iter().map(|target| number(target.id));
                (vec![batch.targets.len()], Cow::Owned(ids.collect()))
            }
        }
    }
}

/// One session on one device.
pub(super) struct Onnx {
    session: Session,
    inputs: Vec<(String, Input)>,
    output: String,
    provider: &'static str,
    head: Head,
}

impl Onnx {
    /// Loads `model.onnx` of the settings' directory onto their device.
    pub(super) fn load(settings: &Settings, vocab_size: usize) -> Result<Self, Error> {
        let path = settings.path.join(model::GRAPH);
        let (session, provider) = session(settings, &path, None)?;
        let inputs = inputs(&session, &path, Head::Full)?;
        let output = output(&session, &path, vocab_size)?;
        Ok(Self { session, inputs, output, provider, head: Head::Full })
    }

    /// Loads a rewritten graph onto the settings' device.
    pub(super) fn load_hoisted(settings: &Settings, graph: &[u8]) -> Result<Self, Error> {
        let path = settings.path.join(model::GRAPH);
        let (session, provider) = session(settings, &path, Some(graph))?;
        let inputs = inputs(&session, &path, Head::Hoisted)?;
        Ok(Self { session, inputs, output: "logprob".to_owned(), provider, head: Head::Hoisted })
    }

    /// `cpu` or `cuda`.
    pub(super) fn provider(&self) -> &'static str {
        self.provider
    }

    /// Where log-probabilities are picked.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// One forward pass: log p of each target's original id.
    pub(super) fn score(&mut self, batch: &Batch) -> Result<Scored, Failure> {
        let filled: Vec<_> = self.inputs.iter().map(|(name, input)| (name, input.fill(batch))).collect();
        let mut feed: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(filled.len());
        for (name, (shape, data)) in &filled {
            let tensor = TensorRef::from_array_view((shape.clone(), &**data)).map_err(|error| failure(&error))?;
            feed.push((Cow::Borrowed(name.as_str()), tensor.into()));
        }
        let start = Instant::now();
        let outputs = self.session.run(feed).map_err(|error| failure(&error))?;
        let spent = start.elapsed();
        let output = outputs.get(&self.output).ok_or_else(|| other("the model did not return its output"))?;
        let (shape, numbers) = output.try_extract_tensor::<f32>().map_err(|error| failure(&error))?;
        let log_probabilities = match self.head {
            Head::Full => picked(batch, shape, numbers)?,
            Head::Hoisted if numbers.len() == batch.targets.len() => numbers.iter().copied().map(f64::from).collect(),
            Head::Hoisted => return Err(other(&format!("log-probabilities have shape {shape:?}, not [M]"))),
        };
        Ok(Scored { log_probabilities, spent })
    }
}

/// log p of each target's original id, from logits of `shape`.
fn picked(batch: &Batch, shape: &[i64], logits: &[f32]) -> Result<Vec<f64>, Failure> {
    let width = match shape.iter().map(|axis| usize::try_from(*axis)).collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([rows, tokens, width]) if *rows == batch.rows && *tokens == batch.tokens => *width,
        Ok(_) | Err(_) => return Err(other(&format!("logits have shape {shape:?}, not [B,T,V]"))),
    };
    let pick = |target: &Target| {
        let start = (target.row * batch.tokens + target.position) * width;
        match logits.get(start..start + width) {
            Some(scores) if target.id < width => Ok(log_probability(scores, target.id)),
            Some(_) | None => Err(other(&format!("id {} lies outside of {width} logits", target.id))),
        }
    };
    batch.targets.iter().map(pick).collect()
}

/// log softmax(logits)[id], in double precision over single-precision logits.
fn log_probability(logits: &[f32], id: usize) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
    f64::from(logits[id] - greatest) - sum.ln()
}

fn failure(error: &ort::Error) -> Failure {
    let why = error.to_string();
    let lower = why.to_lowercase();
    let memory = ["out of memory", "failed to allocate", "bad_alloc", "bad allocation", "alloc_failed"];
    Failure { memory: memory.iter().any(|sign| lower.contains(sign)), why }
}

fn other(why: &str) -> Failure {
    Failure { memory: false, why: why.to_owned() }
}

/// The session over `graph`, or else over the file, and the name of the provider that runs it.
fn session(settings: &Settings, path: &Path, graph: Option<&[u8]>) -> Result<(Session, &'static str), Error> {
    let environment = library::environment()?;
    let build = |cuda: Option<u16>| -> Result<Session, ort::Error> {
        let mut builder = options(SessionBuilder::new(&environment)?, settings)?;
        if let Some(number) = cuda {
            let provider =
                ep::CUDA::default().with_device_id(i32::from(number)).with_tf32(false).build().error_on_failure();
            builder = builder.with_execution_providers([provider])?;
        }
        match graph {
            Some(graph) => builder.commit_from_memory(graph),
            None => builder.commit_from_file(path),
        }
    };
    let on_cpu = || match build(None) {
        Ok(session) => Ok((session, "cpu")),
        Err(error) => {
            Err(Error::Model { path: path.to_owned(), why: format!("not a model that ONNX Runtime can run: {error}") })
        }
    };
    match settings.device {
        Device::Cpu => on_cpu(),
        Device::Auto if !ep::CUDA::is_available().unwrap_or(false) => on_cpu(),
        Device::Auto => build(Some(0)).map(|session| (session, "cuda")).or_else(|error| {
            tracing::info!(why = %error, "no usable gpu, running on the cpu");
            on_cpu()
        }),
        Device::Cuda(number) => build(Some(number)).map(|session| (session, "cuda")).or_else(|error| {
            // A model that doesn't run on the CPU either is at fault itself.
            let _ = on_cpu()?;
            Err(Error::DeviceAbsent { asked: settings.device.to_string(), why: error.to_string() })
        }),
    }
}

/// Shapes change with every batch, so memory is not planned by shape; threads don't spin between batches.
fn options(builder: SessionBuilder, settings: &Settings) -> Result<SessionBuilder, ort::Error> {
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    Ok(builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_memory_pattern(false)?
        .with_config_entry("session.force_spinning_stop", "1")?)
}

fn inputs(session: &Session, path: &Path, head: Head) -> Result<Vec<(String, Input)>, Error> {
    let refused = |why: String| Error::Model { path: path.to_owned(), why };
    let mut inputs = Vec::new();
    for outlet in session.inputs() {
        let name = outlet.name();
        let Some(input) = Input::by_name(name, head) else {
            return Err(refused(format!(
                "unknown input {name:?}; known are input_ids, attention_mask, token_type_ids: export the model with these alone"
            )));
        };
        if element(outlet) != Some(TensorElementType::Int64) {
            return Err(refused(format!("input {name:?} is not a tensor of int64")));
        }
        inputs.push((name.to_owned(), input));
    }
    for (needed, name) in [(Input::Ids, "input_ids"), (Input::Attention, "attention_mask")] {
        if !inputs.iter().any(|(_, input)| *input == needed) {
            return Err(refused(format!("no input {name:?}: rows of several lengths can't be scored together")));
        }
    }
    Ok(inputs)
}

/// `logits`, or the only output `[B,T,V]` as wide as the vocabulary.
fn output(session: &Session, path: &Path, vocab_size: usize) -> Result<String, Error> {
    let outlets = session.outputs();
    let wide = |outlet: &&Outlet| match outlet.dtype() {
        ValueType::Tensor { shape, .. } => {
            shape.len() == 3 && shape.last().is_some_and(|v| usize::try_from(*v).is_ok_and(|v| v >= vocab_size))
        }
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => false,
    };
    let named = outlets.iter().find(|outlet| outlet.name() == "logits");
    let found: Vec<&Outlet> = named.map_or_else(|| outlets.iter().filter(wide).collect(), |outlet| vec![outlet]);
    let names = || outlets.iter().map(|outlet| outlet.name().to_owned()).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [outlet] if element(outlet) == Some(TensorElementType::Float32) => Ok(outlet.name().to_owned()),
        [outlet] => {
            let why =
                format!("output {:?} is not of float32: export the model's logits in single precision", outlet.name());
            Err(Error::Model { path: path.to_owned(), why })
        }
        _ => {
            let why = format!("no output \"logits\", and not exactly one [B,T,{vocab_size}] among {}", names());
            Err(Error::Model { path: PathBuf::from(path), why })
        }
    }
}

fn element(outlet: &Outlet) -> Option<TensorElementType> {
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => Some(*ty),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_is_stable_and_sums_to_one() {
        let logits = [1000.0_f32, 999.0, -1000.0, 998.5];
        let sum: f64 = (0..4).map(|id| log_probability(&logits, id).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert!((log_probability(&[0.0; 8], 3) + 8.0_f64.ln()).abs() < 1e-12);
    }
}
