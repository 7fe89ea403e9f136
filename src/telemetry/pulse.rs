//! Owns the pulse: what flowed in the last minutes, for people who watch.
//!
//! In: each record as it was delivered, and the odometer. Out: [`Vitals`]. Invariants: bounded memory whatever flows: ten minutes of
//! rates, an hour of keep rates for the closed list of languages, the histograms of the judged signals, the last [`REJECTS`] rejects; a text only if that
//! was asked for, and then its beginning; one short lock a batch.
//! Must not know: who watches, or how it is shown.

use super::languages;
use super::odometer::{self, Reading};
use super::ring::Ring;
use super::spread::{Dial, Histogram, Spread};
use crate::corpus::{Decision, Document, Judged, Reason, Record, Route};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Seconds of one slot of rates, and how many slots are kept.
const SLOT_SECONDS: u64 = 5;
const SLOTS: usize = 120;
/// Whole slots that a rate of now is taken over.
const NOW_SLOTS: usize = 2;
/// Minutes of keep rates.
const KEEP_MINUTES: usize = 60;
/// Languages that are told: those with the most documents.
const LANGUAGES: usize = 12;
/// Rejects that are remembered.
const REJECTS: usize = 50;
/// Reasons, and characters of ids and texts, that are remembered of one reject.
const REASONS: usize = 8;
const ID_CHARS: usize = 80;
const TEXT_CHARS: usize = 200;

#[derive(Debug, Clone, Default)]
struct Slot {
    routes: [u32; Route::ALL.len()],
    device: Reading,
}

#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    kept: u32,
    all: u32,
}

/// What flowed.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    slots: Ring<Slot, SLOTS>,
    before: Option<Reading>,
    languages: BTreeMap<&'static str, Ring<Kept, KEEP_MINUTES>>,
    spreads: Vec<Spread>,
    rejects: VecDeque<Reject>,
    pub(super) show_text: bool,
}

/// A record that did not pass, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reject {
    /// When it was delivered, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where it went: `review`, `fail` or `dead-letter`.
    pub route: &'static str,
    /// Where it stood: topic/partition/offset.
    pub source: String,
    /// Its id, at most 80 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its language tag, at most 80 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The first reasons of its verdict, as in the headers.
    pub reasons: Vec<Reason>,
    /// Of a dead letter: the stage at which it failed, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first 200 characters of its text, with `admin.show_text` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What flows now: means over the last ten seconds or so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Now {
    /// Documents a second, by route.
    pub per_second: BTreeMap<&'static str, f64>,
    /// Share of documents that passed, of those that were judged in the last ten minutes; `null` without any.
    pub keep_rate: Option<f64>,
    /// Seconds of forward passes a second: 1 is one device that never waits.
    pub device_busy: f64,
    /// Tokens a second that went through the models.
    pub tokens_per_second: f64,
    /// Rows that wait for a device.
    pub device_backlog: u64,
    /// Share of windows that the cache had, in the last ten minutes; `null` if it wasn't asked.
    pub cache_hit_rate: Option<f64>,
    /// Whether the cache is bypassed because it failed.
    pub cache_bypassed: bool,
}

/// The last ten minutes, the oldest first; the last slot is still being filled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// Seconds of one slot.
    pub slot_seconds: u64,
    /// Seconds since the last slot began.
    pub filled_seconds: f64,
    /// Documents delivered in each slot, by route.
    pub documents: BTreeMap<&'static str, Vec<u32>>,
    /// Seconds of forward passes a second, in each slot.
    pub device_busy: Vec<f64>,
}

/// How much of one language passed, minute by minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeepRate {
    /// The language's label; `other` for rare ones, `none` for documents without a tag.
    pub language: &'static str,
    /// Documents that passed in each minute, the oldest first; the last minute is still running.
    pub kept: Vec<u32>,
    /// Documents that were judged in each minute.
    pub judged: Vec<u32>,
}

/// The pulse at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vitals {
    /// What flows now.
    pub now: Now,
    /// The last ten minutes.
    pub history: History,
    /// One histogram for each signal that rules look at.
    pub scores: Vec<Histogram>,
    /// Keep rates of the last hour, the language with the most documents first; at most twelve.
    pub languages: Vec<KeepRate>,
    /// The newest records that did not pass, the newest first; at most fifty.
    pub rejects: Vec<Reject>,
}

fn slot_at(age: Duration) -> u64 {
    age.as_secs() / SLOT_SECONDS
}

fn minute_at(age: Duration) -> u64 {
    age.as_secs() / 60
}

impl Pulse {
    /// These rules are in force from now on.
    pub(super) fn set_dials(&mut self, dials: Vec<Dial>) {
        self.spreads = Spread::of(dials, &mut self.spreads);
    }

    /// Lets the clock go on: `age` is the time since the start. Call it every second or so while anything runs.
    pub(super) fn tick(&mut self, age: Duration, reading: Reading) {
        let done = reading.since(*self.before.get_or_insert(reading));
        self.before = Some(reading);
        let device = &mut self.slots.at(slot_at(age)).device;
        device.busy_micros += done.busy_micros;
        device.tokens += done.tokens;
        device.hits += done.hits;
        device.misses += done.misses;
    }

    /// These records, the oldest first, were delivered and committed at `age`, which is `at_ms` by the calendar.
    pub(super) fn witness<'a, I>(&mut self, judged: I, age: Duration, at_ms: u64)
    where
        I: DoubleEndedIterator<Item = &'a Judged> + Clone,
    {
        judged.clone().for_each(|judged| self.count(judged, age));
        // Most of a large batch would be forgotten for the rest of it.
        let show_text = self.show_text;
        let newest: Vec<Reject> =
            judged.rev().filter_map(|judged| reject(judged, at_ms, show_text)).take(REJECTS).collect();
        newest.into_iter().rev().for_each(|reject| self.rejects.push_front(reject));
        self.rejects.truncate(REJECTS);
    }

