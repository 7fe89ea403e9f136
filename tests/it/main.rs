//! The one integration binary: the whole of tamis against the genuine parts it works with.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test"
)]

mod broker;
mod delivery;
mod families;
mod inspect;
mod kafka_road;
mod maskings;
mod referee;
mod scores;
mod worker;
