//! Owns the exporter: the recorder behind the typed functions and the Prometheus text that it renders.
//!
//! In: the table of series. Out: text in the Prometheus exposition format 0.0.4. Invariants: every series whose labels are known in
//! advance exists from the start, at zero, so that a first increment is seen as one; one recorder a process is global, and asking
//! for it again gives the same one; nothing here runs by itself: the owner calls [`Exporter::upkeep`].
//! Must not know: who serves the text.

use super::series::{self, Kind, SERIES, Series, Values};
use super::{Board, lanes, metrics};
use crate::corpus::{Class, Route, Stage};
use ::metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// The process's exporter, once somebody asked for it.
static GLOBAL: OnceLock<Result<Exporter, ExporterError>> = OnceLock::new();

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Why no exporter could be installed. Both are bugs of the program, not of its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExporterError {
    /// A recorder that is not ours is installed already.
    #[error("another metrics recorder is already installed in this process")]
    Occupied,
    /// The table of series gives a histogram no buckets.
    #[error("the histogram {0} has no buckets")]
    NoBuckets(&'static str),
}

/// A handle on the recorder. Cheap to clone; all clones render the same numbers.
#[derive(Clone)]
pub struct Exporter {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Exporter {
    /// The process-wide exporter: installed by the first call, the same one for every later call.
    ///
    /// # Errors
    /// [`ExporterError::Occupied`] when something else installed a recorder first; then every call says so.
    pub fn install() -> Result<Self, ExporterError> {
        GLOBAL
            .get_or_init(|| {
                let exporter = Self::local()?;
                ::metrics::set_global_recorder(exporter.recorder.clone()).map_err(|_| ExporterError::Occupied)?;
                Ok(exporter)
            })
            .clone()
    }

    /// An exporter of its own, which sees only what is recorded [within](Self::within) it. For tests.
    ///
    /// # Errors
    /// [`ExporterError::NoBuckets`] if the table of series is wrong.
    pub fn local() -> Result<Self, ExporterError> {
        let mut builder = PrometheusBuilder::new();
        for series in SERIES {
            if let Kind::Histogram(bounds) = series.kind {
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(series.name.to_owned()), bounds)
                    .map_err(|_| ExporterError::NoBuckets(series.name))?;
            }
        }
        let recorder = Arc::new(builder.build_recorder());
        for series in SERIES {
            describe(&recorder, series);
            for labels in known_labels(series) {
                register(&recorder, series, labels);
            }
        }
        recorder.register_gauge(&Key::from_parts(series::BUILD_INFO.name, version_label()), &METADATA).set(1.0);
        recorder.register_gauge(&Key::from_name(series::START_TIME.name), &METADATA).set(unix_seconds());
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// Runs `work` with this exporter as the calling thread's recorder.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        ::metrics::with_local_recorder(&self.recorder, work)
    }

    /// All series in the Prometheus text format, version 0.0.4; those that follow the board with its word of this moment.
    #[must_use]
    pub fn render(&self, board: &Board) -> String {
        let lags = board.lags();
        self.within(|| {
            metrics::ready(board.is_ready());
            metrics::partitions(lags.len());
            metrics::ages(board.oldest_open().as_secs_f64(), board.no_progress().as_secs_f64());
        });
        self.handle.render() + &lanes::text(&lags)
    }

    /// Folds waiting histogram observations into their buckets. Without it they pile up between scrapes, so call it every few
    /// seconds whether or not anybody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

fn version_label() -> Vec<Label> {
    vec![Label::from_static_parts("version", env!("CARGO_PKG_VERSION"))]
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn describe(recorder: &PrometheusRecorder, series: &Series) {
    let (name, unit, help) = (series.name.into(), Some(series.unit), series.help.into());
    match series.kind {
        Kind::Counter => recorder.describe_counter(name, unit, help),
        Kind::Gauge => recorder.describe_gauge(name, unit, help),
        Kind::Histogram(_) => recorder.describe_histogram(name, unit, help),
    }
}

fn register(recorder: &PrometheusRecorder, series: &Series, labels: Vec<Label>) {
    let key = Key::from_parts(series.name, labels);
    match series.kind {
        Kind::Counter => drop(recorder.register_counter(&key, &METADATA)),
        Kind::Gauge => drop(recorder.register_gauge(&key, &METADATA)),
        Kind::Histogram(_) => drop(recorder.register_histogram(&key, &METADATA)),
    }
}

/// Every combination of label values that is known before the pipeline file is read. None where a label comes from that file.
fn known_labels(series: &Series) -> Vec<Vec<Label>> {
    match series.labels {
        [] => vec![Vec::new()],
        [one] => match one.values {
            Values::Closed(values) => values.iter().map(|v| vec![Label::new(one.name, *v)]).collect(),
            Values::Routes => Route::ALL.iter().map(|r| vec![Label::new(one.name, r.as_str())]).collect(),
            Values::Faults | Values::Pipeline | Values::Lanes | Values::Languages => Vec::new(),
        },
        several if several.iter().all(|label| label.values == Values::Faults) => Class::ALL
            .iter()
            .flat_map(|class| stages(*class).iter().map(move |stage| (class, stage)))
            .map(|(class, stage)| vec![Label::new("stage", stage.as_str()), Label::new("class", class.as_str())])
            .collect(),
        _ => Vec::new(),
    }
}

/// The stages at which a class of fault can make a dead letter; none where it stops the process instead.
/// A new class does not compile until it is answered for here.
fn stages(class: Class) -> &'static [Stage] {
    match class {
        Class::TombstoneWithoutKey | Class::HeaderName => &[Stage::Read],
        Class::TooLarge
        | Class::BadUtf8
        | Class::BadJson
        | Class::BadFraming
        | Class::BadAvro
        | Class::BadProtobuf
        | Class::UnknownSchema
        | Class::BadSchema
        | Class::MissingText
        | Class::TextNotString => &[Stage::Decode],
        Class::Tokenizer => &[Stage::Tokenize],
        Class::DeviceMemory | Class::Device => &[Stage::Score],
        Class::OutputTooLarge | Class::OutputRefused => &[Stage::Deliver],
        Class::EngineGone | Class::RegistryUnavailable | Class::Bug => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, OpenLane};
    use super::*;
    use crate::corpus::{Fault, Lane};
    use std::time::Instant;

    /// A board on which every fact that becomes a series is known.
    fn board() -> Board {
        let board = Board::new(Facts::default());
        let lane = Lane { topic: "corpus.raw".into(), partition: 3 };
        board.set_partitions([&lane]);
        board.set_unread(&lane, 5);
        board.set_open(vec![OpenLane { lane, records: 2, since: Instant::now(), timestamp_ms: None }]);
        board
    }

    /// Calls every recorder once.
    fn record_everything() {
        metrics::record_read(120);
        metrics::fetched(2, 300);
        metrics::fetching_paused();
        metrics::offset_reset();
        metrics::log_cut();
        metrics::brokers_up(1);
        metrics::delivered(Route::Pass, 1);
        metrics::delivered_in([(Route::Pass, Some("en-GB"))]);
        metrics::settled([1.5]);
        metrics::tokenized(0.004);
        metrics::device_queued(0.02);
        metrics::device_loaded("hoisted", 2048);
        metrics::device_baseline(2048, 0.1);
        metrics::head_check_failed();
        metrics::permits((90, 100), (1 << 20, 1 << 28));
        metrics::ages(1.0, 0.0);
        metrics::tombstone_forwarded();
        metrics::dead_lettered(&Fault::new(Stage::Decode, Class::BadJson, "not JSON"));
        metrics::device_batch(4, 512, 400, 4, 0.02);
        metrics::device_batch_failed();
        metrics::device_backlog(7);
        metrics::device_provider("cpu");
        metrics::model_device("default", "cpu", "cpu", 3);
        metrics::cache_lookups(3, 1);
        metrics::cache_error();
        metrics::cache_breaker(true);
        metrics::reloaded("applied");
        metrics::schema_asked("found");
        metrics::trace_sent("sent");
        metrics::committed(12, 0.3);
        metrics::commit_aborted(true);
        metrics::rebalanced(6);
        metrics::in_flight(31);
        metrics::journeys([0.8]);
        metrics::rules_known(["fluent"]);
        metrics::rule_fired("fluent", "fail");
        metrics::score_skipped();
        metrics::score_stopped(3);
        metrics::score_audited(true);
        metrics::stop_alarm();
        metrics::ready(true);
    }

    /// Name and label names of each sample line; `le` and the histogram suffixes taken off.
    fn samples(text: &str) -> Vec<(String, Vec<String>)> {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        samples
            .map(|line| {
                let (key, _value) = line.rsplit_once(' ').expect("a sample has a value");
                let (name, labels) = key.split_once('{').unwrap_or((key, ""));
                let labels =
                    labels.trim_end_matches('}').split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
                let base =
                    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
                (base.to_owned(), labels.filter(|label| label != "le").collect())
            })
            .collect()
    }

    #[test]
    fn every_series_is_recorded_with_the_labels_that_the_table_declares() {
        let exporter = Exporter::local().unwrap();
        exporter.within(record_everything);
        let samples = samples(&exporter.render(&board()));
        for (name, labels) in &samples {
            let series = SERIES.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(labels, &series.labels.iter().map(|l| l.name.to_owned()).collect::<Vec<_>>(), "{name}");
        }
        for series in SERIES {
            assert!(samples.iter().any(|(name, _)| name == series.name), "{} is never recorded", series.name);
        }
    }

    #[test]
    fn what_is_known_in_advance_exists_at_zero_before_anything_happens() {
        let text = Exporter::local().unwrap().render(&Board::new(Facts::default()));
        for line in [
            "# HELP tamis_documents_total Documents delivered and committed, by route.",
            "# TYPE tamis_documents_total counter",
            "tamis_documents_total{route=\"dead-letter\"} 0",
            "tamis_commits_aborted_total{retried=\"no\"} 0",
            "tamis_dead_letters_total{stage=\"decode\",class=\"bad-json\"} 0",
            "tamis_partitions_assigned 0",
            "tamis_commit_seconds_bucket{le=\"0.25\"} 0",
            "tamis_commit_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
        assert!(text.contains(concat!("tamis_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));
    }

    #[test]
    fn numbers_land_where_they_belong_and_upkeep_keeps_them() {
        let exporter = Exporter::local().unwrap();
        exporter.within(record_everything);
        exporter.upkeep();
        exporter.within(record_everything);
        let text = exporter.render(&board());
        for line in [
            "tamis_bytes_read_total 240",
            "tamis_documents_by_language_total{route=\"pass\",language=\"en\"} 2",
            "tamis_device_baseline_tokens_per_second 20480",
            "tamis_partition_lag_records{topic=\"corpus.raw\",partition=\"3\"} 7",
            "tamis_device_padding_tokens_total 224",
            "tamis_rule_decisions_total{rule=\"fluent\",decision=\"fail\"} 2",
            "tamis_rule_decisions_total{rule=\"fluent\",decision=\"review\"} 0",
            "tamis_commit_documents_bucket{le=\"10\"} 0",
            "tamis_commit_documents_bucket{le=\"20\"} 2",
            "tamis_commit_documents_sum 24",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn two_exporters_in_one_process_do_not_see_each_other_and_the_global_one_is_one() {
        let (a, b) = (Exporter::local().unwrap(), Exporter::local().unwrap());
        a.within(|| metrics::rebalanced(3));
        let (seen, unseen) = (a.render(&board()), b.render(&board()));
        assert!(seen.contains("tamis_rebalances_total 1") && unseen.contains("tamis_rebalances_total 0"));
        let (first, second) = (Exporter::install().unwrap(), Exporter::install().unwrap());
        assert!(Arc::ptr_eq(&first.recorder, &second.recorder));
    }
}
