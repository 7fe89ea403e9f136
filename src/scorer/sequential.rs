//! Owns the group-sequential rule: on which side of given edges a sum of losses seems to lie after some passes, judged by an estimate and its
//! standard error.
//!
//! In: the edges, how many losses there are, a boundary, and the losses pass by pass. Out: the cell between edges, once each was at least that many
//! standard errors away at some look. Pure. Invariant: an edge's side is told at the first look at which that edge is clear, whatever the other
//! edges, for that is what was tried: so E edges err in at most E times the rate of one. How often one errs is measured, never derived
//! (`calibration.rs`): losses of one pass are no random sample.
//! Must not know: what losses are, where boundaries come from.

use super::certificate::Cell;

/// Losses below which a variance says too little.
const LOSSES_MIN: f64 = 12.0;

/// The running estimate of one document.
#[derive(Debug, Clone)]
pub(super) struct Looks {
    /// Ascending, no two equal.
    edges: Vec<f64>,
    /// Of each, once it is told: whether the sum is above it.
    above: Vec<Option<bool>>,
    /// Losses there are.
    all: f64,
    boundary: f64,
    count: f64,
    /// Mean of the losses seen, and the sum of their squared distances from it (Welford 1962).
    mean: f64,
    squares: f64,
}

impl Looks {
    /// A rule for the sum of `count` losses and its `edges`, which waits until each edge has been `boundary` standard errors away.
    #[must_use]
    pub(super) fn new(edges: &[f64], count: usize, boundary: f64) -> Self {
        let mut edges: Vec<f64> = edges.iter().copied().filter(|edge| !edge.is_nan()).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let all = count as f64;
        let above = vec![None; edges.len()];
        Self { edges, above, all, boundary, count: 0.0, mean: 0.0, squares: 0.0 }
    }

    /// Takes in a loss of the pass that is looked at next.
    pub(super) fn reveal(&mut self, loss: f64) {
        self.count += 1.0;
        let off = loss - self.mean;
        self.mean += off / self.count;
        self.squares += off * (loss - self.mean);
    }

    /// The estimated sum, and its standard error for a sample drawn without replacement: N √(s²/n · (1 − n/N)).
    #[must_use]
    pub(super) fn estimate(&self) -> (f64, f64) {
        let variance = self.squares / (self.count - 1.0).max(1.0);
        let left = (1.0 - self.count / self.all).max(0.0);
        (self.all * self.mean, self.all * (variance / self.count.max(1.0) * left).sqrt())
    }

    /// The estimate at a look; `None` before enough losses were seen.
    #[must_use]
    pub(super) fn seen(&self) -> Option<(f64, f64)> {
        (self.count >= LOSSES_MIN).then(|| self.estimate())
    }

    /// Looks: tells the side of each edge that is clear now and was not before. The cell once all are told; `None` until then, and for good where
    /// what was told at one look contradicts what was told at another: above an edge, and below a lower one.
    #[must_use]
    pub(super) fn look(&mut self) -> Option<Cell> {
        let (sum, error) = self.seen()?;
        for (edge, above) in self.edges.iter().zip(&mut self.above) {
            if above.is_none() && clear(sum, error, *edge, self.boundary) {
                *above = Some(sum > *edge);
            }
        }
        let told = self.above.iter().copied().collect::<Option<Vec<bool>>>()?;
        let high = told.iter().take_while(|above| **above).count();
        let agreed = told[high..].iter().all(|above| !above);
        agreed
            .then(|| Cell { above: high.checked_sub(1).map(|at| self.edges[at]), below: self.edges.get(high).copied() })
    }

    /// How many numbers the sum is compared with.
    #[must_use]
    pub(super) fn edges(&self) -> usize {
        self.edges.len()
    }
}

/// Whether an estimated sum is far enough from an edge to tell its side.
pub(super) fn clear(sum: f64, error: f64, edge: f64, boundary: f64) -> bool {
    (sum - edge).abs() > boundary * error && sum.total_cmp(&edge).is_ne()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_the_sample_s_and_exact_at_the_end() {
        let mut looks = Looks::new(&[], 4, 3.0);
        [1.0, 3.0].into_iter().for_each(|loss| looks.reveal(loss));
        let (sum, error) = looks.estimate();
        // s² = 2, n = 2, N = 4: 4 √(2/2 · 1/2).
        assert!((sum - 8.0).abs() < 1e-12 && (error - 4.0 * 0.5_f64.sqrt()).abs() < 1e-12);
        [5.0, 7.0].into_iter().for_each(|loss| looks.reveal(loss));
        assert_eq!(looks.estimate(), (16.0, 0.0));
    }

    #[test]
    fn edges_decide_when_all_are_far_enough_and_tell_the_cell() {
        let run = |edges: &[f64], boundary| {
            let mut looks = Looks::new(edges, 100, boundary);
            (0..20).for_each(|at| looks.reveal(f64::from(at % 2) * 2.0 + 3.0));
            looks.look()
        };
        // Mean 4, s about 1.03, standard error of the sum about 20.6.
        assert_eq!(run(&[300.0, 500.0], 3.0), Some(Cell { above: Some(300.0), below: Some(500.0) }));
        assert_eq!(run(&[500.0, 300.0], 5.0), None);
        assert_eq!(run(&[300.0, 410.0], 3.0), None);
        assert_eq!(run(&[], 3.0), Some(Cell::default()));
        let mut few = Looks::new(&[1000.0], 100, 0.0);
        (0..11).for_each(|_| few.reveal(1.0));
        assert_eq!(few.look(), None, "eleven equal losses say nothing of the others");
    }

    #[test]
    fn an_edge_s_side_is_that_of_the_first_look_at_which_it_is_clear() {
        let losses = |looks: &mut Looks, mean: f64| {
            (0..20).for_each(|at| looks.reveal(mean + f64::from(at % 2)));
            looks.look()
        };
        // At the first look the sum seems to be 1,000: above 800, and too near 1,010. At the second it seems to be 500.
        let mut looks = Looks::new(&[800.0, 1010.0], 200, 3.0);
        assert_eq!(losses(&mut looks, 4.5), None);
        assert_eq!(losses(&mut looks, -0.5), Some(Cell { above: Some(800.0), below: Some(1010.0) }));
        // What is told at the second look contradicts the first: only the full score can tell.
        let mut looks = Looks::new(&[490.0, 800.0], 200, 1.0);
        looks.above = vec![None, Some(true)];
        assert_eq!(losses(&mut looks, 0.5), None);
        assert_eq!((looks.above.clone(), looks.edges()), (vec![Some(false), Some(true)], 2));
    }
}
