//! Owns maskings: which positions of a window each forward pass masks, which it scores, and what a score there weighs.
//!
//! In: a window's ids and the words its tokens belong to. Out: passes over its content, special tokens left out. Pure.
//! Invariant: the sum of weight × surprisal over all passes is the window's score, or an estimate of it without bias.

use super::draws::Draws;
use std::collections::BTreeMap;
use std::ops::Range;

/// Pieces masked together in one word, at most: a run of letters without end must not become one mask (see `docs/scores.md`).
const PIECES_MAX: usize = 8;

/// How windows are masked, every parameter settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// One token a pass (Salazar et al. 2020, equation 1).
    Single,
    /// Tokens r with r mod stride = g together, one pass for each g.
    Strided { stride: usize },
    /// A token and the later pieces of its word, a pass for each token (Kauf and Ivanova 2023, `PLL-word-l2r`).
    WordL2r(Words),
    /// All pieces of a word together, a pass for each word (Kauf and Ivanova 2023, `PLL-whole-word`).
    WholeWord(Words),
    /// As `Single`, but `tokens` of the window's tokens only, drawn without replacement; each stands for its share of them all.
    Sampled { tokens: usize, seed: u64 },
    /// One pass, nothing masked (Kaneko and Bollegala 2022, AUL).
    Unmasked,
    /// `draws` random masks in complementary pairs (the masked-diffusion bound; Sahoo et al. 2024, in the form of fixed counts).
    Nelbo { draws: usize, seed: u64 },
}

/// What counts as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// UAX #29 segments of the original text, in groups of at most [`PIECES_MAX`] pieces.
    Unicode,
    /// What the tokenizer's pre-tokenizer cuts, of any length: what other tools do.
    Tokenizer,
}

/// What a plan must know of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    /// Content ids.
    pub(super) ids: &'a [u32],
    /// For each of them, its word's number; empty where the plan asks for no words.
    pub(super) words: &'a [u32],
}

/// One forward pass. Ranks count content tokens from 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pass {
    pub(super) masked: Vec<u32>,
    /// Never empty.
    pub(super) scored: Vec<u32>,
    /// Of each scored token's surprisal in the window's sum.
    pub(super) weight: f64,
}

impl Pass {
    fn masking(ranks: Vec<u32>) -> Self {
        Self { scored: ranks.clone(), masked: ranks, weight: 1.0 }
    }
}

impl Plan {
    /// The words that the plan goes by, if it does.
    pub(super) fn words(self) -> Option<Words> {
        match self {
            Self::WordL2r(words) | Self::WholeWord(words) => Some(words),
            Self::Single | Self::Strided { .. } | Self::Sampled { .. } | Self::Unmasked | Self::Nelbo { .. } => None,
        }
    }

    /// Passes over a window of `tokens` tokens, at most.
    pub(super) fn passes_at_most(self, tokens: usize) -> usize {
        match self {
            Self::Unmasked => tokens.min(1),
            Self::Strided { stride } => stride.min(tokens),
            Self::Nelbo { draws, .. } => draws,
            Self::Sampled { tokens: drawn, .. } => drawn.min(tokens),
            Self::Single | Self::WordL2r(_) | Self::WholeWord(_) => tokens,
        }
    }

    /// The plan and all its parameters: part of the identity.
    pub(super) fn describe(self) -> String {
        let words = |words| match words {
            Words::Unicode => format!("unicode at most {PIECES_MAX}"),
            Words::Tokenizer => "tokenizer".to_owned(),
        };
        match self {
            Self::Single => "single".to_owned(),
            Self::Strided { stride } => format!("strided by {stride}"),
            Self::WordL2r(by) => format!("word-l2r by {}", words(by)),
            Self::WholeWord(by) => format!("whole-word by {}", words(by)),
            Self::Sampled { tokens, seed } => format!("sampled {tokens} seed {seed}"),
            Self::Unmasked => "unmasked".to_owned(),
            Self::Nelbo { draws, seed } => format!("nelbo {draws} seed {seed}"),
        }
    }

