//! Owns what is read off the logits at one position: which numbers are asked for, and their definitions.
//!
//! Notation: `z` are the logits `[V]` at the position, `x` is the id that stands there in the window, LSE is log Σ exp. All
//! logarithms are natural. What was not asked for is absent, never a zero.

/// What a model's scorers read besides log-probabilities: the union over them, fixed at load, because ONNX Runtime runs whole
/// graphs. The default asks for nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// [`Reading::spread`]: two more passes over the logits.
    pub ranks: bool,
    /// [`Reading::log_odds`]: two more passes over the logits.
    pub odds: bool,
}

impl Needs {
    /// What either asks for.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { ranks: self.ranks || other.ranks, odds: self.odds || other.odds }
    }
}

/// What is known of one scored position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// log p(x) = z_x − LSE(z), nats, at most 0.
    pub logprob: f64,
    /// Present if [`Needs::ranks`] was asked for.
    pub spread: Option<Spread>,
    /// z_x − LSE(z without z_x), nats: the log of the odds p(x) / (1 − p(x)), without the cancellation of 1 − p. Present if
    /// [`Needs::odds`] was asked for.
    pub log_odds: Option<f64>,
}

/// How a position's distribution lies around its own id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// 1 + the number of ids with a strictly greater logit than x: ties go in x's favour, whatever their order.
    pub rank: u32,
    /// −Σ p log p over the vocabulary, nats.
    pub entropy: f64,
    /// The greatest log p of any id, nats.
    pub max_logprob: f64,
}

impl Reading {
    /// A reading of a log-probability alone.
    #[must_use]
    pub fn of(logprob: f64) -> Self {
        Self { logprob, spread: None, log_odds: None }
    }

    /// Whether every number in it is one.
    pub(super) fn is_finite(&self) -> bool {
        let spread = self.spread.is_none_or(|spread| spread.entropy.is_finite() && spread.max_logprob.is_finite());
        self.logprob.is_finite() && spread && self.log_odds.is_none_or(f64::is_finite)
    }

    /// Reads `logits` `[V]` at `id`, in double precision over single-precision logits. `id` is below V.
    pub(super) fn from_logits(logits: &[f32], id: usize, needs: Needs) -> Self {
        let (own, greatest) = (logits[id], greatest(logits));
        let sum = sum_of_exp(logits, greatest);
        let logprob = f64::from(own - greatest) - sum.ln();
        let spread = needs.ranks.then(|| spread(logits, own, greatest, sum));
        let log_odds = needs.odds.then(|| {
            let (before, after) = (&logits[..id], &logits[id + 1..]);
            let others = self::greatest(before).max(self::greatest(after));
            f64::from(own - others) - (sum_of_exp(before, others) + sum_of_exp(after, others)).ln()
        });
        Self { logprob, spread, log_odds }
    }

    /// The largest difference of the two in nats; infinite if they don't hold the same numbers, or if the ranks are further
    /// apart than rounding of near-equal logits explains.
    pub(super) fn difference(&self, other: &Self) -> f64 {
        let numbers = |reading: &Self| {
            let spread = reading.spread;
            [
                Some(reading.logprob),
                spread.map(|spread| spread.entropy),
                spread.map(|spread| spread.max_logprob),
                reading.log_odds,
            ]
        };
        let apart = |(one, two): (Option<f64>, Option<f64>)| match (one, two) {
            (None, None) => 0.0,
            (Some(one), Some(two)) if one.is_finite() && two.is_finite() => (one - two).abs(),
            (Some(_), _) | (None, Some(_)) => f64::INFINITY,
        };
        let ranks = match (self.spread, other.spread) {
            (Some(one), Some(two)) => one.rank.abs_diff(two.rank) <= 1 + one.rank / 4,
            (None, None) | (Some(_), None) | (None, Some(_)) => true,
        };
        let worst = numbers(self).into_iter().zip(numbers(other)).map(apart).fold(0.0, f64::max);
        if ranks { worst } else { f64::INFINITY }
    }
}

fn greatest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn sum_of_exp(logits: &[f32], greatest: f32) -> f64 {
    logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum()
}

fn spread(logits: &[f32], own: f32, greatest: f32, sum: f64) -> Spread {
    let above = logits.iter().filter(|logit| **logit > own).count();
    // H = LSE − Σ p z, with every logit taken from the greatest.
    let weighted = |logit: &f32| match f64::from(logit - greatest) {
        below if below == f64::NEG_INFINITY => 0.0,
        below => below * below.exp(),
    };
    let entropy = sum.ln() - logits.iter().map(weighted).sum::<f64>() / sum;
    Spread { rank: u32::try_from(above + 1).unwrap_or(u32::MAX), entropy, max_logprob: -sum.ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Needs = Needs { ranks: true, odds: true };

    #[test]
    fn log_softmax_is_stable_and_sums_to_one() {
        let logits = [1000.0_f32, 999.0, -1000.0, 998.5];
        let sum: f64 = (0..4).map(|id| Reading::from_logits(&logits, id, ALL).logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        let flat = Reading::from_logits(&[0.0; 8], 3, ALL);
        assert!((flat.logprob + 8.0_f64.ln()).abs() < 1e-12);
        let spread = flat.spread.unwrap();
        assert_eq!(spread.rank, 1, "ties go in favour");
        assert!((spread.entropy - 8.0_f64.ln()).abs() < 1e-12 && (spread.max_logprob + 8.0_f64.ln()).abs() < 1e-12);
        assert!((flat.log_odds.unwrap() + 7.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn odds_keep_their_digits_where_one_minus_p_would_lose_them() {
        let sure = Reading::from_logits(&[60.0, 0.0, 0.0], 0, ALL);
        assert!((sure.log_odds.unwrap() - (60.0 - 2.0_f64.ln())).abs() < 1e-9);
        let never = Reading::from_logits(&[f32::NEG_INFINITY, 0.0, 1.0], 1, ALL);
        assert!(never.spread.unwrap().entropy.is_finite() && never.spread.unwrap().rank == 2);
    }

    #[test]
    fn what_was_not_asked_for_is_absent_and_tells_two_readings_apart() {
        let bare = Reading::from_logits(&[1.0, 2.0], 0, Needs::default());
        assert_eq!((bare.spread, bare.log_odds), (None, None));
        let full = Reading::from_logits(&[1.0, 2.0], 0, ALL);
        assert!(bare.difference(&full).is_infinite() && full.difference(&full) == 0.0);
        let far = Spread { rank: 40, ..full.spread.unwrap() };
        assert!(full.difference(&Reading { spread: Some(far), ..full }).is_infinite());
    }
}
