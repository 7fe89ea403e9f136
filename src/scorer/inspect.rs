//! Owns the picture of a model's directory: what is found in it, how it would run here, and about how fast.
//!
//! It is taken by loading the model as a pipeline would, but for one thing: a head that fails its check is shown, not refused.

use super::card::Card;
use super::health::{self, Health};
use super::model::{self, Model, Task};
use super::plan::Window;
use super::score;
use super::{Error, Masking, Settings};
use crate::engine::{self, Needs, OnePass, Passes, Standing};
use crate::graph::{self, Cut, Facts, Outputs, Weights};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Content tokens of the windows whose pace is measured: those of a pipeline without settings of its own.
const WINDOW_TOKENS: usize = 128;
/// Windows in the engine at once.
const IN_FLIGHT: usize = 8;
/// Rows of one `single` window that are scored: its other rows cost the same.
const SINGLE_ROWS: usize = 16;
/// How long each pace is measured.
const TIME: Duration = Duration::from_secs(2);

/// A model, as it was found and as it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What `config.json` says.
    pub config: Card,
    /// What it is, and which `kind` of signal reads it.
    pub kind: Kind,
    /// How text becomes ids.
    pub tokenizer: Vocabulary,
    /// What the graph's file says.
    pub graph: Facts,
    /// Matrix products that are moved behind the scored positions; none if the head can't be moved.
    pub moved_products: usize,
    /// What is gathered at the scored positions.
    pub cut: Vec<Cut>,
    /// How it runs here.
    pub standing: Standing,
    /// Files found to be as `manifest.json` says; absent without one.
    pub verified_files: Option<usize>,
    /// How a masked-LM head does on plain English; absent where there is no such head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What is known to go wrong with heads of this family; only if this one fails.
    pub known_trouble: Option<&'static str>,
    /// Its pace for each masking.
    pub pace: Vec<Pace>,
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// In words.
    pub what: &'static str,
    /// The `kind` of `[signals.X]` that reads it.
    pub signal: &'static str,
    /// Numbers for each text, or for each token; 0 for a masked language model.
    pub width: usize,
    /// Whether the labels of a text classifier exclude each other, each stands for itself, or are plain numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<&'static str>,
}

/// How a model's tokenizer works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vocabulary {
    /// `WordPiece`, `BPE`, `Unigram` or `WordLevel`.
    pub kind: String,
    /// One more than its greatest id.
    pub ids: usize,
    /// Replaces what is masked.
    pub mask: Special,
    /// Fills rows.
    pub padding: Special,
    /// Stands for what has no piece, if any does.
    pub unknown: Option<Special>,
    /// Put before a window.
    pub before: Vec<Special>,
    /// Put behind a window.
    pub after: Vec<Special>,
    /// The longest window; absent where the model sets no bound.
    pub content_tokens_max: Option<usize>,
}

/// A special token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Special {
    /// Its id.
    pub id: u32,
    /// Its text, where the files tell it.
    pub text: Option<String>,
}

/// How fast a masking goes on this machine, as busy as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pace {
    /// `single` or `strided`; for a head `one pass`.
    pub masking: &'static str,
    /// Content tokens of the windows.
    pub window_tokens: usize,
    /// Forward passes for one window.
    pub passes: usize,
    /// Tokens of all rows, a second.
    pub row_tokens_second: f64,
    /// Content tokens scored, a second.
    pub scored_tokens_second: f64,
}

/// Loads the model of `settings`, tries it for some seconds, and closes it.
///
/// # Errors
/// It can't be loaded or fails to score; a head that makes no sense is none of them.
pub async fn inspect(settings: &engine::Settings) -> Result<Inspection, Error> {
    let owned = settings.clone();
    let (graph, cut, model, task) = tokio::task::spawn_blocking(move || load(&owned)).await??;
    let model = Arc::new(model);
    let mut pace = Vec::new();
    let mut health = None;
    match task {
        Task::Masked(_) => {
            health = Some(health::measure(&model).await?);
            for masking in [Masking::Single, Masking::Strided] {
                pace.push(measure(&model, Some(masking)).await?);
            }
        }
        Task::OnePass(_) => pace.push(measure(&model, None).await?),
    }
    let trouble = model.card().known_trouble().trim_start_matches("; ");
    let is_unsound = health.as_ref().is_some_and(|health| !health.is_sound());
    let inspection = Inspection {
        config: model.card().clone(),
        kind: Kind::of(task, &model),
        tokenizer: words(&model),
        graph,
        moved_products: cut.as_ref().map_or(0, |cut| cut.products),
        cut: cut.map(|cut| cut.frontier).unwrap_or_default(),
        standing: model.engine().standing().clone(),
        verified_files: model.engine().verified_files(),
        known_trouble: (is_unsound && !trouble.is_empty()).then_some(trouble),
        health,
        pace,
    };
    model.close(Duration::from_secs(10)).await?;
    Ok(inspection)
}

