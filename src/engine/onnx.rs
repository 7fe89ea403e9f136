//! Owns the ONNX Runtime session: builds it, feeds it, reads what it computed.
//!
//! A rewritten graph makes the readings itself, at the scored positions; of a graph as it is in its file, the whole `[B,T,V]` logits are
//! fetched and the targets picked after.

use super::batch::{Batch, Target};
use super::device::{Failure, Scored};
use super::lane::{Filled, Lane};
use super::{Device, Error, Fallback, Needs, Reading, Settings, Spread, heap, library, model};
use half::f16;
use ort::ep::{self, ArenaExtendStrategy, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionOutputs};
use ort::value::{Outlet, PrimitiveTensorElementType, TensorElementType, ValueType};
use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// ONNX Runtime's key for the folder of a graph that comes from memory.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Where readings are made.
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

/// Whether ONNX Runtime may make another graph of the one it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Optimiser {
    /// It fuses and folds: what runs.
    On,
    /// Node by node as written: what a check compares with. Also takes less memory, since nothing is folded into copies.
    Off,
}

/// An input of the graph that this engine knows how to fill, of int64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
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
    pub(super) fn fill(self, batch: &Batch) -> (Vec<usize>, Cow<'_, [i64]>) {
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
    lane: Lane,
    inputs: Vec<(String, Input)>,
    /// The logits; a rewritten graph's outputs have names of their own.
    logits: String,
    provider: &'static str,
    head: Head,
    needs: Needs,
}

impl Onnx {
    /// Loads `model.onnx` of the settings' directory onto their device.
    pub(super) fn load(
        settings: &Settings,
        vocab_size: usize,
        needs: Needs,
        optimiser: Optimiser,
    ) -> Result<Self, Error> {
        let path = settings.path.join(model::GRAPH);
        let (session, provider) = session(settings, &path, None, optimiser)?;
        let inputs = inputs(&session, &path, Head::Full)?;
        let logits = output(&session, &path, vocab_size)?;
        let lane = Lane::new(session, provider, settings.device.number());
        Ok(Self { lane, inputs, logits, provider, head: Head::Full, needs })
    }

    /// Loads a rewritten graph onto the settings' device.
    pub(super) fn load_hoisted(
        settings: &Settings,
        graph: &[u8],
        needs: Needs,
        optimiser: Optimiser,
    ) -> Result<Self, Error> {
        let path = settings.path.join(model::GRAPH);
        let (session, provider) = session(settings, &path, Some(graph), optimiser)?;
        let inputs = inputs(&session, &path, Head::Hoisted)?;
        let lane = Lane::new(session, provider, settings.device.number());
        Ok(Self { lane, inputs, logits: String::new(), provider, head: Head::Hoisted, needs })
    }

    /// `cpu` or `cuda`.
    pub(super) fn provider(&self) -> &'static str {
        self.provider
    }

    /// Whether batches go through memory that is bound to the session.
    pub(super) fn is_bound(&self) -> bool {
        self.lane.is_bound()
    }

    /// Binds the CPU's own memory.
    #[cfg(test)]
    pub(super) fn bind_on_cpu(&mut self) {
        self.lane.bind_on_cpu();
    }

    /// Where readings are made.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// One forward pass: what is read at each target, for its original id.
    pub(super) fn score(&mut self, batch: &Batch) -> Result<Scored, Failure> {
        let filled: Vec<Filled<'_>> =
            self.inputs.iter().map(|(name, input)| (name.as_str(), input.fill(batch))).collect();
        let start = Instant::now();
        let outputs = self.lane.run(&filled)?;
        let spent = start.elapsed();
        let readings = match self.head {
            Head::Full => picked(batch, &outputs, &self.logits, self.needs)?,
            Head::Hoisted => gathered(batch, &outputs, self.needs)?,
        };
        Ok(Scored { readings, values: Vec::new(), spent })
    }
}

/// One of the session's outputs: its axes, and its numbers in row-major order.
pub(super) fn fetch<'o, N: PrimitiveTensorElementType>(
    outputs: &'o SessionOutputs<'_>,
    name: &str,
) -> Result<(&'o [i64], &'o [N]), Failure> {
    let output = outputs.get(name).ok_or_else(|| other(&format!("the model did not return {name:?}")))?;
    let (shape, numbers) = output.try_extract_tensor::<N>().map_err(|error| failure(&error))?;
    Ok((shape, numbers))
}

