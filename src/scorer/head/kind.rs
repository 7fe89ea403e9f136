//! Owns what each kind of head reads of a window, and what becomes of it: raw numbers, numbers for each label, pooled over windows.

use super::file::HeadFile;
use super::labels;
use super::prompt::Prompt;
use super::settings::{Activation, EmbeddingSettings, Head, Pool, PromptSettings, SequenceSettings, TokenSettings};
use crate::engine::Passes;
use crate::scorer::recipe::softplus;
use crate::scorer::{Error, Model, Task, score};
use std::sync::Arc;

/// What is read of a window, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Raw: the logits `[L]`.
    Sequence { activation: Activation, pool: Pool },
    /// Raw: how many tokens are flagged, Σ softplus(z), max z, where z are a token's log-odds of being flagged. `flags` says for each label
    /// whether it flags; empty for a single logit.
    Tokens { flags: Vec<bool> },
    /// Raw: the embedding `[H]`.
    Embedding { head: Arc<HeadFile>, pool: Pool },
    /// Raw: log p of each label word at the mask. `windows` is the most that are read.
    Prompt { prompt: Arc<Prompt>, pool: Pool, windows: usize },
}

/// A window as the model gets it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Special tokens and a prompt's template included.
    pub(super) ids: Arc<[u32]>,
    /// Where a prompt's mask is.
    mask: u32,
}

/// A window of a document: how many tokens it has, and its raw numbers.
pub(super) struct Window {
    pub(super) tokens: usize,
    pub(super) raw: Vec<f64>,
}

fn sequence(name: &str, settings: &SequenceSettings, model: &Model) -> Result<Kind, Error> {
    let (card, width) = (model.card(), model.engine().width());
    let wrong = |key, why: String| Error::Settings { name: name.to_owned(), key, why };
    if let Some(why) = labels::mismatch(&settings.labels, width, card) {
        return Err(wrong("labels", why));
    }
    let activation = settings.activation.unwrap_or_else(|| card.activation(width));
    if activation == Activation::Softmax && width == 1 {
        return Err(wrong(
            "activation",
            "softmax of a single label is always 1; use \"sigmoid\" or \"none\"".to_owned(),
        ));
    }
    Ok(Kind::Sequence { activation, pool: settings.pool })
}

fn tokens(name: &str, settings: &TokenSettings, model: &Model) -> Result<Kind, Error> {
    let width = model.engine().width();
    let wrong = |why: String| Error::Settings { name: name.to_owned(), key: "labels", why };
    match settings.labels.is_empty() {
        true if width == 1 => Ok(Kind::Tokens { flags: Vec::new() }),
        true => {
            Err(wrong(format!("the model has {width} logits a token; name its labels, in the order of its logits")))
        }
        false => match labels::mismatch(&settings.labels, width, model.card()) {
            Some(why) => Err(wrong(why)),
            None => {
                let flags = settings.labels.iter().map(|label| settings.flags.contains(label)).collect();
                Ok(Kind::Tokens { flags })
            }
        },
    }
}

async fn embedding(name: &str, settings: &EmbeddingSettings, model: &Arc<Model>) -> Result<Kind, Error> {
    let (name, owned, model) = (name.to_owned(), settings.clone(), Arc::clone(model));
    let load = move || HeadFile::load(&name, &owned, model.dir(), model.engine().width());
    let head = tokio::task::spawn_blocking(load).await??;
    Ok(Kind::Embedding { head: Arc::new(head), pool: settings.pool })
}

/// The prompt, calibrated by what the model says of texts without content.
async fn prompt(name: &str, settings: &PromptSettings, model: &Model) -> Result<Kind, Error> {
    let tokenizer = model.tokenizer();
    let mut made = Prompt::new(name, settings, tokenizer)?;
    let (around, positions) = (made.row(&[]).0.len(), tokenizer.max_positions());
    if settings.window_tokens.saturating_add(around) > positions {
        let most = positions.saturating_sub(around);
        let why = format!(
            "with the {around} tokens of the template it is more than the {positions} positions; at most {most}"
        );
        return Err(Error::Settings { name: name.to_owned(), key: "window_tokens", why });
    }
    let kind = |prompt: &Prompt| Kind::Prompt {
        prompt: Arc::new(prompt.clone()),
        pool: settings.pool,
        windows: if settings.max_windows == 0 { usize::MAX } else { settings.max_windows },
    };
    let mut free = Vec::new();
    for text in &settings.content_free {
        let mut ids = tokenizer.encode(text)?.ids;
        ids.truncate(settings.window_tokens);
        let plain = kind(&made);
        free.push(plain.read(model, plain.row(model, &ids)).await?);
        made.content_free.push(ids);
    }
    made.calibrate(&free);
    Ok(kind(&made))
}

