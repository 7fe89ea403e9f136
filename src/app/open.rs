//! Owns the opening of a run's two ends: its source and its sink, and what remembers how far one has come in the other.
//!
//! Invariant: what is quick and often wrong (paths, locks, checkpoints) is opened before what takes long (models, brokers).

use super::failure::Failure;
use crate::config::Settings;
use crate::corpus::{Lane, Outlet};
use crate::files::{self, Checkpoint};
use crate::kafka::{Consumer, Guarantee, Producer};
use crate::pipeline;
use crate::sink::{Bookmark, FilesSink, Imprint, KafkaSink, Report, Sink};
use crate::source::{Files, Input, Plan, Source};
use crate::telemetry::{Board, Progress};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// The files to read and the checkpoint, where settings have any.
pub(super) struct Books {
    plan: Option<Plan>,
    checkpoint: Option<Checkpoint>,
}

impl Books {
    /// Finds the inputs, locks the checkpoint, and sees what is left to do. Blocking.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let inputs = inputs(settings).transpose()?;
        if let Some(sink) = &settings.sink.files {
            // What stands in an output's place is found now and not after the models; opening it later looks again.
            let survey = files::Survey::of(&sink.dir, &FilesSink::names(sink, &settings.routes));
            if let Some(problem) = survey.problems.into_iter().next() {
                return Err(problem.into());
            }
        }
        let checkpoint = positions(settings).map(|dir| Checkpoint::open(&dir)).transpose()?;
        let plan =
            inputs.zip(checkpoint.as_ref()).map(|(inputs, checkpoint)| Plan::new(inputs, checkpoint)).transpose()?;
        Ok(Self { plan, checkpoint })
    }
}

/// The inputs that `[source.files]` means; `None` without that table.
pub(super) fn inputs(settings: &Settings) -> Option<Result<Vec<files::Input>, files::Error>> {
    let own = settings.sink.files.as_ref().map(|sink| FilesSink::files(sink, &settings.routes)).unwrap_or_default();
    settings.source.files.as_ref().map(|source| files::expand(&source.paths, &own))
}

/// The directory of the checkpoint, where there is one.
pub(super) fn positions(settings: &Settings) -> Option<PathBuf> {
    match (&settings.sink.files, &settings.source.files) {
        (Some(sink), _) => Some(sink.dir.clone()),
        (None, Some(source)) => Some(source.state_of(&settings.name)),
        (None, None) => None,
    }
}

/// What source and sink are opened with.
pub(super) struct Opening {
    pub(super) outlet: Outlet,
    pub(super) books: Books,
    pub(super) board: Board,
    pub(super) progress: Progress,
    pub(super) imprint: Imprint,
    pub(super) instance: u32,
}

impl Opening {
    /// Opens source and sink. Nothing is read yet, but from standard input. Blocking.
    pub(super) fn open(self, settings: &Settings) -> Result<(Source, Sink), Failure> {
        let Self { outlet, books: Books { plan, checkpoint }, board, progress, imprint, instance } = self;
        let max_bytes = settings.document.max_bytes;
        let source = match (&settings.source.kafka, plan, &settings.source.files) {
            (Some(kafka), _, _) => {
                let kafka = kafka.for_worker(&host(), instance);
                Source::kafka(&kafka, outlet, Duration::from_millis(settings.delivery.revoke_ms), board)?
            }
            (None, Some(plan), Some(files)) => {
                board.set_partitions(&files.paths.iter().map(|path| lane(path)).collect::<Vec<_>>());
                Source::Files(Files::new(plan, outlet, max_bytes, progress))
            }
            (None, _, _) => {
                board.set_partitions(&[lane("stdin")]);
                Source::lines(&Input::Stdin, outlet, max_bytes, progress)?
            }
        };
        let sink = open_sink(settings, &source, checkpoint, imprint, instance)?;
        Ok((source, sink))
    }
}

fn lane(topic: &str) -> Lane {
    Lane { topic: topic.into(), partition: 0 }
}

fn open_sink(
    settings: &Settings,
    source: &Source,
    checkpoint: Option<Checkpoint>,
    imprint: Imprint,
    instance: u32,
) -> Result<Sink, Failure> {
    let routes = &settings.routes;
    let group = || source.consumer().map(Consumer::committer).map_or(Bookmark::Nowhere, Bookmark::Group);
    let kept = match (&settings.sink.files, checkpoint) {
        (Some(files), Some(checkpoint)) => {
            let format = settings.document.format;
            return Ok(Sink::Files(FilesSink::open(files, routes, format, imprint, checkpoint, group())?));
        }
        (_, kept) => kept.map(|checkpoint| Bookmark::Checkpoint(Mutex::new(checkpoint))),
    };
    if !settings.delivers_to_kafka() {
        let report = Report::new(Box::new(std::io::stdout()), imprint, kept.unwrap_or_else(group));
        return Ok(Sink::Report(report));
    }
    let producer = Producer::open(
        settings.source.kafka.as_ref().zip(source.consumer()),
        &settings.sink.kafka.clone().unwrap_or_default(),
        &guarantee(settings, instance),
        &KafkaSink::topics(routes),
    )?;
    Ok(Sink::Kafka(KafkaSink::new(producer, routes, imprint, kept.unwrap_or(Bookmark::Nowhere))))
}

fn guarantee(settings: &Settings, instance: u32) -> Guarantee {
    let Some(kafka) = &settings.source.kafka else { return Guarantee::AtLeastOnce };
    match settings.guarantee() {
        pipeline::Guarantee::AtLeastOnce => Guarantee::AtLeastOnce,
        pipeline::Guarantee::ExactlyOnce => {
            Guarantee::ExactlyOnce { transactional_id: transactional_id(&kafka.group, &instance.to_string()) }
        }
    }
}

/// The transactional id of one worker of `group` on this machine.
pub(super) fn transactional_id(group: &str, instance: &str) -> String {
    format!("{group}-{}-{instance}", host())
}

/// This machine's name.
fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}
