//! Composition: settings become running parts, and the parts end in order.
//!
//! Owns: which part is built from which settings, the drain order, what a failure means for the exit code, process signals.
//! In: checked settings. Out: an ending with its summary, or a [`Failure`].
//! Invariants: nothing is opened before the settings were checked; every step of the shutdown is bounded.
//! Must not know: how anything works.

mod assemble;
mod failure;
mod inspect;
mod run;
mod score;
mod stop;

pub use failure::Failure;
pub use inspect::{Inspected, inspect};
pub use run::{Watch, run};
pub(crate) use run::{announce, bug};
pub use score::{Job, score};
pub use stop::Stop;
