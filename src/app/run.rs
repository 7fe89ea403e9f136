//! Owns the daemon: what starts, in which order, and how it ends.

use super::assemble::Parts;
use super::check;
use super::failure::Failure;
use super::open::{Books, Opening};
use super::reload::{Reloader, Reread};
use super::stop;
use super::supervisor::Supervisor;
use super::watchdog::Watchdog;
use crate::admin;
use crate::cli::Exit;
use crate::config::Settings;
use crate::corpus::{Allowance, Intake, Judged, Outlet, intake};
use crate::engine;
use crate::pipeline::{Ending, Flow, Summary};
use crate::sink::Sink;
use crate::source::Source;
use crate::telemetry::{Board, Exporter, Facts, Progress, Traces, metrics};
use std::io::Write;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const QUEUE: usize = 1024;
const CLOSE_BUDGET: Duration = Duration::from_secs(20);
const ENGINE_BUDGET: Duration = Duration::from_secs(10);
const TRACES_BUDGET: Duration = Duration::from_secs(3);
const LAST_RESORT: Duration = Duration::from_secs(90);
const UPKEEP: Duration = Duration::from_secs(5);
const TRIM: Duration = Duration::from_secs(2);

/// How a run is watched and stopped from outside.
pub struct Watch {
    /// Becomes true when a stop is asked for.
    pub stop: watch::Receiver<bool>,
    /// Receives every judged record after its delivery; a slow reader slows delivery down.
    pub tap: Option<mpsc::Sender<Judged>>,
    /// How settings are read again on SIGHUP; without it, that signal ends the process.
    pub reread: Option<Reread>,
    /// Is told how far a run with an end has come.
    pub progress: Progress,
    /// Told the address of the endpoints once they listen.
    pub announce: Box<dyn FnOnce(std::net::SocketAddr) + Send>,
}

/// Runs the pipeline until its source ends or a stop is asked for.
///
/// # Errors
/// See [`Failure`]; positions that were not committed are read again by whoever comes next.
pub async fn run(settings: Settings, watch: Watch) -> Result<(Ending, Summary), Failure> {
    let exporter = Exporter::install()?;
    let board = Board::new(Facts {
        pipeline: settings.name.clone(),
        guarantee: settings.guarantee().as_str(),
        ..Facts::default()
    });
    if settings.admin.show_text {
        board.show_texts();
    }
    let reloader = watch.reread.map(|reread| Reloader::new(settings.clone(), reread, board.clone()));
    let reloader = reloader.transpose().map_err(bug)?;
    let server = admin::serve(&settings.admin, board.clone(), exporter.clone()).await?;
    (watch.announce)(server.address());
    let mut keeper = JoinSet::new();
    keeper.spawn(upkeep(exporter, board.clone()));
    keeper.spawn(keep_small());
    let supervisor = Supervisor::from_environment();
    keeper.spawn(supervisor.clone().attend(board.clone(), settings.admin.stall_after()));

    let mut stop = watch.stop.clone();
    let started = tokio::select! {
        started = start(&settings, &board, watch.progress) => started?,
        // Nothing was read yet. What still opens is abandoned: an unreachable broker is no reason to wait.
        Ok(_) = stop.wait_for(|stop| *stop) => {
            supervisor.stopping(Duration::ZERO);
            return Ok((Ending::Drained, Summary::default()));
        }
    };
    let Started { parts, intake, mut source, sink, traces } = started;
    source.start()?;
    supervisor.ready();
    let drain = Duration::from_millis(settings.delivery.drain_ms);
    keeper.spawn(async move {
        if stop.wait_for(|stop| *stop).await.is_ok() {
            supervisor.stopping(drain + stop::GRACE);
        }
    });
    tracing::info!(pipeline = settings.name, instance = parts.slot.number(), "running, waiting for records");
    let watchdog = Watchdog::start(board.clone(), parts.models(), settings.delivery.stall_exit_ms)?;
    let mut flow =
        Flow::new(parts.road.clone(), sink, settings.delivery.clone(), board.clone(), watch.tap).traced(traces.clone());
    if let Some(reloader) = reloader {
        let (sender, changes) = mpsc::channel(1);
        flow = flow.heeding(changes);
        keeper.spawn(reloader.serve(parts.imprint.scorer.clone(), sender));
    }
    let ended = flow.run(intake, &source, watch.stop).await;
    drop(watchdog);

    board.set_draining();
    // Closing and dropping a Kafka client can hang; from here on the end is certain.
    let exit = match &ended {
        Ok(_) => Exit::Done,
        Err(stopped) => Failure::exit_of(stopped),
    };
    stop::last_resort(exit, LAST_RESORT);
    let closed = tokio::task::spawn_blocking(move || source.close(CLOSE_BUDGET)).await?;
    if !closed {
        tracing::warn!("the source did not end in time");
    }
    parts.close(ENGINE_BUDGET).await;
    tokio::task::spawn_blocking(move || traces.close(TRACES_BUDGET)).await?;
    server.shutdown().await;
    let (ending, summary) = ended?;
    tracing::info!(delivered = summary.documents(), "drained");
    Ok((ending, summary))
}

