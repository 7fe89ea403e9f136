//! Owns signals: what was measured about a document, by name.
//!
//! Invariant: a number in here is finite. What can't be measured is absent, never a stand-in.

use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalValue {
    /// A finite real number (nats, bits, rates).
    Number(f64),
    /// A count (tokens, windows, words).
    Count(u64),
    /// A label (language).
    Text(String),
}

impl SignalValue {
    /// The value as a number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(x) => Some(*x),
            #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            Self::Count(n) => Some(*n as f64),
            Self::Text(_) => None,
        }
    }
}

/// A number that a signal is compared with: which side of it the signal lies on is all that somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// The signal's name.
    pub signal: Arc<str>,
    /// In the signal's unit.
    pub at: f64,
}

/// Signals of one document, sorted by name (`pll.nll_token`, `language`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals {
    /// Sorted by name, each once: a handful, for which a vector is one block of memory where a map is several.
    entries: Vec<(Arc<str>, SignalValue)>,
    estimates: BTreeSet<Arc<str>>,
}

impl Signals {
    /// No signals yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a real number. A non-finite one is dropped: absent is honest, NaN is not.
    pub fn number(&mut self, name: impl Into<Arc<str>>, value: f64) {
        if value.is_finite() {
            self.set(name.into(), SignalValue::Number(value));
        }
    }

    /// Records a real number that is told from a part of what defines it, and that only rules may be decided by: its scorer vouches for the side
    /// of their edges on which it lies, and for no digit of it.
    pub fn estimate(&mut self, name: impl Into<Arc<str>>, value: f64) {
        let name = name.into();
        if value.is_finite() {
            self.estimates.insert(Arc::clone(&name));
        }
        self.number(name, value);
    }

    /// Names of the signals that are estimates, in order.
    pub fn estimates(&self) -> impl Iterator<Item = &Arc<str>> {
        self.estimates.iter()
    }

    /// Whether `name` is an estimate.
    #[must_use]
    pub fn is_estimate(&self, name: &str) -> bool {
        self.estimates.contains(name)
    }

    /// Records a count.
    pub fn count(&mut self, name: impl Into<Arc<str>>, value: u64) {
        self.set(name.into(), SignalValue::Count(value));
    }

    /// Records a label.
    pub fn text(&mut self, name: impl Into<Arc<str>>, value: impl Into<String>) {
        self.set(name.into(), SignalValue::Text(value.into()));
    }

    /// The value of `name`, if it was measured.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SignalValue> {
        self.place(name).ok().map(|at| &self.entries[at].1)
    }

    /// All signals in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &SignalValue)> {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// Adds all of `other`'s signals; equal names take `other`'s value.
    pub fn extend(&mut self, other: Signals) {
        if self.entries.is_empty() {
            *self = other;
            return;
        }
        self.estimates.retain(|name| other.get(name).is_none());
        self.estimates.extend(other.estimates);
        other.entries.into_iter().for_each(|(name, value)| self.set(name, value));
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    fn set(&mut self, name: Arc<str>, value: SignalValue) {
        match self.place(&name) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (name, value)),
        }
    }
}

impl Serialize for Signals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in &self.entries {
            match value {
                SignalValue::Number(x) => map.serialize_entry(&**name, x)?,
                SignalValue::Count(n) => map.serialize_entry(&**name, n)?,
                SignalValue::Text(s) => map.serialize_entry(&**name, s)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_told_from_a_number_and_gives_way_to_one() {
        let mut signals = Signals::new();
        signals.estimate("a", 2.0);
        signals.estimate("b", f64::NAN);
        assert!(signals.is_estimate("a") && !signals.is_estimate("b"));
        let mut other = Signals::new();
        other.number("a", 3.0);
        other.estimate("c", 1.0);
        signals.extend(other);
        assert_eq!(signals.estimates().map(|name| &**name).collect::<Vec<_>>(), ["c"]);
        assert_eq!(signals.get("a"), Some(&SignalValue::Number(3.0)));
    }

    #[test]
    fn a_number_that_is_not_finite_is_absent() {
        let mut signals = Signals::new();
        signals.number("a", f64::NAN);
        signals.number("b", f64::INFINITY);
        signals.number("c", 1.5);
        assert!(signals.get("a").is_none() && signals.get("b").is_none());
        assert_eq!(serde_json::to_string(&signals).unwrap(), r#"{"c":1.5}"#);
    }

    #[test]
    fn signals_stand_in_the_order_of_their_names_and_a_later_value_takes_the_place_of_an_earlier() {
        let mut signals = Signals::new();
        for (name, value) in [("pll.b", 1), ("pll.a", 2), ("cheap", 3), ("pll.b", 4)] {
            signals.count(name, value);
        }
        let mut other = Signals::new();
        other.count("a", 5);
        other.count("cheap", 6);
        signals.extend(other);
        let all = r#"{"a":5,"cheap":6,"pll.a":2,"pll.b":4}"#;
        assert_eq!(serde_json::to_string(&signals).unwrap(), all);
        assert_eq!(signals.get("pll.b"), Some(&SignalValue::Count(4)));
        assert!(signals.get("pll").is_none());
    }
}
