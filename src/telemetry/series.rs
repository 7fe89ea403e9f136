//! Owns the table of series: each one's name, kind, unit, help and labels, stated once.
//!
//! In: nothing. Out: [`SERIES`], and one constant a series for the recorders beside it. Invariants: no name is written anywhere else
//! in the code; every histogram has buckets; a label's values are a closed set or names out of the pipeline file, never data.
//! Must not know: who records what, or how it is exported.

use ::metrics::Unit;

/// What a series is, as Prometheus sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations into buckets: inclusive upper bounds, ascending, in the series' unit.
    Histogram(&'static [f64]),
}

/// Which values a label may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Exactly these.
    Closed(&'static [&'static str]),
    /// The names of `corpus::Route`.
    Routes,
    /// The stages and classes that a `corpus::Fault` can have.
    Faults,
    /// Names written in the pipeline file: as many as its author chose.
    Pipeline,
    /// The lanes that are assigned now; a lane's series end with its assignment.
    Lanes,
    /// The closed list of `telemetry::languages`, with `other` and `none`.
    Languages,
}

/// One label of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The label's name.
    pub name: &'static str,
    /// Where its values come from.
    pub values: Values,
}

/// One series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Series {
    /// Name in the Prometheus text, unit and `_total` included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What its number counts.
    pub unit: Unit,
    /// One sentence for the person who reads a dashboard.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [Label],
}

/// Upper bounds in seconds from a millisecond to two minutes: a device run, or a commit.
const SECONDS: Kind =
    Kind::Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]);
/// Upper bounds in seconds from a hundredth to an hour: a document's whole way, waiting included.
const LONG_SECONDS: Kind = Kind::Histogram(&[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
]);
/// Upper bounds in seconds from a tenth of a millisecond to ten seconds: work of a processor on one text.
const SHORT_SECONDS: Kind = Kind::Histogram(&[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);
/// Upper bounds in documents of one commit.
const DOCUMENTS: Kind = Kind::Histogram(&[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0,
]);

const ROUTE: Label = Label { name: "route", values: Values::Routes };
const STAGE: Label = Label { name: "stage", values: Values::Faults };
const CLASS: Label = Label { name: "class", values: Values::Faults };
const PROVIDER: Label = Label { name: "provider", values: Values::Closed(&["cpu", "cuda"]) };
const MODEL: Label = Label { name: "model", values: Values::Pipeline };
const DEVICE: Label = Label { name: "device", values: Values::Pipeline };
const RETRIED: Label = Label { name: "retried", values: Values::Closed(&["yes", "no"]) };
const RULE: Label = Label { name: "rule", values: Values::Pipeline };
const DECISION: Label = Label { name: "decision", values: Values::Closed(&["review", "fail"]) };
const TOPIC: Label = Label { name: "topic", values: Values::Lanes };
const PARTITION: Label = Label { name: "partition", values: Values::Lanes };
const PERMIT: Label = Label { name: "kind", values: Values::Closed(&["documents", "bytes"]) };
const HEAD: Label = Label { name: "head", values: Values::Closed(&["hoisted", "full", "one-pass"]) };
const FLIPPED: Label = Label { name: "flipped", values: Values::Closed(&["yes", "no"]) };
const OUTCOME: Label = Label { name: "outcome", values: Values::Closed(&["applied", "unchanged", "refused"]) };
const ANSWER: Label =
    Label { name: "answer", values: Values::Closed(&["found", "unknown", "unusable", "unavailable"]) };
const SENT: Label = Label { name: "outcome", values: Values::Closed(&["sent", "failed"]) };
const LANGUAGE: Label = Label { name: "language", values: Values::Languages };
const VERSION: Label = Label { name: "version", values: Values::Closed(&[env!("CARGO_PKG_VERSION")]) };

/// Declares one constant a series and the table of them all, so that neither can miss one.
macro_rules! table {
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, [$($label:ident),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub(super) const $constant: Series =
                Series { name: $name, kind: $kind, unit: Unit::$unit, help: $help, labels: &[$($label),*] };
        )+
        /// Every series there is, in the order of a document's road.
        pub const SERIES: &[Series] = &[$($constant),+];
    };
}

use Kind::{Counter, Gauge};