/// Readings that a rewritten graph has made.
fn gathered(batch: &Batch, outputs: &SessionOutputs<'_>, needs: Needs) -> Result<Vec<Reading>, Failure> {
    let targets = batch.targets.len();
    let numbers = |name| match fetch::<f32>(outputs, name)? {
        (_, numbers) if numbers.len() == targets => Ok(numbers),
        (shape, _) => Err(other(&format!("{name:?} has shape {shape:?}, not [M]"))),
    };
    let mut readings: Vec<Reading> =
        numbers("logprob")?.iter().map(|logprob| Reading::of(f64::from(*logprob))).collect();
    if needs.ranks {
        let (shape, ranks) = fetch::<i32>(outputs, "rank")?;
        if ranks.len() != targets {
            return Err(other(&format!("\"rank\" has shape {shape:?}, not [M]")));
        }
        let others = numbers("entropy")?.iter().zip(numbers("max_logprob")?);
        for ((reading, rank), (entropy, max_logprob)) in readings.iter_mut().zip(ranks).zip(others) {
            let rank = u32::try_from(*rank).map_err(|_| other(&format!("a rank is {rank}")))?;
            let (entropy, max_logprob) = (f64::from(*entropy), f64::from(*max_logprob));
            reading.spread = Some(Spread { rank, entropy, max_logprob });
        }
    }
    if needs.odds {
        for (reading, log_odds) in readings.iter_mut().zip(numbers("log_odds")?) {
            reading.log_odds = Some(f64::from(*log_odds));
        }
    }
    Ok(readings)
}

/// Logits in the model's own precision.
pub(super) enum Logits<'o> {
    Single(&'o [f32]),
    Half(&'o [f16]),
}

impl Logits<'_> {
    pub(super) fn get(&self, places: Range<usize>) -> Option<Cow<'_, [f32]>> {
        match self {
            Self::Single(logits) => logits.get(places).map(Cow::Borrowed),
            Self::Half(logits) => logits.get(places).map(|logits| logits.iter().map(|logit| logit.to_f32()).collect()),
        }
    }
}

/// An output of single or half precision.
pub(super) fn floats<'o>(outputs: &'o SessionOutputs<'_>, name: &str) -> Result<(&'o [i64], Logits<'o>), Failure> {
    let half = outputs.get(name).is_some_and(|output| output.try_extract_tensor::<f16>().is_ok());
    match half {
        true => fetch(outputs, name).map(|(shape, logits)| (shape, Logits::Half(logits))),
        false => fetch(outputs, name).map(|(shape, logits)| (shape, Logits::Single(logits))),
    }
}

/// Readings from whole logits.
fn picked(batch: &Batch, outputs: &SessionOutputs<'_>, name: &str, needs: Needs) -> Result<Vec<Reading>, Failure> {
    let (shape, logits) = floats(outputs, name)?;
    let width = match shape.iter().map(|axis| usize::try_from(*axis)).collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([rows, tokens, width]) if *rows == batch.rows && *tokens == batch.tokens => *width,
        Ok(_) | Err(_) => return Err(other(&format!("logits have shape {shape:?}, not [B,T,V]"))),
    };
    let pick = |target: &Target| {
        let start = (target.row * batch.tokens + target.position) * width;
        match logits.get(start..start + width) {
            Some(logits) if target.id < width => Ok(Reading::from_logits(&logits, target.id, needs)),
            Some(_) | None => Err(other(&format!("id {} lies outside of {width} logits", target.id))),
        }
    };
    batch.targets.iter().map(pick).collect()
}

pub(super) fn failure(error: &ort::Error) -> Failure {
    let why = error.to_string();
    Failure { memory: is_out_of_memory(&why), why }
}

/// Whether memory ran out, by what ONNX Runtime, its arena, CUDA and the standard library say then: none of them has a code for it.
fn is_out_of_memory(why: &str) -> bool {
    let lower = why.to_lowercase();
    let signs = [
        "out of memory",
        "failed to allocate",
        "bad_alloc",
        "bad allocation",
        "alloc_failed",
        "smaller than requested bytes",
        "cudaerrormemoryallocation",
    ];
    signs.iter().any(|sign| lower.contains(sign))
}

pub(super) fn other(why: &str) -> Failure {
    Failure { memory: false, why: why.to_owned() }
}

