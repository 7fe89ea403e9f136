//! HTTP endpoints, read-only.
//!
//! Owns: the admin server and its settings, what each endpoint answers, the live page for people. In: the status board and the metrics
//! exporter. Out: answers to GET and HEAD. Invariants: nothing here changes the worker; a taken port is an error before anything else
//! starts; connections and their lives are bounded; shutdown is bounded.
//! Must not know: Kafka, the model, the cache, or who writes the board.

mod answers;
mod door;
mod events;
mod hosts;
mod page;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod view;

pub use server::{Error, Server, probe, serve};
pub use settings::Settings;
