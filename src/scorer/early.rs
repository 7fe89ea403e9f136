//! Owns scores that stop early: passes are run in keyed order until every edge that somebody asks about is decided.
//!
//! In: a document and the numbers that its signals are compared with. Out: signals, those marked as estimates that were told from a part of the tokens.
//! Invariants: an estimate lies on the decided side of every edge; when all passes have run, sums and signals are bit for bit those of a score that
//! never stops; what was revealed is kept, so that other edges go on from there.
//! Must not know: what edges mean, where they come from.

use super::audit::Audit;
use super::calibration::Table;
use super::certificate::{Cell, Certificate};
use super::draws::Draws;
use super::model::Prepared;
use super::partial::Partial;
use super::plan::{Pass, Window};
use super::score::{self, LOOKUP_WINDOWS, WINDOWS_IN_FLIGHT};
use super::sequential::Looks;
use super::stop::{Rule, Stopping};
use super::sums::Sums;
use super::tail::{Early, Pooled, Tail};
use super::{Error, Scorer};
use crate::cache::Key;
use crate::corpus::{Document, Edge, Fault, Signals};
use crate::engine::Reading;
use crate::telemetry::metrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Tokens revealed before anybody looks, and between two looks at least: the device wants rows by the batch.
const FIRST_LOOK: usize = 16;
const LOOK_EVERY: usize = 8;
/// Beyond that, each look is at this share more tokens than the one before: one part in …
const LOOK_SHARE: usize = 8;

/// A certified document with more tokens than this is scored in full: passes, order and losses take some 190 bytes a token until it is decided.
const CERTIFIED_TOKENS_MAX: usize = 1 << 17;
/// Passes looked at before other tasks get a turn.
const UNITS_A_TURN: usize = 512;

/// A table of boundaries at work.
pub(super) struct Calibrated {
    table: Table,
    audit: Audit,
}

impl Calibrated {
    /// The table that `stopping` names, if it names one, read for the scorer `identity`; `name` is the signal's.
    pub(super) fn read(name: &str, stopping: Option<&Stopping>, identity: &str) -> Result<Option<Self>, Error> {
        let Some(Rule::Calibrated { table, .. }) = stopping.map(|stopping| &stopping.rule) else { return Ok(None) };
        let table = Table::read(table, identity).map_err(|error| Error::Settings {
            name: name.to_owned(),
            key: "stop_table",
            why: error.to_string(),
        })?;
        let audit = Audit::new(table.flip_rate, table.strata.len());
        Ok(Some(Self { table, audit }))
    }

    /// The stratum of documents of so many tokens and its boundary, if the table has one and the audit has not dropped it.
    fn boundary(&self, tokens: usize) -> Option<(usize, f64)> {
        self.table.boundary(tokens).filter(|(stratum, _)| !self.audit.dropped(*stratum))
    }
}

/// How one document is revealed.
struct Course {
    /// Passes to run, with a look after each stage but the last.
    stages: Vec<Vec<Unit>>,
    test: Test,
    /// Tokens that the stages score.
    tokens: usize,
    stratum: Option<usize>,
    /// Whether passes go on after the test has told.
    audits: bool,
    /// What it told then.
    audited: Option<Cell>,
}

impl Course {
    /// Of a document that was drawn for the audit, whether its early verdict was another one than that of its full `sum`; `None` for one that was not
    /// drawn. The table promises a share of all documents, so one that no look decided counts, as one that was decided rightly.
    fn flipped(&self, sum: f64) -> Option<bool> {
        self.audits.then(|| self.audited.is_some_and(|cell| !cell.holds(sum)))
    }
}

/// What is looked with.
enum Test {
    /// Nothing: every pass is run.
    None,
    Certificate(Certificate),
    Looks(Looks),
}

impl Test {
    fn reveal(&mut self, loss: f64) {
        match self {
            Self::None => (),
            Self::Certificate(certificate) => certificate.reveal(loss),
            Self::Looks(looks) => looks.reveal(loss),
        }
    }

