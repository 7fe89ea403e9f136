//! Owns the recorders: one typed function a fact.
//!
//! In: facts, as numbers and closed enums. Out: nothing; the installed recorder keeps them. Invariants: no name is written here, only
//! constants of `series.rs`; recording never waits and, without an installed recorder, does nothing.
//! Must not know: who calls, or how the numbers leave the process.

#![allow(clippy::disallowed_macros, reason = "this is the one room in which series are recorded")]
#![allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]

use super::{languages, odometer, series as s};
use crate::corpus::{Fault, Route};
use ::metrics::{counter, gauge, histogram};
use std::collections::BTreeMap;

/// A record was read from its source.
pub fn record_read(weight_bytes: usize) {
    records_read(1, weight_bytes as u64);
}

/// Records that weigh so many bytes together were read from their source.
pub fn records_read(records: u64, weight_bytes: u64) {
    counter!(s::RECORDS_READ.name).increment(records);
    counter!(s::BYTES_READ.name).increment(weight_bytes);
}

/// The Kafka client has fetched this many records and bytes since its start.
pub fn fetched(records: u64, bytes: u64) {
    counter!(s::FETCHED_RECORDS.name).absolute(records);
    counter!(s::FETCHED_BYTES.name).absolute(bytes);
}

/// Fetching was paused for want of permits.
pub fn fetching_paused() {
    counter!(s::FETCHING_PAUSED.name).increment(1);
}

/// A partition had no record at the group's offset.
pub fn offset_reset() {
    counter!(s::OFFSET_RESETS.name).increment(1);
}

/// A partition went on at an offset that was read before.
pub fn log_cut() {
    counter!(s::LOG_CUTS.name).increment(1);
}

/// Brokers that the consumer is connected to.
pub fn brokers_up(count: usize) {
    gauge!(s::BROKERS_UP.name).set(count as f64);
}

/// `count` records were delivered on `route`, their offsets with them.
pub fn delivered(route: Route, count: u64) {
    counter!(s::DELIVERED.name, "route" => route.as_str()).increment(count);
}

/// Judged documents, each with what its tag says of its language, were delivered on these routes.
pub fn delivered_in<'a>(documents: impl IntoIterator<Item = (Route, Option<&'a str>)>) {
    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for (route, language) in documents {
        *counts.entry((route.as_str(), languages::label(language))).or_default() += 1;
    }
    for ((route, language), count) in counts {
        counter!(s::BY_LANGUAGE.name, "route" => route, "language" => language).increment(count);
    }
}

/// From taking up a record to the commit that delivered it took so many seconds, for each of several.
pub fn settled(seconds: impl IntoIterator<Item = f64>) {
    let spent = histogram!(s::DOCUMENT_SECONDS.name);
    seconds.into_iter().for_each(|seconds| spent.record(seconds));
}

/// The schema registry was asked for a schema: `found`, `unknown`, `unusable` or `unavailable`.
pub fn schema_asked(answer: &'static str) {
    counter!(s::SCHEMAS_ASKED.name, "answer" => answer).increment(1);
}

/// Spans went to the collector of traces: `sent`, or `failed`.
pub fn trace_sent(outcome: &'static str) {
    counter!(s::TRACE_REQUESTS.name, "outcome" => outcome).increment(1);
}

/// A text was tokenised and cut into windows within `seconds`.
pub fn tokenized(seconds: f64) {
    histogram!(s::TOKENIZE_SECONDS.name).record(seconds);
}

/// A deletion was forwarded.
pub fn tombstone_forwarded() {
    counter!(s::TOMBSTONES.name).increment(1);
}

/// A record became a dead letter.
pub fn dead_lettered(fault: &Fault) {
    counter!(s::DEAD_LETTERS.name, "stage" => fault.stage.as_str(), "class" => fault.class.as_str()).increment(1);
}

