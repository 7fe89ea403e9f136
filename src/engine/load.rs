//! Owns the way from a model's file to a device that is ready: probe, rewritten head and its check, worst-case batch.
//!
//! One session is held at a time, so that loading takes no more memory than running.

use super::batch::{Batch, Request, Row};
use super::check::{self, Reference};
use super::device::{Failure, Runner};
use super::onnx::{Head, Onnx, Optimiser};
use super::queue::Budget;
use super::{Error, Needs, Passes, Reading, Settings, Vocabulary, model};
use crate::telemetry::metrics;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// Logits of one batch, and what is computed from them at their width, may take at most this much memory; a wide vocabulary makes
/// batches smaller accordingly. ONNX Runtime's arena may hold twice as much.
pub(super) const LOGITS_BYTES_MAX: usize = 192 << 20;
/// With a rewritten head, at most one in this many of a batch's tokens is scored: so much is tried at load.
const TOKENS_PER_POSITION: usize = 4;
/// The longest row tried at load where the model sets no bound.
pub(super) const WARM_UP_TOKENS_MAX: usize = 512;
/// Tokens of the short rows tried at load.
pub(super) const SHORT_TOKENS: usize = 16;
/// A batch's own cost is taken from the quickest of so many batches of one short row, lest the machine's other work be counted in.
pub(super) const SHORT_RUNS: usize = 3;
/// Tokens of the rows on which the two are compared.
const CHECK_TOKENS: [usize; 4] = [48, 33, 7, 20];

/// Makes a rewritten graph's attentions one operator each; returns the graph and how many they are, at least one, or why it can't.
pub type Fuse = fn(&[u8]) -> Result<(Vec<u8>, usize), String>;

/// Tokens of the long rows on which fused attention is compared with plain: from 256 on, and at multiples of 16, GPUs have other kernels for it.
const LONG_TOKENS: [usize; 2] = [272, 200];
/// One in so many of their tokens is masked and scored.
const LONG_STEP: usize = 64;

/// What is known of a model's file by those who can read it.
#[derive(Debug, Clone)]
pub struct Export<R> {
    /// Files with weights beside `model.onnx`, relative to the model's directory and inside of it.
    pub weights: Vec<String>,
    /// How far readings of the same graph may lie apart, in nats, when it is computed in another order: rounding.
    pub tolerance_nats: f64,
    /// Whether rounding makes leaps: activations are quantised as they come, and a step turned over by the last digit moves everything
    /// behind it.
    pub leaps: bool,
    /// Where the rewritten graph computes in another precision than the file's: how far its readings may lie from the file's, in nats.
    /// The file's graph does not stand in for it then.
    pub converted_nats: Option<f64>,
    /// Makes the rewritten graph of the file's bytes, or says why it can't.
    pub rewrite: R,
    /// Fuses what `rewrite` returned, where the settings ask for it.
    pub fuse: Fuse,
}

/// How a model runs, and why so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// `cpu` or `cuda`.
    pub provider: &'static str,
    /// What it computes in, as in the settings: `as-exported`, `fp16` or `bf16`.
    pub precision: &'static str,
    /// Where readings are made: `hoisted`, within the model and at scored positions only, or `full`, from all logits.
    pub head: &'static str,
    /// How many attentions are computed by one operator each; 0 where attention is plain.
    pub fused_attentions: usize,
    /// Why attention is plain where it was to be fused; else absent.
    pub why_plain: Option<String>,
    /// Whether batches go through page-locked memory that is bound to the session, as on GPUs.
    pub bound: bool,
    /// The largest difference between the two heads on the batch of the check, in nats; absent if they could not be compared.
    pub difference_nats: Option<f64>,
    /// The same with ONNX Runtime's optimiser off for both; absent where the first was enough, or nothing could be compared.
    pub exact_nats: Option<f64>,
    /// Why the head is `full`; absent if it is hoisted.
    pub why_full: Option<String>,
    /// The largest difference that company makes, in nats: readings of the rows of the check alone, and padded in one batch. Absent if
    /// they could not be scored.
    pub company_nats: Option<f64>,
    /// Whether rows of several lengths share a batch: not where padding changes the scores of other rows beyond rounding.
    pub padded: bool,
    /// Padded tokens of one batch, at most.
    pub batch_tokens: usize,
    /// Scored positions of one batch, at most.
    pub batch_positions: usize,
    /// What a batch costs however small it is, in tokens of rows, as measured at load: so much padding a length may add that shares a
    /// batch with others. 0 where `padded` is false.
    pub batch_cost_tokens: usize,
}

