//! Owns the bookmark: what remembers how far delivery has come, for sinks whose outputs can't remember it themselves.
//!
//! Invariant: it is set after the outputs that it stands for, so what is lost between the two is the memory, never a document.

use super::Failure;
use crate::corpus::Position;
use crate::files::Checkpoint;
use crate::kafka::{Committer, DeliveryError};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const COMMIT_BUDGET: Duration = Duration::from_secs(10);

/// Where positions are kept.
pub enum Bookmark {
    /// Nowhere: the source can't go on in its middle.
    Nowhere,
    /// With the consumer group of a Kafka source.
    Group(Committer),
    /// In a checkpoint on disk.
    Checkpoint(Mutex<Checkpoint>),
}

impl Bookmark {
    /// Keeps `positions`. Blocking; bounded, but for a disk that hangs.
    pub(super) fn commit(&self, positions: &[Position]) -> Result<(), Failure> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Group(committer) => match committer.commit(positions, COMMIT_BUDGET) {
                Ok(()) => Ok(()),
                Err(DeliveryError::Fatal(reason)) => Err(Failure::Stop(reason)),
                Err(error @ (DeliveryError::Aborted(_) | DeliveryError::Refused(_))) => {
                    Err(Failure::Retry(error.to_string()))
                }
            },
            Self::Checkpoint(checkpoint) => {
                let mut checkpoint = checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
                checkpoint.commit(positions, &BTreeMap::new()).map_err(|error| Failure::Stop(error.to_string()))
            }
        }
    }
}