    /// The passes over a window; none over nothing.
    pub(super) fn passes(self, window: &Window<'_>) -> Vec<Pass> {
        let count = window.ids.len();
        match self {
            Self::Single => (0..count).map(|at| Pass::masking(ranks(at..at + 1))).collect(),
            Self::Strided { stride } => (0..stride.min(count))
                .map(|first| Pass::masking(ranks(first..count).into_iter().step_by(stride).collect()))
                .collect(),
            Self::WordL2r(by) => groups(window.words, by)
                .into_iter()
                .flat_map(|group| group.clone().map(move |at| at..group.end))
                .map(|rest| Pass {
                    masked: ranks(rest.clone()),
                    scored: ranks(rest.start..rest.start + 1),
                    weight: 1.0,
                })
                .collect(),
            Self::WholeWord(by) => {
                groups(window.words, by).into_iter().map(|group| Pass::masking(ranks(group))).collect()
            }
            Self::Sampled { tokens, seed } => sampled(window.ids, tokens, seed),
            Self::Unmasked if count == 0 => Vec::new(),
            Self::Unmasked => vec![Pass { masked: Vec::new(), scored: ranks(0..count), weight: 1.0 }],
            Self::Nelbo { draws, seed } => nelbo(window.ids, draws, seed),
        }
    }
}

fn ranks(range: Range<usize>) -> Vec<u32> {
    range.map(|at| u32::try_from(at).unwrap_or(u32::MAX)).collect()
}

/// Runs of tokens of one word, which tile the window; a word cut by the window's edge is a group on either side of it.
pub(super) fn groups(words: &[u32], by: Words) -> Vec<Range<usize>> {
    let most = match by {
        Words::Unicode => PIECES_MAX,
        Words::Tokenizer => usize::MAX,
    };
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if words[group.start] == *word && group.len() < most => group.end = at + 1,
            Some(_) | None => groups.push(at..at + 1),
        }
    }
    groups
}

/// Horvitz and Thompson's estimate: each of n drawn from N stands for N/n.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn sampled(ids: &[u32], tokens: usize, seed: u64) -> Vec<Pass> {
    let drawn = Draws::new(seed, ids).subset(tokens, ids.len());
    let weight = ids.len() as f64 / drawn.len() as f64;
    drawn.into_iter().map(|rank| Pass { weight, ..Pass::masking(vec![rank]) }).collect()
}

