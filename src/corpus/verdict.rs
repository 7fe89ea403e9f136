//! Owns the verdict: where a document goes and why.

use super::{document::Document, fault::Fault, record::Record, signals::Signals};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::sync::Arc;

/// What the rules decided; ordered so that the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Good enough on every rule.
    Pass,
    /// In the band of a rule that asks for a person's eye.
    Review,
    /// Beyond the bound of at least one rule.
    Fail,
}

impl Decision {
    /// The decision's name in headers, output and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Review => "review",
            Self::Fail => "fail",
        }
    }
}

/// Where a record ends. Every record ends on exactly one of these, but for deletions, which go to all of pass, review and fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Kept.
    Pass,
    /// For a person to look at.
    Review,
    /// Rejected.
    Fail,
    /// Could not be judged; carries its original bytes and the fault.
    DeadLetter,
}

impl Route {
    /// Every route, for metrics and status.
    pub const ALL: [Route; 4] = [Route::Pass, Route::Review, Route::Fail, Route::DeadLetter];

    /// The route's name in output and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Review => "review",
            Self::Fail => "fail",
            Self::DeadLetter => "dead-letter",
        }
    }
}

impl From<Decision> for Route {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Pass => Self::Pass,
            Decision::Review => Self::Review,
            Decision::Fail => Self::Fail,
        }
    }
}

/// Whether the numbers that a verdict rests on exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every signal that a rule asked for was measured, but for those that were skipped.
    Scored,
    /// At least one rule's signal could not be measured (an empty document, for one).
    Unscorable,
}

impl Status {
    /// The status's name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Unscorable => "unscorable",
        }
    }
}

/// The bound that a signal crossed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Below the inclusive minimum.
    Min(f64),
    /// Above the inclusive maximum.
    Max(f64),
    /// Below the edge of the review band.
    ReviewBelow(f64),
    /// Above the edge of the review band.
    ReviewAbove(f64),
    /// The signal is missing; the rule says what that means.
    Missing,
}

/// Why one rule did not pass a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The rule's name in the pipeline file.
    pub rule: Arc<str>,
    /// The signal it looked at.
    pub signal: Arc<str>,
    /// The signal's value; `None` where it is missing.
    pub value: Option<f64>,
    /// The bound that was crossed, after overrides.
    pub bound: Bound,
    /// What this rule alone decided.
    pub decision: Decision,
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rule", &*self.rule)?;
        map.serialize_entry("signal", &*self.signal)?;
        map.serialize_entry("value", &self.value)?;
        match self.bound {
            Bound::Min(x) => map.serialize_entry("min", &x)?,
            Bound::Max(x) => map.serialize_entry("max", &x)?,
            Bound::ReviewBelow(x) => map.serialize_entry("review_below", &x)?,
            Bound::ReviewAbove(x) => map.serialize_entry("review_above", &x)?,
            Bound::Missing => map.serialize_entry("missing", self.decision.as_str())?,
        }
        map.end()
    }
}

/// What was decided about one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The worst of all rules.
    pub decision: Decision,
    /// Whether every rule had its number.
    pub status: Status,
    /// One reason for each rule that did not pass, in the file's order. Empty exactly when the decision is pass.
    pub reasons: Vec<Reason>,
    /// Signals that were not computed because the verdict was certain without them.
    pub skipped: Vec<Arc<str>>,
}

/// What one journey ends with: the record and what became of it.
#[derive(Debug)]
pub enum Judged {
    /// A document with its verdict.
    Document {
        /// The original record.
        record: Record,
        /// The decoded document.
        document: Document,
        /// What was measured.
        signals: Signals,
        /// What was decided.
        verdict: Verdict,
    },
    /// A null value with a key: forwarded unscored.
    Tombstone {
        /// The original record.
        record: Record,
    },
    /// A record that could not be judged.
    Dead {
        /// The original record.
        record: Record,
        /// Why.
        fault: Fault,
        /// How many times this fault's step was tried, from 1.
        attempt: u32,
    },
}

impl Judged {
    /// The original record.
    #[must_use]
    pub fn record(&self) -> &Record {
        match self {
            Self::Document { record, .. } | Self::Tombstone { record } | Self::Dead { record, .. } => record,
        }
    }
}
