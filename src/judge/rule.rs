//! Owns one rule at work: its thresholds after overrides, and which of them a number crosses.

use super::settings::{Missing, Override, RuleSettings};
use crate::corpus::{Bound, Decision, Document, Signals};
use crate::telemetry::Dial;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The four thresholds of a rule. All absent: everything passes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Thresholds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) review_below: Option<f64>,
    pub(super) review_above: Option<f64>,
}

impl Thresholds {
    /// The rule's own thresholds, before overrides.
    pub(super) fn base(rule: &RuleSettings) -> Self {
        Self { min: rule.min, max: rule.max, review_below: rule.review_below, review_above: rule.review_above }
    }

    /// These thresholds with the keys that `over` names replaced.
    pub(super) fn with(self, over: &Override) -> Self {
        Self {
            min: over.min.or(self.min),
            max: over.max.or(self.max),
            review_below: over.review_below.or(self.review_below),
            review_above: over.review_above.or(self.review_above),
        }
    }

    /// The worst that these thresholds can decide about any number.
    fn worst(&self) -> Decision {
        if self.min.or(self.max).is_some() {
            Decision::Fail
        } else if self.review_below.or(self.review_above).is_some() {
            Decision::Review
        } else {
            Decision::Pass
        }
    }

    /// What `value` crosses, and what that decides; `None` passes. The worst bound is looked at first.
    pub(super) fn crossed(&self, value: f64) -> Option<(Bound, Decision)> {
        let above = |limit: &f64| value > *limit;
        let below = |limit: &f64| value < *limit;
        if let Some(max) = self.max.filter(above) {
            return Some((Bound::Max(max), Decision::Fail));
        }
        if let Some(min) = self.min.filter(below) {
            return Some((Bound::Min(min), Decision::Fail));
        }
        if let Some(edge) = self.review_above.filter(above) {
            return Some((Bound::ReviewAbove(edge), Decision::Review));
        }
        let edge = self.review_below.filter(below)?;
        Some((Bound::ReviewBelow(edge), Decision::Review))
    }
}

/// One rule, its settings checked.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) signal: Arc<str>,
    pub(super) missing: Decision,
    base: Thresholds,
    by_language: BTreeMap<String, Override>,
    by_source: BTreeMap<String, Override>,
}

impl Rule {
    pub(super) fn new(settings: &RuleSettings) -> Self {
        Self {
            name: settings.name.as_str().into(),
            signal: settings.signal.as_str().into(),
            missing: match settings.missing {
                Missing::Fail => Decision::Fail,
                Missing::Review => Decision::Review,
                Missing::Pass => Decision::Pass,
            },
            base: Thresholds::base(settings),
            by_language: settings.by_language.clone(),
            by_source: settings.by_source.clone(),
        }
    }

    /// The rule's thresholds, for people.
    pub(super) fn dial(&self) -> Dial {
        Dial {
            rule: Arc::clone(&self.name),
            signal: Arc::clone(&self.signal),
            min: self.base.min,
            max: self.base.max,
            review_below: self.base.review_below,
            review_above: self.base.review_above,
            overrides: self.by_language.len() + self.by_source.len(),
        }
    }

    /// The number that the rule looks at, and what it crosses; a missing number crosses [`Bound::Missing`] unless the rule passes it.
    pub(super) fn look(&self, document: &Document, signals: &Signals) -> (Option<f64>, Option<(Bound, Decision)>) {
        // `Signals` holds finite numbers only; the filter keeps the promise where a caller might not.
        let value = signals.get(&self.signal).and_then(|value| value.as_number()).filter(|value| value.is_finite());
        let crossed = match value {
            Some(value) => self.thresholds(document).crossed(value),
            None => Some((Bound::Missing, self.missing)).filter(|(_, decision)| *decision != Decision::Pass),
        };
        (value, crossed)
    }

    /// The worst that this rule could decide about `document`, whatever its signal turns out to be, or if it turns out to be missing.
    pub(super) fn worst(&self, document: &Document) -> Decision {
        self.thresholds(document).worst().max(self.missing)
    }

    /// The thresholds for `document`, one by one.
    pub(super) fn edges(&self, document: &Document) -> impl Iterator<Item = f64> + use<> {
        let Thresholds { min, max, review_below, review_above } = self.thresholds(document);
        [min, max, review_below, review_above].into_iter().flatten()
    }

    /// The thresholds for `document`: the base, then its language's keys, then its source's keys on top.
    pub(super) fn thresholds(&self, document: &Document) -> Thresholds {
        let find = |map: &BTreeMap<String, Override>, name: &Option<String>| {
            name.as_ref().and_then(|name| map.get(name)).cloned().unwrap_or_default()
        };
        let language = find(&self.by_language, &document.language);
        let source = find(&self.by_source, &document.source);
        self.base.with(&language).with(&source)
    }
}
