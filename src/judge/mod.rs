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

use crate::corpus::{Bound, Decision, Document, Reason, Signals, Status, Verdict};
use crate::telemetry::metrics;
use rule::Rule;
use std::collections::BTreeSet;

/// A set of rules, checked. Cheap to share; judging takes `&self` and no lock.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Vec<Rule>,
    policy: String,
}

impl Judge {
    /// The judge for `rules`, which may only look at `known_signals`. Without rules every document passes.
    ///
    /// # Errors
    /// All problems of all rules at once, in the file's order.
    pub fn new(rules: &[RuleSettings], known_signals: &BTreeSet<String>) -> Result<Self, Error> {
        let problems = settings::problems(rules, known_signals);
        if problems.is_empty() {
            Ok(Self { rules: rules.iter().map(Rule::new).collect(), policy: settings::policy(rules) })
        } else {
            Err(Error { problems })
        }
    }

    /// The verdict on `document`, whose signals are `signals`. All rules are evaluated; each that fires is counted.
    ///
    /// A number above `max` or below `min` fails (both bounds are inclusive: equal passes); within the bounds, above `review_above` or below
    /// `review_below` is for review. A signal that is absent, or is not a number, decides as the rule's `missing` says, and
    /// the status is then `unscorable`.
    #[must_use]
    pub fn judge(&self, document: &Document, signals: &Signals) -> Verdict {
        let mut verdict =
            Verdict { decision: Decision::Pass, status: Status::Scored, reasons: Vec::new(), skipped: Vec::new() };
        for rule in &self.rules {
            // `Signals` holds finite numbers only; the filter keeps the promise where a caller might not.
            let value = signals.get(&rule.signal).and_then(|value| value.as_number()).filter(|value| value.is_finite());
            let crossed = match value {
                Some(value) => rule.thresholds(document).crossed(value),
                None => {
                    verdict.status = Status::Unscorable;
                    Some((Bound::Missing, rule.missing)).filter(|(_, decision)| *decision != Decision::Pass)
                }
            };
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

    /// The identity of these rules: 16 hexadecimal digits, equal exactly when names, signals, thresholds, overrides, `missing` and the rules' order
    /// are equal, however the file is laid out.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

#[cfg(test)]
mod tests;
