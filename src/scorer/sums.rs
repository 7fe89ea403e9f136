//! Owns a window's raw sums: how readings become sums, and their bytes in the cache.

use super::plan::Pass;
use super::recipe::softplus;
use crate::engine::{Needs, Reading};

/// Changes with the meaning or the layout of the bytes below; part of the scorer's identity.
pub(super) const LAYOUT: u8 = 2;
/// Bits of the second byte: which optional sums follow.
const SPREAD: u8 = 1;
const CORRECTED: u8 = 2;
const VARIANCE: u8 = 4;

/// What is known of one window, or of all of them together. Sums that were not asked for are absent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sums {
    /// Σ weight × −log p over the scored tokens, nats.
    pub(super) nll: f64,
    /// Content tokens, those included that a sample leaves out.
    pub(super) tokens: u64,
    /// Those of them that are the unknown token.
    pub(super) unknown: u64,
    pub(super) spread: Option<Spread>,
    /// Σ weight × corrected surprisal, nats.
    pub(super) corrected: Option<f64>,
    /// Estimated variance of `nll` over samples, nats².
    pub(super) variance: Option<f64>,
}

/// Sums over what lies around each scored token, weighted alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// Σ ln rank.
    pub(super) log_rank: f64,
    /// Σ entropy, nats.
    pub(super) entropy: f64,
    /// Σ greatest log-probability − log p, nats.
    pub(super) gap: f64,
}

/// What a window's sums are made with, besides its passes and their readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    pub(super) tokens: usize,
    pub(super) unknown: u64,
    /// [`super::recipe::Correction::shift`], for corrected scores.
    pub(super) shift: Option<f64>,
    /// What a token's loss counts at most, nats.
    pub(super) clip: Option<f64>,
    /// Whether each pass scores one token of a sample drawn without replacement, so that their variance says something.
    pub(super) sampled: bool,
}

impl Sums {
    /// The sums over `readings`: pass by pass, in the order of each pass's scored tokens. A sum that a reading lacks the numbers
    /// for is absent.
    pub(super) fn of(passes: &[Pass], readings: &[Reading], making: Making) -> Self {
        let weights = passes.iter().flat_map(|pass| pass.scored.iter().map(|_| pass.weight));
        let mut sums = Self {
            nll: 0.0,
            tokens: making.tokens as u64,
            unknown: making.unknown,
            spread: Some(Spread { log_rank: 0.0, entropy: 0.0, gap: 0.0 }),
            corrected: making.shift.map(|_| 0.0),
            variance: making.sampled.then(|| variance(readings, making.tokens)).flatten(),
        };
        for (weight, reading) in weights.zip(readings) {
            sums.nll += weight * making.clip.map_or(-reading.logprob, |clip| clip.min(-reading.logprob));
            let spread = reading.spread.map(|spread| Spread {
                log_rank: weight * f64::from(spread.rank).ln(),
                entropy: weight * spread.entropy,
                gap: weight * (spread.max_logprob - reading.logprob),
            });
            sums.spread = both(sums.spread, spread, Spread::plus);
            let corrected = making.shift.zip(reading.log_odds).map(|(shift, odds)| weight * softplus(shift - odds));
            sums.corrected = both(sums.corrected, corrected, |one, two| one + two);
        }
        sums
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.tokens == 0 {
            *self = *other;
            return;
        }
        self.nll += other.nll;
        self.tokens += other.tokens;
        self.unknown += other.unknown;
        self.spread = both(self.spread, other.spread, Spread::plus);
        self.corrected = both(self.corrected, other.corrected, |one, two| one + two);
        // Windows are sampled independently, but for equal ones.
        self.variance = both(self.variance, other.variance, |one, two| one + two);
    }