impl Kind {
    /// What `settings` ask of `model`, whose signal is called `name`.
    ///
    /// # Errors
    /// Labels, files or words that don't fit the model.
    pub(super) async fn new(name: &str, settings: Head<'_>, model: &Arc<Model>) -> Result<Self, Error> {
        match settings {
            Head::Sequence(settings) => sequence(name, settings, model),
            Head::Tokens(settings) => tokens(name, settings, model),
            Head::Embedding(settings) => embedding(name, settings, model).await,
            Head::Prompt(settings) => prompt(name, settings, model).await,
        }
    }

    /// What a window's raw numbers are, with every parameter that they depend on.
    pub(super) fn describe_raw(&self, task: Task) -> String {
        match self {
            Self::Sequence { .. } => "sequence".to_owned(),
            Self::Tokens { flags } => format!("tokens {flags:?}"),
            Self::Embedding { .. } => format!("hidden {:?}", task),
            Self::Prompt { prompt, .. } => prompt.describe_raw(),
        }
    }

    /// What becomes of them.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Sequence { activation, pool } => format!("{} {}", activation.as_str(), pool.as_str()),
            Self::Tokens { .. } => "flagged".to_owned(),
            Self::Embedding { head, pool } => format!("{:?} {}", head.fingerprint, pool.as_str()),
            Self::Prompt { prompt, pool, windows } => format!("{} {} {windows}", prompt.describe(), pool.as_str()),
        }
    }

    /// How many raw numbers a window has, of a model with `width` values.
    pub(super) fn raw_count(&self, width: usize) -> usize {
        match self {
            Self::Sequence { .. } | Self::Embedding { .. } => width,
            Self::Tokens { .. } => 3,
            Self::Prompt { prompt, .. } => prompt.words().len(),
        }
    }

    /// The raw numbers of what the engine read.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn raw(&self, values: &[f32], width: usize) -> Vec<f64> {
        match self {
            Self::Sequence { .. } | Self::Embedding { .. } | Self::Prompt { .. } => {
                values.iter().map(|value| f64::from(*value)).collect()
            }
            Self::Tokens { flags } => {
                let odds: Vec<f64> = values.chunks(width.max(1)).map(|logits| log_odds(logits, flags)).collect();
                let flagged = odds.iter().filter(|odds| **odds > 0.0).count();
                let nll = odds.iter().map(|odds| softplus(*odds)).sum();
                vec![flagged as f64, nll, odds.into_iter().fold(f64::MIN, f64::max)]
            }
        }
    }

    /// A document's numbers, in the order of their names; none without windows.
    pub(super) fn numbers(&self, windows: &[Window]) -> Result<Vec<f64>, Error> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let pool = match self {
            Self::Tokens { .. } => return Ok(flagged(windows)),
            Self::Sequence { pool, .. } | Self::Embedding { pool, .. } | Self::Prompt { pool, .. } => *pool,
        };
        let made = windows.iter().map(|window| Ok((window.tokens, self.labels(&window.raw)?)));
        Ok(pooled(made.collect::<Result<Vec<_>, Error>>()?, pool))
    }

    /// A number for each label of one window.
    fn labels(&self, raw: &[f64]) -> Result<Vec<f64>, Error> {
        match self {
            Self::Sequence { activation, .. } => Ok(activation.of(raw)),
            Self::Embedding { head, .. } => head.apply(raw),
            Self::Prompt { prompt, .. } => Ok(prompt.probabilities(raw)),
            Self::Tokens { .. } => Ok(raw.to_vec()),
        }
    }

    /// Windows of a document that are read, at most.
    pub(super) fn windows(&self) -> usize {
        match self {
            Self::Prompt { windows, .. } => *windows,
            Self::Sequence { .. } | Self::Tokens { .. } | Self::Embedding { .. } => usize::MAX,
        }
    }

    /// A window's ids as the model gets them.
    pub(super) fn row(&self, model: &Model, ids: &[u32]) -> Row {
        match self {
            Self::Prompt { prompt, .. } => {
                let (ids, mask) = prompt.row(ids);
                Row { ids: ids.into(), mask }
            }
            Self::Sequence { .. } | Self::Tokens { .. } | Self::Embedding { .. } => {
                Row { ids: score::wrap(model, ids), mask: 0 }
            }
        }
    }

    /// The raw numbers of one row: one pass of the model.
    pub(super) async fn read(&self, model: &Model, row: Row) -> Result<Vec<f64>, Error> {
        let (before, after) = model.tokenizer().template();
        let edge = |edge: usize| u32::try_from(edge).unwrap_or(u32::MAX);
        let content = edge(before.len())..edge(row.ids.len().saturating_sub(after.len()));
        let mut passes = Passes::over(row.ids);
        match self {
            Self::Sequence { .. } | Self::Embedding { .. } => passes.mask_and_score([], [0]),
            Self::Tokens { .. } => passes.mask_and_score([], content),
            Self::Prompt { prompt, .. } => {
                passes.mask_and_ask(row.mask, prompt.words());
                let readings = model.engine().score(passes).await?;
                return Ok(readings.into_iter().map(|reading| reading.logprob).collect());
            }
        }
        let values = model.engine().read(passes).await?;
        Ok(self.raw(&values, model.engine().width()))
    }
}

