//! Owns the certificate: on which side of given edges a sum of losses lies, told from some of them, with a bound on how often that is wrong.
//!
//! In: the edges, how many losses there are, their range, and the losses one by one in random order. Out: the cell between edges, once
//! all of them are decided. Pure. Invariants: for **any** losses within the range, the chance over the order that what is told is wrong is at
//! most `delta`, whenever one stops to look; what is told never changes; without a ceiling on the losses nothing is ever told to be below.
//! Must not know: what losses are, where the order comes from, rules.
//!
//! The test is betting against a finite population drawn without replacement (Waudby-Smith and Ramdas 2020, "Confidence sequences for
//! sampling without replacement"; 2023, "Estimating means of bounded random variables by betting", section 5). For an edge at the sum E, with
//! S revealed by t of N losses, the null "the sum is at most E" says that the others' mean is at most m = (E − S) / (N − t). A stake λ in
//! [0, 1/m), chosen before the next loss x is seen, multiplies the wealth by 1 + λ(x − m), which is never negative as x is not, and is
//! worth no more than before on average under the null; so (Ville 1939) the wealth ever reaches 1/δ with a chance of at most δ. The other null,
//! "at least E", is bet against with 1 + λ(m − x), λ below 1/(B − m): that needs the ceiling B. At most one of the two is true of an edge
//! that the sum is not on, so the chance of an error is at most δ an edge, and the edges share δ out among them.

/// How far below 0 a loss may lie by rounding: a log-probability computed in single precision may exceed 0 in its last digits.
const ROUNDING_NATS: f64 = 1e-5;
/// How near to an edge a sum is taken to be on both of its sides, as a share of the edge: sums are rounded, in whatever order.
const TIE: f64 = 1e-9;
/// Stakes as shares of the greatest that can't lose everything: the wealth is spread over them, and half of it over the adaptive one.
const STAKES: [f64; 6] = [0.6, 0.3, 0.15, 0.075, 0.04, 0.02];
const STAKE_MAX: f64 = 0.8;
/// What the adaptive stake takes losses to be like before it has seen any: this many of them, on the edge, with this variance in nats². A
/// better guess saves draws; no guess costs certainty.
const PRIOR: (f64, f64) = (4.0, 8.0);

/// A running test of one population against its edges.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Ascending. The first `low` are decided to lie below the sum, those from `high` on above it.
    edges: Vec<Edge>,
    low: usize,
    high: usize,
    /// Losses not yet revealed, and the sum of those that are.
    left: usize,
    revealed: Moments,
    /// Greatest loss, where there is one.
    ceiling: Option<f64>,
    /// ln of the wealth at which an edge is decided.
    target: f64,
    /// A loss was out of range, so that nothing can be promised any more.
    void: bool,
}

/// What is decided of a sum: it lies above the one edge and below the other; `None` is no edge on that side.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cell {
    /// The greatest edge that the sum is above.
    pub above: Option<f64>,
    /// The least edge that the sum is below.
    pub below: Option<f64>,
}

#[derive(Debug, Clone)]
struct Edge {
    /// As given.
    at: f64,
    above: Wealth,
    below: Wealth,
}

