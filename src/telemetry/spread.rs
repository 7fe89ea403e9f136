//! Owns the spread of each judged signal: a histogram of the last minutes, and the thresholds that stand in it.
//!
//! Invariants: as many histograms as rules look at signals, each of [`BINS`] bins a minute over [`MINUTES`] minutes, however many documents there
//! are; the range is set once, by the thresholds and the first [`LEARN`] values, so that the same values always give the same picture; what lies outside
//! is counted beside it, never left out.
//! Must not know: what a signal means.

use super::ring::Ring;
use serde::Serialize;
use std::sync::Arc;

/// Bins of one histogram.
pub(super) const BINS: usize = 48;
/// Minutes that a histogram looks back.
pub(super) const MINUTES: usize = 10;
/// Values from which the range is learnt.
const LEARN: usize = 100;

/// What one rule asks of its signal: the thresholds, in the signal's own unit, before overrides.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Dial {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The signal that it looks at.
    pub signal: Arc<str>,
    /// Below this a document fails.
    pub min: Option<f64>,
    /// Above this a document fails.
    pub max: Option<f64>,
    /// Below this a document goes to review.
    pub review_below: Option<f64>,
    /// Above this a document goes to review.
    pub review_above: Option<f64>,
    /// How many languages and sources have thresholds of their own.
    pub overrides: usize,
}

impl Dial {
    fn bounds(&self) -> impl Iterator<Item = f64> {
        [self.min, self.max, self.review_below, self.review_above].into_iter().flatten()
    }
}

/// One signal's histogram at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The signal.
    pub signal: Arc<str>,
    /// The lower edge of the first bin; `null` before the first value.
    pub from: Option<f64>,
    /// The upper edge of the last bin.
    pub to: Option<f64>,
    /// Documents in each of the equal bins.
    pub bins: Vec<u64>,
    /// Documents below the first bin.
    pub below: u64,
    /// Documents above the last bin.
    pub above: u64,
    /// Minutes that it looks back.
    pub minutes: usize,
    /// The rules that look at this signal.
    pub rules: Vec<Dial>,
}

#[derive(Debug, Clone)]
struct Counts {
    bins: [u32; BINS],
    below: u32,
    above: u32,
}

