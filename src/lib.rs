//! tamis: a streaming corpus filter. Kafka in, masked-LM verdict out, exactly once.
//!
//! The house and its floors are described in `ARCHITECTURE.md`; `tests/tidy.rs` enforces them.

pub mod corpus;
pub mod sentences;

#[cfg(feature = "http")]
pub mod http;

pub mod telemetry;

pub mod cache;
pub mod decode;
pub mod engine;
pub mod files;
pub mod graph;
pub mod judge;
pub mod kafka;
pub mod signals;
pub mod tokenize;

pub mod scorer;
pub mod sink;
pub mod source;

pub mod admin;
pub mod pipeline;

pub mod config;

pub mod app;
pub mod cli;