/// The log-odds that a token is flagged: of a single logit the logit, of several log Σ exp over the labels that flag less that over
/// the others.
fn log_odds(logits: &[f32], flags: &[bool]) -> f64 {
    if let ([logit], true) = (logits, flags.is_empty()) {
        return f64::from(*logit);
    }
    let sum = |flagged: bool| {
        let logits =
            || logits.iter().zip(flags).filter(|(_, flag)| **flag == flagged).map(|(logit, _)| f64::from(*logit));
        let greatest = logits().fold(f64::NEG_INFINITY, f64::max);
        greatest + logits().map(|logit| (logit - greatest).exp()).sum::<f64>().ln()
    };
    sum(true) - sum(false)
}

/// Windows' numbers for each label as the document's.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn pooled(windows: Vec<(usize, Vec<f64>)>, pool: Pool) -> Vec<f64> {
    let (mut total, mut all) = (0.0, Vec::new());
    for (tokens, numbers) in windows {
        let weight = tokens as f64;
        total += weight;
        let start = if pool == Pool::Max { f64::NEG_INFINITY } else { 0.0 };
        all.resize(numbers.len(), start);
        for (all, number) in all.iter_mut().zip(numbers) {
            *all = match pool {
                Pool::Max => f64::max(*all, number),
                Pool::Mean => *all + weight * number,
            };
        }
    }
    match pool {
        Pool::Max => all,
        Pool::Mean => all.into_iter().map(|sum| sum / total).collect(),
    }
}

/// [`TokenSettings::TAILS`] of a document, from its windows' counts and sums.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn flagged(windows: &[Window]) -> Vec<f64> {
    let part = |window: &Window, at: usize| window.raw.get(at).copied().unwrap_or(f64::NAN);
    let sum = |windows: &[&Window], at: usize| windows.iter().map(|window| part(window, at)).sum::<f64>();
    let tokens = |windows: &[&Window]| windows.iter().map(|window| window.tokens).sum::<usize>() as f64;
    let all: Vec<&Window> = windows.iter().collect();
    let mut worst = all.clone();
    let mean = |window: &Window| part(window, 1) / window.tokens as f64;
    worst.sort_by(|one, two| mean(two).total_cmp(&mean(one)));
    worst.truncate(windows.len().div_ceil(10));
    let greatest = all.iter().map(|window| part(window, 2)).fold(f64::MIN, f64::max);
    vec![sum(&all, 0) / tokens(&all), sum(&all, 1) / tokens(&all), greatest, sum(&worst, 1) / tokens(&worst)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(tokens: usize, raw: &[f64]) -> Window {
        Window { tokens, raw: raw.to_vec() }
    }

    #[test]
    fn windows_are_pooled_by_the_rule_that_is_declared() {
        let windows = || vec![(10, vec![0.2, 0.9]), (30, vec![0.6, 0.1])];
        assert_eq!(pooled(windows(), Pool::Max), [0.6, 0.9]);
        let mean = pooled(windows(), Pool::Mean);
        assert!((mean[0] - 0.5).abs() < 1e-12 && (mean[1] - 0.3).abs() < 1e-12, "{mean:?}");
    }

    #[test]
    fn a_tokens_odds_are_those_of_all_labels_that_flag() {
        assert_eq!(log_odds(&[-1.5], &[]), -1.5);
        let odds = log_odds(&[0.0, 3.0_f32.ln(), 2.0_f32.ln()], &[false, true, true]);
        assert!((odds - 5.0_f64.ln()).abs() < 1e-6, "{odds}");
        assert!(log_odds(&[-200.0, 200.0], &[false, true]).is_finite());
    }

    #[test]
    fn flagged_tokens_are_told_by_share_by_sum_and_at_their_worst() {
        let kind = Kind::Tokens { flags: Vec::new() };
        let raw = kind.raw(&[2.0, -1.0, 0.0, -3.0], 1);
        assert_eq!((raw[0], raw[2]), (1.0, 2.0));
        assert!((raw[1] - [2.0, -1.0, 0.0, -3.0].iter().map(|z| softplus(*z)).sum::<f64>()).abs() < 1e-12);
        let numbers = flagged(&[window(4, &[1.0, 2.0, 2.0]), window(6, &[3.0, 9.0, 5.0])]);
        assert_eq!(numbers, [0.4, 1.1, 5.0, 1.5]);
        assert!(kind.numbers(&[]).unwrap().is_empty());
    }
}
