//! Owns a loaded model: its tokenizer and its engine, checked against each other.

use super::card::Card;
use super::plan::Words;
use super::{Error, compile, health};
use crate::engine::{self, Engine, Export, HeadCheck, Needs, OnePass, Vocabulary};
use crate::graph::{self, Precision, Weights};
use crate::telemetry::{self, Leg, metrics};
use crate::tokenize::{self, Encoding, Tokenizer, windows, words};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use unicode_segmentation::UnicodeSegmentation;

/// The export's file name in a model directory.
pub(super) const GRAPH: &str = "model.onnx";
/// Longer texts are tokenised on the blocking pool, shorter ones where they are: 16 KiB take a few milliseconds.
const INLINE_BYTES_MAX: usize = 16 * 1024;
/// From this size of the file on, its large weights are used where they lie in it: copies of them, one in the rewritten graph and one in the
/// runtime, would take more memory than the model itself.
const IN_FILE_BYTES_MIN: usize = 512 << 20;
/// Weights of this size are embeddings and matrices, which ONNX Runtime copies from or packs; smaller ones are copied, and so aligned.
const IN_FILE_WEIGHT_BYTES_MIN: usize = 1 << 20;
/// Protocol buffers, of which ONNX is made, end here; larger weights lie in files of their own.
const GRAPH_BYTES_MAX: u64 = 2 << 30;

/// What a model is loaded for. One directory may be loaded for several things, each with a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Masked scores, which read this besides log-probabilities.
    Masked(Needs),
    /// Heads that read it in one pass.
    OnePass(OnePass),
}

impl Task {
    /// `tasks` and this one: masked scores share a session that reads what any of them needs.
    #[must_use]
    pub fn joined(self, mut tasks: Vec<Self>) -> Vec<Self> {
        for task in &mut tasks {
            match (&mut *task, self) {
                (Self::Masked(all), Self::Masked(needs)) => {
                    *all = all.union(needs);
                    return tasks;
                }
                (Self::OnePass(one), Self::OnePass(two)) if *one == two => return tasks,
                (Self::Masked(_) | Self::OnePass(_), _) => {}
            }
        }
        tasks.push(self);
        tasks
    }

    /// Whether a model that was loaded for this serves `other`.
    #[must_use]
    pub fn serves(self, other: Self) -> bool {
        match (self, other) {
            (Self::Masked(all), Self::Masked(needs)) => all.union(needs) == all,
            (Self::OnePass(one), Self::OnePass(two)) => one == two,
            (Self::Masked(_), Self::OnePass(_)) | (Self::OnePass(_), Self::Masked(_)) => false,
        }
    }
}

/// A model that several scorers may share.
pub struct Model {
    name: String,
    dir: PathBuf,
    card: Card,
    tokenizer: Arc<Tokenizer>,
    engine: Engine,
    needs: Needs,
    /// Whether activations are quantised as they come.
    quantised: bool,
    /// Why the head failed its check, where it runs all the same.
    unhealthy: Option<String>,
    /// Bounds the texts that are tokenised at once on the blocking pool.
    cores: Arc<Semaphore>,
}

/// A text, tokenised and cut.
pub(super) struct Prepared {
    /// Content ids.
    pub(super) ids: Vec<u32>,
    pub(super) windows: Vec<Range<usize>>,
    /// For each token, the number of its word; empty where nobody asked for words.
    pub(super) word_numbers: Vec<u32>,
    /// UAX #29 segments that hold an alphanumeric.
    pub(super) words: usize,
}

impl Model {
    /// Loads tokenizer and engine, checks that they belong together and that the masked-LM head makes sense. `name` is that of
    /// the `[models.X]` table; `needs` is what the model's scorers read besides log-probabilities, all together. Takes seconds; the blocking parts run on the blocking pool.
    ///
    /// # Errors
    /// A part can't be loaded, they don't fit each other, or the head fails its check and `head_check` is `refuse`.
    pub async fn load(name: &str, settings: &engine::Settings, needs: Needs) -> Result<Self, Error> {
        let (owned_name, owned) = (name.to_owned(), settings.clone());
        let mut model = tokio::task::spawn_blocking(move || Self::load_parts(owned_name, &owned, needs)).await??;
        match (health::measure(&model).await?.check(&model), settings.head_check) {
            (Ok(()), _) => Ok(model),
            (Err(Error::Unhealthy { why, .. }), HeadCheck::Warn) => {
                tracing::warn!(model = name, why, "masked-lm head fails its health check");
                metrics::head_check_failed();
                model.unhealthy = Some(why);
                Ok(model)
            }
            (Err(error), HeadCheck::Refuse | HeadCheck::Warn) => Err(error),
        }
    }

    /// Loads a model for `task`: [`Model::load`] or [`Model::load_one_pass`].
    ///
    /// # Errors
    /// As those.
    pub async fn load_for(name: &str, settings: &engine::Settings, task: Task) -> Result<Self, Error> {
        match task {
            Task::Masked(needs) => Self::load(name, settings, needs).await,
            Task::OnePass(pass) => Self::load_one_pass(name, settings, pass).await,
        }
    }

