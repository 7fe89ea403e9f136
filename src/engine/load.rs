//! Owns the way from a model's file to a device that is ready: probe, rewritten head and its check, worst-case batch.
//!
//! The rewritten graph is trusted with nothing: its scores of a random padded batch must be those of the graph in the file.
//! One session is held at a time, so that loading takes no more memory than running.

use super::batch::{Batch, Request, Row};
use super::device::{Failure, Runner};
use super::onnx::{Head, Onnx};
use super::queue::Budget;
use super::{Error, Settings, Vocabulary, model};
use crate::telemetry::metrics;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// Logits (and, behind a rewritten head, their log-softmax) of one batch may take at most this much memory; a wide vocabulary
/// makes batches smaller accordingly.
const LOGITS_BYTES_MAX: usize = 1 << 30;
/// With a rewritten head, at most one in this many of a batch's tokens is masked: so much is tried at load.
const TOKENS_PER_POSITION: usize = 4;
/// The longest row tried at load where the model sets no bound.
const WARM_UP_TOKENS_MAX: usize = 512;
/// The most that a rewritten graph's log-probabilities may differ from the file's, in nats.
const DIFFERENCE_MAX: f64 = 1e-4;
/// Tokens of the rows on which the two are compared.
const CHECK_TOKENS: [usize; 4] = [48, 33, 7, 20];

/// A device that is ready.
pub(super) struct Loaded {
    pub(super) runner: Runner,
    pub(super) provider: &'static str,
    pub(super) head: Head,
    pub(super) budget: Budget,
}

/// Loads the model of `settings` onto its device, with the head that `rewrite` makes if that is sound.
pub(super) fn load(
    settings: &Settings,
    vocabulary: &Vocabulary,
    rewrite: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, String>,
) -> Result<Loaded, Error> {
    let mut full = Onnx::load(settings, vocabulary.size)?;
    let misfit = |failure: Failure| Error::Model {
        path: settings.path.join(model::GRAPH),
        why: format!("can't score a single token ({}); do tokenizer and model belong together?", failure.why),
    };
    full.score(&vocabulary.probe(1, 1, 1)).map_err(misfit)?;
    let provider = full.provider();
    let batch = vocabulary.check();
    let expected = full.score(&batch).map(|scored| scored.log_probabilities).map_err(|failure| failure.why);
    drop(full);
    let onnx = match expected.and_then(|expected| hoisted(settings, rewrite, (&batch, &expected), provider)) {
        Ok(onnx) => onnx,
        Err(why) => {
            tracing::warn!(path = %settings.path.display(), why, "model runs with its full logits, which is slower");
            Onnx::load(settings, vocabulary.size)?
        }
    };
    let (provider, head) = (onnx.provider(), onnx.head());
    let budget = budget(settings.budget_tokens, vocabulary.size, head);
    metrics::device_provider(provider);
    metrics::device_loaded(head.as_str(), budget.tokens);
    let mut runner = Runner::Onnx(Box::new(onnx));
    warm_up(&mut runner, vocabulary, budget, head)?;
    tracing::info!(path = %settings.path.display(), provider, head = head.as_str(), "loaded model");
    Ok(Loaded { runner, provider, head, budget })
}

/// The session over the rewritten graph, if it scores `batch` as expected.
fn hoisted(
    settings: &Settings,
    rewrite: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, String>,
    (batch, expected): (&Batch, &[f64]),
    provider: &'static str,
) -> Result<Onnx, String> {
    let bytes = std::fs::read(settings.path.join(model::GRAPH)).map_err(|error| error.to_string())?;
    let graph = rewrite(bytes)?;
    let mut onnx = Onnx::load_hoisted(settings, &graph).map_err(|error| error.to_string())?;
    drop(graph);
    if onnx.provider() != provider {
        return Err(format!("the rewritten graph runs on {} only", onnx.provider()));
    }
    let scored = onnx.score(batch).map_err(|failure| failure.why)?.log_probabilities;
    let difference = scored.iter().zip(expected).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max);
    let numbers = scored.len() == expected.len() && scored.iter().chain(expected).all(|score| score.is_finite());
    tracing::debug!(difference, "compared the rewritten graph with the model's");
    match numbers && difference <= DIFFERENCE_MAX {
        true => Ok(onnx),
        false => Err(format!("the rewritten graph's scores differ by {difference:.1e} nats")),
    }
}

