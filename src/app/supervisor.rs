//! Owns the words to a service manager: systemd's notification protocol, over the socket that `NOTIFY_SOCKET` names.
//!
//! In: the board. Out: `READY=1` once, `STATUS=…` when it changes, `WATCHDOG=1` while the worker is live, `STOPPING=1` with the time
//! that a drain may take. Invariants: without a socket nothing is said and nothing costs; the watchdog rests on the same fact as `/livez`,
//! so a worker that is stuck with documents in flight is not kept alive by a timer; a manager that does not listen holds nothing up: words wait on a thread of their own, a few of them.
//! Must not know: what the manager does about it.

use crate::telemetry::Board;
use sd_notify::NotifyState;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How often the board is looked at: statuses change no faster.
const LOOK: Duration = Duration::from_secs(1);
/// Words that may wait for a manager that is slow to listen; later ones are dropped, as a watchdog's should be.
const WAITING_MAX: usize = 8;

/// What can be said.
enum Word {
    Ready,
    Status(String),
    Watchdog,
    Stopping { within: Duration },
}

/// A service manager, or none.
#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    /// To the thread that speaks: the socket blocks when its queue is full, and nothing else may.
    words: Option<SyncSender<Word>>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// What the environment says: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` unless `WATCHDOG_PID` names another process.
    pub(super) fn from_environment() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return Self { words: None, watchdog: None };
        }
        let (words, heard) = sync_channel(WAITING_MAX);
        // Without a thread to be had nothing is said, and the manager ends a service that it takes for hung.
        let speaker = std::thread::Builder::new().name("service-manager".into()).spawn(move || speak(&heard));
        if let Err(error) = &speaker {
            tracing::warn!(%error, "the service manager will not be told anything");
        }
        Self { words: speaker.is_ok().then_some(words), watchdog: sd_notify::watchdog_enabled() }
    }

    /// The service has started: the model is warm, the broker answers, the topics are there and subscribed to. A worker may still be given
    /// no partitions, because there are more workers than partitions; that is no failed start.
    pub(super) fn ready(&self) {
        self.say(Word::Ready);
    }

    /// The service stops, and may take this long before it counts as hung.
    pub(super) fn stopping(&self, within: Duration) {
        self.say(Word::Stopping { within });
    }

    /// Tells the status and feeds the watchdog for as long as it is polled. `stall`: see [`Board::is_live`].
    pub(super) async fn attend(self, board: Board, stall: Duration) {
        if self.words.is_none() {
            return;
        }
        // Systemd asks for half the time at most; a third leaves room for a machine under load.
        let every = self.watchdog.map_or(LOOK, |watchdog| (watchdog / 3).clamp(Duration::from_millis(10), LOOK));
        let mut tick = tokio::time::interval(every);
        let mut told = String::new();
        loop {
            tick.tick().await;
            if self.watchdog.is_some() && board.is_live(stall) {
                self.say(Word::Watchdog);
            }
            let status = status(&board, stall);
            if status != told && self.say(Word::Status(status.clone())) {
                told = status;
            }
        }
    }

    /// False when too much waits to be said.
    fn say(&self, word: Word) -> bool {
        self.words.as_ref().is_some_and(|words| words.try_send(word).is_ok())
    }
}

/// Says every word until nobody has any more. Blocks while the manager does not listen.
fn speak(heard: &Receiver<Word>) {
    while let Ok(word) = heard.recv() {
        let said = match word {
            Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Word::Status(status) => sd_notify::notify(&[NotifyState::Status(&status)]),
            Word::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
            Word::Stopping { within } => {
                let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)])
            }
        };
        if let Err(error) = said {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// One line for `systemctl status`. It changes rarely: the manager logs nothing, but must read it.
fn status(board: &Board, stall: Duration) -> String {
    if let Some(reason) = board.dead_because(stall) {
        return format!("stuck: {reason}");
    }
    match board.unready_because() {
        Some(_) if board.is_draining() => "draining".to_owned(),
        Some(reason) => format!("waiting: {reason}"),
        None => {
            let partitions = board.lags().len();
            format!("scoring, {partitions} partition{}", if partitions == 1 { "" } else { "s" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Lane;
    use crate::telemetry::Facts;

    #[test]
    fn the_status_says_what_is_waited_for_and_what_is_wrong() {
        let (board, stall) = (Board::new(Facts::default()), Duration::from_secs(60));
        assert_eq!(status(&board, stall), "waiting: the model is not warm yet");
        board.set_model_warm("s");
        assert_eq!(status(&board, stall), "waiting: no partitions are assigned");
        board.set_partitions(&[Lane { topic: "corpus.raw".into(), partition: 0 }]);
        assert_eq!(status(&board, stall), "scoring, 1 partition");
        board.set_draining();
        assert_eq!(status(&board, stall), "draining");
        board.set_stuck("the device thread is gone");
        assert_eq!(status(&board, stall), "stuck: the device thread is gone");
    }
}
