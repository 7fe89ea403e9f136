//! Owns the traces: which documents' journeys are told to an OpenTelemetry collector, and what is told of them.
//!
//! In: a document's legs and what became of it. Out: one span for the journey and one for each leg, over OTLP (HTTP, Protobuf), as children of the span
//! that the record's `traceparent` names (W3C Trace Context). Invariants: nothing of a record is changed; no text and no key is told; telling never
//! waits: the queue is bounded, and what does not fit is dropped and not missed.

use super::legs::Legs;
use crate::corpus::Judged;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What is told to others' systems.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where traces go; without it there are none.
    pub otlp: Option<OtlpSettings>,
}

/// Traces to an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpSettings {
    /// The collector's address, http or https; `/v1/traces` is put behind it unless it ends so.
    pub endpoint: String,
    /// A file with headers for each request, one a line, as in `authorization: Bearer …`; read at the start.
    pub headers_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Which part of the documents is told of whose records say nothing about it, from 0 to 1. Where a record's `traceparent` decides, that counts.
    pub sample_ratio: f64,
    /// `service.name` of the spans.
    pub service_name: String,
    /// Most spans that wait; what comes while they do is dropped. At least 1.
    #[schemars(range(min = 1))]
    pub max_queue: usize,
    /// Longest time for one request, in milliseconds. At least 1.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            headers_file: None,
            ca_file: None,
            sample_ratio: 1.0,
            service_name: "tamis".to_owned(),
            max_queue: 8_192,
            timeout_ms: 10_000,
        }
    }
}

impl Settings {
    /// What is wrong: the key inside `[telemetry]`, and why.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let Some(otlp) = &self.otlp else { return Vec::new() };
        let mut found = Vec::new();
        if cfg!(not(feature = "otlp")) {
            let why = "this tamis was built without it; build it with `cargo build --release --features otlp`, or leave this table out";
            found.push(("otlp", why.to_owned()));
        }
        let rest = otlp.endpoint.strip_prefix("http://").or_else(|| otlp.endpoint.strip_prefix("https://"));
        match rest.map(|rest| rest.split('/').next().unwrap_or_default()) {
            None | Some("") => {
                found.push((
                    "otlp.endpoint",
                    "it must begin with http:// or https://, as in \"http://127.0.0.1:4318\"".to_owned(),
                ));
            }
            Some(host) if host.contains('@') => {
                found.push(("otlp.endpoint", "a name and a password don't belong here: use headers_file".to_owned()));
            }
            Some(_) => {}
        }
        if !(0.0..=1.0).contains(&otlp.sample_ratio) {
            found.push((
                "otlp.sample_ratio",
                format!("{} is no part of a whole; it must be from 0 to 1", otlp.sample_ratio),
            ));
        }
        if otlp.max_queue == 0 {
            found.push(("otlp.max_queue", "0 leaves no room for any span; the least is 1".to_owned()));
        }
        if otlp.timeout_ms == 0 {
            found.push(("otlp.timeout_ms", "0 leaves no time for an answer; the least is 1".to_owned()));
        }
        found
    }
}

/// The way to the collector, if there is one. Clones are the same way.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    otlp: Option<super::otlp::Otlp>,
}

impl Traces {
    /// The way that `settings` name. Blocking: files are read, and nothing is sent yet.
    ///
    /// # Errors
    /// In words, which file can't be used and why.
    #[cfg(feature = "otlp")]
    pub fn open(settings: &Settings) -> Result<Self, String> {
        Ok(Self { otlp: settings.otlp.as_ref().map(super::otlp::Otlp::open).transpose()? })
    }

    /// There is no way in this build.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otlp"))]
    pub fn open(_: &Settings) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// The legs of a document that is taken up now, where anybody wants to know them.
    #[must_use]
    pub fn begin(&self) -> Option<Legs> {
        #[cfg(feature = "otlp")]
        if self.otlp.is_some() {
            return Some(Legs::begin());
        }
        None
    }

    /// Tells of a journey that ended now, with a delivery step that took so long. Never waits.
    pub fn tell(&self, legs: &Legs, judged: &Judged, delivery: Duration) {
        #[cfg(feature = "otlp")]
        if let Some(otlp) = &self.otlp {
            otlp.tell(legs, judged, delivery);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = (legs, judged, delivery);
    }

    /// Sends what waits, for as long as `budget`, and ends. Blocking.
    pub fn close(&self, budget: Duration) {
        #[cfg(feature = "otlp")]
        if let Some(otlp) = &self.otlp {
            otlp.close(budget);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = budget;
    }
}
