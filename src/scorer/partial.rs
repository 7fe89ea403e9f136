//! Owns what is known of a window before all of its passes have run: the log-probabilities of some tokens, and their bytes in the cache.
//!
//! They lie under the key of the window's sums, so that passes that were run for one threshold are not run again for another, and what
//! is complete replaces what is not. A program that knows only sums takes them for a miss.

use super::plan::Pass;
use super::sums::{Making, Sums};
use crate::engine::Reading;

/// Tells these bytes from those of sums, whose layouts are 1 and 2.
const LAYOUT: u8 = 3;

/// log p of a window's content tokens, by rank; `None` where no pass has scored them yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Partial(Vec<Option<f64>>);

impl Partial {
    /// Nothing known of `tokens` tokens.
    pub(super) fn new(tokens: usize) -> Self {
        Self(vec![None; tokens])
    }

    /// log p of the token at `rank`, if it is known.
    pub(super) fn get(&self, rank: u32) -> Option<f64> {
        self.0.get(rank as usize).copied().flatten()
    }

    /// Takes in what was read in `passes`: pass by pass, in the order of each pass's scored tokens.
    pub(super) fn learn(&mut self, passes: &[Pass], readings: &[Reading]) {
        for (rank, reading) in passes.iter().flat_map(|pass| &pass.scored).zip(readings) {
            self.set(*rank, reading.logprob);
        }
    }

    fn set(&mut self, rank: u32, logprob: f64) {
        if let Some(place) = self.0.get_mut(rank as usize) {
            *place = Some(logprob);
        }
    }

    /// Whether everything that `pass` scores is known.
    pub(super) fn has(&self, pass: &Pass) -> bool {
        pass.scored.iter().all(|rank| self.get(*rank).is_some())
    }

    /// The window's sums, if everything that `passes` score is known: added in their order, as if they had run at once.
    pub(super) fn sums(&self, passes: &[Pass], making: Making) -> Option<Sums> {
        let readings: Option<Vec<Reading>> =
            passes.iter().flat_map(|pass| &pass.scored).map(|rank| self.get(*rank).map(Reading::of)).collect();
        readings.map(|readings| Sums::of(passes, &readings, making))
    }

    /// What `passes` say, in their order: what is known of those of which all is known, and for the others what was `read` of them.
    pub(super) fn completed(&self, passes: &[Pass], read: Vec<Reading>) -> Vec<Reading> {
        let mut read = read.into_iter();
        let reading = |(pass, rank): (&Pass, u32)| match self.has(pass) {
            true => self.get(rank).map(Reading::of),
            false => read.next(),
        };
        let scored = passes.iter().flat_map(|pass| pass.scored.iter().map(move |rank| (pass, *rank)));
        scored.filter_map(reading).collect()
    }

