//! Owns the table of boundaries for `stop = "calibrated"`: how it is made from documents that were scored in full, and how it is read.
//!
//! In: losses of whole documents, window by window. Out: for each stratum of lengths, the least boundary at which early verdicts were other ones than the
//! full score's rarely enough, at every threshold tried. Invariants: a boundary is chosen by testing from the strictest on and stopping at the first
//! that fails, so that choosing spends no confidence; what was not tried is not in the table, and is scored in full.
//! Must not know: models, rules, how losses come about.
//!
//! Fixed-sequence testing: Angelopoulos et al. 2021, "Learn then Test", section 3. The bound on a rate: Clopper and Pearson 1934.

use super::draws::Draws;
use super::plan::{Plan, Window};
use super::sequential::{Looks, clear};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Greatest numbers of tokens of the strata; one more holds all that are longer.
const STRATA: [usize; 6] = [32, 64, 128, 256, 512, 1024];
/// Boundaries tried, in standard errors, from strict to lax.
const BOUNDARIES: std::ops::RangeInclusive<u32> = 6..=48;
const PER_ERROR: f64 = 8.0;
/// Thresholds tried: these percentiles of the documents' own means.
const PERCENTILES: [usize; 19] = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95];
const VERSION: u32 = 1;

/// Boundaries for one scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Of this file's layout.
    pub version: u32,
    /// Identity of the scorer whose losses it was made from.
    pub scorer: String,
    /// The rate of other verdicts than the full score's that was tested for, at each threshold.
    pub flip_rate: f64,
    /// Of that test, as in 0.95.
    pub confidence: f64,
    /// By length; those without enough documents are not there.
    pub strata: Vec<Stratum>,
}

/// Documents of about one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// Greatest number of tokens; absent for the longest documents.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens_max: Option<usize>,
    /// Most tokens of a document that it was made from: longer ones are scored in full. Absent in tables of versions that did not note it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub longest: Option<usize>,
    /// How many it was made from.
    pub documents: usize,
    /// Standard errors that an edge must be away.
    pub boundary: f64,
    /// Early verdicts that were other ones, at the threshold where most were.
    pub flips: usize,
}

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// It can't be read, or is none.
    #[error("{path}: {why}; make one as docs/early-stopping.md says")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was made for another score.
    #[error(
        "{path} was made for the scorer {found}, and this one is {wanted}: another model, masking or window; make one for it, as \
         docs/early-stopping.md says"
    )]
    Other {
        /// The file.
        path: String,
        /// The table's scorer.
        found: String,
        /// This scorer.
        wanted: String,
    },
}

/// One window of a document that was scored in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Losses {
    /// Its content ids, or what stands for them in the draws.
    pub ids: Vec<u32>,
    /// Nats of each of its tokens, in order.
    pub nll: Vec<f64>,
}

/// What looks at one document see: all that a trial needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// After each turn but the last.
    looks: Vec<Look>,
    sum: f64,
    count: usize,
    /// Of all windows.
    passes: usize,
}

/// What is known at one look.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    /// The estimated sum and its standard error, if enough was seen for one.
    seen: Option<(f64, f64)>,
    passes: usize,
    revealed: usize,
}

/// How one document fares with one boundary and one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Passes run, over all windows.
    pub passes: usize,
    /// Tokens that they scored.
    pub revealed: usize,
    /// Whether the verdict is another one than the full score's.
    pub flipped: bool,
}

/// Which stratum a document of `tokens` tokens is in, from 0.
fn stratum(tokens: usize) -> usize {
    STRATA.iter().position(|most| tokens <= *most).unwrap_or(STRATA.len())
}

impl Table {
    /// Reads the table at `path` for `scorer`.
    ///
    /// # Errors
    /// It can't be read, its layout is another, or it was made for another scorer.
    pub fn read(path: &Path, scorer: &str) -> Result<Self, TableError> {
        let named = path.display().to_string();
        let unreadable = |why: String| TableError::Unreadable { path: named.clone(), why };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let table: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if table.version != VERSION {
            return Err(unreadable(format!("its version is {}, and {VERSION} is known here", table.version)));
        }
        let sound = |stratum: &Stratum| stratum.boundary.is_finite() && stratum.boundary > 0.0;
        if !(table.flip_rate > 0.0 && table.flip_rate < 1.0 && table.strata.iter().all(sound)) {
            return Err(unreadable("a rate or a boundary is out of range".to_owned()));
        }
        if table.scorer != scorer {
            return Err(TableError::Other { path: named, found: table.scorer, wanted: scorer.to_owned() });
        }
        Ok(table)
    }

