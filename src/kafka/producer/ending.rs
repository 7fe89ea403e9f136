//! Owns the end of a delivery step: its positions go in, and then the transaction is committed, or aborted where it can't be.
//!
//! Invariants: until a commit is asked for, a step can be aborted and tried again. From then on the broker alone knows whether it was committed, so
//! the same commit is asked for again (the client library resumes it) until it is answered; it is never aborted, nor called so: a second try of its
//! outputs could be a second copy of them. An end that stays unanswered is fatal, and the committed offsets, which are in the same transaction,
//! tell the next process what became of it.
//! Must not know: what was produced.

use super::super::error::DeliveryError;
use super::super::patience::{Patience, before};
use super::{CALL, Producer};
use crate::corpus::Position;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two calls of a kind, where the first failed at once.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two ends that failed: each failure asks the brokers whether they are there.
const PAUSE_OF_ENDS: Duration = Duration::from_millis(500);

/// What may stop a repeated call: the client library's error, or a step that must not go on.
enum Trouble {
    Call(KafkaError),
    Step(DeliveryError),
}

impl From<KafkaError> for Trouble {
    fn from(error: KafkaError) -> Self {
        Self::Call(error)
    }
}

impl From<DeliveryError> for Trouble {
    fn from(error: DeliveryError) -> Self {
        Self::Step(error)
    }
}

impl Producer {
    /// Puts `positions` into the transaction; without transactions, commits them.
    pub(super) fn place(&self, positions: &[Position], deadline: Instant) -> Result<(), DeliveryError> {
        let Some(consumer) = self.consumer.as_ref().filter(|_| !positions.is_empty()) else { return Ok(()) };
        if !self.transactional {
            return consumer.commit(positions, CALL);
        }
        let list = consumer.offsets(positions)?;
        self.until(before(deadline), || {
            let metadata = consumer.consumer().group_metadata().ok_or(KafkaError::Canceled)?;
            // The broker checks the generation, not who owns a partition; that is for us to check, in this order.
            consumer.check(positions)?;
            Ok(self.producer.send_offsets_to_transaction(&list, &metadata, CALL)?)
        })
    }

    /// Commits. `topic` is one that brokers can be asked about.
    pub(super) fn commit(&self, topic: Option<&Arc<str>>) -> Result<(), DeliveryError> {
        if !self.transactional {
            return Ok(());
        }
        // Whatever is no success is fatal. The client library aborts nothing that it is committing, and where it asks for an abort instead, its first
        // request may have been carried out and only the answer have been lost.
        self.end(topic, || Ok(self.producer.commit_transaction(CALL)?)).map_err(|why| {
            DeliveryError::Fatal(format!(
                "a commit was asked for, and whether it was carried out is not known here: {why}; a fresh start goes on from what was committed, \
                 which tells"
            ))
        })
    }

    /// Aborts what was begun and not yet asked to be committed.
    pub(super) fn abort(&self, topic: Option<&Arc<str>>) -> Result<(), DeliveryError> {
        if !self.transactional {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            // The purged outputs report their failure now; later they would be taken for failures of the next step.
            let _ = self.producer.flush(CALL);
            self.failures.take();
            return Ok(());
        }
        self.end(topic, || Ok(self.producer.abort_transaction(CALL)?))
            .map_err(|why| DeliveryError::Fatal(format!("the transaction could not be aborted: {why}")))
    }

    /// Asks for an end of the transaction as long as [`Patience`] lasts. An error says why there was none.
    fn end(&self, topic: Option<&Arc<str>>, call: impl Fn() -> Result<(), Trouble>) -> Result<(), String> {
        let mut patience = Patience::begin(Instant::now(), self.transaction_timeout);
        let mut advice = "";
        let goes_on = || {
            let lasts = patience.lasts(self.answers(topic), Instant::now());
            if lasts {
                sleep(PAUSE_OF_ENDS);
            } else {
                advice = patience.advice();
            }
            lasts
        };
        let ended = self.until(goes_on, call);
        ended.map_err(|error| match error {
            DeliveryError::Aborted(why) | DeliveryError::Fatal(why) => why + advice,
            DeliveryError::Refused(_) => error.to_string(),
        })
    }

    /// Whether any broker answers now. Blocks up to 10 s.
    fn answers(&self, topic: Option<&Arc<str>>) -> bool {
        topic.is_some_and(|topic| self.producer.client().fetch_metadata(Some(topic), CALL).is_ok())
    }

    /// Repeats a call while its error says that repeating is right, and `goes_on` that there is time.
    fn until<G, C>(&self, mut goes_on: G, call: C) -> Result<(), DeliveryError>
    where
        G: FnMut() -> bool,
        C: Fn() -> Result<(), Trouble>,
    {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(Trouble::Step(error)) => return Err(error),
                Err(Trouble::Call(error)) => {
                    let retriable = matches!(&error, KafkaError::Transaction(inner) if inner.is_retriable())
                        || matches!(&error, KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
                    if !retriable || !goes_on() {
                        return Err(self.classify(&error));
                    }
                    sleep(PAUSE);
                }
            }
        }
    }
}
