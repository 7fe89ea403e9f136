//! Owns the checks of models: library, files, tokenizer, windows against positions, and then the loading itself, with its self-checks.

use super::finding::{Finding, Findings, Grade, Table};
use crate::cache::Cache;
use crate::config::Settings;
use crate::engine::{self, HeadCheck};
use crate::scorer::{self, HeadScorer, Model, Task};
use crate::tokenize::{self, Tokenizer};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long an engine that did its check may take to end.
const CLOSE_BUDGET: Duration = Duration::from_secs(10);

/// Every model of the settings. One that no signal uses is not loaded by a run either, and its problems are warnings.
pub(super) async fn models(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Models);
    let is_used = |model: &str| scored(settings).any(|(_, pll)| pll.model == model);
    if settings.models.keys().any(|name| is_used(name))
        && let Err(error) = engine::runtime()
    {
        findings.unavailable("TAMIS_ORT_LIB", error, "");
    }
    for (name, model) in &settings.models {
        if is_used(name) {
            used(settings, name, model, &mut findings).await;
        } else {
            unused(name, model, &mut findings);
        }
    }
    findings.list
}

/// The masked scores of the settings, with their names.
fn scored(settings: &Settings) -> impl Iterator<Item = (&String, scorer::Shape<'_>)> {
    settings.signals.iter().filter_map(|(name, signal)| Some((name, signal.shape()?)))
}

/// What is wrong with a model's files, as sentences.
fn files(model: &engine::Settings) -> Vec<String> {
    if !model.path.is_dir() {
        return vec![format!(
            "there is no directory {}; fetch the model, or point the key at it",
            model.path.display()
        )];
    }
    let mut told: Vec<String> =
        engine::files(&model.path, &model.manifest_sha256).iter().map(ToString::to_string).collect();
    for error in tokenize::files(&model.path) {
        // A tokenizer file that is absent may stand in the manifest too.
        let is_told = |path: &Path| told.iter().any(|line| line.starts_with(&path.display().to_string()));
        if !matches!(&error, tokenize::Error::Unreadable { path, .. } if is_told(path)) {
            told.push(error.to_string());
        }
    }
    told
}

fn unused(name: &str, model: &engine::Settings, findings: &mut Findings) {
    let key = format!("models.{name}");
    findings.note(&key, "no signal uses it, so it is not loaded");
    for wrong in files(model) {
        findings.warning(format!("{key}.path"), wrong, "");
    }
}

async fn used(settings: &Settings, name: &str, model: &engine::Settings, findings: &mut Findings) {
    let path = format!("models.{name}.path");
    let wrong = files(model);
    for line in &wrong {
        findings.unavailable(&path, line, "");
    }
    if wrong.is_empty() {
        findings
            .good(&path, format!("{}: the files are there, and those of a manifest are its own", model.path.display()));
    }
    if tokenize::files(&model.path).is_empty() {
        let masks = settings.tasks(name).iter().any(|task| matches!(task, Task::Masked(_)));
        let loaded = if masks { Tokenizer::load(&model.path) } else { Tokenizer::load_without_mask(&model.path) };
        match loaded {
            Ok(tokenizer) => of_tokenizer(settings, name, &tokenizer, findings),
            Err(error) => {
                findings.unavailable(&path, error, "");
                return;
            }
        }
    }
    if !wrong.is_empty() {
        findings
            .note(format!("models.{name}"), "not loaded, because its files are wrong: device and head were not tried");
        return;
    }
    for task in settings.tasks(name) {
        match Model::load_for(name, model, task).await {
            Ok(loaded) => of_loaded(settings, name, (model, task), loaded, findings).await,
            // Told once for all models.
            Err(scorer::Error::Engine(engine::Error::LibraryAbsent { .. } | engine::Error::LibraryBroken { .. })) => {}
            Err(error) => {
                let (key, what) = told(name, error);
                findings.unavailable(key, what, "");
            }
        }
    }
}

/// The tokenizer's own facts, and the windows of the signals that use it.
fn of_tokenizer(settings: &Settings, name: &str, tokenizer: &Tokenizer, findings: &mut Findings) {
    let (before, after) = tokenizer.template();
    let positions = match tokenizer.max_positions() {
        usize::MAX => "no bound on positions".to_owned(),
        positions => format!("{positions} positions"),
    };
    let what = format!(
        "tokenizer: {} ids, mask {}, padding {}, {} special tokens around a window, {positions}",
        tokenizer.vocab_size(),
        tokenizer.mask_id(),
        tokenizer.pad_id(),
        before.len() + after.len(),
    );
    findings.good(format!("models.{name}.path"), what);
    for (signal, pll) in scored(settings).filter(|(_, pll)| pll.model == name) {
        let key = format!("signals.{signal}.window_tokens");
        match pll.fits(signal, tokenizer) {
            Ok(()) => {
                findings.good(key, format!("{} tokens and the special ones fit the positions", pll.window_tokens))
            }
            Err(scorer::Error::Settings { why, .. }) => findings.add(Grade::Misused, key, why, "lower it"),
            Err(other) => findings.unavailable(key, other, ""),
        }
    }
}

