//! Owns the pinning of a refusal to the output that caused it.
//!
//! A broker refuses whole requests. Of one that holds a record which it won't have as such (a compacted topic takes none without a key) it names these, and the
//! client library clears their neighbours: so they are known at once. Otherwise the request may have been larger than its topic takes, and what was refused
//! together is tried again in requests of half as many bytes, until it fits or was alone in its request: only then is it guilty.
//! Invariants: the rounds are bounded. A refused request leaves a gap in the numbers that the client library gives to a partition's records; the broker
//! refuses what comes next there, the library then begins to count anew, and the same round goes well. Hence a round that is aborted right after a refusal
//! is tried again as it is, and no other. Where outputs were too many for their topic, what was found
//! out lasts for the next steps, and is forgotten bit by bit while they go well; where they were refused for themselves, it says nothing of others.
//! Must not know: what is refused, and why.

use super::super::error::{DeliveryError, Refusal};
use super::{Output, Producer};
use crate::corpus::{Class, Position};
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

/// The most rounds for one step: from 32 MiB down to one byte, each tried again as often as may be.
const ROUNDS: usize = 80;
/// How often a round that follows a refusal is tried again.
const GAPS: usize = 2;
/// Steps that go well before the next may put twice as much together.
const GOOD_STEPS: u32 = 8;
/// From here on there is no bound: the client library's own is far below.
const BOUND_MAX: usize = 8 << 20;

/// What is known of how much goes together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The most bytes for one partition between two flushes; a single output may have more.
    together: usize,
    /// Steps that went well since that was changed.
    good: u32,
    /// Whether the last step ended with a refusal, so that the next begins at a gap.
    gap: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { together: usize::MAX, good: 0, gap: false }
    }
}

impl Pace {
    fn well(self) -> Self {
        let good = self.good + 1;
        match self.together {
            usize::MAX => Self::default(),
            together if good < GOOD_STEPS => Self { together, good, gap: false },
            together if together > BOUND_MAX / 2 => Self::default(),
            together => Self { together: (together * 2).max(1), good: 0, gap: false },
        }
    }
}

/// Why a flush did not go well.
pub(super) enum Unflushed {
    /// These outputs were refused, those of `invalid` as records that their topic won't have; of those of `cleared` the client library says that others were
    /// to blame.
    Refused {
        refusals: Vec<Refusal>,
        cleared: HashSet<usize>,
        invalid: HashSet<usize>,
    },
    Failed(DeliveryError),
}

impl From<DeliveryError> for Unflushed {
    fn from(error: DeliveryError) -> Self {
        Self::Failed(error)
    }
}

/// Why a try of a step did not go well.
pub(super) enum Setback {
    /// These outputs were refused, none of them alone. `crowded`: several for one partition, for their size.
    Together {
        refused: Vec<usize>,
        crowded: bool,
    },
    Failed(DeliveryError),
}

impl From<DeliveryError> for Setback {
    fn from(error: DeliveryError) -> Self {
        Self::Failed(error)
    }
}

impl Producer {
    /// One delivery step: all `outputs` and `positions`, or none. Blocks up to about half of `transaction.timeout.ms`, and then for an end that is not
    /// answered: that time once more while brokers answer, 150 s while none does; and as long again for each round that it takes to pin a refusal.
    ///
    /// # Errors
    /// See [`DeliveryError`]; after any of them but `Fatal` the producer is ready for another step. `Refused` names outputs that were refused alone.
    pub fn deliver(&self, outputs: &[Output<'_>], positions: &[Position]) -> Result<(), DeliveryError> {
        let mut pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, mut is_crowded) = (pace, false);
        let mut gaps = if pace.gap { 0 } else { GAPS };
        let mut done = Err(DeliveryError::Aborted("refused outputs could not be told from their neighbours".into()));
        for _ in 0..ROUNDS {
            match self.step(outputs, positions, pace.together) {
                Ok(()) => {
                    pace = pace.well();
                    done = Ok(());
                    break;
                }
                Err(Setback::Together { refused, crowded }) => {
                    is_crowded |= crowded;
                    let bytes = refused.iter().filter_map(|index| outputs.get(*index)).map(Output::weight_bytes);
                    let together = smaller(pace.together, bytes);
                    tracing::debug!(
                        refused = refused.len(),
                        together,
                        "refused together, tried again in smaller requests"
                    );
                    (pace, gaps) = (Pace { together, good: 0, gap: true }, 0);
                }
                Err(Setback::Failed(DeliveryError::Aborted(reason))) if gaps < GAPS => {
                    gaps += 1;
                    tracing::debug!(reason, together = pace.together, "aborted after a refusal, tried again");
                }
                Err(Setback::Failed(error)) => {
                    let gap = matches!(error, DeliveryError::Refused(_));
                    // What was to blame is known, so its neighbours need no small requests, unless these are what they were too large for.
                    pace = if gap && !is_crowded { Pace { gap, ..before } } else { Pace { gap, ..pace } };
                    done = Err(error);
                    break;
                }
            }
        }
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
        done
    }
}