/// What a flow needs.
struct Started {
    parts: Parts,
    intake: Intake,
    source: Source,
    sink: Sink,
    traces: Traces,
}

/// Asks the brokers, loads the models and opens source and sink. Nothing is read yet.
async fn start(settings: &Settings, board: &Board, progress: Progress) -> Result<Started, Failure> {
    let telemetry = settings.telemetry.clone();
    let traces = tokio::task::spawn_blocking(move || Traces::open(&telemetry)).await?;
    let traces = traces.map_err(|why| Failure::new(Exit::Unavailable, why))?;
    let own = settings.clone();
    let books = tokio::task::spawn_blocking(move || Books::open(&own)).await??;
    // At the same time: brokers answer while the models load, and what both have to say is told at once.
    let (mut asked, schemas, parts) = tokio::join!(
        check::broker(settings, check::Probe::Leave),
        check::registry(settings),
        Parts::assemble(settings, board)
    );
    asked.extend(schemas);
    let parts = match (check::refuse(&asked), parts) {
        (Ok(()), parts) => parts?,
        (Err(refused), Ok(_)) => return Err(refused),
        (Err(refused), Err(failure)) => return Err(refused.and(&failure)),
    };
    let (outlet, intake) = open_intake(settings);
    let (imprint, instance) = (parts.imprint.clone(), parts.slot.number());
    let opening = Opening { outlet, books, board: board.clone(), progress, imprint, instance };
    let own = settings.clone();
    let (source, sink) = tokio::task::spawn_blocking(move || opening.open(&own)).await??;
    Ok(Started { parts, intake, source, sink, traces })
}

fn open_intake(settings: &Settings) -> (Outlet, Intake) {
    let delivery = &settings.delivery;
    let allowance = Allowance::new(delivery.max_documents, delivery.max_in_flight_bytes);
    intake(allowance, QUEUE.min(delivery.max_documents))
}

async fn upkeep(exporter: Exporter, board: Board) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        exporter.upkeep();
        metrics::ready(board.is_ready());
    }
}

/// Keeps the heap near what is in use. It is work of milliseconds under the allocator's locks: not on a thread that documents wait for.
async fn keep_small() {
    let mut tick = tokio::time::interval(TRIM);
    let mut heap = engine::Heap::default();
    loop {
        tick.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            heap.give_back();
            heap
        });
        let Ok(back) = looked.await else { return };
        heap = back;
    }
}

/// Prints where the endpoints are, for people and scripts that asked for a free port.
pub(crate) fn announce(address: std::net::SocketAddr) {
    // Standard error may be closed; the endpoints are there all the same.
    let _ = writeln!(std::io::stderr(), "endpoints at http://{address}");
}

/// A failure that means a bug of ours.
pub(crate) fn bug(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Bug, error)
}