table! {
    BUILD_INFO = "tamis_build_info", Gauge, Count, [VERSION], "Always 1; the label says which version runs.";
    READY = "tamis_ready", Gauge, Count, [], "1 while the model is warm, partitions are assigned and no drain is under way.";
    START_TIME = "tamis_start_time_seconds", Gauge, Seconds, [], "When this process began, in seconds since the Unix epoch.";
    RELOADS = "tamis_reloads_total", Counter, Count, [OUTCOME],
        "Times that settings were read again: put in force, unchanged, or refused so that the old ones stay.";
    RECORDS_READ = "tamis_records_read_total", Counter, Count, [], "Records read from the source, deletions included.";
    BYTES_READ = "tamis_bytes_read_total", Counter, Bytes, [],
        "Bytes of key, value and headers read from the source, and 64 for each header.";
    FETCHED_RECORDS = "tamis_kafka_fetched_records_total", Counter, Count, [],
        "Records that the Kafka client fetched; more than were read where fetching was paused or partitions moved.";
    FETCHED_BYTES = "tamis_kafka_fetched_bytes_total", Counter, Bytes, [],
        "Bytes of those records, uncompressed, framing included.";
    FETCHING_PAUSED = "tamis_kafka_fetching_paused_total", Counter, Count, [],
        "Times that fetching was paused, because what was read could not be passed on for long.";
    OFFSET_RESETS = "tamis_kafka_offset_resets_total", Counter, Count, [],
        "Times that a partition had no record at the group's offset: records may have been deleted unread.";
    LOG_CUTS = "tamis_kafka_log_cuts_total", Counter, Count, [],
        "Times that a partition went on at an offset that was read before: its log was cut, or its topic made anew.";
    BROKERS_UP = "tamis_kafka_brokers_up", Gauge, Count, [], "Brokers that the consumer is connected to.";
    DOCUMENTS_IN_FLIGHT = "tamis_documents_in_flight", Gauge, Count, [], "Documents between reading and delivery.";
    PERMITS_FREE = "tamis_permits_free", Gauge, Count, [PERMIT],
        "Documents and bytes that may still be read before something must be delivered.";
    PERMITS_LIMIT = "tamis_permits_limit", Gauge, Count, [PERMIT], "The most documents and bytes between reading and delivery.";
    LAG_RECORDS = "tamis_partition_lag_records", Gauge, Count, [TOPIC, PARTITION],
        "Records of a partition that are ours to deliver and not yet committed, as of the last fetch from it.";
    LAG_SECONDS = "tamis_partition_lag_seconds", Gauge, Seconds, [TOPIC, PARTITION],
        "Age of a partition's oldest uncommitted record by its timestamp; 0 when there is none.";
    OLDEST_OPEN = "tamis_oldest_open_seconds", Gauge, Seconds, [],
        "Seconds since the oldest document in flight was taken up; 0 when there is none.";
    NO_PROGRESS = "tamis_no_progress_seconds", Gauge, Seconds, [],
        "Seconds since anything moved while documents are in flight; 0 while none are. Past admin.stall_after_ms, /livez fails.";
    JOURNEY_SECONDS = "tamis_journey_seconds", LONG_SECONDS, Seconds, [],
        "Seconds from taking up a document to its verdict, waiting included.";
    DOCUMENT_SECONDS = "tamis_document_seconds", LONG_SECONDS, Seconds, [],
        "Seconds from taking up a record to the commit that delivers it.";
    SCHEMAS_ASKED = "tamis_schemas_asked_total", Counter, Count, [ANSWER],
        "Questions to the schema registry for one schema, by the answer; unavailable ones are asked again.";
    TOKENIZE_SECONDS = "tamis_tokenize_seconds", SHORT_SECONDS, Seconds, [],
        "Seconds of tokenising one document and cutting it into windows.";
    DEVICE_QUEUE_SECONDS = "tamis_device_queue_seconds", SECONDS, Seconds, [],
        "Seconds that a window waited in the device's queue before its first pass.";
    DEVICE_PROVIDER = "tamis_device_provider", Gauge, Count, [PROVIDER], "1 for the execution provider that is active.";
    MODEL_DEVICE = "tamis_model_device", Gauge, Count, [MODEL, DEVICE, PROVIDER],
        "1 for each device that runs a model, by the provider that is active there.";
    MODEL_PASSES = "tamis_model_device_passes_total", Counter, Count, [MODEL, DEVICE],
        "Forward passes of a model that ended on one of its devices, those that failed included.";
    DEVICE_HEAD = "tamis_device_head", Gauge, Count, [HEAD],
        "1 for the head that a loaded model runs with: hoisted to masked positions, full, which is slower, or one-pass (no masked-LM head).";
    HEAD_CHECK_FAILED = "tamis_head_check_failed", Gauge, Count, [],
        "1 when a model failed its head check and runs all the same, because head_check is warn.";
    DEVICE_BUDGET = "tamis_device_budget_tokens", Gauge, Count, [], "The most tokens of one pass, padding included.";
    DEVICE_BASELINE = "tamis_device_baseline_tokens_per_second", Gauge, CountPerSecond, [],
        "Tokens a second of the worst-case pass at start, padding included: what the device could do then.";
    DEVICE_BACKLOG = "tamis_device_backlog_rows", Gauge, Count, [], "Rows that wait for the device.";
    DEVICE_BATCHES = "tamis_device_batches_total", Counter, Count, [], "Forward passes that the device finished.";
    DEVICE_ROWS = "tamis_device_rows_total", Counter, Count, [], "Rows in those passes.";
    DEVICE_ROW_TOKENS = "tamis_device_row_tokens_total", Counter, Count, [], "Tokens in those rows, padding included.";
    DEVICE_PADDING = "tamis_device_padding_tokens_total", Counter, Count, [], "Tokens in those rows that were padding.";
    DEVICE_TARGETS = "tamis_device_targets_total", Counter, Count, [], "Masked positions that were scored.";
    DEVICE_RUN_SECONDS = "tamis_device_run_seconds", SECONDS, Seconds, [], "Seconds inside the device's run, one pass each.";
    DEVICE_FAILURES = "tamis_device_batch_failures_total", Counter, Count, [],
        "Device batches that failed and were split or given up.";
    CACHE_HITS = "tamis_cache_hits_total", Counter, Count, [], "Windows whose sums came from the cache.";
    CACHE_MISSES = "tamis_cache_misses_total", Counter, Count, [], "Windows that the cache did not have.";
    CACHE_ERRORS = "tamis_cache_errors_total", Counter, Count, [],
        "Cache operations that failed or passed their deadline; the cache was bypassed for them.";
    CACHE_BREAKER = "tamis_cache_breaker_open", Gauge, Count, [], "1 while the cache is bypassed after errors.";
    RULE_DECISIONS = "tamis_rule_decisions_total", Counter, Count, [RULE, DECISION],
        "Times that a rule decided against passing a document.";
    SCORES_SKIPPED = "tamis_scores_skipped_total", Counter, Count, [],
        "Model scores of documents that were not computed, because they could not have changed the verdict.";
    SCORES_STOPPED = "tamis_scores_stopped_total", Counter, Count, [],
        "Model scores that ended before every pass had run, because the rules on them were decided.";
    PASSES_SPARED = "tamis_passes_spared_total", Counter, Count, [], "Passes that those scores did not run.";
    SCORES_AUDITED = "tamis_scores_audited_total", Counter, Count, [FLIPPED],
        "Documents that could have ended early by a table and were scored to the end for the audit; flipped says whether the full score decides otherwise than an early look did.";
    STOP_ALARMS = "tamis_stop_alarms_total", Counter, Count, [],
        "Lengths of documents that are scored in full since an audit found early verdicts wrong more often than promised.";
    DELIVERED = "tamis_documents_total", Counter, Count, [ROUTE], "Documents delivered and committed, by route.";
    BY_LANGUAGE = "tamis_documents_by_language_total", Counter, Count, [ROUTE, LANGUAGE],
        "Judged documents delivered and committed, by route and language tag.";
    TOMBSTONES = "tamis_tombstones_total", Counter, Count, [], "Deletions forwarded unscored.";
    DEAD_LETTERS = "tamis_dead_letters_total", Counter, Count, [STAGE, CLASS],
        "Dead letters by the stage and the class of their fault.";
    COMMITS = "tamis_commits_total", Counter, Count, [], "Commits: transactions when delivery is exactly once.";
    COMMIT_SECONDS = "tamis_commit_seconds", SECONDS, Seconds, [], "Seconds of one commit, from its first record to its end.";
    COMMIT_DOCUMENTS = "tamis_commit_documents", DOCUMENTS, Count, [], "Documents delivered by one commit.";
    COMMITS_ABORTED = "tamis_commits_aborted_total", Counter, Count, [RETRIED],
        "Commits that were aborted, or that the process ends for; retried says whether the same verdicts are tried again.";
    REBALANCES = "tamis_rebalances_total", Counter, Count, [], "Times that the consumer group reassigned partitions.";
    TRACE_REQUESTS = "tamis_trace_requests_total", Counter, Count, [SENT],
        "Requests to the collector of traces, by their outcome; the spans of failed ones are lost.";
    PARTITIONS = "tamis_partitions_assigned", Gauge, Count, [], "Partitions that are ours now.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for series in SERIES {
            assert!(seen.insert(series.name), "{} is declared twice", series.name);
            assert!(series.name.starts_with("tamis_"), "{}", series.name);
            assert!(series.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", series.name);
            assert_eq!(series.name.ends_with("_total"), series.kind == Kind::Counter, "{}", series.name);
            assert!(series.help.ends_with('.') && series.help.len() > 10, "{} has no help", series.name);
        }
    }

    #[test]
    fn buckets_ascend_and_seconds_say_so_in_their_name() {
        for series in SERIES {
            if let Kind::Histogram(bounds) = series.kind {
                assert!(!bounds.is_empty() && bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", series.name);
            }
            assert_eq!(series.unit == Unit::Seconds, series.name.ends_with("_seconds"), "{}", series.name);
        }
    }
}
