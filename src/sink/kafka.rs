//! Owns the Kafka sink: a judged record as outputs with headers, and which record a refused output belongs to.

use super::{Bookmark, Failure, Imprint, RouteSettings};
use crate::corpus::{Fault, Judged, Parcel, Position, Record, Route, Stage};
use crate::kafka::{DeliveryError, Output, Producer};
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes verdicts to Kafka topics.
pub struct KafkaSink {
    producer: Producer,
    /// The topic of each route, in the order of [`Route::ALL`].
    topics: [Arc<str>; Route::ALL.len()],
    imprint: Imprint,
    bookmark: Bookmark,
}

impl KafkaSink {
    /// The topics that `routes` names, each once: what the producer must be able to see.
    #[must_use]
    pub fn topics(routes: &RouteSettings) -> Vec<Arc<str>> {
        let mut names = Route::ALL.map(|route| Arc::from(routes.place(route))).to_vec();
        names.sort();
        names.dedup();
        names
    }

    /// A sink over an open producer. `bookmark` keeps the positions that the producer can't: those of a source that is not Kafka.
    #[must_use]
    pub fn new(producer: Producer, routes: &RouteSettings, imprint: Imprint, bookmark: Bookmark) -> Self {
        let topics = Route::ALL.map(|route| Arc::from(routes.place(route)));
        Self { producer, topics, imprint, bookmark }
    }

    pub(super) fn change(&mut self, imprint: Imprint, routes: &RouteSettings) {
        self.topics = Route::ALL.map(|route| Arc::from(routes.place(route)));
        self.imprint = imprint;
    }

    pub(super) fn deliver(&self, batch: &[Parcel<Judged>], positions: &[Position]) -> Result<(), Failure> {
        let mut outputs = Vec::with_capacity(batch.len());
        let mut owners = Vec::with_capacity(batch.len());
        for (index, parcel) in batch.iter().enumerate() {
            self.outputs(&parcel.body, &mut outputs);
            owners.resize(outputs.len(), index);
        }
        let result = self.producer.deliver(&outputs, positions);
        result.map_err(|error| match error {
            DeliveryError::Refused(refusals) => {
                // A deletion has several outputs; it is refused once.
                let mut faults = BTreeMap::new();
                for refusal in refusals {
                    let Some(owner) = owners.get(refusal.index) else { continue };
                    faults.entry(*owner).or_insert_with(|| Fault::new(Stage::Deliver, refusal.class, refusal.message));
                }
                Failure::Refused(faults.into_iter().collect())
            }
            DeliveryError::Aborted(reason) => Failure::Retry(reason),
            DeliveryError::Fatal(reason) => Failure::Stop(reason),
        })?;
        self.bookmark.commit(positions)
    }

    fn topic(&self, route: Route) -> &Arc<str> {
        let [pass, review, fail, dead_letter] = &self.topics;
        match route {
            Route::Pass => pass,
            Route::Review => review,
            Route::Fail => fail,
            Route::DeadLetter => dead_letter,
        }
    }

    fn outputs<'a>(&'a self, judged: &'a Judged, outputs: &mut Vec<Output<'a>>) {
        match judged {
            Judged::Document { record, signals, verdict, .. } => {
                let route = Route::from(verdict.decision);
                let mut added = self.headers(record, route.as_str());
                added.push(("tamis-reasons", json(&verdict.reasons)));
                added.push(("tamis-signals", json(signals)));
                if !verdict.skipped.is_empty() {
                    added.push(("tamis-skipped", json(&verdict.skipped)));
                }
                let estimated: Vec<&str> = signals.estimates().map(|name| &**name).collect();
                if !estimated.is_empty() {
                    added.push(("tamis-estimated", json(&estimated)));
                }
                outputs.push(output(self.topic(route), record, added));
            }
            Judged::Tombstone { record } => {
                let mut topics = vec![self.topic(Route::Pass), self.topic(Route::Review), self.topic(Route::Fail)];
                topics.sort();
                topics.dedup();
                outputs
                    .extend(topics.into_iter().map(|topic| output(topic, record, self.headers(record, "tombstone"))));
            }
            Judged::Dead { record, fault, attempt } => {
                let mut added = self.headers(record, Route::DeadLetter.as_str());
                let error = json!({
                    "stage": fault.stage.as_str(),
                    "class": fault.class.as_str(),
                    "message": fault.message,
                    "attempt": attempt,
                });
                added.push(("tamis-error", json(&error)));
                outputs.push(output(self.topic(Route::DeadLetter), record, added));
            }
        }
    }

    /// What every output says, behind the record's own headers.
    fn headers<'a>(&'a self, record: &Record, verdict: &'static str) -> Vec<(&'static str, Cow<'a, str>)> {
        let mut added = Vec::with_capacity(7);
        added.push(("tamis-verdict", Cow::Borrowed(verdict)));
        added.push(("tamis-policy", Cow::Borrowed(&*self.imprint.policy)));
        added.push(("tamis-scorer", Cow::Borrowed(&*self.imprint.scorer)));
        added.push(("tamis-source", Cow::Owned(record.origin.to_string())));
        added
    }
}

/// `value` as JSON. Names are strings and numbers finite or null, so nothing can fail.
fn json(value: &impl Serialize) -> Cow<'static, str> {
    Cow::Owned(serde_json::to_string(value).unwrap_or_default())
}

fn output<'a>(topic: &Arc<str>, record: &'a Record, added: Vec<(&'static str, Cow<'a, str>)>) -> Output<'a> {
    Output {
        topic: Arc::clone(topic),
        source: record.origin.clone(),
        key: record.key.as_deref().map(Cow::Borrowed),
        value: record.value.as_deref().map(Cow::Borrowed),
        headers: Cow::Borrowed(&record.headers),
        added,
        timestamp_ms: record.timestamp_ms,
    }
}
