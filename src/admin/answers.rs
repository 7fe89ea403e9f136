//! Owns what each endpoint answers.
//!
//! In: a request's path. Out: a status code, a content type, a body. Invariants: only GET and HEAD, anything else is 405 and an unknown
//! path is 404, whatever the path a strange name is 421; an answer reads the board and the exporter, and changes nothing that another answer could tell.
//! Must not know: sockets.

use super::events::Gallery;
use super::hosts::{self, Hosts};
use super::page;
use super::view::View;
use crate::telemetry::{Board, Exporter};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::time::Duration;

/// What the answers are made from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) board: Board,
    pub(super) exporter: Exporter,
    pub(super) stall_after: Duration,
    pub(super) gallery: Gallery,
}

impl Sources {
    fn view(&self) -> View {
        View::of(&self.board, self.stall_after)
    }
}

/// The endpoints, each with what it is for; the page lists them.
pub(super) const ENDPOINTS: [(&str, &str); 5] = [
    ("/livez", "200 while the process can do its work, 503 when it needs a restart"),
    ("/readyz", "200 while documents are taken: model warm, partitions assigned, no drain"),
    ("/metrics", "every series, for Prometheus"),
    ("/status", "the numbers of this page as JSON"),
    ("/events", "the same once a second, as server-sent events"),
];

pub(super) fn router(sources: Sources, hosts: Hosts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/", get(front_page))
        .route("/page.css", get(|| async { alone(fresh("text/css; charset=utf-8", page::STYLE)) }))
        .route("/page.js", get(|| async { alone(fresh("text/javascript; charset=utf-8", page::SCRIPT)) }))
        .route("/page.svg", get(|| async { alone(fresh("image/svg+xml", page::ICON)) }))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "no such endpoint; / lists them") })
        .with_state(sources)
        .layer(from_fn_with_state(hosts, hosts::known))
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
    match serde_json::to_string(&sources.view()) {
        Ok(json) => fresh("application/json", json),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the status can't be written as JSON"),
    }
}

async fn events(State(sources): State<Sources>) -> Response {
    let listening = sources.gallery.listen(sources.board, sources.stall_after);
    let refused = || text(StatusCode::SERVICE_UNAVAILABLE, "too many listen already; ask /status instead");
    alone(listening.unwrap_or_else(refused))
}

async fn front_page(State(sources): State<Sources>) -> Response {
    let mut page = fresh("text/html; charset=utf-8", page::render(&sources.view(), &ENDPOINTS));
    let heads = page.headers_mut();
    heads.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CONTENT_POLICY));
    heads.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    alone(page)
}

/// A connection lives for a minute only, so whoever is going to listen for most of that begins with a fresh one.
fn alone(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// 200 and `ok`, or 503 and the reason.
fn verdict(because: Option<&'static str>) -> Response {
    because.map_or_else(|| text(StatusCode::OK, "ok"), |reason| text(StatusCode::SERVICE_UNAVAILABLE, reason))
}

fn text(status: StatusCode, line: &'static str) -> Response {
    (status, fresh("text/plain; charset=utf-8", format!("{line}\n"))).into_response()
}

/// A body that no proxy may keep.
fn fresh(content_type: &'static str, body: impl Into<Body>) -> Response {
    let heads = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (heads, body.into()).into_response()
}