/// One forward pass of `rows` rows, `padded_tokens` of which `real_tokens` are not padding, took `seconds` inside the device's run.
pub fn device_batch(rows: usize, padded_tokens: usize, real_tokens: usize, targets: usize, seconds: f64) {
    counter!(s::DEVICE_BATCHES.name).increment(1);
    counter!(s::DEVICE_ROWS.name).increment(rows as u64);
    counter!(s::DEVICE_ROW_TOKENS.name).increment(padded_tokens as u64);
    counter!(s::DEVICE_PADDING.name).increment(padded_tokens.saturating_sub(real_tokens) as u64);
    counter!(s::DEVICE_TARGETS.name).increment(targets as u64);
    histogram!(s::DEVICE_RUN_SECONDS.name).record(seconds);
    odometer::pass(real_tokens, seconds);
}

/// A device batch failed and was split or given up.
pub fn device_batch_failed() {
    counter!(s::DEVICE_FAILURES.name).increment(1);
}

/// Rows waiting for the device.
pub fn device_backlog(rows: usize) {
    gauge!(s::DEVICE_BACKLOG.name).set(rows as f64);
    odometer::backlog(rows);
}

/// A window waited `seconds` for its first pass.
pub fn device_queued(seconds: f64) {
    histogram!(s::DEVICE_QUEUE_SECONDS.name).record(seconds);
}

/// A model is loaded that runs with this head (`hoisted` or `full`) and in batches of at most `budget_tokens`.
pub fn device_loaded(head: &'static str, budget_tokens: usize) {
    gauge!(s::DEVICE_HEAD.name, "head" => head).set(1.0);
    gauge!(s::DEVICE_BUDGET.name).set(budget_tokens as f64);
}

/// The worst-case pass at start ran `padded_tokens` in `seconds`.
pub fn device_baseline(padded_tokens: usize, seconds: f64) {
    if seconds > 0.0 {
        gauge!(s::DEVICE_BASELINE.name).set(padded_tokens as f64 / seconds);
    }
}

/// A model failed its head check and runs all the same.
pub fn head_check_failed() {
    gauge!(s::HEAD_CHECK_FAILED.name).set(1.0);
}

/// Which execution provider is active: `cpu` or `cuda`.
pub fn device_provider(provider: &'static str) {
    gauge!(s::DEVICE_PROVIDER.name, "provider" => provider).set(1.0);
}

/// `provider` runs this model on this device, and has ended so many passes since the start. Names are those of the pipeline file.
pub fn model_device(model: &str, device: &str, provider: &'static str, passes: u64) {
    let (model, device) = (model.to_owned(), device.to_owned());
    gauge!(s::MODEL_DEVICE.name, "model" => model.clone(), "device" => device.clone(), "provider" => provider).set(1.0);
    counter!(s::MODEL_PASSES.name, "model" => model, "device" => device).absolute(passes);
}

/// The cache was asked for `hits + misses` windows.
pub fn cache_lookups(hits: usize, misses: usize) {
    if hits > 0 {
        counter!(s::CACHE_HITS.name).increment(hits as u64);
    }
    if misses > 0 {
        counter!(s::CACHE_MISSES.name).increment(misses as u64);
    }
    odometer::lookups(hits, misses);
}

/// A cache operation failed or passed its deadline; the cache was bypassed for it.
pub fn cache_error() {
    counter!(s::CACHE_ERRORS.name).increment(1);
}

/// Whether the cache is being bypassed.
pub fn cache_breaker(open: bool) {
    gauge!(s::CACHE_BREAKER.name).set(if open { 1.0 } else { 0.0 });
    odometer::bypass(open);
}

/// A commit (a transaction when exactly-once) delivered `documents` and took `seconds`.
pub fn committed(documents: usize, seconds: f64) {
    counter!(s::COMMITS.name).increment(1);
    histogram!(s::COMMIT_SECONDS.name).record(seconds);
    histogram!(s::COMMIT_DOCUMENTS.name).record(documents as f64);
}