/// How many bytes go together after outputs of these weights were refused together: half of what it was. Two of them no longer fit then.
fn smaller(together: usize, weights: impl Iterator<Item = usize>) -> usize {
    weights.fold(0, usize::saturating_add).min(together) / 2
}

/// What was handed over since the last flush, and so may be in one request with more for the same partition.
pub(super) struct Segment<'a> {
    together: usize,
    begin: usize,
    bytes: HashMap<(&'a str, i32), usize>,
}

impl<'a> Segment<'a> {
    pub(super) fn new(together: usize) -> Self {
        Self { together, begin: 0, bytes: HashMap::new() }
    }

    /// Whether the output at `index` may join; else what there is must be flushed first, and [`Segment::restart`] called.
    pub(super) fn takes(&mut self, output: &'a Output<'_>, partition: i32) -> bool {
        if self.together == usize::MAX {
            return true;
        }
        let bytes = self.bytes.entry((&output.topic, partition)).or_default();
        let is_first = *bytes == 0;
        // Every output counts, one without a byte, too.
        *bytes = bytes.saturating_add(output.weight_bytes().max(1));
        is_first || *bytes <= self.together
    }

    /// All before `index` was flushed, and the output there comes first.
    pub(super) fn restart(&mut self, index: usize, output: &'a Output<'_>, partition: i32) {
        self.begin = index;
        self.bytes.clear();
        self.takes(output, partition);
    }

