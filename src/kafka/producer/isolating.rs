//! Owns the pinning of a refusal to the output that caused it.
//!
//! A broker refuses whole requests, and a topic may take less than the client library puts into one. So what was refused together is tried again in requests
//! of half as many bytes, until it fits or was alone in its request: only then is it guilty.
//! Invariants: the rounds are bounded. A refused request leaves a gap in the numbers that the client library gives to a partition's records; the broker
//! refuses what comes next there, the library then begins to count anew, and the same round goes well. Hence a round that is aborted is tried again as it is.
//! Must not know: what is refused, and why.

use super::super::error::DeliveryError;
use super::{Output, Producer};
use crate::corpus::Position;
use std::sync::atomic::Ordering;

/// The most rounds for one step: from any size of a request to single outputs.
const ROUNDS: usize = 64;
/// How often a round is tried again.
const GAPS: usize = 2;

impl Producer {
    /// One delivery step: all `outputs` and `positions`, or none. Blocks up to about half of `transaction.timeout.ms`, and then for an end that is not
    /// answered: that time once more while brokers answer, 150 s while none does; and as long again for each round that it takes to pin a refusal.
    ///
    /// # Errors
    /// See [`DeliveryError`]; after any of them but `Fatal` the producer is ready for another step. `Refused` names outputs that were refused alone.
    pub fn deliver(&self, outputs: &[Output<'_>], positions: &[Position]) -> Result<(), DeliveryError> {
        // A topic that takes less than a request will take no more in the next step.
        let (mut together, mut gaps) = (self.together.load(Ordering::Relaxed), 0);
        for _ in 0..ROUNDS {
            match self.step(outputs, positions, together) {
                Err(DeliveryError::Refused(refusals)) if refusals.len() > 1 && together > 0 => {
                    let weights =
                        refusals.iter().filter_map(|refusal| outputs.get(refusal.index)).map(Output::weight_bytes);
                    together = smaller(together, weights);
                    gaps = 0;
                    tracing::debug!(
                        refused = refusals.len(),
                        together,
                        "refused together, tried again in smaller requests"
                    );
                }
                Err(DeliveryError::Aborted(reason)) if together < usize::MAX && gaps < GAPS => {
                    gaps += 1;
                    tracing::debug!(reason, together, "aborted between two refusals, tried again");
                }
                Ok(()) => {
                    self.together.store(together, Ordering::Relaxed);
                    return Ok(());
                }
                other => return other,
            }
        }
        Err(DeliveryError::Aborted("refused outputs could not be told from their neighbours".into()))
    }
}

/// How many bytes go together after outputs of these weights were refused together: half of what it was, and none once no two of them would fit.
fn smaller(together: usize, weights: impl Iterator<Item = usize> + Clone) -> usize {
    let half = weights.clone().fold(0, usize::saturating_add).min(together) / 2;
    let lightest = weights.min().unwrap_or(0);
    if half < lightest.saturating_mul(2) { 0 } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_smaller_until_each_output_is_alone() {
        let mut together = usize::MAX;
        let mut rounds = 0;
        while together > 0 {
            let next = smaller(together, [700, 90, 400, 90].into_iter());
            assert!(next < together);
            (together, rounds) = (next, rounds + 1);
        }
        assert_eq!(rounds, 3, "640, 320, alone");
        assert_eq!(smaller(usize::MAX, std::iter::repeat_n(usize::MAX, 3)), 0, "nothing overflows");
        assert_eq!(smaller(1_000, std::iter::empty()), 0, "nobody is named: nothing to go by");
    }
}
