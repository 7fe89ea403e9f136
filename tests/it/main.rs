//! The one integration binary: the whole of tamis against the genuine parts it works with.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test"
)]

mod attention;
mod broker;
mod cache;
mod chaos;
mod check;
mod command;
mod cut;
mod delivery;
mod devices;
mod dlq;
mod families;
mod files;
#[cfg(all(feature = "avro", feature = "protobuf"))]
mod formats;
mod groups;
mod heads;
mod hostile;
mod inspect;
mod judgement;
mod kafka_road;
mod maskings;
mod memory;
mod outage;
mod own_models;
mod pace;
#[cfg(feature = "parquet")]
mod parquet;
mod precision;
mod proxy;
mod records;
mod referee;
mod reload;
mod scores;
#[cfg(all(feature = "avro", feature = "protobuf"))]
mod scribe;
mod secrets;
mod security;
mod stopping;
mod topics;
#[cfg(feature = "otlp")]
mod traces;
mod watched;
mod worker;
