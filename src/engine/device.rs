//! Owns the loop of a device's two threads: draw a batch from the queue, lay it out, run it when the device is free, answer its callers;
//! halve a batch that fails.
//!
//! Blame: a batch that fails is split down to single rows. A row that fails alone is blamed only if the device then still
//! scores a probe; else the device is gone, and nobody's document is at fault.

use super::batch::{Batch, Row};
use super::onnx::Onnx;
use super::queue::Budget;
use super::rows::Rows;
use super::shared::Shared;
use super::{Error, Reading, Vocabulary};
use crate::telemetry::metrics;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What runs batches.
pub(super) enum Runner {
    /// ONNX Runtime.
    Onnx(Box<Onnx>),
    /// ONNX Runtime, over a model that is read in one pass.
    Rows(Box<Rows>),
    /// A test's script.
    #[cfg(test)]
    Scripted(Script),
}

/// Scores a batch as a test wants it.
#[cfg(test)]
pub(super) type Script = Box<dyn FnMut(&Batch) -> Result<Scored, Failure> + Send>;

/// A batch's scores.
pub(super) struct Scored {
    /// One for each target, in the batch's order; none from a model that is read in one pass.
    pub(super) readings: Vec<Reading>,
    /// From such a model, the same number of values for each target.
    pub(super) values: Vec<f32>,
    /// Time inside the device's run.
    pub(super) spent: Duration,
}

/// A batch that the device did not score.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Whether memory ran out.
    pub(super) memory: bool,
    /// What the device said.
    pub(super) why: String,
}

impl Runner {
    /// One forward pass.
    pub(super) fn score(&mut self, batch: &Batch) -> Result<Scored, Failure> {
        match self {
            Self::Onnx(onnx) => onnx.score(batch),
            Self::Rows(rows) => rows.score(batch),
            #[cfg(test)]
            Self::Scripted(script) => script(batch),
        }
    }
}

/// The loop of one of a device's threads. Returns when the engine closes, or with the reason why the device is gone.
///
/// While one thread runs its batch, the other answers for the last one, draws the next and lays it out; then it waits for the device.
pub(super) fn serve(
    shared: &Shared,
    device: usize,
    runner: &Mutex<Runner>,
    vocabulary: &Vocabulary,
    budget: Budget,
) -> Result<(), String> {
    let work = Work { shared, device, runner, vocabulary };
    while let Some(rows) = shared.next_batch(device, budget) {
        rows.iter().filter(|row| row.pass == 0).for_each(|row| metrics::device_queued(row.request.waited_seconds()));
        work.run(rows)?;
    }
    Ok(())
}

struct Work<'a> {
    shared: &'a Shared,
    device: usize,
    runner: &'a Mutex<Runner>,
    vocabulary: &'a Vocabulary,
}

/// A batch that the device holds until this is dropped.
struct Held<'a>(&'a Work<'a>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.shared.release(self.0.device);
    }
}

impl Work<'_> {
    /// Runs `rows`, halving on failure. Every row's request is answered, but for those whose device is gone.
    fn run(&self, rows: Vec<Row>) -> Result<(), String> {
        let mut held = Some(Held(self));
        let mut waiting = vec![rows];
        while let Some(mut rows) = waiting.pop() {
            rows.retain(|row| row.request.is_open());
            let batch = Batch::compose(&rows, self.vocabulary.mask_id, self.vocabulary.pad_id);
            let Some(outcome) = self.score(&rows, &batch) else { continue };
            if outcome.is_ok() && waiting.is_empty() {
                // What is left to do needs no device.
                held.take();
            }
            match outcome {
                Ok(scored) => {
                    self.shared.count_run(self.device, batch.real_tokens, scored.spent);
                    answer(&rows, &batch, &scored);
                }
                Err(failure) => {
                    metrics::device_batch_failed();
                    tracing::warn!(rows = rows.len(), tokens = batch.tokens, why = failure.why, "device batch failed");
                    if rows.len() > 1 {
                        let second = rows.split_off(rows.len() / 2);
                        waiting.extend([second, rows]);
                    } else {
                        self.blame(&rows, failure)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for the device and runs the batch there; nothing if by then nobody waits for its rows, or the engine has ended.
    fn score(&self, rows: &[Row], batch: &Batch) -> Option<Result<Scored, Failure>> {
        let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.gone().is_some() || !rows.iter().any(|row| row.request.is_open()) {
            return None;
        }
        let outcome = runner.score(batch);
        self.shared.count_pass(self.device);
        Some(outcome)
    }

    /// Fails the request of a row that failed alone, if the device still works.
    fn blame(&self, rows: &[Row], failure: Failure) -> Result<(), String> {
        let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(probe) = runner.score(&self.vocabulary.probe(1, 1, 1)) {
            return Err(format!(
                "the device failed on a row ({}) and on a probe after it ({})",
                failure.why, probe.why
            ));
        }
        for row in rows {
            let (memory, why) = (failure.memory, failure.why.clone());
            row.request.failed(Error::Row { memory, tokens: row.tokens(), why });
        }
        Ok(())
    }
}

/// Hands a batch's scores out to its rows' requests.
fn answer(rows: &[Row], batch: &Batch, scored: &Scored) {
    let padded = batch.rows * batch.tokens;
    metrics::device_batch(batch.rows, padded, batch.real_tokens, batch.targets.len(), scored.spent.as_secs_f64());
    let each = |all: usize| all / batch.targets.len().max(1);
    let (one, width) = (each(scored.readings.len()), each(scored.values.len()));
    let (mut left, mut values_left) = (scored.readings.as_slice(), scored.values.as_slice());
    for row in rows {
        let count = row.scored().len();
        let split = left.split_at_checked(count * one).zip(values_left.split_at_checked(count * width));
        let Some(((readings, rest), (values, values_rest))) = split.filter(|_| one + width > 0) else {
            return row.request.failed(Error::Gone { why: "the device returned too few scores".to_owned() });
        };
        (left, values_left) = (rest, values_rest);
        if readings.iter().all(Reading::is_finite) && values.iter().all(|value| value.is_finite()) {
            row.request.scored(row.pass, readings, values);
        } else {
            let why = "a score is not a finite number".to_owned();
            row.request.failed(Error::Row { memory: false, tokens: row.tokens(), why });
        }
    }
}
