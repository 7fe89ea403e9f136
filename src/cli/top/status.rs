//! Owns what `top` reads of a status: the fields that it shows, as the endpoint writes them.
//!
//! Invariants: a field that a worker doesn't send is empty, one that is unknown here is passed by, so that versions may differ; text from outside has no
//! control characters left.

use super::ask::Error;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// See [`crate::telemetry::Snapshot`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) pipeline: String,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) waiting_for: Option<String>,
    pub(super) live: bool,
    pub(super) stuck_because: Option<String>,
    pub(super) provider: String,
    pub(super) devices: u32,
    pub(super) policy: String,
    pub(super) guarantee: String,
    pub(super) partitions: Partitions,
    pub(super) documents: BTreeMap<String, u64>,
    pub(super) in_flight: u64,
    pub(super) brokers_up: Option<u64>,
    pub(super) started_at_ms: u64,
    pub(super) uptime_ms: u64,
    pub(super) oldest_open_ms: u64,
    pub(super) lag: Lag,
    pub(super) now: Now,
    pub(super) history: History,
    pub(super) scores: Vec<Scores>,
    pub(super) languages: Vec<Language>,
    pub(super) rejects: Vec<Reject>,
    pub(super) reload: Option<Reload>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Partitions {
    pub(super) count: usize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lag {
    pub(super) records: Option<u64>,
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Now {
    pub(super) per_second: BTreeMap<String, f64>,
    pub(super) keep_rate: Option<f64>,
    pub(super) device_busy: f64,
    pub(super) tokens_per_second: f64,
    pub(super) cache_hit_rate: Option<f64>,
    pub(super) cache_bypassed: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) documents: BTreeMap<String, Vec<u64>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scores {
    pub(super) signal: String,
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
    pub(super) bins: Vec<u64>,
    pub(super) below: u64,
    pub(super) above: u64,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) review_below: Option<f64>,
    pub(super) review_above: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Language {
    pub(super) language: String,
    pub(super) kept: Vec<u64>,
    pub(super) judged: Vec<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reject {
    pub(super) at_ms: u64,
    pub(super) route: String,
    pub(super) source: String,
    pub(super) id: Option<String>,
    pub(super) reasons: Vec<Map<String, Value>>,
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    pub(super) at_ms: u64,
    pub(super) outcome: String,
    pub(super) why: Option<String>,
}

impl Status {
    /// The status in `body`.
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|error| Error::Stranger(error.to_string()))
    }

    /// In a word or some, and whether it is well.
    pub(super) fn state(&self) -> (String, bool) {
        if let (false, Some(reason)) = (self.live, &self.stuck_because) {
            return (format!("stuck: {reason}"), false);
        }
        match &self.waiting_for {
            _ if self.draining => ("draining".to_owned(), false),
            Some(reason) => (format!("not ready: {reason}"), false),
            None => ("ready".to_owned(), self.ready),
        }
    }

    /// By the worker's calendar.
    pub(super) fn now_ms(&self) -> u64 {
        self.started_at_ms.saturating_add(self.uptime_ms)
    }
}

impl Reject {
    /// The reasons in words, as on the page.
    pub(super) fn why(&self) -> String {
        if let Some(error) = &self.error {
            return format!("could not be judged: {error}");
        }
        self.reasons.iter().map(reason).collect::<Vec<_>>().join(", ")
    }
}

/// `pll.nll_token 5.13 > 4.2 (fluent)`
fn reason(reason: &Map<String, Value>) -> String {
    let text = |name: &str| reason.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let (rule, signal) = (text("rule"), text("signal"));
    let bound = [("max", ">"), ("min", "<"), ("review_above", ">"), ("review_below", "<")];
    let crossed = bound.into_iter().find_map(|(name, sign)| Some((sign, reason.get(name)?.as_f64()?)));
    match (reason.get("value").and_then(Value::as_f64), crossed) {
        (Some(value), Some((sign, bound))) => format!("{signal} {value:.3} {sign} {bound} ({rule})"),
        _ => format!("{signal} is missing ({rule})"),
    }
}