/// A device that is ready.
pub(super) struct Loaded {
    pub(super) runner: Runner,
    pub(super) standing: Standing,
    pub(super) budget: Budget,
    /// Values for each scored position, of a model that is read in one pass; else 0.
    pub(super) width: usize,
}

/// Loads the model of `settings` onto its device, with the rewritten head if that is sound.
pub(super) fn load<R>(
    settings: &Settings,
    vocabulary: &Vocabulary,
    needs: Needs,
    export: Export<R>,
) -> Result<Loaded, Error>
where
    R: FnOnce(Vec<u8>) -> Result<Vec<u8>, String>,
{
    let (reference, company_nats) = reference(settings, vocabulary, needs)?;
    let padded = company_nats.is_some_and(|nats| nats <= export.tolerance_nats);
    if !padded {
        tracing::warn!(path = %settings.path.display(), ?company_nats, "padding changes scores, batches hold rows of one length only");
    }
    let is_converted = export.converted_nats.is_some();
    let compared = reference.and_then(|reference| check::hoisted((settings, vocabulary, needs), export, &reference));
    let (hoisted, difference_nats, exact_nats, attention) = match compared {
        Ok(compared) => (compared.outcome, Some(compared.difference_nats), compared.exact_nats, compared.attention),
        Err(why) => (Err(why), None, None, Ok(0)),
    };
    let (onnx, why_full) = match hoisted {
        Ok(onnx) => (onnx, None),
        Err(why) if is_converted => {
            let (path, asked) = (settings.path.join(model::GRAPH), settings.precision.as_str());
            return Err(Error::Precision { path, asked, why });
        }
        Err(why) => {
            tracing::warn!(path = %settings.path.display(), why, "model runs with its full logits, which is slower");
            (Onnx::load(settings, vocabulary.size, needs, Optimiser::On)?, Some(why))
        }
    };
    let (provider, head, bound) = (onnx.provider(), onnx.head(), onnx.is_bound());
    let budget = budget(settings.budget_tokens, vocabulary.width.max(vocabulary.size), needs, head);
    metrics::device_provider(provider);
    metrics::device_loaded(head.as_str(), budget.tokens);
    let mut runner = Runner::Onnx(Box::new(onnx));
    let batch_cost = warm_up(&mut runner, vocabulary, budget, head)?;
    let budget = Budget { batch_cost: if padded { batch_cost } else { 0 }, ..budget };
    let fused_attentions = attention.as_ref().copied().unwrap_or(0);
    tracing::info!(path = %settings.path.display(), provider, head = head.as_str(), fused_attentions, bound, "loaded model");
    let standing = Standing {
        provider,
        precision: settings.precision.as_str(),
        head: head.as_str(),
        difference_nats,
        exact_nats,
        why_full,
        fused_attentions,
        why_plain: attention.err(),
        bound,
        company_nats,
        padded,
        batch_tokens: budget.tokens,
        batch_positions: budget.positions.min(budget.tokens),
        batch_cost_tokens: budget.batch_cost,
    };
    Ok(Loaded { runner, standing, budget, width: 0 })
}

/// What the graph in the file reads on the batch of the check, run node by node as it is written, or why it can't; and what company makes
/// of it. Its session is gone when this returns.
fn reference(
    settings: &Settings,
    vocabulary: &Vocabulary,
    needs: Needs,
) -> Result<(Result<Reference, String>, Option<f64>), Error> {
    let as_written = Onnx::load(settings, vocabulary.size, needs, Optimiser::Off);
    // What has no kernel of its own may have one once it is fused.
    let mut full = as_written.or_else(|_| Onnx::load(settings, vocabulary.size, needs, Optimiser::On))?;
    let misfit = |failure: Failure| Error::Model {
        path: settings.path.join(model::GRAPH),
        why: format!("can't score a single token ({}); do tokenizer and model belong together?", failure.why),
    };
    full.score(&vocabulary.probe(1, 1, 1)).map_err(misfit)?;
    let rows = vocabulary.check_rows();
    let batch = vocabulary.batch(&rows);
    let provider = full.provider();
    let readings = match full.score(&batch) {
        Ok(scored) => scored.readings,
        Err(failure) => return Ok((Err(failure.why), None)),
    };
    let company_nats = company(&mut full, vocabulary, &rows, &readings);
    Ok((Ok(Reference { batch, readings, provider }), company_nats))
}