/// ln of what became of each stake's share.
#[derive(Debug, Clone, Default)]
struct Wealth {
    adaptive: f64,
    fixed: [f64; STAKES.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Certificate {
    /// A test of `count` losses, each in [0, `ceiling`], whose sum is compared with each of `edges` (in any order; equal ones are one, and
    /// what is not a number is left out). Of all that it tells, the chance that any is wrong is at most `delta`, in (0, 1).
    #[must_use]
    pub fn new(edges: &[f64], count: usize, ceiling: Option<f64>, delta: f64) -> Self {
        let mut at: Vec<f64> = edges.iter().copied().filter(|edge| !edge.is_nan()).collect();
        at.sort_by(f64::total_cmp);
        at.dedup();
        let share = delta / as_f64(at.len().max(1));
        let edge = |at| Edge { at, above: Wealth::default(), below: Wealth::default() };
        let mut certificate = Self {
            low: 0,
            high: at.len(),
            edges: at.into_iter().map(edge).collect(),
            left: count,
            revealed: Moments::default(),
            ceiling: ceiling.map(|ceiling| ceiling + ROUNDING_NATS),
            target: -share.ln(),
            void: false,
        };
        certificate.settle();
        certificate
    }

    /// Takes in the next loss, drawn uniformly from those that are left. One more than there are is not counted.
    pub fn reveal(&mut self, loss: f64) {
        // From here on losses are counted from ROUNDING_NATS below 0, so that none is negative.
        let loss = loss + ROUNDING_NATS;
        if self.left == 0 {
            return;
        }
        self.void |= !(loss >= 0.0 && self.ceiling.is_none_or(|ceiling| loss <= ceiling));
        if !self.void {
            for place in self.low..self.high {
                let (up, down) = (self.rest(place, 1.0), self.rest(place, -1.0));
                let (revealed, ceiling) = (self.revealed, self.ceiling);
                let edge = &mut self.edges[place];
                edge.above.bet(loss - up, up, revealed.stake(up));
                if let Some(ceiling) = ceiling {
                    edge.below.bet(down - loss, ceiling - down, -revealed.stake(down));
                }
            }
        }
        self.revealed.add(loss);
        self.left -= 1;
        if !self.void {
            self.settle();
        }
    }

    /// Where the sum lies; `None` while an edge is undecided. What stays undecided when all losses are revealed lies on an edge, or the ranges were wrong:
    /// then the sum itself says.
    #[must_use]
    pub fn cell(&self) -> Option<Cell> {
        let decided = self.low == self.high && (self.edges.is_empty() || !self.void);
        let at = |place: Option<usize>| place.and_then(|place| self.edges.get(place)).map(|edge| edge.at);
        decided.then(|| Cell { above: at(self.low.checked_sub(1)), below: at(Some(self.high)) })
    }

    /// What the mean of the losses that are left would be, were their sum on an edge; a little beyond it, above (1) or below (−1).
    fn rest(&self, place: usize, side: f64) -> f64 {
        let all = self.revealed.count + as_f64(self.left);
        let at = self.edges[place].at;
        let edge = at + side * tie(at) + all * ROUNDING_NATS;
        (edge - self.revealed.sum) / as_f64(self.left.max(1))
    }

    /// Decides what can be decided: an edge below the sum decides all that are lower, one above it all that are higher.
    fn settle(&mut self) {
        for place in (self.low..self.high).rev() {
            if self.rest(place, 1.0) < 0.0 || self.edges[place].above.reached(self.target) {
                self.low = place + 1;
                break;
            }
        }
        for place in self.low..self.high {
            let over = self.ceiling.is_some_and(|ceiling| self.rest(place, -1.0) > ceiling);
            let none_left = self.left == 0 && self.rest(place, -1.0) > 0.0;
            if over || none_left || self.edges[place].below.reached(self.target) {
                self.high = place;
                break;
            }
        }
    }
}

impl Cell {
    /// Whether `sum` is in the cell.
    #[must_use]
    pub fn holds(&self, sum: f64) -> bool {
        self.above.is_none_or(|edge| sum > edge) && self.below.is_none_or(|edge| sum < edge)
    }

    /// `value` if it lies in the cell, else a number in the cell next to it, clear of the edge by more than rounding.
    #[must_use]
    pub fn hold(&self, value: f64) -> f64 {
        match (self.above, self.below) {
            (Some(low), Some(high)) if low + tie(low) > high - tie(high) => f64::midpoint(low, high),
            (low, high) => {
                let value = low.map_or(value, |low| value.max(low + tie(low)));
                high.map_or(value, |high| value.min(high - tie(high)))
            }
        }
    }
}

impl Wealth {
    /// Wins `gain`, of which at most `risk` can be lost; `adaptive` is the stake that seems best.
    fn bet(&mut self, gain: f64, risk: f64, adaptive: f64) {
        // Without anything to lose the null is certain to be decided; a bet must not divide by nothing.
        let risk = risk.max(1e-9);
        for (wealth, share) in self.fixed.iter_mut().zip(STAKES) {
            *wealth += (share / risk * gain).ln_1p();
        }
        self.adaptive += (adaptive.clamp(0.0, STAKE_MAX / risk) * gain).ln_1p();
    }

    fn reached(&self, target: f64) -> bool {
        let most = self.fixed.iter().copied().fold(self.adaptive, f64::max);
        let fixed: f64 = self.fixed.iter().map(|wealth| (wealth - most).exp()).sum();
        let sum = 0.5 * (self.adaptive - most).exp() + 0.5 * fixed / as_f64(STAKES.len());
        most + sum.ln() >= target
    }
}

impl Moments {
    fn add(&mut self, loss: f64) {
        self.count += 1.0;
        self.sum += loss;
        self.squares += loss * loss;
    }

    /// The stake that would make the most, were the losses to come like those seen: (μ − m) / (σ² + (μ − m)²), in which a stake on less than
    /// `mean` is negative ("approximate GRAPA" in the 2023 paper).
    fn stake(&self, mean: f64) -> f64 {
        let (prior, variance) = PRIOR;
        let count = self.count + prior;
        let guess = (self.sum + prior * mean) / count;
        let seen = self.squares - 2.0 * guess * self.sum + guess * guess * self.count;
        let variance = (seen.max(0.0) + prior * variance) / count;
        let off = guess - mean;
        off / (variance + off * off)
    }
}

/// How far from an edge a sum is told to be on one side of it.
fn tie(edge: f64) -> f64 {
    if edge.is_finite() { TIE * edge.abs().max(1.0) } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