    /// Layout byte, a byte that says which optional sums there are, then little-endian words.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut present = 0;
        let mut words = vec![self.nll.to_bits(), self.tokens, self.unknown];
        if let Some(spread) = self.spread {
            present |= SPREAD;
            words.extend([spread.log_rank, spread.entropy, spread.gap].map(f64::to_bits));
        }
        for (bit, sum) in [(CORRECTED, self.corrected), (VARIANCE, self.variance)] {
            if let Some(sum) = sum {
                present |= bit;
                words.push(sum.to_bits());
            }
        }
        [LAYOUT, present].into_iter().chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    /// Reads bytes back; `None` for another layout, a damaged value, a window of another length, or sums that lack what is needed.
    pub(super) fn from_bytes(bytes: &[u8], tokens: usize, needs: Needs) -> Option<Self> {
        let [layout, present, rest @ ..] = bytes else { return None };
        let count = 3 + [(SPREAD, 3), (CORRECTED, 1), (VARIANCE, 1)]
            .map(|(bit, n)| if present & bit == 0 { 0 } else { n })
            .iter()
            .sum::<usize>();
        let lacks = needs.ranks && present & SPREAD == 0 || needs.odds && present & CORRECTED == 0;
        if *layout != LAYOUT || *present > (SPREAD | CORRECTED | VARIANCE) || rest.len() != count * 8 || lacks {
            return None;
        }
        let mut words = rest.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes).unwrap_or_default());
        let mut sums = Self {
            nll: f64::from_bits(words.next()?),
            tokens: words.next()?,
            unknown: words.next()?,
            ..Self::default()
        };
        let mut numbers = words.map(f64::from_bits);
        if present & SPREAD != 0 {
            sums.spread = Some(Spread { log_rank: numbers.next()?, entropy: numbers.next()?, gap: numbers.next()? });
        }
        sums.corrected = if present & CORRECTED == 0 { None } else { Some(numbers.next()?) };
        sums.variance = if present & VARIANCE == 0 { None } else { Some(numbers.next()?) };
        (sums.is_finite() && sums.tokens == tokens as u64 && sums.unknown <= sums.tokens).then_some(sums)
    }

    fn is_finite(&self) -> bool {
        let spread = self
            .spread
            .is_none_or(|spread| [spread.log_rank, spread.entropy, spread.gap].iter().all(|x| x.is_finite()));
        self.nll.is_finite()
            && spread
            && self.corrected.is_none_or(f64::is_finite)
            && self.variance.is_none_or(f64::is_finite)
    }
}

impl Spread {
    fn plus(self, other: Self) -> Self {
        Self {
            log_rank: self.log_rank + other.log_rank,
            entropy: self.entropy + other.entropy,
            gap: self.gap + other.gap,
        }
    }
}

/// Both together, or nothing if one is missing.
fn both<T>(one: Option<T>, two: Option<T>, together: impl FnOnce(T, T) -> T) -> Option<T> {
    one.zip(two).map(|(one, two)| together(one, two))
}