    /// As [`Model::load`], for a model of which heads read `pass` in one pass. There is no masked-LM head to try.
    ///
    /// # Errors
    /// A part can't be loaded, they don't fit each other, or the model is none of the kind.
    pub async fn load_one_pass(name: &str, settings: &engine::Settings, pass: OnePass) -> Result<Self, Error> {
        let (name, settings) = (name.to_owned(), settings.clone());
        tokio::task::spawn_blocking(move || Self::one_pass_parts(name, &settings, pass)).await?
    }

    /// The parts of a model that is read in one pass.
    pub(super) fn one_pass_parts(name: String, settings: &engine::Settings, pass: OnePass) -> Result<Self, Error> {
        let card = Card::read(&settings.path);
        card.check_one_pass(&name, pass)?;
        let tokenizer = Tokenizer::load_without_mask(&settings.path)?;
        let vocabulary = vocabulary(&name, &tokenizer)?;
        if settings.precision != engine::Precision::AsExported {
            let (path, asked) = (settings.path.join(GRAPH), settings.precision.as_str());
            let why = "it is read in one pass, and what is converted are masked scores".to_owned();
            return Err(engine::Error::Precision { path, asked, why }.into());
        }
        let facts = describe(&settings.path)?;
        let tolerance = tolerance_nats(facts.precision);
        let graph = cut(&settings.path, pass, &facts)?;
        let engine = Engine::load_one_pass(settings, vocabulary, pass, graph, &facts.external, tolerance)?;
        Ok(Self::of((name, &settings.path), card, tokenizer, engine, Needs::default()))
    }

    /// The parts of a model, its head not tried.
    pub(super) fn load_parts(name: String, settings: &engine::Settings, needs: Needs) -> Result<Self, Error> {
        let card = Card::read(&settings.path);
        card.check(&name)?;
        let tokenizer = Tokenizer::load(&settings.path)?;
        let vocabulary = vocabulary(&name, &tokenizer)?;
        let facts = describe(&settings.path)?;
        let tolerance_nats = tolerance_nats(facts.precision);
        let (dir, half) = (settings.path.clone(), compile::half(settings.precision));
        let rewrite = move |bytes| match half {
            None => hoisted(bytes, needs),
            Some(half) => compile::hoisted(&dir, bytes, half, needs),
        };
        let leaps = facts.precision == Precision::Integer;
        let converted_nats = half.map(compile::one_token_nats_max);
        let export = Export { weights: facts.external, tolerance_nats, leaps, converted_nats, rewrite, fuse };
        let engine = Engine::load(settings, vocabulary, needs, export)?;
        Ok(Self { quantised: leaps, ..Self::of((name, &settings.path), card, tokenizer, engine, needs) })
    }

