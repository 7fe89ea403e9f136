//! Owns the dispatch: which command does what, and the last words on standard error.

use super::args::{Cli, Command, Model, Override, Run};
use super::exit::Exit;
use super::{demo, inspect, score};
use crate::app::{self, Failure, Stop, Watch};
use crate::config::{self, Purpose, Settings};
use crate::telemetry;
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const SHUTDOWN: Duration = Duration::from_secs(5);

/// The whole program: arguments in, exit code out.
pub fn main<I: IntoIterator<Item = OsString>>(words: I) -> Exit {
    let cli = match Cli::read(words) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let default =
        matches!(cli.command, Command::Demo(_) | Command::Score(_) | Command::Model(_)).then_some("warn,rdkafka=off");
    let filter = cli.log.as_deref().or(default.filter(|_| !log_variable_is_set()));
    if let Err(error) = telemetry::init_logging(cli.log_format.into(), filter) {
        return complain(&Failure::new(Exit::Usage, error));
    }
    let done = match cli.command {
        Command::Run(args) => run(&args, &cli.overrides),
        Command::Score(args) => score::score(&args, &cli.overrides),
        Command::Demo(args) => demo::demo(&args, &cli.overrides),
        Command::Model(Model::Inspect(args)) => inspect::inspect(&args),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(failure) => complain(&failure),
    }
}

fn log_variable_is_set() -> bool {
    std::env::var_os("TAMIS_LOG").is_some() || std::env::var_os("RUST_LOG").is_some()
}

fn complain(failure: &Failure) -> Exit {
    // Standard error may be closed; the exit code says it all the same.
    let _ = writeln!(std::io::stderr(), "tamis: {failure}");
    failure.exit
}

fn run(args: &Run, overrides: &[Override]) -> Result<(), Failure> {
    let settings = settings(&args.pipeline, overrides, Purpose::Run)?;
    let drain = Duration::from_millis(settings.delivery.drain_ms);
    block_on(async {
        let stop = Stop::listen(drain).map_err(app::bug)?;
        let watch = Watch { stop: stop.receiver(), tap: None, announce: Box::new(app::announce) };
        app::run(settings, watch).await.map(|_| ())
    })
}

/// The checked settings of a pipeline file.
pub(super) fn settings(path: &Path, overrides: &[Override], purpose: Purpose) -> Result<Settings, Failure> {
    let sets: Vec<String> = overrides.iter().map(|set| format!("{}={}", set.key, set.value)).collect();
    let settings = config::load(path, &sets).map_err(|error| Failure::new(Exit::Usage, error))?;
    settings.validate(purpose).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        Failure::new(Exit::Usage, format!("{}: {} wrong{}", path.display(), counted(lines.len()), lines.concat()))
    })?;
    Ok(settings)
}

fn counted(settings: usize) -> String {
    if settings == 1 { "one setting is".to_owned() } else { format!("{settings} settings are") }
}

/// Runs `work` on a runtime whose end is bounded.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Bug, format!("the runtime can't be started: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(SHUTDOWN);
    done
}
