//! Owns requests, rows and batches: what waits, and the tensors made of it.
//!
//! A row is a window (shared) and the number of its pass; masked copies exist only inside a [`Batch`].

use super::{Error, Passes, Reading};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What is sent back to the caller, for each scored position, pass by pass.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Of a masked language model: one each.
    pub(super) readings: Vec<Reading>,
    /// Of a model that is read in one pass: the same number of them each.
    pub(super) values: Vec<f32>,
}

/// The way back to the caller.
pub(super) type Reply = oneshot::Sender<Result<Answer, Error>>;

/// One window with all its passes, waiting to be scored: a row for each.
pub(super) struct Request {
    pub(super) passes: Passes,
    born: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    answer: Answer,
    rows_left: usize,
    /// Gone once answered, and the permits for the queue with it.
    open: Option<(Reply, OwnedSemaphorePermit)>,
}

impl Request {
    pub(super) fn new(passes: Passes, reply: Reply, permits: OwnedSemaphorePermit) -> Self {
        let progress = Progress { answer: Answer::default(), rows_left: passes.count(), open: Some((reply, permits)) };
        Self { passes, born: Instant::now(), progress: Mutex::new(progress) }
    }

    /// Seconds since it was made.
    pub(super) fn waited_seconds(&self) -> f64 {
        self.born.elapsed().as_secs_f64()
    }

    /// Whether somebody still waits for the answer.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open.as_ref().is_some_and(|(reply, _)| !reply.is_closed())
    }

    /// Takes in what is known of one pass: a reading for each position that it scores, or `width` values; the last pass answers the
    /// caller.
    pub(super) fn scored(&self, pass: usize, readings: &[Reading], values: &[f32]) {
        let mut progress = self.lock();
        let (place, all) = (self.passes.place(pass), self.passes.readings());
        if !readings.is_empty() {
            progress.answer.readings.resize(all, Reading::of(0.0));
            progress.answer.readings[place.clone()].copy_from_slice(readings);
        }
        if !values.is_empty() {
            let width = values.len() / place.len().max(1);
            progress.answer.values.resize(all * width, 0.0);
            progress.answer.values[place.start * width..place.end * width].copy_from_slice(values);
        }
        progress.rows_left = progress.rows_left.saturating_sub(1);
        if progress.rows_left == 0
            && let Some((reply, _permits)) = progress.open.take()
        {
            let _ = reply.send(Ok(std::mem::take(&mut progress.answer)));
        }
    }

    /// Answers the caller with an error; later rows of this request are dropped.
    pub(super) fn failed(&self, error: Error) {
        if let Some((reply, _permits)) = self.lock().open.take() {
            let _ = reply.send(Err(error));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One forward pass of one window: its request, and the number of its pass.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) request: Arc<Request>,
    pub(super) pass: usize,
}

impl Row {
    /// The positions to score.
    pub(super) fn scored(&self) -> &[u32] {
        self.request.passes.scored(self.pass)
    }

    /// Tokens of the row, specials included.
    pub(super) fn tokens(&self) -> usize {
        self.request.passes.ids().len()
    }
}

/// One position whose original id is to be scored.
pub(super) struct Target {
    pub(super) row: usize,
    pub(super) position: usize,
    pub(super) id: usize,
}

/// The tensors of one forward pass.
pub(super) struct Batch {
    /// B.
    pub(super) rows: usize,
    /// T, the longest row.
    pub(super) tokens: usize,
    /// `[B,T]`, masked and padded.
    pub(super) ids: Vec<i64>,
    /// `[B,T]`, 1 where a row has a token.
    pub(super) attention: Vec<i64>,
    /// In row order, and within a row in the order of its scored positions.
    pub(super) targets: Vec<Target>,
    /// Tokens that are not padding.
    pub(super) real_tokens: usize,
}

impl Batch {
    /// Lays `rows` out, padded to the longest.
    pub(super) fn compose(rows: &[Row], mask_id: u32, pad_id: u32) -> Self {
        let tokens = rows.iter().map(Row::tokens).max().unwrap_or(0);
        let mut batch = Self {
            rows: rows.len(),
            tokens,
            ids: vec![i64::from(pad_id); rows.len() * tokens],
            attention: vec![0; rows.len() * tokens],
            targets: Vec::new(),
            real_tokens: 0,
        };
        for (number, row) in rows.iter().enumerate() {
            let start = number * tokens;
            let passes = &row.request.passes;
            for (at, id) in passes.ids().iter().enumerate() {
                batch.ids[start + at] = i64::from(*id);
                batch.attention[start + at] = 1;
            }
            for position in passes.masked(row.pass) {
                batch.ids[start + *position as usize] = i64::from(mask_id);
            }
            for (position, id) in passes.targets(row.pass) {
                batch.targets.push(Target { row: number, position: position as usize, id: id as usize });
            }
            batch.real_tokens += row.tokens();
        }
        batch
    }
}