/// The model, as what its files say that it is; where they say nothing, as the first thing that its graph can be.
fn load(settings: &engine::Settings) -> Result<(Facts, Option<graph::Rewritten>, Model, Task), Error> {
    let name = settings.path.display().to_string();
    let facts = model::describe(&settings.path)?;
    let masked = Task::Masked(Needs::default());
    let others = [OnePass::Sequence, OnePass::Tokens, OnePass::Mean].map(Task::OnePass);
    let tasks = match Card::read(&settings.path).task(&facts.outputs) {
        Some(task) => vec![task],
        None => std::iter::once(masked).chain(others).collect(),
    };
    let mut refused = None;
    for task in tasks {
        let loaded = match task {
            Task::Masked(needs) => Model::load_parts(name.clone(), settings, needs),
            Task::OnePass(pass) => Model::one_pass_parts(name.clone(), settings, pass),
        };
        match loaded {
            Ok(model) => {
                // The rewritten graph itself is not needed here, and its weights least of all.
                let weights = Weights::InFile { name: model::GRAPH.to_owned(), bytes_min: 0 };
                let bytes = if task == masked { std::fs::read(settings.path.join(model::GRAPH)).ok() } else { None };
                let cut = bytes.and_then(|bytes| graph::rewrite(bytes, Outputs::default(), &weights).ok());
                let cut = cut.map(|cut| graph::Rewritten { bytes: Vec::new(), ..cut });
                return Ok((facts, cut, model, task));
            }
            // The first refusal is that of the likeliest.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(Error::Task { why: "nothing was tried".to_owned() }))
}

impl Kind {
    fn of(task: Task, model: &Model) -> Self {
        let (what, signal) = match task {
            Task::Masked(_) => ("a masked language model", "pll"),
            Task::OnePass(OnePass::Sequence) => ("a text classifier", "sequence-classifier"),
            Task::OnePass(OnePass::Tokens) => ("a token classifier", "token-classifier"),
            Task::OnePass(OnePass::Mean | OnePass::First) => ("an encoder", "embedding"),
        };
        let width = model.engine().width();
        let activation = (task == Task::OnePass(OnePass::Sequence)).then(|| model.card().activation(width).as_str());
        Self { what, signal, width, activation }
    }
}

fn words(model: &Model) -> Vocabulary {
    let tokenizer = model.tokenizer();
    let special = |id: u32| Special { id, text: tokenizer.special(id).map(str::to_owned) };
    let (before, after) = tokenizer.template();
    let bounded = Some(tokenizer.max_positions()).filter(|positions| *positions != usize::MAX);
    Vocabulary {
        kind: tokenizer.kind().to_owned(),
        ids: tokenizer.vocab_size(),
        mask: special(tokenizer.mask_id()),
        padding: special(tokenizer.pad_id()),
        unknown: tokenizer.unk_id().map(special),
        before: before.iter().copied().map(special).collect(),
        after: after.iter().copied().map(special).collect(),
        content_tokens_max: bounded.map(|positions| positions.saturating_sub(before.len() + after.len())),
    }
}

/// What is sent for a window of `ids`, and how many passes the whole window takes: where every row costs the same, a part is enough, so that
/// slow models are measured in seconds as well.
fn masked_sample(model: &Model, masking: Masking, ids: &[u32]) -> (Passes, usize) {
    let plan = Settings { masking, ..Settings::default() }.recipe().plan;
    let all = plan.passes(&Window { ids, words: &[] });
    let sent = if masking == Masking::Single { &all[..all.len().min(SINGLE_ROWS)] } else { &all[..] };
    (score::asked(model, sent, score::wrap(model, ids)), all.len())
}

/// Scores windows of arbitrary ids, a few at once, until the time is over.
#[allow(clippy::cast_precision_loss, reason = "counts of some seconds")]
async fn measure(model: &Arc<Model>, masking: Option<Masking>) -> Result<Pace, Error> {
    let (before, after) = model.tokenizer().template();
    let specials = before.len() + after.len();
    let content = model.tokenizer().max_positions().saturating_sub(specials).clamp(1, WINDOW_TOKENS);
    let vocabulary = model.tokenizer().vocab_size().max(1);
    let ids: Vec<u32> = (0..content).map(|at| u32::try_from((at * 37 + 11) % vocabulary).unwrap_or(0)).collect();
    let (sample, passes) = match masking {
        Some(masking) => masked_sample(model, masking, &ids),
        None => {
            let mut passes = Passes::over(score::wrap(model, &ids));
            passes.mask_and_score([], [0]);
            (passes, 1)
        }
    };
    let (start, mut rows, mut running) = (Instant::now(), 0, JoinSet::new());
    while start.elapsed() < TIME || !running.is_empty() {
        while running.len() < IN_FLIGHT && start.elapsed() < TIME {
            let (model, sample) = (Arc::clone(model), sample.clone());
            running.spawn(async move {
                match masking {
                    Some(_) => model.engine().score(sample).await.map(|_| ()),
                    None => model.engine().read(sample).await.map(|_| ()),
                }
            });
        }
        if let Some(scored) = running.join_next().await {
            scored??;
            rows += sample.count();
        }
    }
    let rows_second = rows as f64 / start.elapsed().as_secs_f64();
    Ok(Pace {
        masking: masking.map_or("one pass", Masking::as_str),
        window_tokens: content,
        passes,
        row_tokens_second: rows_second * (content + specials) as f64,
        scored_tokens_second: rows_second / passes as f64 * content as f64,
    })
}
