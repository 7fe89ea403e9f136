//! The values that travel: record, document, signals, verdict, fault, parcel.
//!
//! Owns: plain data that every floor above may hold. In and out: nothing runs here.
//! Invariants: no I/O, no clocks, no outside service; a value that reaches a caller is complete.
//! Must not know: any other room.

mod document;
mod fault;
mod intake;
mod parcel;
mod record;
mod signals;
mod verdict;

pub use document::Document;
pub use fault::{Class, Fault, Stage};
pub use intake::{Allowance, Intake, Notice, Outlet, intake};
pub use parcel::{Parcel, Permits, Receipt};
pub use record::{HEADER_BYTES, Header, Lane, Origin, Position, Record, Tail};
pub use signals::{Edge, SignalValue, Signals};
pub use verdict::{Bound, Decision, Judged, Reason, Route, Status, Verdict};