    fn look(&mut self) -> Option<Cell> {
        match self {
            Self::None => None,
            Self::Certificate(certificate) => certificate.cell(),
            Self::Looks(looks) => looks.look(),
        }
    }

    /// How many numbers are told from estimates.
    fn edges(&self) -> usize {
        match self {
            Self::None | Self::Certificate(_) => 0,
            Self::Looks(looks) => looks.edges(),
        }
    }
}

/// Stages of a certified document.
fn looks(mut order: &[Unit]) -> Vec<Vec<Unit>> {
    let (mut stages, mut looked) = (Vec::new(), 0);
    while !order.is_empty() {
        let more = if looked == 0 { FIRST_LOOK } else { LOOK_EVERY.max(looked / LOOK_SHARE) };
        let (next, rest) = order.split_at(more.min(order.len()));
        stages.push(next.to_vec());
        looked += next.len();
        order = rest;
    }
    stages
}

/// One pass of one window.
#[derive(Debug, Clone, Copy)]
struct Unit {
    window: usize,
    pass: usize,
}

/// A document's windows, and what is known of each.
struct Slate<'a> {
    windows: Vec<Window<'a>>,
    keys: Vec<Key>,
    passes: Vec<Vec<Pass>>,
    known: Vec<Known>,
    /// Windows of which more is known than the cache has.
    fresh: Vec<bool>,
}

enum Known {
    /// Everything.
    Whole(Sums),
    Part(Partial),
}

