//! Owns what a caller asks of one window: which positions each pass masks, and which it scores.
//!
//! Positions lie in one buffer and a pass is a span of it, so that a window costs a few allocations, however many passes it has.

use super::Error;
use std::ops::Range;
use std::sync::Arc;

/// A window and the forward passes to make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    ids: Arc<[u32]>,
    positions: Vec<u32>,
    /// Ids that are asked for in place of the window's own.
    asked: Vec<u32>,
    spans: Vec<Span>,
    /// Readings of all passes together.
    readings: usize,
}

/// One pass: spans of `positions`, which may be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    masked: Range<usize>,
    scored: Range<usize>,
    /// Where the ids for its scored positions start in `asked`, where they are not the window's own.
    asked: Option<usize>,
    /// Where its readings start in the answer.
    start: usize,
}

impl Passes {
    /// No pass yet over a window's ids, wrapped in its special tokens, `[T]`.
    #[must_use]
    pub fn over(ids: Arc<[u32]>) -> Self {
        Self { ids, positions: Vec::new(), asked: Vec::new(), spans: Vec::new(), readings: 0 }
    }

    /// Adds a pass that masks `positions` together and scores each of them. None is no pass.
    pub fn mask(&mut self, positions: impl IntoIterator<Item = u32>) {
        let span = self.append(positions);
        self.add(span.clone(), span, None);
    }

    /// Adds a pass that masks `masked`, which may be nothing, and scores the window's own ids at `scored`, masked there or not.
    /// Nothing to score is no pass.
    pub fn mask_and_score(&mut self, masked: impl IntoIterator<Item = u32>, scored: impl IntoIterator<Item = u32>) {
        let masked = self.append(masked);
        let scored = self.append(scored);
        self.add(masked, scored, None);
    }

    /// Adds a pass that masks `position` and reads there each of `ids`, whatever the window has there. None is no pass.
    pub fn mask_and_ask(&mut self, position: u32, ids: impl IntoIterator<Item = u32>) {
        let start = self.asked.len();
        self.asked.extend(ids);
        let masked = self.append([position]);
        let scored = self.append(std::iter::repeat_n(position, self.asked.len() - start));
        self.add(masked, scored, Some(start));
    }

    fn append(&mut self, positions: impl IntoIterator<Item = u32>) -> Range<usize> {
        let start = self.positions.len();
        self.positions.extend(positions);
        start..self.positions.len()
    }

    fn add(&mut self, masked: Range<usize>, scored: Range<usize>, asked: Option<usize>) {
        if !scored.is_empty() {
            let start = self.readings;
            self.readings += scored.len();
            self.spans.push(Span { masked, scored, asked, start });
        }
    }

    /// The window's ids, `[T]`.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many passes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spans.len()
    }

    /// How many readings the answer holds: pass by pass, each in the order of its scored positions.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.readings
    }

    /// The positions that a pass masks.
    pub(super) fn masked(&self, pass: usize) -> &[u32] {
        &self.positions[self.spans[pass].masked.clone()]
    }

    /// The positions that a pass scores.
    pub(super) fn scored(&self, pass: usize) -> &[u32] {
        &self.positions[self.spans[pass].scored.clone()]
    }

    /// The positions that a pass scores, and the id that is read at each.
    pub(super) fn targets(&self, pass: usize) -> impl Iterator<Item = (u32, u32)> {
        let span = &self.spans[pass];
        self.scored(pass).iter().enumerate().map(move |(at, position)| match span.asked {
            Some(start) => (*position, self.asked[start + at]),
            None => (*position, self.ids[*position as usize]),
        })
    }

    /// Where a pass's readings stand in the answer.
    pub(super) fn place(&self, pass: usize) -> Range<usize> {
        let span = &self.spans[pass];
        span.start..span.start + span.scored.len()
    }

    /// Makes several passes of one that scores more than `most` positions, so that no pass outgrows the memory that was tried at
    /// load. The readings stay the same, and so does their order.
    pub(super) fn split(&mut self, most: usize) {
        let most = most.max(1);
        if self.spans.iter().all(|span| span.scored.len() <= most) {
            return;
        }
        let pieces = |span: &Span| {
            let (span, end) = (span.clone(), span.scored.end);
            span.scored.clone().step_by(most).map(move |from| Span {
                masked: span.masked.clone(),
                scored: from..end.min(from + most),
                asked: span.asked.map(|asked| asked + from - span.scored.start),
                start: span.start + from - span.scored.start,
            })
        };
        self.spans = self.spans.iter().flat_map(pieces).collect();
    }

    /// Whether a model of `max_positions` can run these passes.
    pub(super) fn check(&self, max_positions: usize) -> Result<(), Error> {
        let tokens = self.ids.len();
        let why = if tokens > max_positions {
            format!("{tokens} tokens, but the model has {max_positions} positions")
        } else if self.positions.iter().any(|position| *position as usize >= tokens) {
            "a position outside the row".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Request { why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_scores_too_much_becomes_several_with_the_same_mask_and_order() {
        let mut passes = Passes::over(vec![7; 10].into());
        passes.mask([3]);
        passes.mask_and_score([1, 2], 0..7);
        passes.mask([]);
        passes.mask([4, 5]);
        assert_eq!((passes.count(), passes.readings()), (3, 10));
        passes.split(3);
        let made: Vec<_> =
            (0..passes.count()).map(|n| (passes.masked(n), passes.scored(n).to_vec(), passes.place(n))).collect();
        assert_eq!(
            made,
            [
                (&[3][..], vec![3], 0..1),
                (&[1, 2], vec![0, 1, 2], 1..4),
                (&[1, 2], vec![3, 4, 5], 4..7),
                (&[1, 2], vec![6], 7..8),
                (&[4, 5], vec![4, 5], 8..10)
            ]
        );
        assert_eq!(passes.readings(), 10);
    }

    #[test]
    fn other_ids_than_the_windows_can_be_asked_for_and_keep_their_order_when_split() {
        let mut passes = Passes::over(vec![7, 8, 9].into());
        passes.mask([0]);
        passes.mask_and_ask(1, [20, 21, 22]);
        passes.mask_and_ask(1, []);
        assert_eq!((passes.count(), passes.readings()), (2, 4));
        passes.split(2);
        let targets: Vec<Vec<(u32, u32)>> = (0..passes.count()).map(|pass| passes.targets(pass).collect()).collect();
        assert_eq!(targets, [vec![(0, 7)], vec![(1, 20), (1, 21)], vec![(1, 22)]]);
        assert_eq!(passes.masked(2), [1]);
    }
}
