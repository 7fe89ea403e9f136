//! Owns what can be wrong with rules, as facts.

use std::fmt;

/// Everything that is wrong with a set of rules. Never empty.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", list(.problems))]
pub struct Error {
    /// The problems, in the file's order.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One thing that is wrong with one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The rule's place in the file, from 0.
    pub index: usize,
    /// The rule's name, possibly empty.
    pub rule: String,
    /// The key inside the rule (`signal`, `by_language.de`); empty where the rule as a whole is meant.
    pub place: String,
    /// What is wrong.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} {:?}", self.index + 1, self.rule)?;
        if !self.place.is_empty() {
            write!(f, ", {}", self.place)?;
        }
        write!(f, ": {}", self.wrong)
    }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// It has no name.
    #[error("a rule needs a name; reasons and metrics carry it")]
    NoName,
    /// An earlier rule has the same name.
    #[error("an earlier rule has this name; give each rule its own")]
    DuplicateName,
    /// Its signal is not yielded by any `[signals]` table.
    #[error("no signal is called {signal:?}{}", suggest(.nearest))]
    UnknownSignal {
        /// The name asked for.
        signal: String,
        /// Known names like it, nearest first; may be empty.
        nearest: Vec<String>,
    },
    /// It has none of `min`, `max`, `review_below` and `review_above`, so it could never decide anything.
    #[error("it has no bound and could never decide anything; set min, max, review_below or review_above")]
    NoBound,
    /// A threshold is infinite or not a number.
    #[error("{key} must be a finite number; leave it out for no bound")]
    NotFinite {
        /// The threshold's key.
        key: &'static str,
    },
    /// Two thresholds are in the wrong order.
    #[error("{low} = {low_value} must not be above {high} = {high_value}")]
    Order {
        /// The key that must not be greater.
        low: &'static str,
        /// Its value after overrides.
        low_value: f64,
        /// The key that must not be less.
        high: &'static str,
        /// Its value after overrides.
        high_value: f64,
    },
}

fn suggest(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        [only] => format!("; did you mean {only:?}?"),
        several => format!("; did you mean one of {several:?}?"),
    }
}
