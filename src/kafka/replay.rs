//! Owns a replay: records of one topic read by hand, others made of them and written in transactions that also commit how far was read.
//!
//! In: a topic, a group that nobody joins, a transactional id. Out: steps, each whole or not at all, and what was kept beside the positions of earlier ones.
//! Invariants: positions are asked for after earlier users of the id were fenced, so none of their steps can become true later; a step that failed
//! moved no position. Must not know: why a record is replayed, or which.

use super::committer::{Committer, Notes};
use super::error::{DeliveryError, Error};
use super::producer::{Guarantee, Output, Producer};
use super::reader::Reader;
use super::settings::{SinkSettings, SourceSettings};
use std::collections::{BTreeMap, HashMap};

const FENCED: &str =
    "; another replay of this pipeline's dead letters has begun since: let it go on, and run this one after it";

/// A replay under way.
pub struct Replay {
    reader: Reader,
    producer: Producer,
    notes: Notes,
}

impl Replay {
    /// Connects, and fences whoever used `transactional_id` before. Blocks up to about two minutes.
    ///
    /// # Errors
    /// What [`Reader::open`] and [`Producer::open`] refuse.
    pub fn open(
        source: &SourceSettings,
        sink: &SinkSettings,
        topic: &str,
        group: &str,
        transactional_id: &str,
    ) -> Result<Self, Error> {
        let reader = Reader::open(Some(source), sink, group, topic)?;
        let notes = Notes::default();
        let committer = Committer::with_notes(reader.shared(), notes.clone());
        let guarantee = Guarantee::ExactlyOnce { transactional_id: transactional_id.to_owned() };
        let producer = Producer::connect(Some((source, committer)), sink, &guarantee, &[], FENCED)?;
        Ok(Self { reader, producer, notes })
    }

    /// The topic.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// One step: `outputs`, and the positions up to which the reader has read with `notes` beside them. Blocks up to about half of
    /// `transaction.timeout.ms`.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub fn deliver(&self, outputs: &[Output<'_>], notes: BTreeMap<i32, String>) -> Result<(), DeliveryError> {
        let notes = notes.into_iter().map(|(partition, note)| (self.reader.lane(partition), note));
        self.notes.set(notes.collect::<HashMap<_, _>>());
        self.producer.deliver(outputs, &self.reader.positions())
    }
}
