//! Owns the server's life: bind, serve, end.
//!
//! In: settings, board, exporter. Out: a [`Server`], which owns its task. Invariants: the port is bound before [`serve`] returns; a
//! dropped server takes its task with it; a shutdown ends within `GRACE`.
//! Must not know: what the answers say.

use super::answers::{self, Sources};
use super::door::{Door, LIFETIME, SEATS};
use super::events::Gallery;
use super::hosts::Hosts;
use super::settings::Settings;
use crate::telemetry::{Board, Exporter};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a shutdown waits for answers that are on their way.
const GRACE: Duration = Duration::from_secs(2);

/// Why the endpoints can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one, or it can't be listened on: the port is taken, or the address is not this machine's.
    #[error("the admin endpoints can't listen on {listen}: {source}; {}", advice(source))]
    Bind {
        /// `admin.listen` as set.
        listen: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// What to do about an address that can't be listened on.
fn advice(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::AddrInUse {
        "stop what listens there, or set admin.listen to another port (port 0 takes a free one)"
    } else {
        "set admin.listen to an address of this machine, written like 127.0.0.1:9600"
    }
}

/// The running server. Keep it: dropping it ends the endpoints at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinSet<io::Result<()>>,
}

/// Binds `settings.listen` and serves `board` and `exporter` until [`Server::shutdown`].
///
/// # Errors
/// [`Error::Bind`], before anything is served.
///
/// # Cancel safety
/// Dropping the future before it is done leaves nothing behind.
pub async fn serve(settings: &Settings, board: Board, exporter: Exporter) -> Result<Server, Error> {
    let refused = |source| Error::Bind { listen: settings.listen.clone(), source };
    let listener = TcpListener::bind(settings.listen.as_str()).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let (stop, mut stopped) = watch::channel(false);
    let gallery = Gallery::new(stopped.clone());
    let sources = Sources { board, exporter, stall_after: settings.stall_after(), gallery };
    let router = answers::router(sources, Hosts::new(&settings.hosts));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let door = Door::new(listener, SEATS, LIFETIME);
        // A dropped sender means the same as a sent message: stop.
        let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
        axum::serve(door, router).with_graceful_shutdown(until).await
    });
    Ok(Server { address, stop, task })
}

/// Whether the endpoints could listen: binds `settings.listen` as [`serve`] would, and lets go of it.
///
/// # Errors
/// [`Error::Bind`].
pub fn probe(settings: &Settings) -> Result<SocketAddr, Error> {
    let refused = |source| Error::Bind { listen: settings.listen.clone(), source };
    std::net::TcpListener::bind(settings.listen.as_str()).and_then(|listener| listener.local_addr()).map_err(refused)
}

impl Server {
    /// Where the endpoints listen, the port resolved.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets answers on their way finish for at most two seconds, then ends.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(GRACE, self.task.join_next()).await.is_err() {
            tracing::warn!(grace_ms = GRACE.as_millis() as u64, "admin connections outlived the grace and were cut");
            self.task.shutdown().await;
        }
    }
}