fn budget(tokens: usize, vocab_size: usize, head: Head) -> Budget {
    let (tokens, row) = (tokens.max(1), 4 * vocab_size.max(1));
    match head {
        Head::Full => Budget { tokens: tokens.min(LOGITS_BYTES_MAX / row), positions: usize::MAX },
        Head::Hoisted => {
            Budget { tokens, positions: tokens.div_ceil(TOKENS_PER_POSITION).min(LOGITS_BYTES_MAX / (2 * row)).max(1) }
        }
    }
}

/// Runs the widest and the tallest batch that the budget allows.
fn warm_up(runner: &mut Runner, vocabulary: &Vocabulary, budget: Budget, head: Head) -> Result<(), Error> {
    let longest = vocabulary.max_positions.clamp(1, WARM_UP_TOKENS_MAX);
    for tokens in [longest.min(16), longest] {
        let rows = (budget.tokens / tokens).min(budget.positions).max(1);
        let masked = match head {
            Head::Full => 1,
            Head::Hoisted => (budget.positions / rows).min(tokens.div_ceil(TOKENS_PER_POSITION)),
        };
        let scored = runner.score(&vocabulary.probe(rows, tokens, masked));
        let wrong = |why: String| Err(Error::WarmUp { rows, tokens, why });
        match scored {
            Err(failure) => return wrong(failure.why),
            Ok(scored) if scored.log_probabilities.iter().any(|score| !score.is_finite()) => {
                return wrong("its log-probabilities are not finite numbers".to_owned());
            }
            // The last and longest rows are the dearest tokens: live ones cost less, so falling far below this means something.
            Ok(scored) => metrics::device_baseline(rows * tokens, scored.spent.as_secs_f64()),
        }
    }
    Ok(())
}

impl Vocabulary {
    /// `rows` rows of `tokens` tokens of the greatest id, the first `masked` of them masked and scored: a graph too narrow for
    /// the vocabulary fails on it.
    pub(super) fn probe(&self, rows: usize, tokens: usize, masked: usize) -> Batch {
        let last = u32::try_from(self.size.saturating_sub(1)).unwrap_or(self.mask_id);
        let group: Vec<u32> = (0..masked).filter_map(|position| u32::try_from(position).ok()).collect();
        self.batch(&vec![(vec![last; tokens], group); rows])
    }

    /// Rows of random ids and of several lengths, with every fifth position masked. Always the same.
    fn check(&self) -> Batch {
        let mut state = 1_u64;
        let mut draw = || {
            // Knuth's congruential generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % self.size.max(1) as u64).unwrap_or(self.mask_id)
        };
        let rows = CHECK_TOKENS.map(|tokens| {
            let ids: Vec<u32> = (0..tokens.min(self.max_positions)).map(|_| draw()).collect();
            let group = (0..).step_by(5).take(ids.len().div_ceil(5)).collect();
            (ids, group)
        });
        self.batch(&rows)
    }

    /// Rows that nobody waits for.
    fn batch(&self, rows: &[(Vec<u32>, Vec<u32>)]) -> Batch {
        let row = |(ids, group): &(Vec<u32>, Vec<u32>)| {
            let (reply, _) = oneshot::channel();
            let permits = Arc::new(Semaphore::new(1)).try_acquire_many_owned(0).ok()?;
            let request = Arc::new(Request::new(ids.as_slice().into(), vec![group.clone()], reply, permits));
            Some(Row { request, group: 0 })
        };
        let rows: Vec<Row> = rows.iter().filter_map(row).collect();
        Batch::compose(&rows, self.mask_id, self.pad_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_vocabulary_makes_the_batches_smaller() {
        let full = budget(2048, 250_000, Head::Full);
        assert_eq!(full, Budget { tokens: 1073, positions: usize::MAX });
        assert_eq!(budget(2048, 250_000, Head::Hoisted), Budget { tokens: 2048, positions: 512 });
        assert_eq!(budget(16_384, 250_000, Head::Hoisted), Budget { tokens: 16_384, positions: 536 });
        assert_eq!(budget(0, 0, Head::Hoisted), Budget { tokens: 1, positions: 1 });
    }

    #[test]
    fn the_check_is_padded_masked_and_within_the_model() {
        let vocabulary = Vocabulary { mask_id: 4, pad_id: 0, size: 100, max_positions: 30 };
        let batch = vocabulary.check();
        assert_eq!((batch.rows, batch.tokens, batch.real_tokens), (4, 30, 30 + 30 + 7 + 20));
        assert_eq!(batch.targets.len(), 6 + 6 + 2 + 4);
        assert!(batch.ids.iter().all(|id| (0..100).contains(id)));
    }
}
