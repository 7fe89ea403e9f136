//! Owns the sending of traces: the OpenTelemetry SDK's spans, its bounded queue and its thread, and the HTTP client that it sends with.
//!
//! Invariants: a span that does not fit the queue is dropped by the SDK; a collector that is away is told of once in the log, and once more when it is back.

use super::legs::{Leg, Legs};
use super::metrics;
use super::traces::OtlpSettings;
use crate::corpus::{Header, Judged, Record};
use crate::http::{Client, Credentials, Trust, read_secret};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The largest answer of a collector that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The longest that a span waits for others to go with.
const SCHEDULED: Duration = Duration::from_secs(1);
/// The most spans of one request.
const BATCH_MAX: usize = 512;

/// The way to a collector. Clones are the same way.
#[derive(Debug, Clone)]
pub(super) struct Otlp {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Otlp {
    /// Blocking: files are read.
    pub(super) fn open(settings: &OtlpSettings) -> Result<Self, String> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let trust = settings.ca_file.clone().map_or(Trust::System, Trust::File);
        let client = Client::new(&trust, Credentials::None, timeout, ANSWER_BYTES_MAX)
            .map_err(|error| format!("telemetry.otlp.ca_file: {error}"))?;
        let headers = settings.headers_file.as_deref().map(headers).transpose()?.unwrap_or_default();
        let base = settings.endpoint.trim_end_matches('/');
        let endpoint = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Courier { client, is_away: AtomicBool::new(false) })
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_headers(headers)
            .build()
            .map_err(|error| format!("telemetry.otlp: {error}"))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.max_queue)
            .with_max_export_batch_size(BATCH_MAX.min(settings.max_queue))
            .with_scheduled_delay(SCHEDULED)
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self { tracer: provider.tracer("tamis"), provider })
    }

    pub(super) fn tell(&self, legs: &Legs, judged: &Judged, delivery: Duration) {
        let ended = legs.now();
        let record = record(judged);
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carried(&record.headers));
        let journey = SpanBuilder::from_name("document")
            .with_kind(SpanKind::Consumer)
            .with_start_time(legs.began)
            .with_attributes(place(record));
        let mut span = self.tracer.build_with_context(journey, &parent);
        if !span.span_context().is_sampled() {
            return;
        }
        let within = Context::new().with_remote_span_context(span.span_context().clone());
        // The step may have begun before this document came to it.
        let delivered_from = ended.checked_sub(delivery).unwrap_or(legs.began).max(legs.began);
        let deliver = (Leg::Deliver, delivered_from, ended);
        for (leg, began, ended) in legs.noted().into_iter().chain([deliver]) {
            let leg = SpanBuilder::from_name(leg.as_str()).with_kind(SpanKind::Internal).with_start_time(began);
            self.tracer.build_with_context(leg, &within).end_with_timestamp(ended);
        }
        match judged {
            Judged::Document { verdict, .. } => {
                span.set_attribute(KeyValue::new("tamis.verdict", verdict.decision.as_str()));
                span.set_attribute(KeyValue::new("tamis.status", verdict.status.as_str()));
            }
            Judged::Tombstone { .. } => span.set_attribute(KeyValue::new("tamis.verdict", "tombstone")),
            Judged::Dead { fault, .. } => {
                span.set_attribute(KeyValue::new("tamis.verdict", "dead-letter"));
                span.set_attribute(KeyValue::new("error.type", fault.class.as_str()));
                span.set_status(Status::error(fault.message.clone()));
            }
        }
        span.end_with_timestamp(ended);
    }

    pub(super) fn close(&self, budget: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(budget) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

fn record(judged: &Judged) -> &Record {
    match judged {
        Judged::Document { record, .. } | Judged::Tombstone { record } | Judged::Dead { record, .. } => record,
    }
}

/// Where the record stood, in the names of OpenTelemetry's semantic conventions for messaging.
fn place(record: &Record) -> Vec<KeyValue> {
    let lane = &record.origin.lane;
    vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.destination.name", lane.topic.to_string()),
        KeyValue::new("messaging.destination.partition.id", lane.partition.to_string()),
        KeyValue::new("messaging.kafka.offset", record.origin.offset),
    ]
}

/// A record's headers, of which the last of a name counts, as for tamis's own.
struct Carried<'a>(&'a [Header]);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|header| header.name.eq_ignore_ascii_case(key))?;
        std::str::from_utf8(found.value.as_deref()?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|header| header.name.as_str()).collect()
    }
}

/// The headers in a file, one a line.
fn headers(path: &Path) -> Result<HashMap<String, String>, String> {
    let wrong = |why: String| format!("telemetry.otlp.headers_file: {}: {why}", path.display());
    let text = read_secret(path).map_err(wrong)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let pair = |(number, line): (usize, &str)| {
        let (name, value) =
            line.split_once(':').ok_or_else(|| wrong(format!("line {} is no `name: value`", number + 1)))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.map(pair).collect()
}

/// What the SDK sends with: the client of this house, on the SDK's own thread.
#[derive(Debug)]
struct Courier {
    client: Client,
    is_away: AtomicBool,
}

impl Courier {
    fn send(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let sent = self.client.post(&request.uri().to_string(), &headers.collect::<Vec<_>>(), request.body());
        let is_away = !sent.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status));
        metrics::trace_sent(if is_away { "failed" } else { "sent" });
        if self.is_away.swap(is_away, Ordering::Relaxed) != is_away {
            match &sent {
                Err(error) => tracing::warn!(%error, "the collector of traces can't be reached, spans are dropped"),
                Ok(answer) if is_away => {
                    tracing::warn!(status = answer.status, "the collector of traces refuses spans, they are dropped");
                }
                Ok(_) => tracing::info!("the collector of traces takes spans again"),
            }
        }
        let answer = sent?;
        Ok(Response::builder().status(answer.status).body(Bytes::from(answer.body))?)
    }
}

impl HttpClient for Courier {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.send(&request) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_in_a_file_and_are_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        std::fs::write(&path, "authorization: Bearer a:b\n\nX-Team: one\n").unwrap();
        let read = headers(&path).unwrap();
        assert_eq!((read["authorization"].as_str(), read["X-Team"].as_str()), ("Bearer a:b", "one"));
        std::fs::write(&path, "x: y\nhunter2\n").unwrap();
        let why = headers(&path).unwrap_err();
        assert!(why.contains("line 2") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn the_last_traceparent_counts_and_bytes_that_are_none_don_t() {
        let header = |name: &str, value: &[u8]| Header { name: name.to_owned(), value: Some(value.to_vec()) };
        let of = |headers: &[Header]| {
            let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carried(headers));
            parent.span().span_context().trace_id().to_string()
        };
        let (one, two) = ("0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736");
        let value = |id: &str| format!("00-{id}-b7ad6b7169203331-01").into_bytes();
        let both = [header("traceparent", &value(one)), header("TraceParent", &value(two))];
        assert_eq!((of(&both[..1]), of(&both)), (one.to_owned(), two.to_owned()));
        let none = "0".repeat(32);
        assert_eq!((of(&[header("traceparent", b"\xff")]), of(&[])), (none.clone(), none));
    }
}
