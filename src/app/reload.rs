//! Owns the reload: settings read again while the worker runs, and put in force whole or not at all.
//!
//! In: SIGHUP, or a pipeline file that changed. Out: a [`Change`] for the flow; a word in the log, on the board and in the metrics. Invariants: the same
//! sources of settings and the same checks as at the start; only rules, `[judge]` and the routes of a Kafka sink can change, anything else is refused by name and
//! needs a restart; what is refused leaves everything as it was; one reload at a time, and signals that come meanwhile are one more.
//! Must not know: how a change is put in force.

use super::check;
use super::failure::Failure;
use crate::config::Settings;
use crate::judge::Judge;
use crate::pipeline::Change;
use crate::sink::Imprint;
use crate::telemetry::{Board, metrics};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// How settings are read again.
pub struct Reread {
    /// The pipeline file, to look at for changes.
    pub file: PathBuf,
    /// Reads and checks file, environment and flags. Blocking.
    pub read: Box<dyn Fn() -> Result<Settings, Failure> + Send + Sync>,
}

/// What a reload came to.
enum Outcome {
    /// In force; the keys that changed.
    Applied(Vec<String>),
    /// Nothing had changed.
    Unchanged,
    /// The worker stops, and takes up nothing more.
    TooLate,
}

/// Who listens for reasons to reload.
pub(super) struct Reloader {
    settings: Settings,
    reread: Reread,
    hangup: Signal,
    board: Board,
    /// The file's stamp when it was last read.
    seen: Option<SystemTime>,
}

impl Reloader {
    /// Listens for SIGHUP from now on, also while the worker still starts. `settings` are those in force.
    pub(super) fn new(settings: Settings, reread: Reread, board: Board) -> std::io::Result<Self> {
        let seen = stamp(&reread);
        Ok(Self { settings, reread, hangup: signal(SignalKind::hangup())?, board, seen })
    }

    /// Serves for as long as it is polled. `scorer`: the identity of the scorers, which no reload changes.
    pub(super) async fn serve(mut self, scorer: String, changes: mpsc::Sender<Change>) {
        loop {
            self.asked().await;
            match self.reload(&scorer, &changes).await {
                Ok(Outcome::Applied(keys)) => {
                    let (policy, keys) = (self.board.snapshot().policy, keys.join(", "));
                    tracing::info!(policy, keys, "settings reloaded");
                    self.tell("applied", Some(keys));
                }
                Ok(Outcome::Unchanged) => {
                    tracing::info!("settings read again, nothing has changed");
                    self.tell("unchanged", None);
                }
                Ok(Outcome::TooLate) => tracing::warn!("settings not reloaded, the worker is stopping"),
                Err(failure) => {
                    tracing::error!(why = %failure, "settings refused, the old ones stay in force");
                    self.tell("refused", Some(failure.to_string()));
                }
            }
        }
    }

    fn tell(&self, outcome: &'static str, why: Option<String>) {
        metrics::reloaded(outcome);
        self.board.reloaded(outcome, why);
    }

    /// Waits for a reason to reload.
    async fn asked(&mut self) {
        let watch_ms = self.settings.reload.watch_ms;
        if watch_ms == 0 {
            self.hangup.recv().await;
            return;
        }
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    self.seen = stamp(&self.reread);
                    return;
                }
                () = tokio::time::sleep(Duration::from_millis(watch_ms)) => {
                    let now = stamp(&self.reread);
                    // A file that is gone for a moment is being replaced.
                    if now.is_some() && now != self.seen {
                        self.seen = now;
                        return;
                    }
                }
            }
        }
    }

    async fn reload(&mut self, scorer: &str, changes: &mpsc::Sender<Change>) -> Result<Outcome, Failure> {
        let read = tokio::task::block_in_place(|| (self.reread.read)())?;
        let keys = self.settings.differences(&read);
        if keys.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.refuse_what_needs_a_restart(&keys)?;
        if keys.iter().any(|key| is_of(key, "routes")) {
            check::refuse(&check::broker(&read, check::Probe::Leave).await)?;
        }
        let judge = Judge::new(&read.rules, &read.signal_names())?.evaluating(read.judge.evaluate);
        let imprint = Imprint { policy: judge.policy().to_owned(), scorer: scorer.to_owned() };
        let (done, in_force) = oneshot::channel();
        let change = Change { judge, imprint, routes: read.routes.clone(), done };
        if changes.send(change).await.is_err() || in_force.await.is_err() {
            return Ok(Outcome::TooLate);
        }
        self.settings = read;
        Ok(Outcome::Applied(keys))
    }

    fn refuse_what_needs_a_restart(&self, keys: &[String]) -> Result<(), Failure> {
        let routes = self.settings.delivers_to_kafka();
        let fixed = |key: &&String| {
            let changeable = is_of(key, "rules") || is_of(key, "judge") || (routes && is_of(key, "routes"));
            !changeable
        };
        let fixed: Vec<&str> = keys.iter().filter(fixed).map(String::as_str).collect();
        if fixed.is_empty() {
            return Ok(());
        }
        let plural = if fixed.len() == 1 { "this key needs" } else { "these keys need" };
        Err(Failure::new(
            crate::cli::Exit::Usage,
            format!(
                "{plural} a restart: {}; nothing was changed. Put back what they were, or restart",
                fixed.join(", ")
            ),
        ))
    }
}

fn stamp(reread: &Reread) -> Option<SystemTime> {
    std::fs::metadata(&reread.file).and_then(|file| file.modified()).ok()
}

fn is_of(key: &str, table: &str) -> bool {
    key.split('.').next() == Some(table)
}