    /// The table for `scorer`, made from `documents`: at every threshold tried, early verdicts differ from the full score's in at most `flip_rate` of
    /// documents like these, with `confidence`.
    #[must_use]
    pub fn calibrate(scorer: &str, documents: &[Record], flip_rate: f64, confidence: f64) -> Self {
        let mut by_length = vec![Vec::new(); STRATA.len() + 1];
        for document in documents {
            by_length[stratum(document.count)].push(document);
        }
        let made = by_length.into_iter().enumerate().filter_map(|(at, documents)| {
            let (boundary, flips) = boundary(&documents, flip_rate, confidence)?;
            let (tokens_max, longest) =
                (STRATA.get(at).copied(), documents.iter().map(|document| document.count).max());
            Some(Stratum { tokens_max, longest, documents: documents.len(), boundary, flips })
        });
        Self { version: VERSION, scorer: scorer.to_owned(), flip_rate, confidence, strata: made.collect() }
    }

    /// The boundary for a document of `tokens` tokens, and its stratum's place; `None` where it must be scored in full.
    #[must_use]
    pub fn boundary(&self, tokens: usize) -> Option<(usize, f64)> {
        let wanted = STRATA.get(stratum(tokens)).copied();
        let found = self.strata.iter().enumerate().find(|(_, stratum)| stratum.tokens_max == wanted);
        let known = found.filter(|(_, stratum)| stratum.longest.is_none_or(|longest| tokens <= longest));
        known.map(|(at, stratum)| (at, stratum.boundary))
    }
}

/// The laxest boundary that holds, with the most flips at any threshold; `None` if not even the strictest does.
fn boundary(documents: &[&Record], flip_rate: f64, confidence: f64) -> Option<(f64, usize)> {
    let mut means: Vec<f64> = documents.iter().map(|document| document.mean()).collect();
    means.sort_by(f64::total_cmp);
    let thresholds: Vec<f64> =
        PERCENTILES.iter().filter_map(|percent| means.get(means.len() * percent / 100).copied()).collect();
    let mut held = None;
    for eighths in BOUNDARIES.rev() {
        let boundary = f64::from(eighths) / PER_ERROR;
        let flips =
            |threshold: &f64| documents.iter().filter(|document| document.trial(*threshold, boundary).flipped).count();
        let worst = thresholds.iter().map(flips).max()?;
        if upper_bound(worst, documents.len(), confidence) > flip_rate {
            break;
        }
        held = Some((boundary, worst));
    }
    held
}

impl Record {
    /// The record of a document of these windows under `masking = "strided"`, its passes run in the turns that the program draws with an empty key. A
    /// recording without ids may give any that differ from document to document, such as its number: then the orders are other ones than those documents
    /// would get, and drawn alike.
    #[must_use]
    pub fn drawn(document: &[Losses], stride: usize) -> Self {
        let passes = |window: &Losses| -> Vec<Vec<f64>> {
            // Where tokens are masked depends on how many there are alone.
            let places = vec![0; window.nll.len()];
            let passes = Plan::Strided { stride }.passes(&Window { ids: &places, words: &[] });
            let losses =
                |ranks: Vec<u32>| ranks.iter().filter_map(|rank| window.nll.get(*rank as usize).copied()).collect();
            passes.into_iter().map(|pass| losses(pass.scored)).collect()
        };
        let windows: Vec<Vec<Vec<f64>>> = document.iter().map(passes).collect();
        let counts: Vec<usize> = windows.iter().map(Vec::len).collect();
        let content: Vec<&[u32]> = document.iter().map(|window| &*window.ids).collect();
        let losses = |(window, pass): (usize, usize)| windows.get(window)?.get(pass).cloned();
        let turns = Draws::of_passes("", &content).turns(&counts);
        Self::of(&turns.into_iter().map(|turn| turn.into_iter().filter_map(losses).collect()).collect::<Vec<_>>())
    }

