//! Composition: settings become running parts, and the parts end in order.
//!
//! Owns: which part is built from which settings, the check before a start, the drain order, what a failure means for the exit code, process signals.
//! In: checked settings. Out: an ending with its summary, or a [`Failure`].
//! Invariants: nothing is opened before the settings were checked; every step of the shutdown is bounded.
//! Must not know: how anything works.

mod assemble;
mod check;
mod compile;
mod dlq;
mod erase;
mod failure;
mod inspect;
mod open;
mod reload;
mod run;
mod score;
mod stop;
mod supervisor;
mod tables;
mod watchdog;

pub use check::{Finding, Grade, Plan, Report, Score, Table, check, exit};
pub use compile::compile;
pub use dlq::{Errand, Replayed, Selection, Span as SourceSpan, Step, list, replay};
pub use erase::{Erasure, keys_of};
pub use failure::Failure;
pub use inspect::{Inspected, inspect};
pub use reload::Reread;
pub use run::{Watch, run};
pub(crate) use run::{announce, bug};
pub use score::{Job, score};
pub use stop::{Stop, end};
