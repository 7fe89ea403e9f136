//! Owns the building of the road: slot, cache, models, scorers, judge.

use super::failure::Failure;
use crate::cache::{Cache, Slot};
use crate::cli::Exit;
use crate::config::{Settings, SignalSettings};
use crate::decode::Decoder;
use crate::engine::Work;
use crate::judge::Judge;
use crate::pipeline::Road;
use crate::scorer::{HeadScorer, Measure, Model, Scorer, Task};
use crate::signals::{TextSignals, Texts};
use crate::sink::Imprint;
use crate::telemetry::{Board, DeviceFacts, ModelFacts, metrics};
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// Everything that journeys need, and what must be closed after them.
pub(super) struct Parts {
    pub(super) road: Arc<Road>,
    pub(super) imprint: Imprint,
    /// Held for life: it names this worker among those of the same machine.
    pub(super) slot: Slot,
    cache: Cache,
    models: Models,
}

/// What runs each model, and what it has done until now.
pub(super) fn facts<'a>(models: impl Iterator<Item = &'a Model>) -> Vec<ModelFacts> {
    let device = |work: Work| DeviceFacts {
        device: work.device,
        provider: work.provider,
        passes: work.passes,
        busy_ms: u64::try_from(work.busy.as_millis()).unwrap_or(u64::MAX),
    };
    let of = |model: &Model| ModelFacts {
        name: model.name().to_owned(),
        head: model.engine().head(),
        devices: model.engine().work().into_iter().map(device).collect(),
    };
    models.map(of).collect()
}

/// Loaded models, each for what it was loaded for.
pub(super) type Models = Vec<(Task, Arc<Model>)>;

impl Parts {
    /// Opens the cache, loads and warms the models that signals name, and builds the judge. Takes seconds.
    pub(super) async fn assemble(settings: &Settings, board: &Board) -> Result<Self, Failure> {
        let slot = Slot::claim(&settings.cache.path, settings.delivery.instance)?;
        let (cache_settings, instance) = (settings.cache.clone(), slot.number().to_string());
        let cache = tokio::task::spawn_blocking(move || Cache::open(&cache_settings, &instance)).await?;
        let decoder = Decoder::new(&settings.document)?;
        let Scoring { text, mut scorers, models } = Scoring::load(settings, &cache).await?;
        // The file's order makes the identity; the order of cost, which a stable sort keeps by name among equals, makes the road.
        let imprint_scorer = identity(&scorers, decoder.normalization());
        scorers.sort_by_key(Measure::passes_a_window);
        let judge = Judge::new(&settings.rules, &known(&text, &scorers))?.evaluating(settings.judge.evaluate);
        metrics::rules_known(settings.rules.iter().map(|rule| rule.name.as_str()));
        let imprint = Imprint { policy: judge.policy().to_owned(), scorer: imprint_scorer };
        board.set_policy(imprint.policy.clone());
        board.set_dials(judge.dials());
        board.set_model_warm(imprint.scorer.clone());
        board.set_models(facts(models.iter().map(|(_, model)| model.as_ref())));
        let road = Arc::new(Road { decoder, text: Texts::new(text), scorers, judge: RwLock::new(Arc::new(judge)) });
        Ok(Self { road, imprint, slot, cache, models })
    }

    /// The models, for who watches their progress.
    pub(super) fn models(&self) -> Vec<Arc<Model>> {
        self.models.iter().map(|(_, model)| Arc::clone(model)).collect()
    }

    /// Joins the engines, then flushes the cache.
    pub(super) async fn close(self, budget: Duration) {
        for (_, model) in &self.models {
            if let Err(error) = model.close(budget).await {
                tracing::warn!(model = model.name(), %error, "the engine did not end in time");
            }
        }
        self.cache.flush().await;
    }
}

/// What measures documents, by the tables of the pipeline file.
pub(super) struct Scoring {
    pub(super) text: Vec<TextSignals>,
    pub(super) scorers: Vec<Measure>,
    pub(super) models: Models,
}

impl Scoring {
    /// Loads and warms the models that signals name. Takes seconds.
    pub(super) async fn load(settings: &Settings, cache: &Cache) -> Result<Self, Failure> {
        let mut models = Models::new();
        let mut text = Vec::new();
        let mut scorers = Vec::new();
        for (name, signal) in &settings.signals {
            let Some((model, task)) = signal.model() else {
                text.push(TextSignals::new(name));
                continue;
            };
            let model = loaded(settings, model, task, &mut models).await?;
            match (signal, signal.head()) {
                (SignalSettings::Pll(pll), _) => {
                    join(&mut scorers, Scorer::build(name, pll, model, cache.clone())?.into());
                }
                (SignalSettings::Nelbo(nelbo), _) => {
                    join(&mut scorers, Scorer::nelbo(name, nelbo, model, cache.clone())?.into());
                }
                (_, Some(head)) => {
                    join(&mut scorers, HeadScorer::build(name, head, model, cache.clone()).await?.into());
                }
                (_, None) => {}
            }
        }
        Ok(Self { text, scorers, models })
    }
}

/// Two tables that ask for one score are one scorer, so that each pass is run once.
fn join(scorers: &mut Vec<Measure>, scorer: Measure) {
    let left = scorers.iter_mut().try_fold(scorer, |scorer, known| known.absorb(scorer));
    scorers.extend(left);
}

/// A model, loaded when it is first asked for, with all that its signals read.
async fn loaded(settings: &Settings, name: &str, task: Task, models: &mut Models) -> Result<Arc<Model>, Failure> {
    if let Some((_, model)) = models.iter().find(|(known, model)| model.name() == name && known.serves(task)) {
        return Ok(Arc::clone(model));
    }
    // Loaded with all that its signals read, so that masked scores share a session.
    let task = settings.tasks(name).into_iter().find(|all| all.serves(task)).unwrap_or(task);
    let Some(model) = settings.models.get(name) else {
        return Err(Failure::new(
            Exit::Usage,
            format!("a signal names model {name:?}, but there is no [models.{name}]"),
        ));
    };
    tracing::info!(model = name, path = %model.path.display(), "loading the model");
    let model = Arc::new(Model::load_for(name, model, task).await?);
    models.push((task, Arc::clone(&model)));
    Ok(model)
}

fn known(text: &[TextSignals], scorers: &[Measure]) -> BTreeSet<String> {
    let text = text.iter().flat_map(|signals| signals.signal_names().iter().map(ToString::to_string));
    let scored = scorers.iter().flat_map(|scorer| scorer.signal_names().iter().map(ToString::to_string));
    text.chain(scored).collect()
}

/// One identity for all scorers and for what is done to texts before: a single scorer's own where that is all.
fn identity(scorers: &[Measure], normalization: Option<&str>) -> String {
    scorers.iter().map(Measure::identity).chain(normalization).collect::<Vec<_>>().join("+")
}
