//! Owns the `demo` command: the pipeline that `run` runs, over a labelled sample, on a broker inside the process.
//!
//! Invariants: the sample and the pipeline file travel in the binary; the verdicts come from the road alone, the labels are only compared
//! with them afterwards.

use super::args::{Demo, Override};
use super::labels::{Label, Labels};
use super::main::block_on;
use super::report::Report;
use crate::app::{self, Failure, Stop, Watch};
use crate::cli::Exit;
use crate::config::{self, Purpose, Settings};
use crate::corpus::{Judged, Route};
use crate::kafka::Embedded;
use crate::telemetry::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const PIPELINE: &str = include_str!("../../pipelines/demo/demo.toml");
const SAMPLE: &[u8] = include_bytes!("../../pipelines/demo/sample.jsonl");
const LABELS: &str = include_str!("../../pipelines/demo/labels.tsv");
const PARTITIONS: i32 = 4;
const TAP: usize = 256;

pub(super) fn demo(args: &Demo, overrides: &[Override]) -> Result<(), Failure> {
    let labels = Labels::read(LABELS).map_err(app::bug)?;
    let sample: Vec<Vec<u8>> =
        SAMPLE.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).filter(|line| !line.is_empty()).collect();
    let folder = std::env::temp_dir().join(format!("tamis-demo-{}", std::process::id()));
    let broker = Embedded::start(&[
        ("demo.raw", PARTITIONS),
        ("demo.pass", PARTITIONS),
        ("demo.review", PARTITIONS),
        ("demo.fail", PARTITIONS),
        ("demo.dead", PARTITIONS),
    ])?;
    let settings = settings(args, overrides, &broker, &folder)?;
    say(&format!("tamis demo: {} labelled documents through a broker in this process", sample.len()));
    broker.feed("demo.raw", PARTITIONS, &sample, &[])?;
    let report = block_on(watch(settings, &sample, labels));
    // The cache of a demo is of no use to anybody; what can't be removed is in the temporary folder.
    let _ = std::fs::remove_dir_all(&folder);
    let report = report?;
    std::io::stdout().write_all(report.to_string().as_bytes()).map_err(app::bug)
}

/// Runs the pipeline until every record of the sample was delivered. (The embedded broker keeps no lag to look at.)
async fn watch(settings: Settings, sample: &[Vec<u8>], labels: Labels) -> Result<Report, Failure> {
    let drain = Duration::from_millis(settings.delivery.drain_ms);
    let stop = Stop::listen(drain).map_err(app::bug)?;
    let (tap, mut judged) = mpsc::channel(TAP);
    let watch = Watch {
        stop: stop.receiver(),
        tap: Some(tap),
        reread: None,
        progress: Progress::default(),
        announce: Box::new(app::announce),
    };
    let bar = bar(sample.len());
    bar.set_message("loading and warming the model");
    let collect = async {
        let mut report = Report::new(labels);
        let mut first = None;
        while let Some(judged) = judged.recv().await {
            let started = *first.get_or_insert_with(Instant::now);
            report.add(line_number(&judged), &judged);
            bar.inc(1);
            bar.set_message(report.routes());
            if report.seen() == sample.len() {
                report.took(started.elapsed());
                stop.ask();
            }
        }
        bar.finish_and_clear();
        report
    };
    let (ended, report) = tokio::join!(app::run(settings, watch), collect);
    ended?;
    if report.seen() < sample.len() {
        return Err(Failure::new(Exit::DrainDeadline, format!("stopped after {} documents", report.seen())));
    }
    Ok(report)
}

/// The feed deals records to the partitions in turn, so a record's place tells its line (from 1).
fn line_number(judged: &Judged) -> usize {
    let origin = &judged.record().origin;
    let index = origin.offset * i64::from(PARTITIONS) + i64::from(origin.lane.partition);
    usize::try_from(index).unwrap_or(0) + 1
}

fn settings(args: &Demo, overrides: &[Override], broker: &Embedded, folder: &Path) -> Result<Settings, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Unavailable, format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = folder.join("demo.toml");
    std::fs::write(&file, PIPELINE).map_err(failed)?;
    let mut sets = vec![
        format!("source.kafka.brokers={}", broker.brokers()),
        format!("models.default.path={}", model().display()),
        format!("cache.path={}", folder.join("cache").display()),
        format!("admin.listen=127.0.0.1:{}", args.port),
    ];
    sets.extend(overrides.iter().map(|set| format!("{}={}", set.key, set.value)));
    let settings = config::load(&file, &sets).map_err(|error| Failure::new(Exit::Usage, error))?;
    settings.validate(Purpose::Run).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new(Exit::Usage, lines.join("; "))
    })?;
    Ok(settings)
}

/// The bundled model: below the current directory, else beside the binary or where it was installed, else where it was built.
fn model() -> PathBuf {
    let relative = Path::new("models/tamis-en");
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let near = |dir: &Path| [dir.join(relative), dir.join("share/tamis").join(relative)];
        exe.ancestors().skip(1).flat_map(near).find(|path| path.is_dir())
    });
    if relative.is_dir() {
        return relative.to_owned();
    }
    beside.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(relative))
}

fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let template = "{bar:32.green/white.dim} {pos:>3}/{len}  {elapsed}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn say(text: &str) {
    // Standard error may be closed; the report on standard output is what counts.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a route is what a label asks for.
pub(super) fn agrees(route: Route, label: &Label) -> bool {
    route == label.expected
}
