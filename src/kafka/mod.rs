//! Kafka: consumer and transactional producer as one session, because offsets go into the transaction with the consumer's group
//! metadata.
//!
//! Owns: the driver thread that polls, the rebalance callbacks, the delivery step, headers byte for byte, partition choice, the survey of
//! a cluster, and the embedded broker of `demo`. In: settings, an outlet for records. Out: records and notices; outputs delivered all or none.
//! Invariants: no call blocks without a bound; the driver always polls and never waits for permits; offsets are committed only
//! with the outputs they belong to; no document is scored inside a transaction.
//! Must not know: what a document is, verdicts, routes.

mod advice;
mod committer;
mod committing;
mod consumer;
mod context;
mod cuts;
mod driver;
mod embedded;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod leaders;
mod membership;
mod opening;
mod partition;
mod patience;
mod placing;
mod producer;
mod reader;
mod record;
mod replay;
mod secrets;
mod settings;
mod sight;
mod standing;
pub mod survey;
mod tail;

pub use committer::Committer;
pub use consumer::Consumer;
pub use embedded::{EMBEDDED_PARTITION_BYTES, Embedded};
pub use error::{DeliveryError, Error, Refusal};
pub use groups::{GroupProblem, is_pattern};
pub use producer::{Guarantee, Output, Producer};
pub use reader::{Kept, Reader, Span};
pub use replay::Replay;
pub use settings::{OWNED_PROPERTIES, SinkSettings, SourceSettings};
