//! Owns the view: the board's snapshot with the one judgement that needs this room's settings, whether the worker is live.

use crate::telemetry::{Board, Snapshot};
use serde::Serialize;
use std::time::Duration;

/// What `/status` and `/events` tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct View {
    /// What the board says.
    #[serde(flatten)]
    pub(super) snapshot: Snapshot,
    /// What `/livez` says.
    pub(super) live: bool,
    /// Why it is not live, if it is not.
    pub(super) stuck_because: Option<&'static str>,
}

impl View {
    /// The view now. `stall`: see [`Board::is_live`].
    pub(super) fn of(board: &Board, stall: Duration) -> Self {
        let stuck_because = board.dead_because(stall);
        Self { snapshot: board.snapshot(), live: stuck_because.is_none(), stuck_because }
    }
}