    /// The record of a document whose passes score these losses: turn by turn, pass by pass.
    fn of(turns: &[Vec<Vec<f64>>]) -> Self {
        let losses = || turns.iter().flatten().flatten();
        let (count, passes) = (losses().count(), turns.iter().map(Vec::len).sum());
        let mut looks = Looks::new(&[], count, 0.0);
        let (mut run, mut revealed) = (0, 0);
        let look = |turn: &Vec<Vec<f64>>| {
            turn.iter().flatten().for_each(|loss| looks.reveal(*loss));
            run += turn.len();
            revealed += turn.iter().map(Vec::len).sum::<usize>();
            Look { seen: looks.seen(), passes: run, revealed }
        };
        let looks = turns.iter().take(turns.len().saturating_sub(1)).map(look).collect();
        Self { looks, sum: losses().sum(), count, passes }
    }

    /// Tokens of the document.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.count
    }

    /// Nats a token.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// How the document fares where its mean loss is compared with `threshold`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn trial(&self, threshold: f64, boundary: f64) -> Trial {
        let edge = threshold * self.count as f64;
        let told = |look: &Look| {
            let (sum, error) = look.seen?;
            clear(sum, error, edge, boundary).then_some((*look, sum))
        };
        match self.looks.iter().find_map(told) {
            Some((Look { passes, revealed, .. }, sum)) => {
                Trial { passes, revealed, flipped: (sum > edge) != (self.sum > edge) }
            }
            None => Trial { passes: self.passes, revealed: self.count, flipped: false },
        }
    }
}

/// Clopper and Pearson's upper bound on a rate, one-sided: the rate at which `errors` or fewer in `trials` have a chance of 1 − `confidence`.
#[must_use]
pub fn upper_bound(errors: usize, trials: usize, confidence: f64) -> f64 {
    if errors >= trials {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(errors, trials, middle) > 1.0 - confidence { low = middle } else { high = middle }
    }
    high
}