/// The estimated variance of a sum over N tokens, of which n were drawn: N² (1 − n/N) s²/n. None from one token of several.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn variance(readings: &[Reading], tokens: usize) -> Option<f64> {
    let (drawn, all) = (readings.len() as f64, tokens as f64);
    if readings.len() >= tokens {
        return Some(0.0);
    }
    if readings.len() < 2 {
        return None;
    }
    let mean = readings.iter().map(|reading| reading.logprob).sum::<f64>() / drawn;
    let squares: f64 = readings.iter().map(|reading| (reading.logprob - mean).powi(2)).sum();
    Some(all * all * (1.0 - drawn / all) * squares / (drawn - 1.0) / drawn)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Plan, Window};
    use super::*;
    use crate::engine;
    use proptest::prelude::*;

    const NONE: Needs = Needs { ranks: false, odds: false };
    const ALL: Needs = Needs { ranks: true, odds: true };

    fn full() -> Sums {
        let spread = Some(Spread { log_rank: 1.5, entropy: 2.5, gap: 0.25 });
        Sums { nll: 12.5, tokens: 5, unknown: 1, spread, corrected: Some(9.0), variance: Some(0.5) }
    }

    #[test]
    fn bytes_round_trip_and_anything_else_is_a_miss() {
        let bytes = full().to_bytes();
        assert_eq!(Sums::from_bytes(&bytes, 5, ALL), Some(full()));
        assert_eq!(Sums::from_bytes(&bytes, 6, ALL), None);
        assert_eq!(Sums::from_bytes(&bytes[1..], 5, NONE), None);
        assert_eq!(Sums::from_bytes(&bytes[..bytes.len() - 8], 5, NONE), None);
        assert_eq!(Sums::from_bytes(&[], 5, NONE), None);
        for at in 0..2 {
            let mut other = bytes.clone();
            other[at] += 1;
            assert_eq!(Sums::from_bytes(&other, 5, NONE), None);
        }
        assert_eq!(Sums::from_bytes(&Sums { nll: f64::NAN, ..full() }.to_bytes(), 5, NONE), None);
    }

    #[test]
    fn what_an_older_version_kept_is_a_miss() {
        let words = [12.5_f64.to_bits(), 5, 1];
        let old: Vec<u8> = std::iter::once(1).chain(words.into_iter().flat_map(u64::to_le_bytes)).collect();
        assert_eq!(Sums::from_bytes(&old, 5, NONE), None);
    }

    #[test]
    fn sums_that_lack_what_is_needed_are_a_miss_and_more_than_needed_is_not() {
        let bare = Sums { spread: None, corrected: None, variance: None, ..full() };
        assert_eq!(Sums::from_bytes(&bare.to_bytes(), 5, NONE), Some(bare));
        assert_eq!(Sums::from_bytes(&bare.to_bytes(), 5, Needs { ranks: true, odds: false }), None);
        assert_eq!(Sums::from_bytes(&bare.to_bytes(), 5, Needs { ranks: false, odds: true }), None);
        assert_eq!(Sums::from_bytes(&full().to_bytes(), 5, NONE), Some(full()));
    }

    fn reading(nll: f64) -> Reading {
        let spread = engine::Spread { rank: 3, entropy: 2.0, max_logprob: -0.5 };
        Reading { logprob: -nll, spread: Some(spread), log_odds: Some(-nll) }
    }

    const MAKING: Making = Making { tokens: 4, unknown: 0, shift: None, clip: None, sampled: false };

    #[test]
    fn readings_are_weighed_and_what_one_of_them_lacks_is_absent() {
        let pass = |weight| Pass { masked: vec![0, 1], scored: vec![0, 1], weight };
        let passes = [pass(1.0), pass(2.0)];
        let readings = [1.0, 2.0, 3.0, 4.0].map(reading);
        let sums = Sums::of(&passes, &readings, Making { shift: Some(0.0), ..MAKING });
        assert_eq!(sums.nll, 1.0 + 2.0 + 2.0 * (3.0 + 4.0));
        let spread = sums.spread.unwrap();
        assert!((spread.log_rank - 6.0 * 3.0_f64.ln()).abs() < 1e-12);
        assert_eq!((spread.entropy, spread.gap), (12.0, sums.nll - 3.0));
        let expected: f64 =
            [(1.0, 1.0), (1.0, 2.0), (2.0, 3.0), (2.0, 4.0)].iter().map(|(w, x)| w * softplus(*x)).sum();
        assert!((sums.corrected.unwrap() - expected).abs() < 1e-12);
        let mut lacking = readings;
        lacking[3] = Reading::of(-4.0);
        let lacking = Sums::of(&passes, &lacking, Making { shift: Some(0.0), ..MAKING });
        assert_eq!((lacking.nll, lacking.spread, lacking.corrected, lacking.variance), (sums.nll, None, None, None));
    }

    #[test]
    fn the_error_of_a_sample_is_that_of_many_samples() {
        let scores: Vec<f64> = (0..40).map(|at| f64::from(at * at % 17)).collect();
        let ids: Vec<u32> = (0..40).collect();
        let making = Making { tokens: 40, sampled: true, ..MAKING };
        let estimates: Vec<Sums> = (0..4000)
            .map(|seed| {
                let passes = Plan::Sampled { tokens: 10, seed }.passes(&Window { ids: &ids, words: &[] });
                let readings: Vec<Reading> =
                    passes.iter().map(|pass| reading(scores[pass.scored[0] as usize])).collect();
                Sums::of(&passes, &readings, making)
            })
            .collect();
        let exact: f64 = scores.iter().sum();
        let spread = estimates.iter().map(|sums| (sums.nll - exact).powi(2)).sum::<f64>() / 4000.0;
        let told = estimates.iter().map(|sums| sums.variance.unwrap()).sum::<f64>() / 4000.0;
        assert!((told / spread - 1.0).abs() < 0.1, "{told} is told of {spread}");
        let all = Sums::of(&[], &[reading(1.0), reading(2.0)], Making { tokens: 2, ..making });
        assert_eq!(all.variance, Some(0.0));
        let one = Sums::of(&[], &[reading(1.0)], Making { tokens: 2, ..making });
        assert_eq!(one.variance, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), tokens in 0_usize..9) {
            let _ = Sums::from_bytes(&bytes, tokens, NONE);
        }
    }
}
