//! Every series, once: its name, its help, and the typed function that records it.

#![allow(clippy::disallowed_macros, reason = "this is the one room in which series are named")]

use crate::corpus::{Fault, Route};
use metrics::{counter, gauge, histogram};

/// A record was read from its source.
pub fn record_read(weight_bytes: usize) {
    counter!("tamis_records_read_total").increment(1);
    counter!("tamis_bytes_read_total").increment(weight_bytes as u64);
}

/// A record was delivered on `route`, its offset with it.
pub fn delivered(route: Route) {
    counter!("tamis_documents_total", "route" => route.as_str()).increment(1);
}

/// A deletion was forwarded.
pub fn tombstone_forwarded() {
    counter!("tamis_tombstones_total").increment(1);
}

/// A record became a dead letter.
pub fn dead_lettered(fault: &Fault) {
    counter!("tamis_dead_letters_total", "stage" => fault.stage.as_str(), "class" => fault.class.as_str()).increment(1);
}

/// One forward pass of `rows` rows, `padded_tokens` of which `real_tokens` are not padding, took `seconds` inside the device's run.
pub fn device_batch(rows: usize, padded_tokens: usize, real_tokens: usize, targets: usize, seconds: f64) {
    counter!("tamis_device_batches_total").increment(1);
    counter!("tamis_device_rows_total").increment(rows as u64);
    counter!("tamis_device_row_tokens_total").increment(padded_tokens as u64);
    counter!("tamis_device_padding_tokens_total").increment(padded_tokens.saturating_sub(real_tokens) as u64);
    counter!("tamis_device_targets_total").increment(targets as u64);
    histogram!("tamis_device_run_seconds").record(seconds);
}

/// A device batch failed and was split or given up.
pub fn device_batch_failed() {
    counter!("tamis_device_batch_failures_total").increment(1);
}

/// Rows waiting for the device.
pub fn device_backlog(rows: usize) {
    gauge!("tamis_device_backlog_rows").set(rows as f64);
}

/// Which execution provider is active: `cpu` or `cuda`.
pub fn device_provider(provider: &'static str) {
    gauge!("tamis_device_provider", "provider" => provider).set(1.0);
}

/// The cache was asked for `hits + misses` windows.
pub fn cache_lookups(hits: usize, misses: usize) {
    counter!("tamis_cache_hits_total").increment(hits as u64);
    counter!("tamis_cache_misses_total").increment(misses as u64);
}

/// A cache operation failed or passed its deadline; the cache was bypassed for it.
pub fn cache_error() {
    counter!("tamis_cache_errors_total").increment(1);
}

/// Whether the cache is being bypassed.
pub fn cache_breaker(open: bool) {
    gauge!("tamis_cache_breaker_open").set(if open { 1.0 } else { 0.0 });
}

/// A commit (a transaction when exactly-once) delivered `documents` and took `seconds`.
pub fn committed(documents: usize, seconds: f64) {
    counter!("tamis_commits_total").increment(1);
    histogram!("tamis_commit_seconds").record(seconds);
    histogram!("tamis_commit_documents").record(documents as f64);
}

/// A commit was aborted; `retried` tells whether the same verdicts will be tried again.
pub fn commit_aborted(retried: bool) {
    counter!("tamis_commits_aborted_total", "retried" => if retried { "yes" } else { "no" }).increment(1);
}

/// The group rebalanced; `assigned` partitions are ours now.
pub fn rebalanced(assigned: usize) {
    counter!("tamis_rebalances_total").increment(1);
    gauge!("tamis_partitions_assigned").set(assigned as f64);
}

/// Documents between reading and delivery.
pub fn in_flight(documents: usize) {
    gauge!("tamis_documents_in_flight").set(documents as f64);
}

/// A document took `seconds` from reading to its verdict.
pub fn journey(seconds: f64) {
    histogram!("tamis_journey_seconds").record(seconds);
}

/// A rule decided against passing a document. `rule` is a name from the pipeline file.
pub fn rule_fired(rule: &str, decision: &'static str) {
    counter!("tamis_rule_decisions_total", "rule" => rule.to_owned(), "decision" => decision).increment(1);
}

/// Whether this worker is ready.
pub fn ready(ready: bool) {
    gauge!("tamis_ready").set(if ready { 1.0 } else { 0.0 });
}
