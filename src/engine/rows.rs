//! Owns models that are read in one pass, nothing masked: classifiers of texts or of tokens, and encoders. Their way to the device, and what
//! is read off a row.
//!
//! In: rows, each with positions to read. Out: for each of them the same number of values, as the graph gives them (no softmax). What a
//! graph's output means is told by its shape over rows of two lengths, never by its name.

use super::batch::{Batch, Request, Row};
use super::device::{Failure, Runner, Scored};
use super::lane::{Filled, Lane};
use super::load::{self, LOGITS_BYTES_MAX, Loaded, SHORT_RUNS, SHORT_TOKENS, Standing, WARM_UP_TOKENS_MAX};
use super::onnx::{self, Input};
use super::queue::Budget;
use super::{Error, Passes, Settings, Vocabulary, model};
use crate::telemetry::metrics;
use ort::session::Session;
use ort::value::TensorElementType;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, oneshot};

/// Lengths of the rows by which an output's axes are told apart.
const PROBE_TOKENS: [usize; 2] = [5, 3];
/// Why attention is plain where it was to be fused.
const ONE_PASS_PLAIN: &str = "it is read in one pass, and what is fused are masked scores";
/// Outputs that hold an encoder's last hidden state, by the names that exporters give them; the first that is there is read.
pub const HIDDEN: [&str; 3] = ["last_hidden_state", "token_embeddings", "hidden_states"];

/// What is read off a row in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnePass {
    /// Of `[B,L]`: a row's L numbers, whatever the position.
    Sequence,
    /// Of `[B,T,L]`, or of `[B,T]` where L is 1: L numbers of each position.
    Tokens,
    /// Of hidden states `[B,T,H]`: their mean over the row's tokens, special ones included, H numbers whatever the position.
    Mean,
    /// Of hidden states `[B,T,H]`: those of the row's first token, H numbers whatever the position.
    First,
}

/// The axes of a graph's output, as two probes tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// `[B,L]`.
    Rows(usize),
    /// `[B,T]`, or `[B,T,L]`.
    Positions(usize),
}

/// One session over a model without a masked-LM head.
pub(super) struct Rows {
    lane: Lane,
    inputs: Vec<(String, Input)>,
    output: String,
    provider: &'static str,
    pass: OnePass,
    width: usize,
}

/// Loads a model that is read in one pass: probes its output, sees whether rows keep their values in company, runs worst-case batches.
pub(super) fn load(
    settings: &Settings,
    vocabulary: &Vocabulary,
    pass: OnePass,
    graph: Option<&[u8]>,
    tolerance: f64,
) -> Result<Loaded, Error> {
    let mut rows = Rows::load(settings, vocabulary, pass, graph)?;
    let company = company(&mut rows, vocabulary);
    let padded = company.is_some_and(|difference| difference <= tolerance);
    if !padded {
        tracing::warn!(path = %settings.path.display(), ?company, "padding changes values, batches hold rows of one length only");
    }
    // Whole outputs `[B,T,L]` are fetched.
    let most = LOGITS_BYTES_MAX / (4 * rows.width.max(1));
    let budget = Budget { tokens: settings.budget_tokens.clamp(1, most.max(1)), positions: usize::MAX, batch_cost: 0 };
    metrics::device_provider(rows.provider);
    metrics::device_loaded("one-pass", budget.tokens);
    let batch_cost = warm_up(&mut rows, vocabulary, budget)?;
    let budget = Budget { batch_cost: if padded { batch_cost } else { 0 }, ..budget };
    tracing::info!(path = %settings.path.display(), provider = rows.provider, width = rows.width, "loaded one-pass model");
    let standing = Standing {
        provider: rows.provider,
        precision: settings.precision.as_str(),
        head: "one-pass",
        difference_nats: None,
        exact_nats: None,
        why_full: None,
        fused_attentions: 0,
        why_plain: settings.attention.is_fused(rows.provider).then(|| ONE_PASS_PLAIN.to_owned()),
        bound: rows.lane.is_bound(),
        company_nats: company,
        padded,
        batch_tokens: budget.tokens,
        batch_positions: budget.tokens,
        batch_cost_tokens: budget.batch_cost,
    };
    let width = rows.width;
    Ok(Loaded { runner: Runner::Rows(Box::new(rows)), standing, budget, width })
}

impl Rows {
    fn load(settings: &Settings, vocabulary: &Vocabulary, pass: OnePass, graph: Option<&[u8]>) -> Result<Self, Error> {
        let path = settings.path.join(model::GRAPH);
        let (session, provider) = onnx::session(settings, &path, graph, onnx::Optimiser::On)?;
        let inputs = onnx::inputs(&session, &path, onnx::Head::Full)?;
        let refused = |why: String| Error::Model { path: path.clone(), why };
        let output = output(&session, pass).map_err(refused)?;
        let lane = Lane::new(session, provider, settings.device.number());
        let mut rows = Self { lane, inputs, output, provider, pass, width: 0 };
        let axes = rows.axes(vocabulary).map_err(|failure| refused(failure.why))?;
        rows.width = match (pass, axes) {
            (OnePass::Sequence, Axes::Rows(width))
            | (OnePass::Tokens | OnePass::Mean | OnePass::First, Axes::Positions(width)) => width,
            (OnePass::Sequence, Axes::Positions(width)) => return Err(refused(rows.told(width, "token", "text"))),
            (OnePass::Tokens | OnePass::Mean | OnePass::First, Axes::Rows(width)) => {
                return Err(refused(rows.told(width, "text", "token")));
            }
        };
        Ok(rows)
    }

