//! Owns requests, rows and batches: what waits, and the tensors made of it.
//!
//! A row is a window (shared) and the number of the group that it masks; masked copies exist only inside a [`Batch`].

use super::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What is sent back to the caller: a log-probability for each masked position, group by group.
pub(super) type Reply = oneshot::Sender<Result<Vec<f64>, Error>>;

/// One window with all its groups, waiting to be scored.
pub(super) struct Request {
    /// The window wrapped in its special tokens, `[T]`.
    pub(super) ids: Arc<[u32]>,
    /// Positions masked together, one row for each group.
    pub(super) groups: Vec<Vec<u32>>,
    /// Where each group's scores start in the reply.
    starts: Vec<usize>,
    born: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    scores: Vec<f64>,
    rows_left: usize,
    /// Gone once answered, and the permits for the queue with it.
    open: Option<(Reply, OwnedSemaphorePermit)>,
}

impl Request {
    pub(super) fn new(ids: Arc<[u32]>, groups: Vec<Vec<u32>>, reply: Reply, permits: OwnedSemaphorePermit) -> Self {
        let mut total = 0;
        let starts = groups
            .iter()
            .map(|group| {
                total += group.len();
                total - group.len()
            })
            .collect();
        let progress = Progress { scores: vec![0.0; total], rows_left: groups.len(), open: Some((reply, permits)) };
        Self { ids, groups, starts, born: Instant::now(), progress: Mutex::new(progress) }
    }

    /// Seconds since it was made.
    pub(super) fn waited_seconds(&self) -> f64 {
        self.born.elapsed().as_secs_f64()
    }

    /// Whether somebody still waits for the answer.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open.as_ref().is_some_and(|(reply, _)| !reply.is_closed())
    }

    /// Takes in the scores of one group; the last one answers the caller.
    pub(super) fn scored(&self, group: usize, scores: &[f64]) {
        let mut progress = self.lock();
        let start = self.starts[group];
        progress.scores[start..start + scores.len()].copy_from_slice(scores);
        progress.rows_left = progress.rows_left.saturating_sub(1);
        if progress.rows_left == 0
            && let Some((reply, _permits)) = progress.open.take()
        {
            let _ = reply.send(Ok(std::mem::take(&mut progress.scores)));
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

/// One forward pass of one window: its request, and the number of the group that is masked.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) request: Arc<Request>,
    pub(super) group: usize,
}

impl Row {
    /// The positions to mask and score.
    pub(super) fn positions(&self) -> &[u32] {
        &self.request.groups[self.group]
    }

    /// Tokens of the row, specials included.
    pub(super) fn tokens(&self) -> usize {
        self.request.ids.len()
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
    /// In row order, and in group order within a row.
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
            for (at, id) in row.request.ids.iter().enumerate() {
                batch.ids[start + at] = i64::from(*id);
                batch.attention[start + at] = 1;
            }
            for position in row.positions() {
                let position = *position as usize;
                batch.ids[start + position] = i64::from(mask_id);
                batch.targets.push(Target { row: number, position, id: row.request.ids[position] as usize });
            }
            batch.real_tokens += row.tokens();
        }
        batch
    }
}
