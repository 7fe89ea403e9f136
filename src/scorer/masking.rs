//! Owns which positions of a window are masked together, and how scores find back to their tokens.

use super::{Masking, Settings};

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

    /// Groups of positions in a row of `content` tokens behind `before` special ones; none is empty.
    pub(super) fn groups(self, content: usize, before: usize) -> Vec<Vec<u32>> {
        let position = |rank: usize| u32::try_from(before + rank).unwrap_or(u32::MAX);
        match self {
            Self::Single => (0..content).map(|rank| vec![position(rank)]).collect(),
            Self::Strided(stride) => {
                (0..stride.min(content)).map(|group| (group..content).step_by(stride).map(position).collect()).collect()
            }
        }
    }

    /// Scores in the order of [`Plan::groups`] as scores in the order of tokens.
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

    #[test]
    fn strided_groups_go_by_content_position() {
        assert_eq!(Plan::Strided(3).groups(5, 1), vec![vec![1, 4], vec![2, 5], vec![3]]);
        assert_eq!(Plan::Strided(7).groups(2, 1), vec![vec![1], vec![2]]);
        assert_eq!(Plan::Single.groups(2, 0), vec![vec![0], vec![1]]);
        assert!(Plan::Single.groups(0, 1).is_empty() && Plan::Strided(7).groups(0, 1).is_empty());
    }

    proptest! {
        #[test]
        fn each_token_is_masked_once_and_gets_its_own_score(content in 0_usize..300, stride in 1_usize..20, before in 0_usize..3) {
            for plan in [Plan::Single, Plan::Strided(stride)] {
                let scores = plan.groups(content, before).concat().iter().map(|p| f64::from(*p)).collect();
                let expected: Vec<f64> = (0..content).map(|rank| (before + rank) as f64).collect();
                prop_assert_eq!(plan.in_token_order(scores), expected);
            }
        }
    }
}
