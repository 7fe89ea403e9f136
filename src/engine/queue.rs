//! Owns the waiting rows, and which of them make the next batch.
//!
//! Requests wait in order of length and of age. A batch starts with the oldest, so waiting is bounded, and takes rows of that length
//! first. The nearest other lengths join only whole, and only where their padding costs less than the batch that this saves: so
//! batches of several lengths are never dearer than batches of one length each would have been.

use super::batch::{Request, Row};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one batch may hold at most; a single row that is larger still makes a batch, alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Tokens, padding included.
    pub(super) tokens: usize,
    /// Scored positions.
    pub(super) positions: usize,
    /// What a batch costs however small it is, in tokens of rows: so much padding a length may add that joins others. 0 keeps lengths apart.
    pub(super) batch_cost: usize,
}

struct Entry {
    request: Arc<Request>,
    next_pass: usize,
}

impl Entry {
    /// Positions that the next row scores.
    fn positions(&self) -> usize {
        match self.next_pass < self.request.passes.count() {
            true => self.request.passes.scored(self.next_pass).len(),
            false => 0,
        }
    }
}

/// Requests with rows not yet handed out.
#[derive(Default)]
pub(super) struct Queue {
    /// By (tokens of a row, ticket).
    by_length: BTreeMap<(usize, u64), Entry>,
    /// Ticket to tokens of a row; tickets grow with time.
    by_age: BTreeMap<u64, usize>,
    next_ticket: u64,
    rows: usize,
    tokens: usize,
}

impl Queue {
    /// Rows waiting.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens of those rows, without padding.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds a request that has at least one pass; the ticket withdraws it.
    pub(super) fn push(&mut self, request: Arc<Request>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let tokens = request.passes.ids().len();
        self.rows += request.passes.count();
        self.tokens += request.passes.count() * tokens;
        self.by_age.insert(ticket, tokens);
        self.by_length.insert((tokens, ticket), Entry { request, next_pass: 0 });
        ticket
    }

    /// Drops what is left of a request, if anything is.
    pub(super) fn withdraw(&mut self, ticket: u64) {
        if let Some(length) = self.by_age.remove(&ticket)
            && let Some(entry) = self.by_length.remove(&(length, ticket))
        {
            let left = entry.request.passes.count() - entry.next_pass;
            self.rows -= left;
            self.tokens -= left * length;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.by_length.clear();
        self.by_age.clear();
        (self.rows, self.tokens) = (0, 0);
    }

    /// Takes the next batch within `budget`, or a single row larger than that; `None` if nothing waits.
    pub(super) fn take(&mut self, budget: Budget) -> Option<Vec<Row>> {
        let (ticket, length) = self.by_age.first_key_value().map(|(ticket, length)| (*ticket, *length))?;
        let mut draft = Draft { rows: Vec::new(), longest: length, real: 0, positions: 0, joined: 0, budget };
        let mut key = (length, ticket);
        while self.draw(key, &mut draft) {
            match self.oldest(length) {
                Some(next) => key = next,
                None => {
                    self.join(length, &mut draft);
                    break;
                }
            }
        }
        Some(draft.rows)
    }

    /// Moves whole other lengths into a draft of `length`, of which nothing is left, the nearest first, while that saves more than it costs.
    fn join(&mut self, length: usize, draft: &mut Draft) {
        loop {
            let shorter = self.by_length.range(..(length, 0)).next_back().map(|((tokens, _), _)| *tokens);
            let longer = self.by_length.range((length, 0)..).next().map(|((tokens, _), _)| *tokens);
            let fitting = [shorter, longer].into_iter().flatten().filter(|tokens| self.fits_whole(*tokens, draft));
            let Some(next) = fitting.min_by_key(|tokens| tokens.abs_diff(length)) else { return };
            draft.joined += 1;
            while let Some(key) = self.oldest(next) {
                if !self.draw(key, draft) {
                    return;
                }
            }
        }
    }

    /// Whether all rows of one length fit a draft of others, padding included. Looks at no more rows than a batch holds.
    fn fits_whole(&self, length: usize, draft: &Draft) -> bool {
        let (mut rows, mut positions) = (draft.rows.len(), draft.positions);
        let longest = draft.longest.max(length);
        for entry in self.by_length.range((length, 0)..(length + 1, 0)).map(|(_, entry)| entry) {
            for pass in entry.next_pass..entry.request.passes.count() {
                rows += 1;
                positions += entry.request.passes.scored(pass).len();
                if rows * longest > draft.budget.tokens || positions > draft.budget.positions {
                    return false;
                }
            }
        }
        let real = draft.real + (rows - draft.rows.len()) * length;
        rows * longest - real <= draft.budget.batch_cost * (draft.joined + 1)
    }

    /// The oldest request of a length.
    fn oldest(&self, length: usize) -> Option<(usize, u64)> {
        self.by_length.range((length, 0)..(length + 1, 0)).next().map(|(key, _)| *key)
    }

    /// Moves rows of one request into the draft while they fit; true if the request is used up.
    fn draw(&mut self, key: (usize, u64), draft: &mut Draft) -> bool {
        let Some(entry) = self.by_length.get_mut(&key) else { return true };
        let passes = entry.request.passes.count();
        while entry.next_pass < passes && (draft.rows.is_empty() || draft.fits(key.0, entry.positions())) {
            draft.positions += entry.positions();
            draft.rows.push(Row { request: Arc::clone(&entry.request), pass: entry.next_pass });
            draft.longest = draft.longest.max(key.0);
            draft.real += key.0;
            entry.next_pass += 1;
            self.rows -= 1;
            self.tokens -= key.0;
        }
        let used_up = entry.next_pass == passes;
        if used_up {
            self.by_length.remove(&key);
            self.by_age.remove(&key.1);
        }
        used_up
    }
}

/// A batch in the making.
struct Draft {
    rows: Vec<Row>,
    longest: usize,
    real: usize,
    positions: usize,
    /// Lengths besides the first.
    joined: usize,
    budget: Budget,
}

impl Draft {
    /// Whether one more row, of `tokens` of which `positions` are scored, stays within the budget.
    fn fits(&self, tokens: usize, positions: usize) -> bool {
        let padded = (self.rows.len() + 1) * self.longest.max(tokens);
        padded <= self.budget.tokens && self.positions + positions <= self.budget.positions
    }
}