    fn of((name, dir): (String, &Path), card: Card, tokenizer: Tokenizer, engine: Engine, needs: Needs) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = Arc::new(Semaphore::new(cores));
        let (dir, tokenizer) = (dir.to_owned(), Arc::new(tokenizer));
        Self { name, dir, card, tokenizer, engine, needs, quantised: false, unhealthy: None, cores }
    }

    /// Forward passes that the device has ended since the start.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.engine.passes()
    }

    /// Drains the engine and joins its thread within `deadline`.
    ///
    /// # Errors
    /// The deadline passed; what waited was dropped.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        Ok(self.engine.close(deadline).await?)
    }

    /// Name of the `[models.X]` table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether activations are quantised as they come, by what else is in their batch: then a loss depends on the rows beside it.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// The model's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `config.json` says of the model.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Why the masked-LM head failed its health check, where `head_check` lets it run all the same.
    #[must_use]
    pub fn unhealthy(&self) -> Option<&str> {
        self.unhealthy.as_deref()
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What can be read besides log-probabilities.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The model's engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Tokenises and cuts `text`, off the runtime's threads if it is long.
    pub(super) async fn prepare(&self, text: &str, window_tokens: usize, by: Option<Words>) -> Result<Prepared, Error> {
        let began = telemetry::setting_out();
        let prepared = self.prepared(text, window_tokens, by).await;
        telemetry::leg(Leg::Tokenize, began);
        prepared
    }

    async fn prepared(&self, text: &str, window_tokens: usize, by: Option<Words>) -> Result<Prepared, Error> {
        if text.len() <= INLINE_BYTES_MAX {
            return Ok(prepare(&self.tokenizer, text, window_tokens, by)?);
        }
        // The semaphore is never closed.
        let permit = Arc::clone(&self.cores).acquire_owned().await.ok();
        let (tokenizer, text) = (Arc::clone(&self.tokenizer), text.to_owned());
        let work = move || {
            let _permit = permit;
            prepare(&tokenizer, &text, window_tokens, by)
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}

/// What the engine must know of a model's tokenizer, which must not have more ids than the model.
fn vocabulary(name: &str, tokenizer: &Tokenizer) -> Result<Vocabulary, Error> {
    if let Some(size) = tokenizer.config_vocab_size()
        && size < tokenizer.vocab_size()
    {
        let why = format!("the tokenizer has {} ids, config.json has vocab_size {size}", tokenizer.vocab_size());
        return Err(Error::Mismatch { name: name.to_owned(), why });
    }
    Ok(Vocabulary {
        mask_id: tokenizer.mask_id(),
        pad_id: tokenizer.pad_id(),
        size: tokenizer.vocab_size(),
        width: tokenizer.config_vocab_size().unwrap_or(0),
        max_positions: tokenizer.max_positions(),
    })
}

/// What the model's file says of itself.
pub(super) fn describe(dir: &Path) -> Result<graph::Facts, Error> {
    let path = dir.join(GRAPH);
    let unreadable = |why: String| Error::Unreadable { path: path.clone(), why };
    let found = std::fs::metadata(&path).map_err(|error| unreadable(error.to_string()))?;
    // A pipe or a device might never end.
    if !found.is_file() {
        return Err(unreadable("not a regular file".to_owned()));
    }
    if found.len() > GRAPH_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {GRAPH_BYTES_MAX} bytes, which no ONNX graph is")));
    }
    let bytes = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
    graph::describe(bytes).map_err(|source| Error::Export { path, source })
}

/// For hidden states of a graph that gives logits only: the graph before its last product.
fn cut(dir: &Path, pass: OnePass, facts: &graph::Facts) -> Result<Option<Vec<u8>>, Error> {
    let is_hidden = matches!(pass, OnePass::Mean | OnePass::First);
    let has = |name: &&str| facts.outputs.iter().any(|output| output == name);
    if !is_hidden || engine::HIDDEN.iter().any(has) || !has(&"logits") {
        return Ok(None);
    }
    let path = dir.join(GRAPH);
    let bytes =
        std::fs::read(&path).map_err(|error| Error::Unreadable { path: path.clone(), why: error.to_string() })?;
    graph::hidden(bytes).map(Some).map_err(|source| Error::Export { path, source })
}

/// How far apart two orders of computing the same graph may lie by rounding. Half precision keeps three digits; quantised
/// activations take steps, and a step turned over by the last digit moves everything behind it.
fn tolerance_nats(precision: Precision) -> f64 {
    match precision {
        Precision::Single => 1e-4,
        Precision::Half => 0.02,
        Precision::Integer => 0.1,
    }
}

/// The model of `bytes` with its head behind the scored positions, or why that can't be.
fn hoisted(bytes: Vec<u8>, needs: Needs) -> Result<Vec<u8>, String> {
    let weights = match bytes.len() < IN_FILE_BYTES_MIN {
        true => Weights::Within,
        false => Weights::InFile { name: GRAPH.to_owned(), bytes_min: IN_FILE_WEIGHT_BYTES_MIN },
    };
    hoisted_with(bytes, needs, &weights)
}

/// As [`hoisted`], with the weights where `weights` says.
pub(super) fn hoisted_with(bytes: Vec<u8>, needs: Needs, weights: &Weights) -> Result<Vec<u8>, String> {
    let (start, read) = (Instant::now(), bytes.len());
    let outputs = graph::Outputs { ranks: needs.ranks, odds: needs.odds };
    let rewritten = graph::rewrite(bytes, outputs, weights).map_err(|error| error.to_string())?;
    let frontier: Vec<&str> = rewritten.frontier.iter().map(|cut| cut.value.as_str()).collect();
    tracing::debug!(
        bytes = read,
        spent_ms = start.elapsed().as_millis(),
        products = rewritten.products,
        frontier = frontier.join(", "),
        "moved the head behind the scored positions"
    );
    Ok(rewritten.bytes)
}

/// A rewritten graph with each attention as one operator, and how many they are.
fn fuse(graph: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let start = Instant::now();
    let fused = graph::fuse(graph.to_vec()).map_err(|error| error.to_string())?;
    tracing::debug!(attentions = fused.attentions, spent_ms = start.elapsed().as_millis(), "fused the attention");
    Ok((fused.bytes, fused.attentions))
}

fn prepare(
    tokenizer: &Tokenizer,
    text: &str,
    window_tokens: usize,
    by: Option<Words>,
) -> Result<Prepared, tokenize::Error> {
    let started = Instant::now();
    let mut encoding = tokenizer.encode(text)?;
    let windows = windows::cut(text, &encoding, window_tokens);
    let word_numbers = match by {
        None => Vec::new(),
        Some(Words::Unicode) => words::segments(text, &encoding),
        Some(Words::Tokenizer) => std::mem::take(&mut encoding.word_ids),
    };
    // Where tokens lie in the text is known to `surprisals` only: a document of millions of tokens waits long for its passes, and must not keep it meanwhile.
    let Encoding { mut ids, .. } = encoding;
    ids.shrink_to_fit();
    metrics::tokenized(started.elapsed().as_secs_f64());
    Ok(Prepared { ids, windows, word_numbers, words: text.unicode_words().count() })
}