/// How far readings of `rows`, each alone, are from those of all of them `together`, padded, in nats. Padding must not be seen: a convolution
/// over positions, say, sees it all the same, and so does a quantisation whose scale spans the batch.
fn company(
    onnx: &mut Onnx,
    vocabulary: &Vocabulary,
    rows: &[(Vec<u32>, Vec<u32>)],
    together: &[Reading],
) -> Option<f64> {
    let mut alone = Vec::with_capacity(together.len());
    for row in rows {
        alone.extend(onnx.score(&vocabulary.batch(std::slice::from_ref(row))).ok()?.readings);
    }
    let differences = alone.iter().zip(together).map(|(alone, together)| alone.difference(together));
    (alone.len() == together.len()).then(|| differences.fold(0.0, f64::max))
}

fn budget(tokens: usize, width: usize, needs: Needs, head: Head) -> Budget {
    let (tokens, row, batch_cost) = (tokens.max(1), 4 * width.max(1), 0);
    // The product, the logits, and their log-softmax; ranks and odds take up to three buffers more while they are computed.
    let copies = if needs == Needs::default() { 3 } else { 6 };
    match head {
        Head::Full => Budget { tokens: tokens.min(LOGITS_BYTES_MAX / row), positions: usize::MAX, batch_cost },
        Head::Hoisted => Budget {
            tokens,
            positions: tokens.div_ceil(TOKENS_PER_POSITION).min(LOGITS_BYTES_MAX / (copies * row)).max(1),
            batch_cost,
        },
    }
}

/// Runs the widest and the tallest batch that the budget allows, and then short ones: what a batch costs by itself, in tokens.
fn warm_up(runner: &mut Runner, vocabulary: &Vocabulary, budget: Budget, head: Head) -> Result<usize, Error> {
    let longest = vocabulary.max_positions.clamp(1, WARM_UP_TOKENS_MAX);
    let short = longest.min(SHORT_TOKENS);
    let mut token_seconds = f64::INFINITY;
    for tokens in [short, longest] {
        let rows = (budget.tokens / tokens).min(budget.positions).max(1);
        let masked = match head {
            Head::Full => 1,
            Head::Hoisted => (budget.positions / rows).min(tokens.div_ceil(TOKENS_PER_POSITION)),
        };
        let scored = runner.score(&vocabulary.probe(rows, tokens, masked));
        let wrong = |Failure { memory, why }| Err(Error::WarmUp { memory, rows, tokens, why });
        match scored {
            Err(failure) => return wrong(failure),
            Ok(scored) if !scored.readings.iter().all(Reading::is_finite) => {
                return wrong(Failure { memory: false, why: "its scores are not finite numbers".to_owned() });
            }
            // The last and longest rows are the dearest tokens: live ones cost less, so falling far below this means something.
            Ok(scored) => {
                let seconds = scored.spent.as_secs_f64();
                metrics::device_baseline(rows * tokens, seconds);
                token_seconds = token_seconds.min(seconds / (rows * tokens) as f64);
            }
        }
    }
    let probe = vocabulary.probe(1, short, 1);
    let runs = (0..SHORT_RUNS).filter_map(|_| runner.score(&probe).ok());
    let seconds = runs.map(|scored| scored.spent.as_secs_f64()).fold(f64::INFINITY, f64::min);
    Ok(batch_cost(seconds / token_seconds, short, budget.tokens))
}

/// What a batch costs by itself, in tokens: a batch of `short` tokens takes as long as `took` tokens do in a large one. Never more than
/// a quarter of the budget, and nothing where it was not measured.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on both sides just before")]
pub(super) fn batch_cost(took: f64, short: usize, budget: usize) -> usize {
    match took.is_finite() {
        true => (took - short as f64).clamp(0.0, (budget / 4) as f64) as usize,
        false => 0,
    }
}

impl Vocabulary {
    /// `rows` rows of `tokens` tokens of the greatest id, the first `masked` of them masked and scored: a graph too narrow for
    /// the vocabulary fails on it.
    pub(super) fn probe(&self, rows: usize, tokens: usize, masked: usize) -> Batch {
        let last = u32::try_from(self.size.saturating_sub(1)).unwrap_or(self.mask_id);
        let group: Vec<u32> = (0..masked).filter_map(|position| u32::try_from(position).ok()).collect();
        self.batch(&vec![(vec![last; tokens], group); rows])
    }

