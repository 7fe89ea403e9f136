//! Owns the table of boundaries for `stop = "calibrated"`: how it is made from documents that were scored in full, and how it is read.
//!
//! In: losses of whole documents, pass by pass. Out: for each stratum of lengths, the least boundary at which early verdicts were other ones than the
//! full score's rarely enough, at every threshold tried. Invariants: a boundary is chosen by testing from the strictest on and stopping at the first
//! that fails, so that choosing spends no confidence; what was not tried is not in the table, and is scored in full.
//! Must not know: models, rules, how losses come about.
//!
//! Fixed-sequence testing: Angelopoulos et al. 2021, "Learn then Test", section 3. The bound on a rate: Clopper and Pearson 1934.

use super::draws::Draws;
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

/// One document of the calibration set: its losses, pass by pass.
pub type Losses = Vec<Vec<f64>>;

/// What looks at one document see: all that a trial needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// After each pass but the last: the estimated sum and its standard error, if enough was seen for one.
    looks: Vec<Option<(f64, f64)>>,
    sum: f64,
    count: usize,
}

/// How one document fares with one boundary and one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Passes run.
    pub passes: usize,
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
            Some(Stratum { tokens_max: STRATA.get(at).copied(), documents: documents.len(), boundary, flips })
        });
        Self { version: VERSION, scorer: scorer.to_owned(), flip_rate, confidence, strata: made.collect() }
    }

    /// The boundary for a document of `tokens` tokens, and its stratum's place; `None` where it must be scored in full.
    #[must_use]
    pub fn boundary(&self, tokens: usize) -> Option<(usize, f64)> {
        let wanted = STRATA.get(stratum(tokens)).copied();
        let found = self.strata.iter().enumerate().find(|(_, stratum)| stratum.tokens_max == wanted);
        found.map(|(at, stratum)| (at, stratum.boundary))
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
    /// The record of a document of one window with these losses, its passes run in the order that the program draws with an empty key for the
    /// content `ids`. A recording without ids may give any that differ from document to document, such as its number: then the orders are other
    /// ones than those documents would get, and drawn alike.
    #[must_use]
    pub fn drawn(document: &Losses, ids: &[u32]) -> Self {
        let orders = Draws::of_passes("", &[ids]).turns(&[document.len()]);
        let turns = orders.iter().flatten().filter_map(|pass| document.get(*pass as usize).cloned());
        Self::of(&turns.collect())
    }

    /// The record of a document with these losses, its passes run in this order.
    fn of(document: &Losses) -> Self {
        let count = document.iter().map(Vec::len).sum::<usize>();
        let mut looks = Looks::new(&[], count, 0.0);
        let look = |pass: &Vec<f64>| {
            pass.iter().for_each(|loss| looks.reveal(*loss));
            looks.seen()
        };
        let looks = document.iter().take(document.len().saturating_sub(1)).map(look).collect();
        Self { looks, sum: document.iter().flatten().sum(), count }
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
        let told = |(at, look): (usize, &Option<(f64, f64)>)| {
            look.filter(|(sum, error)| clear(*sum, *error, edge, boundary)).map(|(sum, _)| (at, sum))
        };
        match self.looks.iter().enumerate().find_map(told) {
            Some((at, sum)) => Trial { passes: at + 1, flipped: (sum > edge) != (self.sum > edge) },
            None => Trial { passes: self.looks.len() + 1, flipped: false },
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
            let mut document: Losses = vec![Vec::new(); passes];
            (0..tokens).for_each(|at| document[at % passes].push(-level * draws.unit().ln()));
            Record::of(&document)
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
        let document: Losses = [1.0, 2.0, 3.0].map(|loss| vec![loss; 12]).to_vec();
        let mut seen = std::collections::BTreeMap::<Vec<u64>, u32>::new();
        for number in 0..6000 {
            let record = Record::drawn(&document, &[number]);
            let sums = record.looks.iter().map(|look| look.unwrap().0.round() as u64);
            *seen.entry(sums.collect()).or_default() += 1;
        }
        // Six orders, a thousand each, and a standard deviation of 29. Passes in a circle would come in three.
        assert_eq!(seen.len(), 6, "{seen:?}");
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
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
