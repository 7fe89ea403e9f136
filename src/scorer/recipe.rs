//! Owns what a score is: everything that makes its numbers, but for the model and the text. Part of the identity and of cache keys.

use super::plan::Plan;

/// How a score is made. Two signals of one model and one recipe are one score under two names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Recipe {
    pub(super) plan: Plan,
    /// Content tokens of a window, at most.
    pub(super) window_tokens: usize,
    /// For a corrected unmasked score.
    pub(super) correction: Option<Correction>,
    /// What a token's loss counts at most, nats.
    pub(super) clip_nats: Option<f64>,
}

/// How training corrupted its targets where it did not mask them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Correction {
    /// Share of targets left as they were, a.
    pub(super) keep: f64,
    /// Share of targets replaced by a token drawn from the whole vocabulary, b; above 0.
    pub(super) random: f64,
}

impl Correction {
    /// ln(V·a/b + 1), nats: how much surer of a token it sees such a model is than of the same token masked.
    ///
    /// With p the masked belief in the token, what training asks for at an unmasked target is q = p(a + b/V) / (pa + b/V);
    /// solved for p, −ln p = softplus(shift − log-odds of q). Equal rates make it ln(V + 1).
    #[allow(clippy::cast_precision_loss, reason = "a vocabulary is far below 2^53")]
    pub(super) fn shift(self, vocabulary: usize) -> f64 {
        (vocabulary as f64 * self.keep / self.random).ln_1p()
    }
}

/// A mean loss beyond this has no perplexity: exp overflows.
const PERPLEXITY_NATS_MAX: f64 = 700.0;

impl Recipe {
    /// Whether every document with tokens has a perplexity, however unlikely it is.
    pub(super) fn has_perplexity_always(&self) -> bool {
        self.clip_nats.is_some_and(|clip| clip <= PERPLEXITY_NATS_MAX)
    }

    /// The recipe in words, for hashing.
    pub(super) fn describe(&self) -> String {
        let correction = self.correction.map_or_else(
            || "none".to_owned(),
            |correction| format!("{:016x} {:016x}", correction.keep.to_bits(), correction.random.to_bits()),
        );
        // Without a clip nothing is said of it, so that identities are those of the time before there were any.
        let clip = self.clip_nats.map_or_else(String::new, |clip| format!("; clip {:016x}", clip.to_bits()));
        format!("{}; window {}; correction {correction}{clip}", self.plan.describe(), self.window_tokens)
    }
}

/// ln(1 + e^x), without overflow and without losing small values.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correction_finds_the_masked_belief_back() {
        let vocabulary = 30_522;
        for (keep, random) in [(0.1, 0.1), (0.1, 0.3), (0.0, 0.2)] {
            let (a, b) = (keep, random / vocabulary as f64);
            for p in [1e-9, 1e-5, 0.001, 0.3, 0.99] {
                let odds = p * (a + b) / (b * (1.0 - p));
                let found = softplus(Correction { keep, random }.shift(vocabulary) - f64::ln(odds));
                assert!((found + f64::ln(p)).abs() < 1e-9, "{p}: {found}");
            }
        }
        assert!((Correction { keep: 0.1, random: 0.1 }.shift(8192) - 8193.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn softplus_neither_overflows_nor_vanishes() {
        assert_eq!(softplus(1e6), 1e6);
        assert!(softplus(-1e6) == 0.0 && softplus(-50.0) > 0.0);
        assert!((softplus(0.0) - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
