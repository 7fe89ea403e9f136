//! Owns the picture of a model's directory: what is found in it, how it would run here, and about how fast.
//!
//! It is taken by loading the model as a pipeline would, but for one thing: a head that fails its check is shown, not refused.

use super::card::Card;
use super::health::{self, Health};
use super::model::{self, Model};
use super::plan::Window;
use super::score;
use super::{Error, Masking, Settings};
use crate::engine::{self, Needs, Standing};
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
    /// How the head does on plain English.
    pub health: Health,
    /// What is known to go wrong with heads of this family; only if this one fails.
    pub known_trouble: Option<&'static str>,
    /// Its pace for each masking.
    pub pace: Vec<Pace>,
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
    /// `single` or `strided`.
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
    let name = settings.path.display().to_string();
    let owned = settings.clone();
    let load = move || -> Result<(Facts, Option<graph::Rewritten>, Model), Error> {
        let facts = model::describe(&owned.path)?;
        let bytes = std::fs::read(owned.path.join(model::GRAPH)).unwrap_or_default();
        // The rewritten graph itself is not needed here, and its weights least of all.
        let weights = Weights::InFile { name: model::GRAPH.to_owned(), bytes_min: 0 };
        let cut = graph::rewrite(bytes, Outputs::default(), &weights).ok();
        let cut = cut.map(|cut| graph::Rewritten { bytes: Vec::new(), ..cut });
        Ok((facts, cut, Model::load_parts(name, &owned, Needs::default())?))
    };
    let (graph, cut, model) = tokio::task::spawn_blocking(load).await??;
    let model = Arc::new(model);
    let health = health::measure(&model).await?;
    let mut pace = Vec::new();
    for masking in [Masking::Single, Masking::Strided] {
        pace.push(measure(&model, masking).await?);
    }
    let trouble = model.card().known_trouble().trim_start_matches("; ");
    let inspection = Inspection {
        config: model.card().clone(),
        tokenizer: words(&model),
        graph,
        moved_products: cut.as_ref().map_or(0, |cut| cut.products),
        cut: cut.map(|cut| cut.frontier).unwrap_or_default(),
        standing: model.engine().standing().clone(),
        verified_files: model.engine().verified_files(),
        known_trouble: (!health.is_sound() && !trouble.is_empty()).then_some(trouble),
        health,
        pace,
    };
    model.close(Duration::from_secs(10)).await?;
    Ok(inspection)
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

/// Scores windows of arbitrary ids, a few at once, until the time is over.
#[allow(clippy::cast_precision_loss, reason = "counts of some seconds")]
async fn measure(model: &Arc<Model>, masking: Masking) -> Result<Pace, Error> {
    let plan = Settings { masking, ..Settings::default() }.recipe().plan;
    let (before, after) = model.tokenizer().template();
    let specials = before.len() + after.len();
    let content = model.tokenizer().max_positions().saturating_sub(specials).clamp(1, WINDOW_TOKENS);
    let vocabulary = model.tokenizer().vocab_size().max(1);
    let ids: Vec<u32> = (0..content).map(|at| u32::try_from((at * 37 + 11) % vocabulary).unwrap_or(0)).collect();
    let all = plan.passes(&Window { ids: &ids, words: &[] });
    let passes = all.len();
    // What is sent is cut where every row costs the same, so that slow models are measured in seconds as well.
    let sent = if masking == Masking::Single { &all[..passes.min(SINGLE_ROWS)] } else { &all[..] };
    let sample = score::asked(model, sent, score::wrap(model, &ids));
    let (start, mut rows, mut running) = (Instant::now(), 0, JoinSet::new());
    while start.elapsed() < TIME || !running.is_empty() {
        while running.len() < IN_FLIGHT && start.elapsed() < TIME {
            let (model, sample) = (Arc::clone(model), sample.clone());
            running.spawn(async move { model.engine().score(sample).await });
        }
        if let Some(scored) = running.join_next().await {
            scored??;
            rows += sample.count();
        }
    }
    let rows_second = rows as f64 / start.elapsed().as_secs_f64();
    Ok(Pace {
        masking: masking.as_str(),
        window_tokens: content,
        passes,
        row_tokens_second: rows_second * (content + specials) as f64,
        scored_tokens_second: rows_second / passes as f64 * content as f64,
    })
}
