//! Owns the asking: one GET over one connection, each step of it bounded.
//!
//! Invariants: no answer is larger than [`MOST_BYTES`] or takes longer than [`PATIENCE`]; no redirects, no proxies.
//! Must not know: what the answer means.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The longest time for the whole of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest answer.
const MOST_BYTES: usize = 4 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is no address, or nothing listens there.
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    /// The name means no address.
    #[error("no address; it is written like 127.0.0.1:9600")]
    NoAddress,
    /// It took too long, or was too much.
    #[error("the answer did not end")]
    Endless,
    /// Something else than a worker answers.
    #[error("the answer is not a tamis status: {0}")]
    Stranger(String),
}

/// The body of `/status` at `address`, which may be written with `http://` before it and a path behind it.
pub(super) fn status(address: &str) -> Result<Vec<u8>, Error> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let address = address.split('/').next().unwrap_or(address);
    let until = Instant::now() + PATIENCE;
    let place = address.to_socket_addrs()?.next().ok_or(Error::NoAddress)?;
    let mut stream = TcpStream::connect_timeout(&place, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > MOST_BYTES {
            return Err(Error::Endless);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return body(&answer),
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
}

fn body(answer: &[u8]) -> Result<Vec<u8>, Error> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = end.map_or((answer, &[][..]), |end| (&answer[..end], &answer[end + 4..]));
    let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if !first.starts_with(b"HTTP/1.1 200") {
        let first: String = String::from_utf8_lossy(first).chars().filter(|c| !c.is_control()).take(60).collect();
        return Err(Error::Stranger(format!("{first:?}")));
    }
    Ok(body.to_vec())
}