/// A commit was aborted; `retried` tells whether the same verdicts will be tried again.
pub fn commit_aborted(retried: bool) {
    counter!(s::COMMITS_ABORTED.name, "retried" => if retried { "yes" } else { "no" }).increment(1);
}

/// The group rebalanced; `assigned` partitions are ours now.
pub fn rebalanced(assigned: usize) {
    counter!(s::REBALANCES.name).increment(1);
    partitions(assigned);
}

/// Lanes that are ours now. A source that is no group's member has them too.
pub fn partitions(assigned: usize) {
    gauge!(s::PARTITIONS.name).set(assigned as f64);
}

/// Documents between reading and delivery.
pub fn in_flight(documents: usize) {
    gauge!(s::DOCUMENTS_IN_FLIGHT.name).set(documents as f64);
}

/// Permits that are free, of how many there are.
pub fn permits((free_documents, documents): (usize, usize), (free_bytes, bytes): (usize, usize)) {
    gauge!(s::PERMITS_FREE.name, "kind" => "documents").set(free_documents as f64);
    gauge!(s::PERMITS_FREE.name, "kind" => "bytes").set(free_bytes as f64);
    gauge!(s::PERMITS_LIMIT.name, "kind" => "documents").set(documents as f64);
    gauge!(s::PERMITS_LIMIT.name, "kind" => "bytes").set(bytes as f64);
}

/// How long the oldest document has been in flight, and since when nothing has moved while documents are; 0 for none.
pub fn ages(oldest_open_seconds: f64, no_progress_seconds: f64) {
    gauge!(s::OLDEST_OPEN.name).set(oldest_open_seconds);
    gauge!(s::NO_PROGRESS.name).set(no_progress_seconds);
}

/// A document took so many seconds from being taken up to its verdict, for each of several.
pub fn journeys(seconds: impl IntoIterator<Item = f64>) {
    let spent = histogram!(s::JOURNEY_SECONDS.name);
    seconds.into_iter().for_each(|seconds| spent.record(seconds));
}

/// A rule decided against passing a document. `rule` is a name from the pipeline file.
pub fn rule_fired(rule: &str, decision: &'static str) {
    counter!(s::RULE_DECISIONS.name, "rule" => rule.to_owned(), "decision" => decision).increment(1);
}

/// A document's model score was not computed, because it could not have changed the verdict.
pub fn score_skipped() {
    counter!(s::SCORES_SKIPPED.name).increment(1);
}

/// A document's model score ended early, `passes` before its end.
pub fn score_stopped(passes: usize) {
    counter!(s::SCORES_STOPPED.name).increment(1);
    counter!(s::PASSES_SPARED.name).increment(passes as u64);
}

/// A document that was decided early was scored to the end; `flipped` tells whether that decides otherwise.
pub fn score_audited(flipped: bool) {
    counter!(s::SCORES_AUDITED.name, "flipped" => if flipped { "yes" } else { "no" }).increment(1);
}

/// Audits found that documents of some length must be scored in full from now on.
pub fn stop_alarm() {
    counter!(s::STOP_ALARMS.name).increment(1);
}

/// Makes the series of each rule exist, at zero. Call once at start and again when rules change.
pub fn rules_known<'a>(rules: impl IntoIterator<Item = &'a str>) {
    for rule in rules {
        for decision in ["review", "fail"] {
            counter!(s::RULE_DECISIONS.name, "rule" => rule.to_owned(), "decision" => decision).increment(0);
        }
    }
}

/// Settings were read again; `outcome` is `applied`, `unchanged` or `refused`.
pub fn reloaded(outcome: &'static str) {
    counter!(s::RELOADS.name, "outcome" => outcome).increment(1);
}

/// Whether this worker is ready.
pub fn ready(ready: bool) {
    gauge!(s::READY.name).set(if ready { 1.0 } else { 0.0 });
}
