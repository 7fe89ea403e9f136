//! Owns the journey: one document from record to verdict, in one async function.
//!
//! Invariants: a journey ends judged (a verdict, a deletion, a dead letter) or with a fault that stops the process; nothing is logged and
//! dropped. Cancel safe: a dropped journey leaves its record unread.

use super::disposition::{Disposition, disposition};
use crate::corpus::{Class, Document, Fault, Judged, Parcel, Record, Signals, Stage, Verdict};
use crate::decode::Decoder;
use crate::judge::Judge;
use crate::scorer::Measure;
use crate::signals::Texts;
use crate::telemetry::{self, Leg, metrics};
use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What every journey shares.
pub struct Road {
    /// Bytes to documents.
    pub decoder: Decoder,
    /// Cheap signals, computed first.
    pub text: Texts,
    /// Model signals, the cheapest first: those that can't change a verdict any more may be skipped.
    pub scorers: Vec<Measure>,
    /// Signals to verdicts. A journey keeps the judge that it began with.
    pub judge: RwLock<Arc<Judge>>,
}

impl Road {
    /// The judge in force.
    fn judge(&self) -> Arc<Judge> {
        Arc::clone(&self.judge.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Journeys that begin from now on are judged by `judge`.
    pub(super) fn set_judge(&self, judge: Judge) {
        *self.judge.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(judge);
    }

    /// The whole journey.
    ///
    /// # Errors
    /// Only a fault that must stop the process.
    pub(crate) async fn travel(&self, parcel: Parcel<Record>) -> Result<Parcel<Judged>, Fault> {
        let Parcel { body: record, receipt } = parcel;
        let body = self.judged(record).await?;
        Ok(Parcel { body, receipt })
    }

    async fn judged(&self, record: Record) -> Result<Judged, Fault> {
        if record.value.is_none() {
            return Ok(tombstone(record));
        }
        let began = telemetry::setting_out();
        let decoded = self.decoder.decode(&record).await;
        telemetry::leg(Leg::Decode, began);
        let document = match decoded {
            Ok(document) => document,
            Err(fault) => return dead(record, fault, 1),
        };
        let mut attempt = 1;
        loop {
            match self.measure(&document).await {
                Ok((signals, verdict)) => return Ok(Judged::Document { record, document, signals, verdict }),
                Err(fault) if disposition(&fault, attempt) == Disposition::Retry => {
                    tokio::time::sleep(Duration::from_millis(100 << attempt.min(5))).await;
                    attempt += 1;
                }
                Err(fault) => return dead(record, fault, attempt),
            }
        }
    }

    /// The scorers by what each was seen to cost, and the names of all their signals. The sort is stable, so scores of like cost keep the order of the
    /// guess. Of a single scorer nothing is copied: nothing comes after it.
    fn in_order(&self) -> (Vec<&Measure>, Cow<'_, [Arc<str>]>) {
        let mut scorers: Vec<&Measure> = self.scorers.iter().collect();
        if let [only] = scorers.as_slice() {
            let names = Cow::Borrowed(only.signal_names());
            return (scorers, names);
        }
        // Asked once of each: costs move while this runs, and an order that contradicts itself is a panic.
        scorers.sort_by_cached_key(|scorer| scorer.cost_class());
        let names = scorers.iter().flat_map(|scorer| scorer.signal_names()).cloned().collect();
        (scorers, names)
    }

    async fn measure(&self, document: &Document) -> Result<(Signals, Verdict), Fault> {
        let judge = self.judge();
        let mut signals = Signals::new();
        if let Some(language) = &document.language {
            signals.text("language", language.clone());
        }
        match self.text.measure(document).await {
            Ok(measured) => signals.extend(measured),
            Err(why) => return Err(Fault::new(Stage::Score, Class::Bug, why)),
        }
        let mut skipped = Vec::new();
        let (scorers, mut unmeasured) = self.in_order();
        for scorer in scorers {
            let names = scorer.signal_names();
            if judge.needs(document, &signals, names, &unmeasured) {
                let began = telemetry::setting_out();
                let edges = if scorer.stops() { judge.edges(document, names) } else { Vec::new() };
                let scored = scorer.score_until(document, &edges).await;
                telemetry::leg(Leg::Score, began);
                signals.extend(scored?);
                if let Cow::Owned(unmeasured) = &mut unmeasured {
                    unmeasured.retain(|name| !names.contains(name));
                }
            } else {
                metrics::score_skipped();
                skipped.extend_from_slice(names);
            }
        }
        let began = telemetry::setting_out();
        let verdict = judge.judge_without(document, &signals, skipped);
        telemetry::leg(Leg::Judge, began);
        Ok((signals, verdict))
    }
}

/// A null value: a deletion where it has a key, a dead letter where it deletes nothing.
fn tombstone(record: Record) -> Judged {
    let fault = if record.defect.is_some() {
        Fault::new(Stage::Read, Class::HeaderName, record.defect.clone().unwrap_or_default())
    } else if record.key.is_none() {
        Fault::new(Stage::Decode, Class::TombstoneWithoutKey, "null value without a key: a deletion of nothing")
    } else {
        return Judged::Tombstone { record };
    };
    Judged::Dead { record, fault, attempt: 1 }
}

fn dead(record: Record, fault: Fault, attempt: u32) -> Result<Judged, Fault> {
    match disposition(&fault, attempt) {
        Disposition::DeadLetter => Ok(Judged::Dead { record, fault, attempt }),
        Disposition::Retry | Disposition::Stop => Err(fault),
    }
}
