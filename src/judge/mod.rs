//! Turns signals into a verdict by rules.
//!
//! Owns: what `[judge]` and `[[rules]]` mean, overrides included, and the identity of a set of rules. In: a [`Document`] and its
//! [`Signals`]. Out: a [`Verdict`] with a reason for every rule that did not pass.
//! Invariants: no clock, no randomness, no state: the same rules and signals always give the same verdict; the worst rule
//! wins; thresholds are finite; a missing number never passes unless its rule says so.
//! Must not know: where signals come from, where verdicts go.

mod error;
mod near;
mod rule;
mod settings;

pub use error::{Error, Problem, Wrong};
pub use near::nearest;
pub use settings::{Evaluate, Missing, Override, RuleSettings, Settings};

use crate::corpus::{Decision, Document, Edge, Reason, Signals, Status, Verdict};
use crate::telemetry::{Dial, metrics};
use rule::Rule;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A set of rules, checked. Cheap to share; judging takes `&self` and no lock.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Vec<Rule>,
    policy: String,
    evaluate: Evaluate,
}

impl Judge {
    /// The judge for `rules`, which may only look at `known_signals`. Without rules every document passes.
    ///
    /// # Errors
    /// All problems of all rules at once, in the file's order.
    pub fn new(rules: &[RuleSettings], known_signals: &BTreeSet<String>) -> Result<Self, Error> {
        let problems = settings::problems(rules, known_signals);
        if problems.is_empty() {
            let policy = settings::policy(rules);
            Ok(Self { rules: rules.iter().map(Rule::new).collect(), policy, evaluate: Evaluate::default() })
        } else {
            Err(Error { problems })
        }
    }

    /// The same judge, going as far as `evaluate` says once a verdict is certain.
    #[must_use]
    pub fn evaluating(self, evaluate: Evaluate) -> Self {
        Self { evaluate, ..self }
    }

    /// Whether the signals `asked` are worth measuring, given what `signals` say so far. `unmeasured` are all names that nothing is known
    /// of: `asked`, what comes after them, and what was skipped before.
    ///
    /// With `until-decided`: whether any rule that looks at one of them could make the verdict worse than the other rules have made it
    /// already, with the document's own thresholds and with what a missing number would mean. The worst rule wins, so a rule that can't
    /// make it worse changes nothing. A signal that no rule looks at is never worth measuring then.
    #[must_use]
    pub fn needs(&self, document: &Document, signals: &Signals, asked: &[Arc<str>], unmeasured: &[Arc<str>]) -> bool {
        match self.evaluate {
            Evaluate::All => true,
            Evaluate::UntilDecided => {
                let known = self.rules.iter().filter(|rule| !unmeasured.contains(&rule.signal));
                let certain = known.filter_map(|rule| rule.look(document, signals).1).map(|(_, decision)| decision);
                let open = self.rules.iter().filter(|rule| asked.contains(&rule.signal));
                let possible = open.map(|rule| rule.worst(document));
                possible.max() > Some(certain.max().unwrap_or(Decision::Pass))
            }
        }
    }

    /// Every number that a rule compares one of the signals `asked` with, for `document`: bounds and edges of bands, after overrides. Two sets of
    /// signals that lie on the same side of each of them get the same decision and the same reasons.
    #[must_use]
    pub fn edges(&self, document: &Document, asked: &[Arc<str>]) -> Vec<Edge> {
        let rules = self.rules.iter().filter(|rule| asked.contains(&rule.signal));
        rules.flat_map(|rule| rule.edges(document).map(|at| Edge { signal: Arc::clone(&rule.signal), at })).collect()
    }

    /// The verdict on `document`, whose signals are `signals`. All rules are evaluated; each that fires is counted.
    ///
    /// A number above `max` or below `min` fails (both bounds are inclusive: equal passes); within the bounds, above `review_above` or below
    /// `review_below` is for review. A signal that is absent, or is not a number, decides as the rule's `missing` says, and
    /// the status is then `unscorable`.
    #[must_use]
    pub fn judge(&self, document: &Document, signals: &Signals) -> Verdict {
        self.judge_without(document, signals, Vec::new())
    }

    /// [`Judge::judge`] where `skipped` signals were not measured: their rules are not evaluated, so they are neither missing nor a reason.
    /// The decision is the same as with them if [`Judge::needs`] said so of each.
    #[must_use]
    pub fn judge_without(&self, document: &Document, signals: &Signals, skipped: Vec<Arc<str>>) -> Verdict {
        let mut verdict = Verdict { decision: Decision::Pass, status: Status::Scored, reasons: Vec::new(), skipped };
        for rule in &self.rules {
            if verdict.skipped.contains(&rule.signal) {
                continue;
            }
            let (value, crossed) = rule.look(document, signals);
            if value.is_none() {
                verdict.status = Status::Unscorable;
            }
            let Some((bound, decision)) = crossed else { continue };
            metrics::rule_fired(&rule.name, decision.as_str());
            verdict.decision = verdict.decision.max(decision);
            verdict.reasons.push(Reason {
                rule: rule.name.clone(),
                signal: rule.signal.clone(),
                value,
                bound,
                decision,
            });
        }
        verdict
    }

    /// What each rule asks of its signal, in the file's order.
    #[must_use]
    pub fn dials(&self) -> Vec<Dial> {
        self.rules.iter().map(Rule::dial).collect()
    }

    /// The identity of these rules: 16 hexadecimal digits, equal exactly when names, signals, thresholds, overrides, `missing` and the rules' order
    /// are equal, however the file is laid out. How far rules are evaluated is no part of it: that changes what is measured, never a verdict.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

#[cfg(test)]
mod tests;
