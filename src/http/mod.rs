//! HTTP: one question to a server, with its answer, over TLS where the address says so.
//!
//! Owns: the client, what it trusts, how it shows who it is, and the bounds on time and on bytes. In: a URL. Out: a status and a body, or why there is none.
//! Invariants: blocking, so it belongs on a thread that may block; every call ends within its time-out; no answer is read beyond its limit; no
//! redirect is followed, so that a password goes where it was sent and nowhere else; a secret is in no message.
//! Must not know: what is asked for.

mod client;
mod secret;

pub use client::{Answer, Client, Error, Trust, origin};
pub use secret::{Credentials, read as read_secret};