impl Scorer {
    /// [`Scorer::score`], but that a scorer whose settings say so stops as soon as it is decided on which side of each of `edges` its signals lie. Those
    /// of other signals are left aside. Cancel-safe, but that revealed losses are then lost.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub async fn score_until(&self, document: &Document, edges: &[Edge]) -> Result<Signals, Fault> {
        let Some(stopping) = &self.stopping else { return self.score(document).await };
        self.meter.document();
        let prepared = self.prepare(&document.text).await?;
        let (bytes, tokens) = (document.text.len(), prepared.ids.len());
        let may_stop = match &stopping.rule {
            Rule::Certified { .. } => tokens <= CERTIFIED_TOKENS_MAX,
            Rule::Calibrated { .. } => self.calibrated.as_ref().is_some_and(|table| table.boundary(tokens).is_some()),
        };
        let (windows, early) = match self.sums_at(edges, &prepared, bytes).filter(|_| may_stop) {
            Some(edges) => {
                let _turn = self.turns.take(tokens).await;
                self.reveal(&prepared, &edges, stopping).await?
            }
            None => (self.window_sums(&prepared).await?, None),
        };
        Ok(Pooled { windows: &windows, words: prepared.words, bytes, early }.signals(&self.outputs))
    }

    /// The sums of losses at which this score's signals are on `edges`. `None` where there is nothing to decide or a signal that can't be decided from
    /// a part of the losses: then the full score is wanted.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn sums_at(&self, edges: &[Edge], prepared: &Prepared, bytes: usize) -> Option<Vec<f64>> {
        let tokens = prepared.ids.len() as f64;
        let mut sums = Vec::new();
        for edge in edges {
            let Some(tail) = self.outputs.iter().find_map(|output| output.tail(&edge.signal)) else { continue };
            match tail {
                Tail::NllToken => sums.push(edge.at * tokens),
                // A perplexity that overflows is missing, which is neither side; only a clip rules that out.
                Tail::Pppl if self.recipe.has_perplexity_always() => {
                    sums.push(if edge.at > 0.0 { edge.at.ln() * tokens } else { f64::NEG_INFINITY });
                }
                // Without words there is no such number, whatever the losses.
                Tail::NllWord if prepared.words == 0 => (),
                Tail::NllWord => sums.push(edge.at * prepared.words as f64),
                Tail::Bpb => sums.push(edge.at * bytes as f64 * std::f64::consts::LN_2),
                Tail::Tokens | Tail::Windows | Tail::UnkRate => (),
                Tail::Pppl
                | Tail::WorstDecile
                | Tail::Revealed
                | Tail::Stderr
                | Tail::AulB
                | Tail::LogRank
                | Tail::Lrr
                | Tail::Entropy
                | Tail::ArgmaxGap
                | Tail::NelboToken => return None,
            }
        }
        (!sums.is_empty() && !prepared.windows.is_empty()).then_some(sums)
    }

    /// Reveals tokens until all of `edges` are decided. The windows hold counts alone then; if that took all tokens, they are the exact sums.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    async fn reveal(
        &self,
        prepared: &Prepared,
        edges: &[f64],
        stopping: &Stopping,
    ) -> Result<(Vec<Sums>, Option<Early>), Error> {
        let mut slate = self.slate(prepared).await;
        let (whole_nll, whole_tokens) = slate.whole();
        // What is known whole is no part of the population: the edges lie at what is left for the rest.
        let edges: Vec<f64> = edges.iter().map(|edge| edge - whole_nll).collect();
        let mut course = self.course(&slate, &edges, stopping);
        let (mut sum, mut revealed) = (0.0, 0_u64);
        for (at, next) in course.stages.iter().enumerate() {
            self.run(&mut slate, next).await?;
            for (place, unit) in next.iter().enumerate() {
                for loss in slate.losses(*unit) {
                    let loss = self.recipe.clip_nats.map_or(loss, |clip| clip.min(loss));
                    course.test.reveal(loss);
                    (sum, revealed) = (sum + loss, revealed + 1);
                }
                if place % UNITS_A_TURN == UNITS_A_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            let last = at + 1 == course.stages.len();
            let Some(cell) = course.test.look().filter(|_| !last && course.audited.is_none()) else { continue };
            if course.audits {
                course.audited = Some(cell);
                continue;
            }
            self.keep(&mut slate, false).await;
            metrics::score_stopped(course.stages[at + 1..].iter().map(Vec::len).sum());
            let nll = whole_nll + cell.hold(sum / revealed as f64 * course.tokens as f64);
            let early = Early { nll, revealed: whole_tokens + revealed };
            return Ok((self.bare(&slate), Some(early)));
        }
        self.keep(&mut slate, true).await;
        if let (Some(flipped), Some(stratum)) = (course.flipped(sum), course.stratum) {
            self.audited(stratum, course.test.edges(), flipped);
        }
        let sums = (0..slate.windows.len()).filter_map(|at| match &slate.known[at] {
            Known::Whole(sums) => Some(*sums),
            Known::Part(partial) => partial.sums(&slate.passes[at], self.making(&slate.windows[at])),
        });
        Ok((sums.collect(), None))
    }

    /// The order of a document's passes, where to look, and what to look with.
    fn course(&self, slate: &Slate<'_>, edges: &[f64], stopping: &Stopping) -> Course {
        let tokens = slate.tokens();
        let plain = |stages, test| Course { stages, test, tokens, stratum: None, audits: false, audited: None };
        match (&stopping.rule, &self.calibrated) {
            (Rule::Certified { delta }, _) => {
                let certificate = Certificate::new(edges, tokens, self.recipe.clip_nats, *delta);
                plain(looks(&slate.order(&stopping.key)), Test::Certificate(certificate))
            }
            (Rule::Calibrated { audit_share, .. }, Some(calibrated)) => {
                // The table's documents were seen from their first pass on, in one order, and so must this one be: a window that is known
                // whole has no losses to look at.
                let known = calibrated.boundary(tokens).filter(|_| slate.whole().1 == 0);
                let stages = slate.passes_in_turn(&stopping.key);
                let Some((stratum, boundary)) = known else { return plain(stages, Test::None) };
                let audits = slate.draw(&stopping.key, "audit").unit() <= *audit_share;
                let test = Test::Looks(Looks::new(edges, tokens, boundary));
                Course { stratum: Some(stratum), audits, ..plain(stages, test) }
            }
            (Rule::Calibrated { .. }, None) => plain(slate.passes_in_turn(&stopping.key), Test::None),
        }
    }

    /// Takes note of an audited document, and says so where its stratum is dropped.
    fn audited(&self, stratum: usize, edges: usize, flipped: bool) {
        let Some(calibrated) = &self.calibrated else { return };
        metrics::score_audited(flipped);
        if calibrated.audit.note(stratum, edges, flipped) {
            let tokens_max = calibrated.table.strata.get(stratum).and_then(|stratum| stratum.tokens_max);
            metrics::stop_alarm();
            tracing::warn!(
                scorer = self.identity(),
                tokens_max,
                flip_rate = calibrated.table.flip_rate,
                "early verdicts differ from full scores more often than promised: documents of this length are scored in full from now on; \
                 calibrate anew"
            );
        }
    }

    /// What the cache knows of a document's windows.
    async fn slate<'a>(&self, prepared: &'a Prepared) -> Slate<'a> {
        let windows: Vec<Window<'a>> = prepared.windows.iter().map(|range| prepared.window(range)).collect();
        let keys: Vec<Key> = windows.iter().map(|window| self.key(window)).collect();
        let mut known = Vec::with_capacity(windows.len());
        for (windows, keys) in windows.chunks(LOOKUP_WINDOWS).zip(keys.chunks(LOOKUP_WINDOWS)) {
            for (window, stored) in windows.iter().zip(self.cache.get_many(keys).await) {
                let (stored, tokens) = (stored.unwrap_or_default(), window.ids.len());
                known.push(match Sums::from_bytes(&stored, tokens, self.needs) {
                    Some(sums) => Known::Whole(sums),
                    None => Known::Part(Partial::from_bytes(&stored, tokens).unwrap_or_else(|| Partial::new(tokens))),
                });
            }
        }
        let passes = windows.iter().map(|window| self.recipe.plan.passes(window)).collect();
        Slate { fresh: vec![false; windows.len()], windows, keys, passes, known }
    }

    /// Runs those of `units` that nothing is known of, some windows at once.
    async fn run(&self, slate: &mut Slate<'_>, units: &[Unit]) -> Result<(), Error> {
        let mut wanted: BTreeMap<usize, Vec<Pass>> = BTreeMap::new();
        for unit in units {
            let Known::Part(partial) = &slate.known[unit.window] else { continue };
            let pass = &slate.passes[unit.window][unit.pass];
            if !partial.has(pass) {
                wanted.entry(unit.window).or_default().push(pass.clone());
            }
        }
        let mut wanted = wanted.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < WINDOWS_IN_FLIGHT
                && let Some((at, passes)) = wanted.next()
            {
                let (model, wrapped) = (Arc::clone(&self.model), score::wrap(&self.model, slate.windows[at].ids));
                self.meter.rows(passes.len(), wrapped.len());
                running.spawn(async move {
                    let readings = score::read(&model, &passes, wrapped).await?;
                    Ok::<_, Error>((at, passes, readings))
                });
            }
            let Some(finished) = running.join_next().await else { return Ok(()) };
            let (at, passes, readings) = finished??;
            slate.learn(at, &passes, &readings);
        }
    }

    /// Puts what is new into the cache: sums of windows if all passes have run, else losses token by token, of complete windows too. These are a
    /// part of the order in which the document's losses are revealed, and the next threshold must see them in it: which windows happened to be
    /// complete when passes ended depends on losses, so that to leave those out would leave no random order of the rest. For the same reason all windows
    /// become sums at the end, those too that had been complete before.
    async fn keep(&self, slate: &mut Slate<'_>, ended: bool) {
        let mut entries = Vec::new();
        for at in 0..slate.windows.len() {
            if let Known::Part(partial) = &slate.known[at]
                && (std::mem::take(&mut slate.fresh[at]) || ended)
            {
                let sums = ended.then(|| partial.sums(&slate.passes[at], self.making(&slate.windows[at]))).flatten();
                entries.push((slate.keys[at], sums.map_or_else(|| partial.to_bytes(), Sums::to_bytes)));
            }
        }
        self.cache.put_many(entries).await;
    }

    /// Sums that hold the counts of windows and nothing else.
    fn bare(&self, slate: &Slate<'_>) -> Vec<Sums> {
        let counts = |window| {
            let making = self.making(window);
            Sums { tokens: making.tokens as u64, unknown: making.unknown, ..Sums::default() }
        };
        slate.windows.iter().map(counts).collect()
    }
}