async fn of_loaded(
    pipeline: &Settings,
    name: &str,
    (settings, task): (&engine::Settings, Task),
    model: Model,
    findings: &mut Findings,
) {
    of_devices(name, settings, &model, findings);
    if model.engine().head() == "full" {
        let what = "its head can't be moved behind the masked positions, so it runs with full logits, which is slower";
        findings.note(format!("models.{name}.path"), what);
    }
    let model = Arc::new(model);
    match task {
        Task::OnePass(_) => {}
        Task::Masked(_) => of_health(name, settings, &model, findings),
    }
    of_heads(pipeline, name, task, &model, findings).await;
    if model.close(CLOSE_BUDGET).await.is_err() {
        findings.warning(
            format!("models.{name}.device"),
            "the device was still busy long after its check",
            "look at what else runs on it",
        );
    }
}

/// Which devices run the model, and which were left out.
fn of_devices(name: &str, settings: &engine::Settings, model: &Model, findings: &mut Findings) {
    let (key, work) = (format!("models.{name}.device"), model.engine().work());
    let (asked, runs) = (settings.device.iter(), |word: &str| work.iter().filter(|one| one.provider == word).count());
    let asked_cuda = asked.filter(|device| matches!(device, engine::Device::Cuda(_))).count();
    let what = match (asked_cuda, runs("cuda")) {
        (0, _) => {
            return findings.good(key, format!("{}: runs on {}", settings.device, model.engine().provider()));
        }
        (all, some) if all == some => {
            return findings.good(key, format!("{}: runs on cuda", settings.device));
        }
        (_, 0) => format!("{} can't be used: runs on cpu, as device_fallback allows", settings.device),
        (all, some) => {
            format!("{} of {all} devices can't be used and are left out, as device_fallback allows", all - some)
        }
    };
    findings.warning(key, what, "see the log for what is missing");
}

fn of_health(name: &str, settings: &engine::Settings, model: &Model, findings: &mut Findings) {
    match (model.unhealthy(), settings.head_check) {
        (Some(why), _) => findings.warning(
            format!("models.{name}.head_check"),
            format!("the masked-LM head fails the health check: {why}"),
            "check the export, unless the model is not meant to read English",
        ),
        (None, HeadCheck::Refuse | HeadCheck::Warn) => {
            findings.good(format!("models.{name}.head_check"), "the masked-LM head tells sentences from shuffled ones");
        }
    }
}

/// The heads that read `model` as it was loaded, built as a run would build them: their labels against the model's.
async fn of_heads(settings: &Settings, name: &str, task: Task, model: &Arc<Model>, findings: &mut Findings) {
    for (signal, head) in settings.signals.iter().filter_map(|(signal, table)| Some((signal, table.head()?))) {
        if head.shape().model != name
            || !task.serves(head.task())
            || head.shape().fits(signal, model.tokenizer()).is_err()
        {
            continue;
        }
        match HeadScorer::build(signal, head, Arc::clone(model), Cache::disabled()).await {
            Ok(_) => findings.good(format!("signals.{signal}"), "the model has what the head reads"),
            Err(scorer::Error::Settings { key, why, .. }) => {
                findings.add(Grade::Misused, format!("signals.{signal}.{key}"), why, "");
            }
            Err(error) => findings.unavailable(format!("signals.{signal}"), error, ""),
        }
    }
}

/// The key at fault, and what to say without naming it twice.
fn told(name: &str, error: scorer::Error) -> (String, String) {
    let key = |key: &str| format!("models.{name}.{key}");
    match error {
        scorer::Error::Mismatch { why, .. } => {
            (key("path"), format!("{why}: tokenizer and model don't belong together"))
        }
        scorer::Error::Unhealthy { why, .. } => (
            key("head_check"),
            format!("the masked-LM head fails the health check: {why}; check the export, or set it to \"warn\""),
        ),
        scorer::Error::Engine(error @ engine::Error::DeviceAbsent { .. }) => (key("device"), error.to_string()),
        scorer::Error::Engine(error @ engine::Error::Precision { .. }) => (key("precision"), error.to_string()),
        scorer::Error::Engine(error @ engine::Error::WarmUp { .. }) => (key("budget_tokens"), error.to_string()),
        error @ (scorer::Error::Settings { .. }
        | scorer::Error::Unreadable { .. }
        | scorer::Error::Export { .. }
        | scorer::Error::NotMasked { .. }
        | scorer::Error::NotSuch { .. }
        | scorer::Error::Tokenize(_)
        | scorer::Error::Engine(_)
        | scorer::Error::Task { .. }) => (key("path"), error.to_string()),
    }
}
