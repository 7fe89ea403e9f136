//! The command line: what may be asked for, and with which code the process ends.
//!
//! Owns: subcommands, flags, help texts, exit codes. In: the process's arguments. Out: [`Cli`], or an [`Exit`] after help, the version
//! or a complaint was printed. Invariants: a command that isn't built is absent; standard output carries data and help, everything
//! else goes to standard error; every way out is one of the closed set of codes.
//! Must not know: how a command does its work.

mod args;
mod cache;
mod check;
mod compile;
mod demo;
mod dlq;
mod exit;
mod generated;
mod inspect;
mod labels;
mod main;
mod progress;
mod report;
mod score;
mod top;

pub use args::{
    Cache, CacheClear, CacheCommand, CacheErase, CacheStats, Check, Cli, Command, Completions, Demo, Inspect,
    LogFormat, Man, Model, Override, Run, Score,
};
pub use compile::Compile;
pub use dlq::{Dlq, DlqList, DlqReplay};
pub use exit::Exit;
pub use main::{end, main};
