//! Owns the events: the view once a second to everybody who listens, as server-sent events.
//!
//! In: the board. Out: a stream of JSON. Invariants: at most [`LISTENERS`] at once; a stream ends by itself before the door closes its connection
//! (a browser asks again at once), and at the server's shutdown; it holds one snapshot at a time, so a slow reader costs nothing but its own news.
//! Must not know: who listens.

use super::view::View;
use crate::telemetry::Board;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Listeners at once: pages left open, and `tamis top` is none of them.
pub(super) const LISTENERS: usize = 16;
const BEAT: Duration = Duration::from_secs(1);
/// Below the lifetime of a connection.
const LENGTH: Duration = Duration::from_secs(50);

/// Where listeners sit down.
#[derive(Clone)]
pub(super) struct Gallery {
    seats: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

struct Listener {
    board: Board,
    stall_after: Duration,
    beat: Interval,
    ends_at: Instant,
    closing: watch::Receiver<bool>,
    _seat: OwnedSemaphorePermit,
}

impl Gallery {
    /// Seats that are free until `closing` becomes true.
    pub(super) fn new(closing: watch::Receiver<bool>) -> Self {
        Self { seats: Arc::new(Semaphore::new(LISTENERS)), closing }
    }

    /// The stream; `None` when all seats are taken.
    pub(super) fn listen(&self, board: Board, stall_after: Duration) -> Option<Response> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listener = Listener {
            board,
            stall_after,
            beat,
            ends_at: Instant::now() + LENGTH,
            closing: self.closing.clone(),
            _seat: seat,
        };
        Some(Sse::new(stream::unfold(listener, next)).into_response())
    }
}

async fn next(mut listener: Listener) -> Option<(Result<Event, Infallible>, Listener)> {
    tokio::select! {
        biased;
        // An error means that the server is gone, which ends the stream as well.
        _ = listener.closing.wait_for(|closing| *closing) => return None,
        at = listener.beat.tick() => if at >= listener.ends_at { return None },
    }
    let json = serde_json::to_string(&View::of(&listener.board, listener.stall_after)).ok()?;
    Some((Ok(Event::default().retry(BEAT).data(json)), listener))
}