    fn told(&self, width: usize, found: &str, wanted: &str) -> String {
        format!(
            "output {:?} has {width} numbers for each {found}, and numbers for each {wanted} are wanted",
            self.output
        )
    }

    /// Tells the axes of the output by rows of two lengths.
    fn axes(&mut self, vocabulary: &Vocabulary) -> Result<Axes, Failure> {
        let mut shapes = Vec::new();
        for tokens in PROBE_TOKENS.map(|tokens| tokens.min(vocabulary.max_positions)) {
            let batch = compose(vocabulary, &[row(vocabulary, tokens), row(vocabulary, tokens)]);
            shapes.push((tokens, self.run(&batch, |shape, _| Ok(shape.to_vec()))?));
        }
        let [(long, one), (short, two)] = shapes.as_slice() else { return Err(onnx::other("no probe was run")) };
        let is = |axis: i64, size: usize| usize::try_from(axis) == Ok(size);
        match (one.as_slice(), two.as_slice()) {
            ([2, one], [2, two]) if is(*one, *long) && is(*two, *short) && long != short => Ok(Axes::Positions(1)),
            ([2, one], [2, two]) if one == two && *one > 0 => Ok(Axes::Rows(usize::try_from(*one).unwrap_or(0))),
            ([2, tokens, width], [2, fewer, same])
                if is(*tokens, *long) && is(*fewer, *short) && width == same && *width > 0 =>
            {
                Ok(Axes::Positions(usize::try_from(*width).unwrap_or(0)))
            }
            _ => Err(onnx::other(&format!(
                "output {:?} has shape {one:?} for 2 rows of {long} tokens and {two:?} for 2 of {short}: known are [B,L], [B,T] and [B,T,L]",
                self.output
            ))),
        }
    }

