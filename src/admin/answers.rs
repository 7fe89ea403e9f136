//! Owns what each endpoint answers.
//!
//! In: a request's path. Out: a status code, a content type, a body. Invariants: only GET and HEAD, anything else is 405 and an unknown
//! path is 404; an answer reads the board and the exporter, and changes nothing that another answer could tell.
//! Must not know: sockets.

use super::page;
use crate::telemetry::{Board, Exporter};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::time::Duration;

/// What the answers are made from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) board: Board,
    pub(super) exporter: Exporter,
    pub(super) stall_after: Duration,
}

/// The endpoints, each with what it is for; the page lists them.
pub(super) const ENDPOINTS: [(&str, &str); 4] = [
    ("/livez", "200 while the process can do its work, 503 when it needs a restart"),
    ("/readyz", "200 while documents are taken: model warm, partitions assigned, no drain"),
    ("/metrics", "every series, for Prometheus"),
    ("/status", "the numbers of this page as JSON"),
];

pub(super) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .route("/", get(front_page))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "no such endpoint; / lists them") })
        .with_state(sources)
}

async fn livez(State(sources): State<Sources>) -> Response {
    verdict(sources.board.dead_because(sources.stall_after))
}

async fn readyz(State(sources): State<Sources>) -> Response {
    verdict(sources.board.unready_because())
}

async fn metrics_text(State(sources): State<Sources>) -> Response {
    fresh("text/plain; version=0.0.4; charset=utf-8", sources.exporter.render(&sources.board))
}

async fn status(State(sources): State<Sources>) -> Response {
    match serde_json::to_string(&sources.board.snapshot()) {
        Ok(json) => fresh("application/json", json),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the status can't be written as JSON"),
    }
}

async fn front_page(State(sources): State<Sources>) -> Response {
    let dead_because = sources.board.dead_because(sources.stall_after);
    fresh("text/html; charset=utf-8", page::render(&sources.board.snapshot(), dead_because, &ENDPOINTS))
}

/// 200 and `ok`, or 503 and the reason.
fn verdict(because: Option<&'static str>) -> Response {
    because.map_or_else(|| text(StatusCode::OK, "ok"), |reason| text(StatusCode::SERVICE_UNAVAILABLE, reason))
}

fn text(status: StatusCode, line: &'static str) -> Response {
    (status, fresh("text/plain; charset=utf-8", format!("{line}\n"))).into_response()
}

/// A body that no proxy may keep.
fn fresh(content_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response()
}
