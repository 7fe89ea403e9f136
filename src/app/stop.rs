//! Owns the stop: process signals, and the last resort when a shutdown hangs.
//!
//! The first SIGTERM or SIGINT asks for a drain; the second ends the process at once; past the drain deadline and a grace the process ends
//! whatever hangs (dropping a Kafka client can).

use crate::cli::Exit;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Closing the source, the engines and the cache after a full drain.
pub(super) const GRACE: Duration = Duration::from_secs(120);

/// The stop of one process. Keep it: dropping it leaves signals unheard.
pub struct Stop {
    sender: watch::Sender<bool>,
    _listener: JoinSet<()>,
}

impl Stop {
    /// Listens for SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The signal handlers can't be installed.
    pub fn listen(drain: Duration) -> io::Result<Self> {
        let (sender, _) = watch::channel(false);
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut listener = JoinSet::new();
        listener.spawn(listen(term, int, sender.clone(), drain));
        Ok(Self { sender, _listener: listener })
    }

    /// Becomes true when a stop was asked for.
    #[must_use]
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.sender.subscribe()
    }

    /// Asks for a stop from inside.
    pub fn ask(&self) {
        self.sender.send_replace(true);
    }
}

async fn listen(mut term: Signal, mut int: Signal, sender: watch::Sender<bool>, drain: Duration) {
    let mut heard = async || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    heard().await;
    tracing::info!("stop asked for, draining");
    sender.send_replace(true);
    last_resort(Exit::DrainDeadline, drain + GRACE);
    heard().await;
    tracing::warn!("second signal, ending at once");
    end(Exit::DrainDeadline);
}

/// Ends the process with `exit` after `wait`, if it is still there.
pub(super) fn last_resort(exit: Exit, wait: Duration) {
    // A thread, because the runtime itself may be what hangs. Without one to be had, the supervisor's patience has to do.
    let _ = std::thread::Builder::new().name("last-resort".into()).spawn(move || {
        std::thread::sleep(wait);
        tracing::error!("the shutdown hangs, giving up");
        end(exit);
    });
}

/// Ends the process at once. What libraries do at a process's end is left out: one of their threads may be what hangs, or still be at work with what would be
/// taken from under it (a device's thread, where a stop was asked for while a model loaded).
#[allow(clippy::disallowed_methods, reason = "the one way out: nothing else is left to wait for")]
pub fn end(exit: Exit) -> ! {
    signal_hook::low_level::exit(i32::from(exit.code()))
}