impl Slate<'_> {
    /// Nats and tokens of the windows that are known whole.
    fn whole(&self) -> (f64, u64) {
        let whole = self.known.iter().filter_map(|known| match known {
            Known::Whole(sums) => Some((sums.nll, sums.tokens)),
            Known::Part(_) => None,
        });
        whole.fold((0.0, 0), |(nll, tokens), (more, count)| (nll + more, tokens + count))
    }

    /// The passes of all windows that are not known whole, in an order that depends on the key and the document alone. To leave some out of a random
    /// order leaves a random order of the rest, as long as which ones does not depend on the order; so early scores keep no window whole (`keep`).
    fn order(&self, key: &str) -> Vec<Unit> {
        let all: Vec<Unit> = self
            .passes
            .iter()
            .enumerate()
            .flat_map(|(window, passes)| (0..passes.len()).map(move |pass| Unit { window, pass }))
            .collect();
        let drawn = self.draw(key, "order").order(all.len());
        let units = drawn.iter().filter_map(|at| all.get(*at as usize).copied());
        units.filter(|unit| matches!(self.known[unit.window], Known::Part(_))).collect()
    }

    /// The passes of all windows that are not known whole, one of each window at a time, in an order of its own for each window.
    fn passes_in_turn(&self, key: &str) -> Vec<Vec<Unit>> {
        let counts: Vec<usize> = self.passes.iter().map(Vec::len).collect();
        let part = |unit: &Unit| matches!(self.known[unit.window], Known::Part(_));
        let units = |turn: Vec<(usize, usize)>| -> Vec<Unit> {
            turn.into_iter().map(|(window, pass)| Unit { window, pass }).filter(part).collect()
        };
        let turns = Draws::of_passes(key, &self.content()).turns(&counts);
        turns.into_iter().map(units).filter(|stage| !stage.is_empty()).collect()
    }

    /// A stream of draws for this document.
    fn draw(&self, key: &str, what: &str) -> Draws {
        Draws::keyed(what, key, &self.content())
    }

    fn content(&self) -> Vec<&[u32]> {
        self.windows.iter().map(|window| window.ids).collect()
    }

    /// Tokens of the windows that are not known whole.
    fn tokens(&self) -> usize {
        let parts = self.windows.iter().zip(&self.known).filter(|(_, known)| matches!(known, Known::Part(_)));
        parts.map(|(window, _)| window.ids.len()).sum()
    }

    /// −log p of what a pass scores, nats, as far as it is known.
    fn losses(&self, unit: Unit) -> impl Iterator<Item = f64> {
        let partial = match &self.known[unit.window] {
            Known::Part(partial) => Some(partial),
            Known::Whole(_) => None,
        };
        let ranks = self.passes[unit.window][unit.pass].scored.iter();
        ranks.filter_map(move |rank| partial.and_then(|partial| partial.get(*rank))).map(|logprob| -logprob)
    }

    fn learn(&mut self, at: usize, passes: &[Pass], readings: &[Reading]) {
        if let Known::Part(partial) = &mut self.known[at] {
            partial.learn(passes, readings);
            self.fresh[at] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_counts_every_document_that_was_drawn_and_no_other() {
        let told = Some(Cell { above: None, below: Some(1.0) });
        let course = |audits, audited| Course {
            stages: Vec::new(),
            test: Test::None,
            tokens: 40,
            stratum: Some(0),
            audits,
            audited,
        };
        assert_eq!(course(false, told).flipped(2.0), None, "it was not drawn");
        assert_eq!(course(true, None).flipped(2.0), Some(false), "nothing was decided too early");
        assert_eq!((course(true, told).flipped(0.5), course(true, told).flipped(2.0)), (Some(false), Some(true)));
    }
}