    fn count(&mut self, judged: &Judged, age: Duration) {
        let route = match judged {
            Judged::Document { verdict, .. } => Route::from(verdict.decision),
            Judged::Dead { .. } => Route::DeadLetter,
            Judged::Tombstone { .. } => return,
        };
        let count = &mut self.slots.at(slot_at(age)).routes[route as usize];
        *count = count.saturating_add(1);
        if let Judged::Document { document, signals, verdict, .. } = judged {
            let kept = self.languages.entry(languages::label(document.language.as_deref())).or_default();
            let kept = kept.at(minute_at(age));
            kept.all = kept.all.saturating_add(1);
            kept.kept = kept.kept.saturating_add(u32::from(verdict.decision == Decision::Pass));
            for spread in &mut self.spreads {
                if let Some(value) = signals.get(spread.signal()).and_then(|value| value.as_number()) {
                    spread.note(minute_at(age), value);
                }
            }
        }
    }

    /// Everything, as it stands at `age`.
    pub(super) fn vitals(&mut self, age: Duration) -> Vitals {
        let minute = minute_at(age);
        self.slots.at(slot_at(age));
        let mut languages: Vec<KeepRate> = Vec::new();
        for (language, ring) in &mut self.languages {
            ring.at(minute);
            let (kept, judged) = ring.iter().map(|minute| (minute.kept, minute.all)).unzip();
            languages.push(KeepRate { language, kept, judged });
        }
        let judged = |rate: &KeepRate| rate.judged.iter().map(|n| u64::from(*n)).sum::<u64>();
        languages.retain(|rate| judged(rate) > 0);
        languages.sort_by_key(|rate| std::cmp::Reverse(judged(rate)));
        languages.truncate(LANGUAGES);
        Vitals {
            now: self.now(age),
            history: self.history(age),
            scores: self.spreads.iter_mut().map(|spread| spread.histogram(minute)).collect(),
            languages,
            rejects: self.rejects.iter().cloned().collect(),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn now(&self, age: Duration) -> Now {
        let seconds = age.as_secs_f64() % SLOT_SECONDS as f64;
        // The slot that is still being filled counts with the time that it has lasted; a second at least, lest the first document look like a flood.
        let whole: Vec<&Slot> = self.slots.iter().rev().take(NOW_SLOTS + 1).collect();
        let span = (whole.len().saturating_sub(1) as f64 * SLOT_SECONDS as f64 + seconds).max(1.0);
        let rate = |count: u64| count as f64 / span;
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let by_route = |route: Route| whole.iter().map(|slot| u64::from(slot.routes[route as usize])).sum();
        let sum = |of: fn(&Slot) -> u64| self.slots.iter().map(of).sum::<u64>();
        let passed = sum(|slot| u64::from(slot.routes[Route::Pass as usize]));
        let judged = passed
            + sum(|slot| u64::from(slot.routes[Route::Review as usize]))
            + sum(|slot| u64::from(slot.routes[Route::Fail as usize]));
        let hits = sum(|slot| slot.device.hits);
        Now {
            per_second: Route::ALL.map(|route| (route.as_str(), rate(by_route(route)))).into(),
            keep_rate: share(passed, judged),
            device_busy: rate(whole.iter().map(|slot| slot.device.busy_micros).sum()) / 1e6,
            tokens_per_second: rate(whole.iter().map(|slot| slot.device.tokens).sum()),
            device_backlog: odometer::backlog_rows(),
            cache_hit_rate: share(hits, hits + sum(|slot| slot.device.misses)),
            cache_bypassed: odometer::is_bypassed(),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "microseconds of one slot")]
    fn history(&self, age: Duration) -> History {
        let filled_seconds = age.as_secs_f64() % SLOT_SECONDS as f64;
        let counts = |route: Route| self.slots.iter().map(|slot| slot.routes[route as usize]).collect();
        let busy = |slot: &Slot| slot.device.busy_micros as f64 / 1e6 / SLOT_SECONDS as f64;
        History {
            slot_seconds: SLOT_SECONDS,
            filled_seconds,
            documents: Route::ALL.map(|route| (route.as_str(), counts(route))).into(),
            device_busy: self.slots.iter().map(busy).collect(),
        }
    }
}

/// What is remembered of a record, if it did not pass.
fn reject(judged: &Judged, at_ms: u64, show_text: bool) -> Option<Reject> {
    let bare = |record: &Record, route: Route| Reject {
        at_ms,
        route: route.as_str(),
        source: record.origin.to_string(),
        id: None,
        language: None,
        reasons: Vec::new(),
        error: None,
        text: None,
    };
    match judged {
        Judged::Document { verdict, .. } if verdict.decision == Decision::Pass => None,
        Judged::Document { record, document, verdict, .. } => {
            let Document { id, language, text, .. } = document;
            Some(Reject {
                id: id.as_ref().map(|id| beginning(id, ID_CHARS)),
                language: language.as_ref().map(|tag| beginning(tag, ID_CHARS)),
                reasons: verdict.reasons.iter().take(REASONS).cloned().collect(),
                text: show_text.then(|| beginning(text, TEXT_CHARS)),
                ..bare(record, Route::from(verdict.decision))
            })
        }
        Judged::Dead { record, fault, .. } => Some(Reject {
            error: Some(format!("{}: {}", fault.stage.as_str(), fault.class.as_str())),
            ..bare(record, Route::DeadLetter)
        }),
        Judged::Tombstone { .. } => None,
    }
}

/// At most `chars` characters, and a mark where some are missing.
fn beginning(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
