//! Owns which positions of a window are masked together, and how scores find back to their tokens.

use super::{Masking, Settings};
use crate::engine::Passes;
use std::sync::Arc;

/// The masking of a scorer, its stride settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// One content token a row.
    Single,
    /// Content tokens r with r mod stride = g in one row.
    Strided(usize),
}

impl Plan {
    pub(super) fn new(settings: &Settings) -> Self {
        match settings.masking {
            Masking::Single => Self::Single,
            Masking::Strided => Self::Strided(settings.stride().max(1)),
        }
    }

    /// The passes over a window of `content` tokens behind `before` special ones: each token is masked and scored in one of them.
    pub(super) fn passes(self, wrapped: Arc<[u32]>, content: usize, before: usize) -> Passes {
        let mut passes = Passes::over(wrapped);
        self.groups(content, before).for_each(|group| passes.mask(group));
        passes
    }

    /// Positions masked together, pass by pass; none is empty.
    fn groups(self, content: usize, before: usize) -> impl Iterator<Item = impl Iterator<Item = u32>> {
        let (groups, stride) = match self {
            Self::Single => (content, content.max(1)),
            Self::Strided(stride) => (stride.min(content), stride),
        };
        let position = move |rank: usize| u32::try_from(before + rank).unwrap_or(u32::MAX);
        (0..groups).map(move |group| (group..content).step_by(stride).map(position))
    }

    /// Scores in the order of [`Plan::passes`] as scores in the order of tokens.
    pub(super) fn in_token_order(self, scores: Vec<f64>) -> Vec<f64> {
        match self {
            Self::Single => scores,
            Self::Strided(stride) => {
                let ranks = (0..stride).flat_map(|group| (group..scores.len()).step_by(stride));
                let mut ordered = vec![0.0; scores.len()];
                for (rank, score) in ranks.zip(&scores) {
                    ordered[rank] = *score;
                }
                ordered
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups(plan: Plan, content: usize, before: usize) -> Vec<Vec<u32>> {
        plan.groups(content, before).map(Iterator::collect).collect()
    }

    #[test]
    fn strided_groups_go_by_content_position() {
        assert_eq!(groups(Plan::Strided(3), 5, 1), vec![vec![1, 4], vec![2, 5], vec![3]]);
        assert_eq!(groups(Plan::Strided(7), 2, 1), vec![vec![1], vec![2]]);
        assert_eq!(groups(Plan::Single, 2, 0), vec![vec![0], vec![1]]);
        assert!(groups(Plan::Single, 0, 1).is_empty() && groups(Plan::Strided(7), 0, 1).is_empty());
    }

    proptest! {
        #[test]
        fn each_token_is_masked_once_and_gets_its_own_score(content in 0_usize..300, stride in 1_usize..20, before in 0_usize..3) {
            for plan in [Plan::Single, Plan::Strided(stride)] {
                let scores = groups(plan, content, before).concat().iter().map(|p| f64::from(*p)).collect();
                let expected: Vec<f64> = (0..content).map(|rank| (before + rank) as f64).collect();
                prop_assert_eq!(plan.in_token_order(scores), expected);
            }
        }
    }
}
