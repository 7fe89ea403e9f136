//! Owns the `[judge]` and `[[rules]]` tables: keys, defaults, everything that can be wrong with them, and their identity.

use super::error::{Problem, Wrong};
use super::near::nearest;
use super::rule::Thresholds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How rules are evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How far to go once a verdict is certain.
    pub evaluate: Evaluate,
}

/// Which rules are evaluated. The verdict is the same with each; reasons, signals and the status may be fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluate {
    /// Every rule, so that every reason is known.
    #[default]
    All,
    /// Those that can still change the verdict, cheap signals first: model signals that can't are skipped, and listed as skipped.
    UntilDecided,
}

/// What a document gets whose signal could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It fails.
    #[default]
    Fail,
    /// It goes to review.
    Review,
    /// The rule passes it.
    Pass,
}

/// What is good enough: at least one bound on one signal, in the signal's own unit. The worst rule wins: fail, then review, then pass; without rules everything passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// The rule's name, unique in the file; it appears in reasons and metrics.
    pub name: String,
    /// The signal it looks at, `<table>.<signal>`.
    pub signal: String,
    /// Below this the document fails; equal passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Above this the document fails; equal passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Below this, down to `min`, the document goes to review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_below: Option<f64>,
    /// Above this, up to `max`, the document goes to review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_above: Option<f64>,
    /// Thresholds for documents of one language, key by key over the rule's own; languages match exactly.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_language: BTreeMap<String, Override>,
    /// Thresholds for documents of one source, key by key over the language's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_source: BTreeMap<String, Override>,
    /// What a document without this signal gets.
    #[serde(default)]
    pub missing: Missing,
}

/// Thresholds that replace a rule's own; absent ones stay as they were.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Replaces `min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Replaces `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Replaces `review_below`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review_below: Option<f64>,
    /// Replaces `review_above`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review_above: Option<f64>,
}

/// Everything wrong with `rules`, in the file's order.
pub(super) fn problems(rules: &[RuleSettings], known_signals: &BTreeSet<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut tell = |place: String, wrong: Wrong| {
            problems.push(Problem { index, rule: rule.name.clone(), place, wrong });
        };
        if rule.name.trim().is_empty() {
            tell("name".to_owned(), Wrong::NoName);
        } else if !names.insert(&rule.name) {
            tell("name".to_owned(), Wrong::DuplicateName);
        }
        if !known_signals.contains(&rule.signal) {
            let near = nearest(&rule.signal, known_signals.iter().map(String::as_str));
            let nearest = near.into_iter().map(str::to_owned).collect();
            tell("signal".to_owned(), Wrong::UnknownSignal { signal: rule.signal.clone(), nearest });
        }
        bounds(rule, &mut tell);
    }
    problems
}

/// Everything wrong with one rule's thresholds: its own first, then those that an override brings about.
fn bounds(rule: &RuleSettings, tell: &mut impl FnMut(String, Wrong)) {
    let base = Thresholds::base(rule);
    let own = wrong_thresholds(base);
    let unbounded = |thresholds: Thresholds| thresholds == Thresholds::default();
    let override_alone = rule.by_language.values().chain(rule.by_source.values());
    if unbounded(base) && override_alone.fold(base, Thresholds::with) == Thresholds::default() {
        tell(String::new(), Wrong::NoBound);
    }
    for wrong in &own {
        tell(String::new(), wrong.clone());
    }
    let none = Override::default();
    let languages = rule.by_language.iter().map(|(name, over)| (format!("by_language.{name}"), over));
    let languages: Vec<_> = std::iter::once((String::new(), &none)).chain(languages).collect();
    let sources = rule.by_source.iter().map(|(name, over)| (format!("by_source.{name}"), over));
    let sources: Vec<_> = std::iter::once((String::new(), &none)).chain(sources).collect();
    // A problem of a simpler combination is told once, there, and not again wherever it shows through.
    for (language, over_language) in &languages {
        let by_language = wrong_thresholds(base.with(over_language));
        for (source, over_source) in &sources {
            let alone = wrong_thresholds(base.with(over_source));
            let place = match (language.is_empty(), source.is_empty()) {
                (true, true) => continue,
                (false, true) => language.clone(),
                (true, false) => source.clone(),
                (false, false) => format!("{language} with {source}"),
            };
            for wrong in wrong_thresholds(base.with(over_language).with(over_source)) {
                let simpler = own.contains(&wrong)
                    || (!source.is_empty() && by_language.contains(&wrong))
                    || (!language.is_empty() && alone.contains(&wrong));
                if !simpler {
                    tell(place.clone(), wrong);
                }
            }
        }
    }
}

/// What is wrong with one set of thresholds.
fn wrong_thresholds(t: Thresholds) -> Vec<Wrong> {
    let keys = [("min", t.min), ("max", t.max), ("review_below", t.review_below), ("review_above", t.review_above)];
    let endless = keys.into_iter().filter(|(_, value)| value.is_some_and(|value| !value.is_finite()));
    let mut wrong: Vec<Wrong> = endless.map(|(key, _)| Wrong::NotFinite { key }).collect();
    // (the one that must not be greater, the one that must not be less)
    let ordered = [
        ("min", "max"),
        ("review_above", "max"),
        ("min", "review_above"),
        ("min", "review_below"),
        ("review_below", "max"),
        ("review_below", "review_above"),
    ];
    let value = |name: &str| keys.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| value);
    for (low, high) in ordered {
        if let (Some(low_value), Some(high_value)) = (value(low), value(high))
            && low_value > high_value
        {
            wrong.push(Wrong::Order { low, low_value, high, high_value });
        }
    }
    wrong
}

/// The identity of `rules`: the first 16 hexadecimal digits of BLAKE3 over an unambiguous serialisation, in order.
pub(super) fn policy(rules: &[RuleSettings]) -> String {
    let mut bytes = b"tamis-policy-1".to_vec();
    push_len(&mut bytes, rules.len());
    for rule in rules {
        push_text(&mut bytes, &rule.name);
        push_text(&mut bytes, &rule.signal);
        push_thresholds(&mut bytes, Thresholds::base(rule));
        for overrides in [&rule.by_language, &rule.by_source] {
            push_len(&mut bytes, overrides.len());
            for (name, over) in overrides {
                push_text(&mut bytes, name);
                push_thresholds(&mut bytes, Thresholds::default().with(over));
            }
        }
        bytes.push(match rule.missing {
            Missing::Fail => 0,
            Missing::Review => 1,
            Missing::Pass => 2,
        });
    }
    blake3::hash(&bytes).to_hex().chars().take(16).collect()
}

fn push_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend_from_slice(&(len as u64).to_le_bytes());
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_len(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn push_thresholds(bytes: &mut Vec<u8>, t: Thresholds) {
    for value in [t.min, t.max, t.review_below, t.review_above] {
        bytes.push(u8::from(value.is_some()));
        // Adding 0.0 makes -0.0 and 0.0, which decide alike, the same.
        bytes.extend_from_slice(&(value.unwrap_or(0.0) + 0.0).to_bits().to_le_bytes());
    }
}
