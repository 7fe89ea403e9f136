//! Owns the live audit of calibrated stopping: whether early verdicts still agree with full scores as often as was promised.
//!
//! In: of each audited document, its stratum and whether its early verdict was another one. Out: which strata may still stop early. Invariants: a
//! stratum that was dropped stays dropped as long as the process runs; while the promised rate holds, the mean number of audits until a false alarm is
//! at least [`ALARM`], whatever the order of errors. State is lost with the process.
//!
//! An e-detector (Shin, Ramdas and Rinaldo 2023, "E-detectors: a nonparametric framework for sequential change detection"): each bet's wealth is
//! multiplied by 1 − λ + λ·x/rate, whose mean is at most 1 while errors x are as rare as `rate`, and never falls below 1 before the next audit.

use std::sync::{Mutex, PoisonError};

/// Wealth at which a stratum is dropped.
const ALARM: f64 = 1000.0;
/// Stakes λ, each with the same share.
const STAKES: [f64; 4] = [0.02, 0.05, 0.1, 0.25];

/// The audit of one scorer.
#[derive(Debug)]
pub(super) struct Audit {
    rate: f64,
    strata: Mutex<Vec<Watch>>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    wealth: [f64; STAKES.len()],
    dropped: bool,
}

impl Audit {
    /// An audit of `strata` strata that were promised to err at a number in `rate` of documents at most.
    pub(super) fn new(rate: f64, strata: usize) -> Self {
        Self { rate, strata: Mutex::new(vec![Watch { wealth: [1.0; STAKES.len()], dropped: false }; strata]) }
    }

    /// Whether documents of a stratum are scored in full from now on.
    pub(super) fn dropped(&self, stratum: usize) -> bool {
        self.strata.lock().unwrap_or_else(PoisonError::into_inner).get(stratum).is_none_or(|watch| watch.dropped)
    }

    /// Takes note of an audited document that `edges` numbers were compared with, each of which may err as often as promised; true if its stratum
    /// is dropped by it.
    #[allow(clippy::cast_precision_loss, reason = "a handful of rules")]
    pub(super) fn note(&self, stratum: usize, edges: usize, flipped: bool) -> bool {
        let rate = (self.rate * edges.max(1) as f64).min(1.0);
        let mut strata = self.strata.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = strata.get_mut(stratum) else { return false };
        for (wealth, stake) in watch.wealth.iter_mut().zip(STAKES) {
            let won = if flipped { stake / rate } else { 0.0 };
            *wealth = wealth.max(1.0) * (1.0 - stake + won);
        }
        let alarm = watch.wealth.iter().sum::<f64>() >= ALARM * 4.0;
        let newly = alarm && !watch.dropped;
        watch.dropped |= alarm;
        newly
    }
}

#[cfg(test)]
mod tests {
    use super::super::draws::Draws;
    use super::*;

    /// Audits until the alarm, at most `most`.
    fn run(seed: u64, edges: usize, flip_rate: f64, most: u32) -> u32 {
        let (audit, mut draws) = (Audit::new(0.005, 1), Draws::new(seed, &[]));
        (1..=most).find(|_| audit.note(0, edges, draws.unit() <= flip_rate)).unwrap_or(most)
    }

    #[test]
    fn alarms_are_rare_while_the_promise_holds_and_prompt_when_it_does_not() {
        let mean =
            |edges, flip_rate| (0..100).map(|seed| f64::from(run(seed, edges, flip_rate, 20_000))).sum::<f64>() / 100.0;
        let (kept, broken) = (mean(1, 0.005), mean(1, 0.05));
        // Four numbers may err four times as often.
        let four = mean(4, 0.02);
        assert!(four >= ALARM && mean(1, 0.02) < ALARM, "{four} audits to a false alarm");
        assert!(kept >= ALARM, "{kept} audits to a false alarm");
        assert!(broken < 300.0, "{broken} audits to find ten times the rate");
    }

    #[test]
    fn a_dropped_stratum_stays_dropped_and_alone() {
        let audit = Audit::new(0.001, 2);
        assert!(!audit.dropped(0) && audit.dropped(2), "what is not in the table is not stopped early");
        let alarms = (0..3).filter(|_| audit.note(0, 1, true)).count();
        assert_eq!(alarms, 1);
        (0..1000).for_each(|_| assert!(!audit.note(0, 1, false)));
        assert!(audit.dropped(0) && !audit.dropped(1));
    }
}
