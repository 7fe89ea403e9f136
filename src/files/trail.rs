//! Owns the trail: what the reader knows about each line that it passed on, kept until the line's delivery is on disk.
//!
//! Invariants: bounded by the documents in flight; shared by the thread that reads and the one that commits, and locked for moments only.

use super::checkpoint::Mark;
use super::lines::Digest;
use crate::corpus::Position;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Steps {
    size: u64,
    modified_ns: u64,
    /// The number of the line after a document, and the digest up to there.
    passed: VecDeque<(i64, Digest)>,
    /// The number after the last document, once it is known.
    end: Option<i64>,
}

/// A handle on the trail; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    steps: Arc<Mutex<HashMap<String, Steps>>>,
}

impl Trail {
    fn steps(&self) -> MutexGuard<'_, HashMap<String, Steps>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is being read, which was of this size and age when it was opened.
    pub fn begin(&self, lane: &str, size: u64, modified_ns: u64) {
        self.steps().insert(lane.to_owned(), Steps { size, modified_ns, ..Steps::default() });
    }

    /// The document before line `next` is about to be passed on; `is_last` if no other follows in this file.
    pub fn pass(&self, lane: &str, next: i64, digest: Digest, is_last: bool) {
        if let Some(steps) = self.steps().get_mut(lane) {
            steps.passed.push_back((next, digest));
            steps.end = is_last.then_some(next);
        }
    }

    /// What is to be written down about a position, for lanes that are files. With its last document's a file is forgotten here.
    pub(super) fn mark(&self, position: &Position) -> Option<Mark> {
        let mut steps = self.steps();
        let lane = steps.get_mut(&*position.lane.topic)?;
        while lane.passed.front().is_some_and(|(next, _)| *next < position.next) {
            lane.passed.pop_front();
        }
        let (next, digest) = lane.passed.front().copied().filter(|(next, _)| *next == position.next)?;
        let done = lane.end == Some(next);
        let mark = Mark { next, digest: hex(digest), done, size: lane.size, modified_ns: lane.modified_ns };
        if done {
            steps.remove(&*position.lane.topic);
        }
        Some(mark)
    }
}

pub(super) fn hex(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