impl Default for Counts {
    fn default() -> Self {
        Self { bins: [0; BINS], below: 0, above: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Range {
    from: f64,
    to: f64,
}

impl Range {
    /// From the middle nine tenths of the values and all bounds, with some room at both ends.
    fn learnt(values: &[f64], bounds: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = sorted.len() / 20;
        let middle = sorted.get(cut..sorted.len() - cut).unwrap_or_default();
        let all: Vec<f64> = middle.iter().copied().chain(bounds).collect();
        let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        if values.is_empty() || !(high - low).is_finite() {
            return None;
        }
        let room = if high > low { (high - low) * 0.15 } else { low.abs().max(1.0) * 0.5 };
        // What is never negative among what was seen is not drawn as if it could be.
        let from = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        Some(Self { from, to: high + room })
    }

    fn count(self, counts: &mut Counts, value: f64) {
        let share = (value - self.from) / (self.to - self.from);
        if share < 0.0 {
            counts.below = counts.below.saturating_add(1);
        } else if share > 1.0 {
            counts.above = counts.above.saturating_add(1);
        } else {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the bins")]
            let bin = ((share * BINS as f64) as usize).min(BINS - 1);
            counts.bins[bin] = counts.bins[bin].saturating_add(1);
        }
    }
}

/// One signal's values.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    signal: Arc<str>,
    rules: Vec<Dial>,
    first: Vec<f64>,
    range: Option<Range>,
    minutes: Ring<Counts, MINUTES>,
}

impl Spread {
    /// Spreads for the signals that `dials` look at, in their order. What `before` knows of a signal is kept if its thresholds are the same.
    pub(super) fn of(dials: Vec<Dial>, before: &mut Vec<Self>) -> Vec<Self> {
        let mut spreads: Vec<Self> = Vec::new();
        for dial in dials {
            if let Some(spread) = spreads.iter_mut().find(|spread| spread.signal == dial.signal) {
                spread.rules.push(dial);
            } else {
                let signal = Arc::clone(&dial.signal);
                spreads.push(Self {
                    signal,
                    rules: vec![dial],
                    first: Vec::new(),
                    range: None,
                    minutes: Ring::default(),
                });
            }
        }
        for spread in &mut spreads {
            if let Some(at) = before.iter().position(|old| old.signal == spread.signal && old.rules == spread.rules) {
                *spread = before.swap_remove(at);
            }
        }
        spreads
    }

    /// The signal.
    pub(super) fn signal(&self) -> &str {
        &self.signal
    }

    /// One document's value in this minute.
    pub(super) fn note(&mut self, minute: u64, value: f64) {
        let Some(range) = self.range else {
            self.first.push(value);
            if self.first.len() >= LEARN {
                let first = std::mem::take(&mut self.first);
                self.range = Range::learnt(&first, self.rules.iter().flat_map(Dial::bounds));
                first.into_iter().for_each(|value| self.note(minute, value));
            }
            return;
        };
        range.count(self.minutes.at(minute), value);
    }

    /// The histogram now.
    pub(super) fn histogram(&mut self, minute: u64) -> Histogram {
        self.minutes.at(minute);
        let mut sum = Counts::default();
        let range = self.range.or_else(|| Range::learnt(&self.first, self.rules.iter().flat_map(Dial::bounds)));
        if let Some(range) = range {
            self.first.iter().for_each(|value| range.count(&mut sum, *value));
        }
        let mut bins: Vec<u64> = sum.bins.iter().map(|count| u64::from(*count)).collect();
        let (mut below, mut above) = (u64::from(sum.below), u64::from(sum.above));
        for minute in self.minutes.iter() {
            bins.iter_mut().zip(minute.bins).for_each(|(sum, count)| *sum += u64::from(count));
            below += u64::from(minute.below);
            above += u64::from(minute.above);
        }
        Histogram {
            signal: Arc::clone(&self.signal),
            from: range.map(|range| range.from),
            to: range.map(|range| range.to),
            bins,
            below,
            above,
            minutes: MINUTES,
            rules: self.rules.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dial(max: f64) -> Dial {
        Dial { rule: "fluent".into(), signal: "pll.nll_token".into(), max: Some(max), ..Dial::default() }
    }

    fn spread(max: f64) -> Spread {
        Spread::of(vec![dial(max)], &mut Vec::new()).remove(0)
    }

    fn total(histogram: &Histogram) -> u64 {
        histogram.bins.iter().sum::<u64>() + histogram.below + histogram.above
    }

    #[test]
    fn thresholds_lie_inside_the_picture() {
        let mut spread = spread(9.0);
        assert_eq!(spread.histogram(0).from, None, "nothing to draw yet");
        spread.note(0, 2.0);
        let histogram = spread.histogram(0);
        assert!(histogram.from.unwrap() < 2.0 && histogram.to.unwrap() > 9.0);
    }

    #[test]
    fn old_minutes_leave_the_picture() {
        let mut spread = spread(4.0);
        (0..LEARN).for_each(|n| spread.note(0, n as f64 / 50.0));
        assert_eq!(total(&spread.histogram(MINUTES as u64 - 1)), LEARN as u64);
        assert_eq!(total(&spread.histogram(MINUTES as u64)), 0);
    }

    #[test]
    fn other_thresholds_begin_a_new_picture_and_the_same_ones_go_on() {
        let mut before = vec![spread(4.0)];
        before[0].note(0, 1.0);
        let mut same = Spread::of(vec![dial(4.0)], &mut before);
        assert_eq!(total(&same[0].histogram(0)), 1);
        assert_eq!(total(&Spread::of(vec![dial(5.0)], &mut same)[0].histogram(0)), 0);
    }

    proptest! {
        /// Every document of the last minutes is in the picture exactly once, whatever its value.
        #[test]
        fn nothing_is_left_out(values in prop::collection::vec(-1e300_f64..1e300, 0..400)) {
            let mut spread = spread(4.0);
            for value in &values {
                spread.note(3, *value);
            }
            prop_assert_eq!(total(&spread.histogram(3)), values.len() as u64);
        }
    }
}