    /// Layout byte, the number of tokens (u32), a bit for each that is known, and the log-probabilities of these, all little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut known = vec![0_u8; self.0.len().div_ceil(8)];
        for (rank, _) in self.0.iter().enumerate().filter(|(_, logprob)| logprob.is_some()) {
            known[rank / 8] |= 1 << (rank % 8);
        }
        let logprobs = self.0.iter().flatten().flat_map(|logprob| logprob.to_bits().to_le_bytes());
        std::iter::once(LAYOUT).chain(count.to_le_bytes()).chain(known).chain(logprobs).collect()
    }

    /// Reads bytes back; `None` for another layout, a damaged value, or a window of another length.
    pub(super) fn from_bytes(bytes: &[u8], tokens: usize) -> Option<Self> {
        let (&[layout, a, b, c, d], rest) = bytes.split_first_chunk::<5>()?;
        if layout != LAYOUT || u32::from_le_bytes([a, b, c, d]) as usize != tokens {
            return None;
        }
        let (known, logprobs) = rest.split_at_checked(tokens.div_ceil(8))?;
        let is_known = |rank: usize| known[rank / 8] >> (rank % 8) & 1 == 1;
        let bits: u32 = known.iter().map(|byte| byte.count_ones()).sum();
        let count = (0..tokens).filter(|rank| is_known(*rank)).count();
        if bits as usize != count || logprobs.len() != count * 8 {
            return None;
        }
        let mut words =
            logprobs.chunks_exact(8).map(|word| word.try_into().map(f64::from_le_bytes).unwrap_or(f64::NAN));
        let mut partial = Self::new(tokens);
        for rank in (0..tokens).filter(|rank| is_known(*rank)) {
            partial.0[rank] = Some(words.next().filter(|logprob| logprob.is_finite())?);
        }
        Some(partial)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Plan, Window};
    use super::*;
    use crate::engine::Needs;
    use proptest::prelude::*;

    const MAKING: Making = Making { tokens: 5, unknown: 0, shift: None, clip: None, sampled: false };

    #[test]
    fn sums_are_there_when_every_token_is_and_equal_to_those_of_one_run() {
        let ids: Vec<u32> = (0..5).collect();
        for plan in [Plan::Single, Plan::Strided { stride: 2 }] {
            let passes = plan.passes(&Window { ids: &ids, words: &[] });
            let mut partial = Partial::new(5);
            for rank in [3, 0, 4, 1] {
                assert_eq!(partial.sums(&passes, MAKING), None);
                partial.set(rank, -0.1 * f64::from(rank + 1));
            }
            assert!(!passes.iter().all(|pass| partial.has(pass)));
            partial.set(2, -0.3);
            let readings: Vec<Reading> = passes
                .iter()
                .flat_map(|pass| &pass.scored)
                .map(|rank| Reading::of(if *rank == 2 { -0.3 } else { -0.1 * f64::from(rank + 1) }))
                .collect();
            assert_eq!(partial.sums(&passes, MAKING), Some(Sums::of(&passes, &readings, MAKING)));
        }
    }

    #[test]
    fn passes_of_which_all_is_known_need_not_be_read_again() {
        let ids: Vec<u32> = (0..5).collect();
        let passes = Plan::Strided { stride: 2 }.passes(&Window { ids: &ids, words: &[] });
        let mut partial = Partial::new(5);
        // All of the second pass, and a part of the first.
        [(1, -1.0), (3, -3.0), (4, -9.0)].into_iter().for_each(|(rank, logprob)| partial.set(rank, logprob));
        let read = [0.0, -2.0, -4.0].map(Reading::of).to_vec();
        assert_eq!(partial.completed(&passes, read), [0.0, -2.0, -4.0, -1.0, -3.0].map(Reading::of));
    }

    #[test]
    fn a_program_that_knows_only_sums_takes_it_for_a_miss_and_the_other_way_round() {
        let mut partial = Partial::new(3);
        partial.set(1, -2.0);
        assert_eq!(Sums::from_bytes(&partial.to_bytes(), 3, Needs::default()), None);
        let sums = Sums { nll: 2.0, tokens: 3, ..Sums::default() };
        assert_eq!(Partial::from_bytes(&sums.to_bytes(), 3), None);
        // Layout 1, as version 0.1.0 wrote it.
        let old: Vec<u8> = [1].into_iter().chain([3_u64, 3, 0].into_iter().flat_map(u64::to_le_bytes)).collect();
        assert_eq!(Partial::from_bytes(&old, 3), None);
    }

    #[test]
    fn the_bytes_are_these() {
        let mut partial = Partial::new(10);
        partial.set(9, -1.5);
        partial.set(0, -0.5);
        let expected =
            [vec![3, 10, 0, 0, 0, 1, 2], (-0.5_f64).to_le_bytes().to_vec(), (-1.5_f64).to_le_bytes().to_vec()];
        assert_eq!(partial.to_bytes(), expected.concat());
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_any_others_do_no_harm(
            logprobs in prop::collection::vec(prop::option::of(-50.0..0.0), 0..40), bytes in prop::collection::vec(any::<u8>(), 0..60),
            tokens in 0_usize..40,
        ) {
            let partial = Partial(logprobs);
            let written = partial.to_bytes();
            prop_assert_eq!(Partial::from_bytes(&written, partial.0.len()), Some(partial.clone()));
            prop_assert_eq!(Partial::from_bytes(&written, partial.0.len() + 1), None);
            prop_assert_eq!(Partial::from_bytes(&written[..written.len() - 1], partial.0.len()), None);
            let _ = Partial::from_bytes(&bytes, tokens);
        }
    }
}
