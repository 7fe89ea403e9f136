//! Owns the door: how many connections there are and how long one may live.
//!
//! In: a bound listener. Out: connections that carry their seat. Invariants: at most [`SEATS`] connections at once, later ones wait in
//! the listener's backlog; a connection older than [`LIFETIME`] ends, so that idle or slow clients can't keep the seats.
//! Must not know: HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at once: some scrapers, some probes, some people.
pub(super) const SEATS: usize = 64;
/// How long one connection may live, used or not. A scraper that keeps connections open opens another.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// A listener that hands out seats.
pub(super) struct Door {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    lifetime: Duration,
}

impl Door {
    pub(super) fn new(listener: TcpListener, seats: usize, lifetime: Duration) -> Self {
        Self { listener, seats: Arc::new(Semaphore::new(seats)), lifetime }
    }
}

impl axum::serve::Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        let seat = match self.seats.clone().acquire_owned().await {
            Ok(seat) => Some(seat),
            // Nobody closes the semaphore.
            Err(_) => None,
        };
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (Visitor { stream, leaves: Box::pin(tokio::time::sleep(self.lifetime)), _seat: seat }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, with its seat and the time at which it ends.
pub(super) struct Visitor {
    stream: TcpStream,
    leaves: Pin<Box<Sleep>>,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Visitor {
    /// An error once the lifetime is over; otherwise arranges to be woken then.
    fn stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.leaves.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stay(cx)?;
        pin!(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stay(cx)?;
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn door(seats: usize, lifetime: Duration) -> (Door, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Door::new(listener, seats, lifetime), address)
    }

    #[tokio::test]
    async fn a_visitor_more_than_the_seats_waits_until_one_leaves() {
        let (mut door, address) = door(1, LIFETIME).await;
        let (_first, _second) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (seated, _) = door.accept().await;
        let waits = tokio::time::timeout(Duration::from_millis(50), door.accept()).await;
        assert!(waits.is_err(), "the second connection must wait");
        drop(seated);
        let comes_in = tokio::time::timeout(Duration::from_secs(5), door.accept()).await;
        assert!(comes_in.is_ok());
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_ends_with_its_lifetime() {
        let (mut door, address) = door(1, Duration::from_millis(50)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut visitor, _) = door.accept().await;
        client.write_all(b"half a request").await.unwrap();
        let mut bytes = Vec::new();
        let error = visitor.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.kind(), bytes.as_slice()), (io::ErrorKind::TimedOut, b"half a request".as_slice()));
        assert_eq!(visitor.write(b"late").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