    /// One forward pass, and what `read` makes of the output's axes and numbers.
    fn run<T>(
        &mut self,
        batch: &Batch,
        read: impl FnOnce(&[i64], &onnx::Logits<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let filled: Vec<Filled<'_>> =
            self.inputs.iter().map(|(name, input)| (name.as_str(), input.fill(batch))).collect();
        let outputs = self.lane.run(&filled)?;
        let (shape, numbers) = onnx::floats(&outputs, &self.output)?;
        read(shape, &numbers)
    }

    /// One forward pass: `width` values for each target.
    pub(super) fn score(&mut self, batch: &Batch) -> Result<Scored, Failure> {
        let (pass, width, start) = (self.pass, self.width, Instant::now());
        let values = self.run(batch, |shape, numbers| values(batch, shape, numbers, pass, width))?;
        Ok(Scored { readings: Vec::new(), values, spent: start.elapsed() })
    }
}

/// What `pass` reads at each target of a batch.
fn values(
    batch: &Batch,
    shape: &[i64],
    numbers: &onnx::Logits<'_>,
    pass: OnePass,
    width: usize,
) -> Result<Vec<f32>, Failure> {
    let each = if pass == OnePass::Sequence { batch.rows } else { batch.rows * batch.tokens };
    let expected = shape.iter().try_fold(1_usize, |all, axis| all.checked_mul(usize::try_from(*axis).ok()?));
    if expected != Some(each * width) {
        return Err(onnx::other(&format!("the output has shape {shape:?}, which is not the one that was probed")));
    }
    let of = |place: usize| {
        let (start, end) = (place * width, (place + 1) * width);
        numbers.get(start..end).ok_or_else(|| onnx::other("the output is too short"))
    };
    let mut values = Vec::with_capacity(batch.targets.len() * width);
    for target in &batch.targets {
        let first = target.row * batch.tokens;
        match pass {
            OnePass::Sequence => values.extend_from_slice(&of(target.row)?),
            OnePass::Tokens => values.extend_from_slice(&of(first + target.position)?),
            OnePass::First => values.extend_from_slice(&of(first)?),
            OnePass::Mean => {
                let mut sum = vec![0.0_f64; width];
                let mut count = 0.0;
                for place in (first..first + batch.tokens).filter(|place| batch.attention[*place] == 1) {
                    count += 1.0;
                    sum.iter_mut().zip(&*of(place)?).for_each(|(sum, value)| *sum += f64::from(*value));
                }
                #[allow(clippy::cast_possible_truncation, reason = "the mean of single-precision numbers")]
                values.extend(sum.into_iter().map(|sum| (sum / f64::max(count, 1.0)) as f32));
            }
        }
    }
    Ok(values)
}

/// The output that holds what `pass` reads: for hidden states by name, else `logits`, else the only one.
fn output(session: &Session, pass: OnePass) -> Result<String, String> {
    let wanted: &[&str] = match pass {
        OnePass::Sequence | OnePass::Tokens => &["logits"],
        OnePass::Mean | OnePass::First => &HIDDEN,
    };
    let outlets = session.outputs();
    let named = wanted.iter().find_map(|name| outlets.iter().find(|outlet| outlet.name() == *name));
    let found = match (named, outlets) {
        (Some(outlet), _) | (None, [outlet]) => outlet,
        (None, _) => {
            let names: Vec<&str> = outlets.iter().map(|outlet| outlet.name()).collect();
            return Err(format!("none of its outputs ({}) is called {}", names.join(", "), wanted.join(" or ")));
        }
    };
    match onnx::element(found) {
        Some(TensorElementType::Float32 | TensorElementType::Float16) => Ok(found.name().to_owned()),
        _ => Err(format!(
            "output {:?} is neither of float32 nor of float16: export the model's numbers so",
            found.name()
        )),
    }
}

/// The largest difference that company makes to a value, relative to values above 1: rows alone, and padded in one batch.
fn company(rows: &mut Rows, vocabulary: &Vocabulary) -> Option<f64> {
    let made: Vec<Row> =
        vocabulary.check_rows().into_iter().filter_map(|(ids, read)| reading(&ids, read.into_iter())).collect();
    let together = rows.score(&Batch::compose(&made, vocabulary.mask_id, vocabulary.pad_id)).ok()?.values;
    let mut alone = Vec::with_capacity(together.len());
    for row in &made {
        let batch = Batch::compose(std::slice::from_ref(row), vocabulary.mask_id, vocabulary.pad_id);
        alone.extend(rows.score(&batch).ok()?.values);
    }
    let apart = |(one, two): (&f32, &f32)| f64::from((one - two).abs() / one.abs().max(1.0));
    let worst = together.iter().zip(&alone).map(apart).fold(0.0, |worst: f64, apart| match apart.is_finite() {
        true => worst.max(apart),
        false => f64::INFINITY,
    });
    (together.len() == alone.len()).then_some(worst)
}

/// Runs the widest and the tallest batch that the budget allows, and then short ones: what a batch costs by itself, in tokens.
#[allow(clippy::cast_precision_loss, reason = "tokens of one batch")]
fn warm_up(rows: &mut Rows, vocabulary: &Vocabulary, budget: Budget) -> Result<usize, Error> {
    let longest = vocabulary.max_positions.clamp(1, WARM_UP_TOKENS_MAX);
    let short = longest.min(SHORT_TOKENS);
    let mut token_seconds = f64::INFINITY;
    for tokens in [short, longest] {
        let count = (budget.tokens / tokens).max(1);
        let batch = compose(vocabulary, &vec![row(vocabulary, tokens); count]);
        let wrong = |Failure { memory, why }| Err(Error::WarmUp { memory, rows: count, tokens, why });
        match rows.score(&batch) {
            Err(failure) => return wrong(failure),
            Ok(scored) if !scored.values.iter().all(|value| value.is_finite()) => {
                return wrong(Failure { memory: false, why: "its values are not finite numbers".to_owned() });
            }
            Ok(scored) => {
                let seconds = scored.spent.as_secs_f64();
                metrics::device_baseline(count * tokens, seconds);
                token_seconds = token_seconds.min(seconds / (count * tokens) as f64);
            }
        }
    }
    let probe = compose(vocabulary, &[row(vocabulary, short)]);
    let runs = (0..SHORT_RUNS).filter_map(|_| rows.score(&probe).ok());
    let seconds = runs.map(|scored| scored.spent.as_secs_f64()).fold(f64::INFINITY, f64::min);
    Ok(load::batch_cost(seconds / token_seconds, short, budget.tokens))
}

/// `tokens` times the greatest id: a graph too narrow for the vocabulary fails on it.
fn row(vocabulary: &Vocabulary, tokens: usize) -> Vec<u32> {
    vec![u32::try_from(vocabulary.size.saturating_sub(1)).unwrap_or(0); tokens.max(1)]
}

fn compose(vocabulary: &Vocabulary, rows: &[Vec<u32>]) -> Batch {
    let rows: Vec<Row> = rows.iter().filter_map(|ids| reading(ids, std::iter::once(0))).collect();
    Batch::compose(&rows, vocabulary.mask_id, vocabulary.pad_id)
}

/// A row that nobody waits for, read at `positions`.
fn reading(ids: &[u32], positions: impl Iterator<Item = u32>) -> Option<Row> {
    let (reply, _) = oneshot::channel();
    let permits = Arc::new(Semaphore::new(1)).try_acquire_many_owned(0).ok()?;
    let mut passes = Passes::over(ids.into());
    passes.mask_and_score([], positions);
    Some(Row { request: Arc::new(Request::new(passes, reply, permits)), pass: 0 })
}