    /// Who is to blame for the failure of a flush of what was handed over before `end`.
    pub(super) fn blamed(&self, error: Unflushed, outputs: &[Output<'_>], partitions: &[i32], end: usize) -> Setback {
        let (refusals, cleared, invalid) = match error {
            Unflushed::Refused { refusals, cleared, invalid } => (refusals, cleared, invalid),
            Unflushed::Failed(error) => return Setback::Failed(error),
        };
        let place = |index: usize| Some((&*outputs.get(index)?.topic, *partitions.get(index)?));
        let mut neighbours: HashMap<_, usize> = HashMap::new();
        for index in self.begin..end {
            *neighbours.entry(place(index)).or_default() += 1;
        }
        let cleared: HashSet<_> = cleared.into_iter().map(place).collect();
        // Where nobody is cleared, all were named or none, and a record without a key is named by every compacted topic.
        let is_named =
            |index: usize| invalid.contains(&index) && outputs.get(index).is_some_and(|output| output.key.is_none());
        let is_pinned = |refusal: &&Refusal| {
            let place = place(refusal.index);
            (refusal.class == Class::OutputRefused && (cleared.contains(&place) || is_named(refusal.index)))
                || neighbours.get(&place) == Some(&1)
        };
        let pinned: Vec<Refusal> = refusals.iter().filter(is_pinned).cloned().collect();
        if !pinned.is_empty() {
            return Setback::Failed(DeliveryError::Refused(pinned));
        }
        let mut sizes: HashMap<_, usize> = HashMap::new();
        for refusal in refusals.iter().filter(|refusal| refusal.class == Class::OutputTooLarge) {
            *sizes.entry(place(refusal.index)).or_default() += 1;
        }
        let crowded = sizes.values().any(|count| *count > 1);
        Setback::Together { refused: refusals.iter().map(|refusal| refusal.index).collect(), crowded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Class, Lane, Origin};
    use std::borrow::Cow;

    fn output(topic: &str, bytes: usize) -> Output<'static> {
        let source = Origin { lane: Lane { topic: "raw".into(), partition: 0 }, offset: 0 };
        let (headers, added) = (Cow::Borrowed(&[][..]), Vec::new());
        let value = Some(Cow::Owned(vec![0; bytes]));
        Output { topic: topic.into(), source, key: None, value, headers, added, timestamp_ms: None }
    }

    #[test]
    fn requests_become_smaller_until_two_that_were_refused_no_longer_fit() {
        assert_eq!(smaller(usize::MAX, [2_000, 2_000].into_iter()), 2_000);
        assert_eq!(smaller(1_500, [2_000, 2_000].into_iter()), 750, "never more than before");
        assert_eq!(smaller(usize::MAX, std::iter::repeat_n(usize::MAX, 3)), usize::MAX / 2, "nothing overflows");
        let mut together = 32 << 20;
        for _ in 0..26 {
            together = smaller(together, [usize::MAX].into_iter());
        }
        assert_eq!(together, 0);
    }

    #[test]
    fn a_segment_counts_each_partition_by_itself_and_takes_one_output_of_any_size() {
        let outputs = [output("a", 60), output("a", 60), output("b", 60), output("a", 900), output("a", 1)];
        let mut segment = Segment::new(100);
        assert!(segment.takes(&outputs[0], 0) && segment.takes(&outputs[2], 0) && segment.takes(&outputs[1], 1));
        assert!(!segment.takes(&outputs[1], 0));
        segment.restart(3, &outputs[3], 0);
        assert!(!segment.takes(&outputs[4], 0) && segment.takes(&outputs[4], 1));
        let mut whole = Segment::new(usize::MAX);
        assert!(outputs.iter().all(|output| whole.takes(output, 0)));
    }

    /// Whether anything is pinned, and what, of outputs to partitions 0, but for the fourth, after those of `refused` were.
    fn blamed(
        outputs: &[Output<'_>],
        handed: std::ops::Range<usize>,
        refused: &[usize],
        class: Class,
        cleared: &[usize],
    ) -> (bool, Vec<usize>) {
        let segment = Segment { together: 9, begin: handed.start, bytes: HashMap::new() };
        let refusals = refused.iter().map(|index| Refusal { index: *index, class, message: String::new() }).collect();
        let invalid = refused.iter().copied().filter(|_| class == Class::OutputRefused).collect();
        let error = Unflushed::Refused { refusals, cleared: cleared.iter().copied().collect(), invalid };
        match segment.blamed(error, outputs, &[0, 0, 0, 1, 0], handed.end) {
            Setback::Together { refused, crowded } => {
                assert_eq!(crowded, class == Class::OutputTooLarge);
                (false, refused)
            }
            Setback::Failed(DeliveryError::Refused(guilty)) => (true, guilty.iter().map(|one| one.index).collect()),
            Setback::Failed(error) => panic!("{error}"),
        }
    }

    #[test]
    fn whom_the_broker_names_is_to_blame_and_whom_it_clears_is_not() {
        let keyed = |topic| Output { key: Some(Cow::Borrowed(&b"k"[..])), ..output(topic, 9) };
        let outputs = [keyed("a"), keyed("a"), output("a", 9), keyed("a"), keyed("a")];
        let blamed =
            |refused: &[usize], cleared: &[usize]| blamed(&outputs, 0..5, refused, Class::OutputRefused, cleared);
        assert_eq!(blamed(&[1], &[0, 2, 4]), (true, vec![1]));
        assert_eq!(blamed(&[0, 1], &[4]), (true, vec![0, 1]), "several of one request");
        assert_eq!(blamed(&[0, 1], &[3]), (false, vec![0, 1]), "cleared for another partition");
        assert_eq!(blamed(&[0, 2], &[]), (true, vec![2]), "nobody is cleared, and it has no key");
    }

    #[test]
    fn only_what_was_alone_for_its_partition_is_to_blame() {
        let outputs = [output("a", 9), output("a", 9), output("b", 9), output("a", 9)];
        let blamed = |begin, end, indices: &[usize]| blamed(&outputs, begin..end, indices, Class::OutputTooLarge, &[]);
        assert_eq!(blamed(0, 4, &[0, 1]), (false, vec![0, 1]));
        assert_eq!(blamed(0, 4, &[0, 1, 2]), (true, vec![2]), "the others may be innocent");
        assert_eq!(blamed(1, 4, &[1, 3]), (true, vec![1, 3]), "in two requests, each alone");
        assert_eq!(blamed(0, 1, &[0]), (true, vec![0]));
    }

    #[test]
    fn a_bound_lasts_and_is_forgotten_while_steps_go_well() {
        let mut pace = Pace { together: 3 << 20, good: 0, gap: true };
        for _ in 0..GOOD_STEPS - 1 {
            pace = pace.well();
            assert!(pace.together == 3 << 20 && !pace.gap);
        }
        pace = pace.well();
        assert_eq!((pace.together, pace.good), (6 << 20, 0));
        for _ in 0..GOOD_STEPS {
            pace = pace.well();
        }
        assert_eq!(pace.together, usize::MAX);
        assert_eq!(Pace { together: 0, good: GOOD_STEPS, gap: false }.well().together, 1, "it grows from nothing, too");
    }
}
