//! The command line: what may be asked for, and with which code the process ends.
//!
//! Owns: subcommands, flags, help texts, exit codes. In: the process's arguments. Out: [`Cli`], or an [`Exit`] after help, the version
//! or a complaint was printed. Invariants: a command that isn't built is absent; standard output carries data and help, everything
//! else goes to standard error; every way out is one of the closed set of codes.
//! Must not know: how a command does its work.

mod args;
mod demo;
mod exit;
mod inspect;
mod labels;
mod main;
mod report;
mod score;

pub use args::{Cli, Command, Demo, Inspect, LogFormat, Model, Override, Run, Score};
pub use exit::Exit;
pub use main::main;
