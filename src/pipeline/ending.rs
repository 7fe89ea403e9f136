//! Owns how a flow ends: its end or the reason that it stopped, and what was delivered until then.

use crate::corpus::{Fault, Judged, Route};

/// How a flow came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The source ended and everything was delivered.
    Done,
    /// A stop was asked for and everything open was delivered.
    Drained,
}

/// What was delivered, by route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Documents that passed.
    pub passed: u64,
    /// Documents for review.
    pub reviewed: u64,
    /// Documents that failed.
    pub failed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deletions forwarded.
    pub tombstones: u64,
}

impl Summary {
    pub(super) fn count(&mut self, judged: &Judged) {
        match judged {
            Judged::Document { verdict, .. } => match Route::from(verdict.decision) {
                Route::Pass => self.passed += 1,
                Route::Review => self.reviewed += 1,
                Route::Fail | Route::DeadLetter => self.failed += 1,
            },
            Judged::Tombstone { .. } => self.tombstones += 1,
            Judged::Dead { .. } => self.dead += 1,
        }
    }

    /// Records that ended on a route, deletions not counted.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.passed + self.reviewed + self.failed + self.dead
    }
}

/// Why a flow stopped before its end. Positions not committed are read again by whoever comes next.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The source or the sink can't go on.
    #[error("{0}")]
    Unavailable(String),
    /// Something of the input can't be read; what could be read was delivered.
    #[error("{0}")]
    Input(String),
    /// Whoever read the output has gone.
    #[error("the reader of the output went away")]
    ReaderGone,
    /// A fault that means a bug or a dead engine.
    #[error("{0}")]
    Fault(Fault),
    /// A journey panicked.
    #[error("a journey panicked: {0}")]
    Panic(String),
    /// The drain deadline passed with documents still open.
    #[error("{open} documents were still open when the drain deadline passed; they will be read again")]
    DrainDeadline {
        /// How many.
        open: usize,
    },
}