    /// Rows of random ids and of several lengths, with every fifth position masked. Always the same; shorter for a vocabulary so
    /// wide that whole logits would take much memory.
    pub(super) fn check_rows(&self) -> Vec<(Vec<u32>, Vec<u32>)> {
        let [longest, ..] = CHECK_TOKENS;
        let room = LOGITS_BYTES_MAX / 3 / (4 * self.width.max(self.size).max(1) * CHECK_TOKENS.len());
        let tokens = |tokens: usize| (tokens * room.min(longest)).div_ceil(longest).min(self.max_positions);
        self.random_rows(&CHECK_TOKENS.map(tokens), 5)
    }

    /// Long rows of random ids, the shorter one padded, for a graph that reads at scored positions only; nothing where the model takes none.
    pub(super) fn long(&self) -> Option<Batch> {
        let [longest, ..] = LONG_TOKENS;
        (self.max_positions >= longest).then(|| self.batch(&self.random_rows(&LONG_TOKENS, LONG_STEP)))
    }

    /// Rows of these lengths, of random ids that are always the same, with one position in `step` masked.
    fn random_rows(&self, lengths: &[usize], step: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
        let mut state = 1_u64;
        let mut draw = || {
            // Knuth's congruential generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % self.size.max(1) as u64).unwrap_or(self.mask_id)
        };
        let rows = lengths.iter().map(|tokens| {
            let ids: Vec<u32> = (0..*tokens).map(|_| draw()).collect();
            let group = (0..).step_by(step).take(ids.len().div_ceil(step)).collect();
            (ids, group)
        });
        rows.collect()
    }

    /// Rows that nobody waits for.
    fn batch(&self, rows: &[(Vec<u32>, Vec<u32>)]) -> Batch {
        let row = |(ids, group): &(Vec<u32>, Vec<u32>)| {
            let (reply, _) = oneshot::channel();
            let permits = Arc::new(Semaphore::new(1)).try_acquire_many_owned(0).ok()?;
            let mut passes = Passes::over(ids.as_slice().into());
            passes.mask(group.iter().copied());
            Some(Row { request: Arc::new(Request::new(passes, reply, permits)), pass: 0 })
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
        let full = budget(2048, 250_000, Needs::default(), Head::Full);
        assert_eq!(full, Budget { tokens: 201, positions: usize::MAX, batch_cost: 0 });
        assert_eq!(
            budget(2048, 250_000, Needs::default(), Head::Hoisted),
            Budget { tokens: 2048, positions: 67, batch_cost: 0 }
        );
        assert_eq!(
            budget(16_384, 250_000, Needs::default(), Head::Hoisted),
            Budget { tokens: 16_384, positions: 67, batch_cost: 0 }
        );
        assert_eq!(budget(0, 0, Needs::default(), Head::Hoisted), Budget { tokens: 1, positions: 1, batch_cost: 0 });
    }

    #[test]
    fn what_a_batch_costs_by_itself_is_bounded() {
        assert_eq!(batch_cost(36.9, 16, 2048), 20);
        assert_eq!(batch_cost(9.0, 16, 2048), 0, "a clock that is not fine enough");
        assert_eq!(batch_cost(1e9, 16, 2048), 512);
        assert_eq!(batch_cost(f64::INFINITY, 16, 2048), 0);
        assert_eq!(batch_cost(f64::NAN, 16, 2048), 0);
    }

    #[test]
    fn the_check_is_padded_masked_and_within_the_model() {
        let vocabulary = Vocabulary { mask_id: 4, pad_id: 0, size: 100, width: 100, max_positions: 30 };
        let batch = vocabulary.batch(&vocabulary.check_rows());
        assert_eq!((batch.rows, batch.tokens, batch.real_tokens), (4, 30, 30 + 30 + 7 + 20));
        assert_eq!(batch.targets.len(), 6 + 6 + 2 + 4);
        assert!(batch.ids.iter().all(|id| (0..100).contains(id)));
        assert!(vocabulary.long().is_none());
        let wide = Vocabulary { width: 250_000, max_positions: 512, ..vocabulary };
        let long = wide.long().unwrap();
        assert_eq!((long.rows, long.tokens, long.real_tokens, long.targets.len()), (2, 272, 472, 5 + 4));
        let wide = wide.batch(&wide.check_rows());
        assert_eq!((wide.rows, wide.tokens, wide.real_tokens), (4, 16, 16 + 11 + 3 + 7));
        assert_eq!(wide.targets.len(), 4 + 3 + 1 + 2);
    }
}
