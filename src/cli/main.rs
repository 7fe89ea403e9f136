//! Owns the dispatch: which command does what, and the last words on standard error.

use super::args::{Cli, Command, Model, Override, Run};
use super::exit::Exit;
use super::{cache, check, compile, demo, dlq, generated, inspect, progress, score, top};
use crate::app::{self, Failure, Reread, Stop, Watch};
use crate::config::{self, Purpose, Settings};
use crate::telemetry::{self, Progress};
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
    let default = match cli.command {
        Command::Run(_) => None,
        Command::Cache(_)
        | Command::Completions(_)
        | Command::Demo(_)
        | Command::Man(_)
        | Command::Model(_)
        | Command::Schema
        | Command::Score(_)
        | Command::Top(_) => Some("warn,rdkafka=off"),
        // What is wrong is a finding, told once.
        Command::Check(_) | Command::Dlq(_) => Some("error,rdkafka=off"),
    };
    let filter = cli.log.as_deref().or(default.filter(|_| !log_variable_is_set()));
    if let Err(error) = telemetry::init_logging(cli.log_format.into(), filter) {
        return complain(&Failure::new(Exit::Usage, error));
    }
    let done = match cli.command {
        Command::Run(args) => run(&args, &cli.overrides),
        Command::Check(args) => check::check(&args, &cli.overrides),
        Command::Score(args) => score::score(&args, &cli.overrides),
        Command::Dlq(args) => dlq::dlq(&args, &cli.overrides),
        Command::Cache(args) => cache::cache(&args, &cli.overrides),
        Command::Completions(args) => generated::completions(&args),
        Command::Man(args) => generated::man(&args),
        Command::Schema => generated::schema(),
        Command::Top(args) => top::top(&args),
        Command::Demo(args) => demo::demo(&args, &cli.overrides),
        Command::Model(Model::Compile(args)) => compile::compile(&args),
        Command::Model(Model::Inspect(args)) => inspect::inspect(&args),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(failure) => complain(&failure),
    }
}

/// Ends the process with what [`main`] came to, everything that was printed on its way.
pub fn end(exit: Exit) -> ! {
    let _ = std::io::stdout().flush();
    app::end(exit)
}

fn log_variable_is_set() -> bool {
    std::env::var_os("TAMIS_LOG").is_some() || std::env::var_os("RUST_LOG").is_some()
}

/// Data for standard output. A reader that goes away has seen enough.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Unavailable, format!("standard output: {error}; check where it goes")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
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
        let told = Progress::default();
        let (stop, announce) = (stop.receiver(), Box::new(app::announce));
        let (file, sets) = (args.pipeline.clone(), overrides.to_vec());
        let read = Box::new(move || self::settings(&file, &sets, Purpose::Run));
        let reread = Some(Reread { file: args.pipeline.clone(), read });
        let watch = Watch { stop, tap: None, reread, progress: told.clone(), announce };
        progress::shown(&told, true, app::run(settings, watch)).await.map(|_| ())
    })
}

/// The checked settings of a pipeline file.
pub(super) fn settings(path: &Path, overrides: &[Override], purpose: Purpose) -> Result<Settings, Failure> {
    let settings = load(path, overrides).map_err(|error| Failure::new(Exit::Usage, error))?;
    settings.validate(purpose).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        Failure::new(Exit::Usage, format!("{}: {} wrong{}", path.display(), counted(lines.len()), lines.concat()))
    })?;
    Ok(settings)
}

/// The settings of a pipeline file, not checked.
pub(super) fn load(path: &Path, overrides: &[Override]) -> Result<Settings, config::Error> {
    let sets: Vec<String> = overrides.iter().map(|set| format!("{}={}", set.key, set.value)).collect();
    config::load(path, &sets)
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