/// N · E over n in 1..=N of E over masks M of n tokens of the mean surprisal in M, estimated by pairs of M and what M leaves.
///
/// Pair j of P masks n = ⌈N (j + u) / P⌉ tokens, u drawn once from (0, 1], so that n is uniform over the pairs. A mask and its
/// complement count half each; where the mask is everything, it counts in full. As n and N − n are alike in number but for that
/// case, the estimate has no bias. Equal masks are run once.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to N")]
fn nelbo(ids: &[u32], draws: usize, seed: u64) -> Vec<Pass> {
    if ids.is_empty() {
        return Vec::new();
    }
    let (count, pairs) = (ids.len(), (draws / 2).max(1));
    let mut chance = Draws::new(seed, ids);
    let offset = chance.unit();
    let mut weights: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    for pair in 0..pairs {
        let masked = (count as f64 * (pair as f64 + offset) / pairs as f64).ceil() as usize;
        let mask = chance.subset(masked.clamp(1, count), count);
        let rest: Vec<u32> = ranks(0..count).into_iter().filter(|rank| mask.binary_search(rank).is_err()).collect();
        let share = count as f64 / pairs as f64 * if rest.is_empty() { 1.0 } else { 0.5 };
        for set in [mask, rest].into_iter().filter(|set| !set.is_empty()) {
            let weight = share / set.len() as f64;
            *weights.entry(set).or_default() += weight;
        }
    }
    weights.into_iter().map(|(set, weight)| Pass { weight, ..Pass::masking(set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window<'a>(ids: &'a [u32], words: &'a [u32]) -> Window<'a> {
        Window { ids, words }
    }

    fn masked(plan: Plan, count: u32, words: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let ids: Vec<u32> = (0..count).collect();
        plan.passes(&window(&ids, words)).into_iter().map(|pass| (pass.masked, pass.scored)).collect()
    }

    fn same(sets: &[&[u32]]) -> Vec<(Vec<u32>, Vec<u32>)> {
        sets.iter().map(|set| (set.to_vec(), set.to_vec())).collect()
    }

    #[test]
    fn each_masking_masks_and_scores_what_its_paper_says() {
        let words = [3, 3, 3, 4, 9, 9];
        assert_eq!(masked(Plan::Single, 2, &[]), same(&[&[0], &[1]]));
        assert_eq!(masked(Plan::Strided { stride: 3 }, 5, &[]), same(&[&[0, 3], &[1, 4], &[2]]));
        assert_eq!(masked(Plan::Strided { stride: 7 }, 2, &[]), same(&[&[0], &[1]]));
        assert_eq!(masked(Plan::WholeWord(Words::Unicode), 6, &words), same(&[&[0, 1, 2], &[3], &[4, 5]]));
        let l2r: [(&[u32], u32); 6] = [(&[0, 1, 2], 0), (&[1, 2], 1), (&[2], 2), (&[3], 3), (&[4, 5], 4), (&[5], 5)];
        let l2r: Vec<_> = l2r.iter().map(|(masked, scored)| (masked.to_vec(), vec![*scored])).collect();
        assert_eq!(masked(Plan::WordL2r(Words::Tokenizer), 6, &words), l2r);
        assert_eq!(masked(Plan::Unmasked, 3, &[]), [(vec![], vec![0, 1, 2])]);
    }

    const PLANS: [Plan; 9] = [
        Plan::Single,
        Plan::Strided { stride: 7 },
        Plan::WordL2r(Words::Unicode),
        Plan::WordL2r(Words::Tokenizer),
        Plan::WholeWord(Words::Unicode),
        Plan::WholeWord(Words::Tokenizer),
        Plan::Sampled { tokens: 5, seed: 0 },
        Plan::Unmasked,
        Plan::Nelbo { draws: 8, seed: 0 },
    ];

    #[test]
    fn nothing_takes_no_pass_and_no_two_plans_have_one_name() {
        let mut names: Vec<String> = PLANS.iter().map(|plan| plan.describe()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), PLANS.len());
        assert!(PLANS.iter().all(|plan| plan.passes(&window(&[], &[])).is_empty()));
    }

    #[test]
    fn a_long_run_is_cut_in_production_and_not_in_parity() {
        assert_eq!(groups(&[5; 20], Words::Unicode), [0..8, 8..16, 16..20]);
        assert_eq!(groups(&[5; 20], Words::Tokenizer), [Range { start: 0, end: 20 }]);
    }

    /// Surprisals that depend on the whole mask, as a model's do.
    fn surprisal(mask: &[u32], rank: u32) -> f64 {
        let set = mask.iter().fold(0_u64, |set, rank| set | 1 << rank);
        let mixed = (set * 64 + u64::from(rank)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed as f64 / 2.0_f64.powi(24) * 3.0 + mask.len() as f64
    }

    fn estimate(plan: Plan, ids: &[u32]) -> f64 {
        let passes = plan.passes(&window(ids, &[]));
        let of = |pass: &Pass| pass.scored.iter().map(|rank| surprisal(&pass.masked, *rank)).sum::<f64>() * pass.weight;
        passes.iter().map(of).sum()
    }

    /// Mean over many seeds against the exact value, in standard errors.
    fn off_by(plan: impl Fn(u64) -> Plan, ids: &[u32], exact: f64) -> f64 {
        let estimates: Vec<f64> = (0..4000).map(|seed| estimate(plan(seed), ids)).collect();
        let n = estimates.len() as f64;
        let mean = estimates.iter().sum::<f64>() / n;
        let variance = estimates.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean - exact).abs() / (variance / n).sqrt().max(1e-9)
    }

    /// The mean surprisal in a mask, averaged over all masks of n tokens, and that over n; times N.
    fn exact_nelbo(count: u32) -> f64 {
        let mut by_size = vec![(0.0, 0.0); count as usize + 1];
        for set in 1..1_u32 << count {
            let mask: Vec<u32> = (0..count).filter(|rank| set >> rank & 1 == 1).collect();
            let mean = mask.iter().map(|rank| surprisal(&mask, *rank)).sum::<f64>() / mask.len() as f64;
            by_size[mask.len()].0 += mean;
            by_size[mask.len()].1 += 1.0;
        }
        by_size[1..].iter().map(|(sum, masks)| sum / masks).sum()
    }

    #[test]
    fn the_mean_over_seeds_of_the_bound_is_that_over_all_masks() {
        for count in 1..=8 {
            let ids: Vec<u32> = (0..count).collect();
            for draws in [2, 8, 16] {
                let off = off_by(|seed| Plan::Nelbo { draws, seed }, &ids, exact_nelbo(count));
                assert!(off < 5.0, "{count} tokens, {draws} draws: {off} standard errors");
            }
        }
    }

    #[test]
    fn the_mean_over_seeds_of_a_sample_is_the_whole() {
        for count in [1_u32, 5, 40] {
            let ids: Vec<u32> = (0..count).collect();
            let exact = estimate(Plan::Single, &ids);
            for tokens in [1, 3, 32] {
                let off = off_by(|seed| Plan::Sampled { tokens, seed }, &ids, exact);
                assert!(off < 5.0, "{tokens} of {count} tokens: {off} standard errors");
            }
        }
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_and_where_it_is_masked(
            lengths in prop::collection::vec(1_usize..20, 0..40), stride in 1_usize..20,
        ) {
            let words: Vec<u32> = lengths.iter().enumerate().flat_map(|(word, n)| vec![word as u32; *n]).collect();
            let ids: Vec<u32> = (0..words.len() as u32).collect();
            for plan in [Plan::Strided { stride }].iter().chain(&PLANS) {
                let passes = plan.passes(&window(&ids, &words));
                let mut scored: Vec<u32> = passes.iter().flat_map(|pass| pass.scored.clone()).collect();
                if let Plan::Strided { .. } = plan {
                    scored.sort_unstable();
                }
                match plan {
                    Plan::Sampled { tokens, .. } => prop_assert_eq!(scored.len(), ids.len().min(*tokens)),
                    Plan::Nelbo { .. } => {
                        let weight: f64 = passes.iter().map(|pass| pass.weight * pass.scored.len() as f64).sum();
                        prop_assert!((weight - ids.len() as f64).abs() < 1e-9 * (1.0 + weight));
                        prop_assert!(ids.iter().all(|id| scored.contains(id)));
                    }
                    Plan::Single | Plan::Strided { .. } | Plan::WordL2r(_) | Plan::WholeWord(_) | Plan::Unmasked => {
                        prop_assert_eq!(&scored, &ids);
                    }
                }
                for pass in &passes {
                    prop_assert!(!pass.scored.is_empty() && pass.masked.is_sorted());
                    prop_assert!(*plan == Plan::Unmasked || pass.scored.iter().all(|at| pass.masked.contains(at)));
                }
            }
        }

        #[test]
        fn groups_tile_the_tokens_in_order_and_stay_small(
            lengths in prop::collection::vec(1_usize..30, 0..40), by_text in any::<bool>(),
        ) {
            let words: Vec<u32> = lengths.iter().enumerate().flat_map(|(word, n)| vec![word as u32 * 3; *n]).collect();
            let by = if by_text { Words::Unicode } else { Words::Tokenizer };
            let mut next = 0;
            for group in groups(&words, by) {
                prop_assert_eq!(group.start, next);
                prop_assert!(!group.is_empty() && (group.len() <= PIECES_MAX || !by_text));
                prop_assert!(words[group.clone()].iter().all(|word| *word == words[next]));
                next = group.end;
            }
            prop_assert_eq!(next, words.len());
        }
    }
}