/// The session over `graph`, or else over the file, and the name of the provider that runs it.
pub(super) fn session(
    settings: &Settings,
    path: &Path,
    graph: Option<&[u8]>,
    optimiser: Optimiser,
) -> Result<(Session, &'static str), Error> {
    let environment = library::environment()?;
    heap::Mapping::Building.set();
    let build = |cuda: Option<u16>| -> Result<Session, ort::Error> {
        let mut builder = options(SessionBuilder::new(&environment)?, settings, optimiser)?;
        if let Some(number) = cuda {
            let mut provider = ep::CUDA::default().with_device_id(i32::from(number)).with_tf32(false);
            if settings.device_memory_mib > 0 {
                // By default the arena doubles what it takes, and would meet the bound long before it is used up.
                let most = settings.device_memory_mib.saturating_mul(1 << 20);
                provider =
                    provider.with_memory_limit(most).with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
            }
            builder = builder.with_execution_providers([provider.build().error_on_failure()])?;
        }
        match (graph, path.parent().and_then(Path::to_str)) {
            // Bytes have no folder in which ONNX Runtime would look for weights in files of their own.
            (Some(graph), Some(folder)) => builder.with_config_entry(WEIGHTS_FOLDER, folder)?.commit_from_memory(graph),
            (Some(graph), None) => builder.commit_from_memory(graph),
            (None, _) => builder.commit_from_file(path),
        }
    };
    let on_cpu = || match build(None) {
        Ok(session) => Ok((session, "cpu")),
        Err(error) => {
            Err(Error::Model { path: path.to_owned(), why: format!("not a model that ONNX Runtime can run: {error}") })
        }
    };
    match settings.device.first() {
        Device::Cpu => on_cpu(),
        Device::Auto if !ep::CUDA::is_available().unwrap_or(false) => on_cpu(),
        Device::Auto => build(Some(0)).map(|session| (session, "cuda")).or_else(|error| {
            tracing::info!(why = %error, "no usable gpu, running on the cpu");
            on_cpu()
        }),
        Device::Cuda(number) => build(Some(number)).map(|session| (session, "cuda")).or_else(|error| {
            // A model that doesn't run on the CPU either is at fault itself.
            let on_cpu = on_cpu()?;
            let asked = settings.device.to_string();
            match settings.device_fallback {
                Fallback::None => Err(Error::DeviceAbsent { asked, why: error.to_string() }),
                Fallback::Cpu => {
                    tracing::warn!(asked, why = %error, "the device can't be used, running on the cpu as device_fallback allows");
                    Ok(on_cpu)
                }
            }
        }),
    }
}

/// Shapes change with every batch, so memory is not planned by shape; threads don't spin between batches.
pub(super) fn options(
    builder: SessionBuilder,
    settings: &Settings,
    optimiser: Optimiser,
) -> Result<SessionBuilder, ort::Error> {
    let level = match optimiser {
        Optimiser::On => GraphOptimizationLevel::All,
        Optimiser::Off => GraphOptimizationLevel::Disable,
    };
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    Ok(builder
        .with_optimization_level(level)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_memory_pattern(false)?
        .with_config_entry("session.force_spinning_stop", "1")?)
}

pub(super) fn inputs(session: &Session, path: &Path, head: Head) -> Result<Vec<(String, Input)>, Error> {
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
            return Err(refused(format!(
                "input {name:?} is not a tensor of int64: export the model with int64 inputs"
            )));
        }
        if let ValueType::Tensor { shape, .. } = outlet.dtype()
            && [Input::Ids, Input::Attention, Input::Types].contains(&input)
            && shape.iter().any(|axis| *axis >= 0)
        {
            let why = format!("input {name:?} has an axis of fixed size, {:?}", shape.to_vec());
            return Err(refused(why + ": export the model with dynamic axes for both rows and tokens"));
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
        [outlet] if matches!(element(outlet), Some(TensorElementType::Float32 | TensorElementType::Float16)) => {
            Ok(outlet.name().to_owned())
        }
        [outlet] => {
            let why = format!(
                "output {:?} is neither of float32 nor of float16: export the model's logits so",
                outlet.name()
            );
            Err(Error::Model { path: path.to_owned(), why })
        }
        _ => {
            let why = format!("no output \"logits\", and not exactly one [B,T,{vocab_size}] among {}", names());
            Err(Error::Model { path: PathBuf::from(path), why })
        }
    }
}

pub(super) fn element(outlet: &Outlet) -> Option<TensorElementType> {
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => Some(*ty),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_known_by_what_is_said_then() {
        for why in [
            "Non-zero status code returned while running MatMul node. CUDA failure 2: out of memory ; GPU=0",
            "BFCArena::AllocateRawInternal Available memory of 1024 is smaller than requested bytes of 4096",
            "Failed to allocate memory for requested buffer of size 805306368",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "std::bad_alloc",
        ] {
            assert!(is_out_of_memory(why), "{why}");
        }
        for why in ["CUDA failure 700: an illegal memory access was encountered", "Invalid input shape: {4,7}"] {
            assert!(!is_out_of_memory(why), "{why}");
        }
    }
}
