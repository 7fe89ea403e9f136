//! Owns the parcel: a body and the receipt that must be settled for it.
//!
//! The type parameter is the stage, so an unscored document can't be judged and an unjudged one can't be delivered.

use super::record::Origin;
use tokio::sync::OwnedSemaphorePermit;

/// Permits for one document and its bytes; dropped when the document is settled or given up.
#[derive(Debug, Default)]
pub struct Permits {
    /// Kept only to be dropped.
    _held: Option<[OwnedSemaphorePermit; 2]>,
}

impl Permits {
    /// Takes over permits already acquired: for the document, and for its bytes.
    #[must_use]
    pub fn new(document: OwnedSemaphorePermit, bytes: OwnedSemaphorePermit) -> Self {
        Self { _held: Some([document, bytes]) }
    }
}

/// What must be settled, once, after delivery.
#[derive(Debug)]
pub struct Receipt {
    /// The record's place in its source.
    pub origin: Origin,
    /// Counts assignments of the lane: a receipt of an earlier epoch settles nothing.
    pub epoch: u64,
    /// Held from the moment the record was read.
    pub permits: Permits,
}

/// A body of stage `T` together with its receipt.
#[derive(Debug)]
pub struct Parcel<T> {
    /// What travels.
    pub body: T,
    /// What must be settled.
    pub receipt: Receipt,
}

impl<T> Parcel<T> {
    /// The same parcel with a body of the next stage.
    pub fn with<U>(self, body: U) -> Parcel<U> {
        Parcel { body, receipt: self.receipt }
    }
}
