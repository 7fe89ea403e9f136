//! Owns the commit of positions outside a transaction: what at-least-once delivery ends with.
//!
//! Invariants: bounded, though the client library's own call is not; a position that is no longer ours is not committed.

use super::context::Context;
use super::error::DeliveryError;
use super::leaders;
use super::membership::member;
use crate::corpus::{Lane, Position};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Commits positions for a consumer.
pub struct Committer {
    consumer: Arc<BaseConsumer<Context>>,
    notes: Notes,
}

/// What is kept beside a lane's position when it is committed; nothing for most. Clones are the same notes.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<HashMap<Lane, String>>>);

impl Notes {
    /// From the next commit on, these stand beside the lanes' positions.
    pub(super) fn set(&self, notes: HashMap<Lane, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = notes;
    }
}

impl Committer {
    pub(super) fn new(consumer: Arc<BaseConsumer<Context>>) -> Self {
        Self::with_notes(consumer, Notes::default())
    }

    pub(super) fn with_notes(consumer: Arc<BaseConsumer<Context>>, notes: Notes) -> Self {
        Self { consumer, notes }
    }

    /// The consumer, for transactions.
    pub(super) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// Whether every position is still ours, and the group knows us by the id under which it was read. Ask it *after* the group's metadata were
    /// fetched: then a generation in which somebody else owns a lane can't have begun before the metadata's.
    pub(super) fn check(&self, positions: &[Position]) -> Result<(), DeliveryError> {
        if self.consumer.assignment_lost() || !self.consumer.context().owns(positions, &member(&self.consumer)) {
            return Err(DeliveryError::Aborted("partitions of this step were revoked meanwhile".into()));
        }
        Ok(())
    }

    /// Commits `positions`. Blocks up to `budget`.
    ///
    /// # Errors
    /// [`DeliveryError::Aborted`] when they were revoked, refused, or not acknowledged in time.
    pub fn commit(&self, positions: &[Position], budget: Duration) -> Result<(), DeliveryError> {
        if positions.is_empty() {
            return Ok(());
        }
        self.check(positions)?;
        let offsets = self.offsets(positions)?;
        let consumer = Arc::clone(&self.consumer);
        let (answer, answered) = sync_channel(1);
        let failed = |why: String| DeliveryError::Aborted(format!("offsets were not committed: {why}"));
        std::thread::Builder::new()
            .name("kafka-commit".into())
            .spawn(move || {
                let _ = answer.send(consumer.commit(&offsets, CommitMode::Sync));
            })
            .map_err(|error| failed(error.to_string()))?;
        match answered.recv_timeout(budget) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("no answer in time".into())),
        }
    }

    /// The client library's form of `positions`, with their notes.
    pub(super) fn offsets(&self, positions: &[Position]) -> Result<TopicPartitionList, DeliveryError> {
        let notes = self.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for Position { lane, next, .. } in positions {
            let mut element = list.add_partition(&lane.topic, lane.partition);
            element
                .set_offset(Offset::Offset(*next))
                .map_err(|error| DeliveryError::Fatal(format!("{lane}/{next} is not an offset: {error}")))?;
            if let Some(note) = notes.get(lane) {
                element.set_metadata(note);
            }
            let leader = self.consumer.context().leaders.before(lane, *next);
            leaders::put(&mut list, &lane.topic, lane.partition, leader);
        }
        Ok(list)
    }
}