/// The chance of at most `errors` in `trials` at `rate`, in (0, 1).
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn at_most(errors: usize, trials: usize, rate: f64) -> f64 {
    let (n, odds) = (trials as f64, (rate / (1.0 - rate)).ln());
    let mut term = n * (1.0 - rate).ln();
    let mut sum = term.exp();
    for k in 1..=errors {
        term += ((n - k as f64 + 1.0) / k as f64).ln() + odds;
        sum += term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents whose means differ by about half a nat, in passes of strided tokens.
    fn documents(count: u64, tokens: usize, passes: usize) -> Vec<Record> {
        let document = |seed| {
            let mut draws = Draws::new(seed, &[5]);
            let level = 2.0 + 2.0 * draws.unit();
            let mut turns = vec![vec![Vec::new()]; passes];
            (0..tokens).for_each(|at| turns[at % passes][0].push(-level * draws.unit().ln()));
            Record::of(&turns)
        };
        (0..count).map(document).collect()
    }

    #[test]
    fn the_bound_on_a_rate_is_clopper_and_pearson_s() {
        // With no error it is 1 − (1 − c)^(1/n).
        assert!((upper_bound(0, 598, 0.95) - (1.0 - 0.05_f64.powf(1.0 / 598.0))).abs() < 1e-9);
        // Quantiles of the beta distribution: 0.95 of Beta(5, 996), and of Beta(1 + 38, 4962).
        assert!((upper_bound(4, 1000, 0.95) - 0.009_127).abs() < 1e-5);
        assert!((upper_bound(38, 5000, 0.95) - 0.009_965).abs() < 1e-4);
        assert_eq!(upper_bound(3, 3, 0.95), 1.0);
    }

    #[test]
    fn a_boundary_keeps_its_rate_on_documents_that_it_has_not_seen() {
        let all = documents(3000, 120, 6);
        let (seen, unseen) = all.split_at(1500);
        let table = Table::calibrate("id", seen, 0.01, 0.95);
        let [found] = &table.strata[..] else { panic!("one length, one stratum: {table:?}") };
        assert_eq!((found.tokens_max, found.documents), (Some(128), 1500));
        assert!(upper_bound(found.flips, found.documents, 0.95) <= 0.01);
        let trials: Vec<Trial> = unseen.iter().map(|document| document.trial(2.8, found.boundary)).collect();
        let flips = trials.iter().filter(|trial| trial.flipped).count();
        assert!(flips <= 30, "{flips} of 1500");
        let passes: usize = trials.iter().map(|trial| trial.passes).sum();
        assert!(passes < 1500 * 5, "{passes}");
    }

    #[test]
    fn the_passes_of_a_record_are_run_in_any_order_as_the_program_s_are() {
        let nll: Vec<f64> = [1.0, 2.0, 3.0].repeat(12);
        let mut seen = std::collections::BTreeMap::<Vec<u64>, u32>::new();
        for number in 0..6000 {
            let record = Record::drawn(&[Losses { ids: vec![number], nll: nll.clone() }], 3);
            let sums = record.looks.iter().map(|look| look.seen.unwrap().0.round() as u64);
            *seen.entry(sums.collect()).or_default() += 1;
        }
        // Six orders, a thousand each, and a standard deviation of 29. Passes in a circle would come in three.
        assert_eq!(seen.len(), 6, "{seen:?}");
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_document_of_several_windows_is_seen_a_pass_of_each_at_a_time() {
        let window =
            |ids: &[u32], losses: &[f64], times: usize| Losses { ids: ids.to_vec(), nll: losses.repeat(times) };
        // Windows of three passes, two passes and one, of which each pass has a loss of its own.
        let document = [window(&[7], &[1.0, 2.0, 4.0], 8), window(&[8], &[8.0, 16.0], 1), window(&[9], &[32.0], 1)];
        let record = Record::drawn(&document, 3);
        assert_eq!((record.looks.len(), record.passes, record.count, record.sum), (2, 6, 27, 112.0));
        let looks: Vec<(usize, usize)> = record.looks.iter().map(|look| (look.passes, look.revealed)).collect();
        assert_eq!(looks, [(3, 10), (5, 19)]);
        assert!(record.looks[0].seen.is_none(), "ten losses are too few");
        let (sum, _) = record.looks[1].seen.unwrap();
        // All of the two short windows, and two passes of the first.
        let possible = [8.0 * 3.0, 8.0 * 5.0, 8.0 * 6.0].map(|first| (first + 56.0) / 19.0 * 27.0);
        assert!(possible.iter().any(|one| (one - sum).abs() < 1e-9), "{sum} is none of {possible:?}");
        let trial = |threshold| record.trial(threshold, 1.0);
        assert_eq!(trial(-1e3), Trial { passes: 5, revealed: 19, flipped: false });
        assert_eq!(trial(sum / 27.0), Trial { passes: 6, revealed: 27, flipped: false });
    }

    #[test]
    fn a_document_longer_than_all_that_a_boundary_was_made_from_is_scored_in_full() {
        let table = Table::calibrate("id", &documents(400, 1100, 2), 0.01, 0.95);
        assert_eq!(
            table.strata.iter().map(|made| (made.tokens_max, made.longest)).collect::<Vec<_>>(),
            [(None, Some(1100))]
        );
        assert!(table.boundary(1100).is_some() && table.boundary(1101).is_none());
        // A table that an earlier version made does not say.
        let old = Table { strata: vec![Stratum { longest: None, ..table.strata[0] }], ..table };
        assert!(old.boundary(1101).is_some());
    }

    #[test]
    fn lengths_without_enough_documents_are_scored_in_full() {
        let table = Table::calibrate("id", &documents(200, 120, 6), 0.001, 0.95);
        assert_eq!(table.strata, [], "200 documents can't show a rate of 0.001");
        let table = Table::calibrate("id", &documents(400, 120, 6), 0.01, 0.95);
        assert!(table.boundary(120).is_some_and(|(at, boundary)| at == 0 && boundary > 0.0));
        assert!([30, 64, 129, 5000].iter().all(|tokens| table.boundary(*tokens).is_none()));
    }

    #[test]
    fn a_table_is_for_one_scorer_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.json");
        let table = Table::calibrate("mine", &documents(400, 120, 6), 0.01, 0.95);
        std::fs::write(&path, serde_json::to_string(&table).unwrap()).unwrap();
        assert_eq!(Table::read(&path, "mine"), Ok(table.clone()));
        let other = Table::read(&path, "other").unwrap_err().to_string();
        assert!(other.contains("made for the scorer mine, and this one is other"), "{other}");
        assert!(matches!(Table::read(&dir.path().join("none"), "mine"), Err(TableError::Unreadable { .. })));
        for wrong in [Table { version: 2, ..table.clone() }, Table { flip_rate: 0.0, ..table }] {
            std::fs::write(&path, serde_json::to_string(&wrong).unwrap()).unwrap();
            assert!(matches!(Table::read(&path, "mine"), Err(TableError::Unreadable { .. })));
        }
    }
}
