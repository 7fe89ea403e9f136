//! Owns the scoring of a file or of standard input: the same road, one JSON line each.

use super::assemble::Parts;
use super::failure::Failure;
use super::tables;
use crate::config::Settings;
use crate::corpus::{Allowance, Judged, intake};
use crate::pipeline::{Ending, Flow, Stopped, Summary};
use crate::sink::Sink;
use crate::source::{Input, Source};
use crate::telemetry::{Board, Exporter, Facts, Progress};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const QUEUE: usize = 256;
const PROMPTLY_MS: u64 = 100;
const ENGINE_BUDGET: Duration = Duration::from_secs(10);

/// One job of scoring.
pub struct Job {
    /// What to read.
    pub input: Input,
    /// What to write; `None` is standard output.
    pub output: Option<PathBuf>,
    /// Is told how far it has come, if the input is a file.
    pub progress: Progress,
    /// Becomes true when a stop is asked for.
    pub stop: watch::Receiver<bool>,
    /// Receives every judged record after its line was written.
    pub tap: mpsc::Sender<Judged>,
}

/// Scores every line of the input, order kept.
///
/// # Errors
/// See [`Failure`]; lines already written stand.
pub async fn score(mut settings: Settings, job: Job) -> Result<(Ending, Summary), Failure> {
    settings.document = settings.document.of_lines();
    let _exporter = Exporter::install()?;
    let board = Board::new(Facts { pipeline: settings.name.clone(), ..Facts::default() });
    let mut delivery = settings.delivery.clone();
    delivery.commit_interval_ms = PROMPTLY_MS;
    let (outlet, intake) = intake(Allowance::new(delivery.max_documents, delivery.max_in_flight_bytes), QUEUE);
    // The input is opened first: a typing error should not cost the loading of a model.
    let input = tables::input(job.input, &settings)?;
    let source = Source::lines(&input, outlet, settings.document.max_bytes, job.progress)?;
    let mut output = tables::output(job.output, &input, &settings)?;
    let parts = Parts::assemble(&settings, &board).await?;
    let sink = Sink::Report(output.report(parts.imprint.clone())?);
    let flow = Flow::new(parts.road.clone(), sink, delivery, board, Some(job.tap));
    let ended = flow.run(intake, &source, job.stop).await;
    let _ = source.close(Duration::ZERO);
    parts.close(ENGINE_BUDGET).await;
    // A table gets its name when all of the input is in it, or all that could be read of it; else what was there before stands.
    if matches!(ended, Ok((Ending::Done, _)) | Err(Stopped::Input(_))) {
        output.finish()?;
    }
    match ended {
        // `tamis score … | head`: whoever reads has seen enough, and nothing that was asked for is missing.
        Err(Stopped::ReaderGone) => Ok((Ending::Drained, Summary::default())),
        ended => Ok(ended?),
    }
}
