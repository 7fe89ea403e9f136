//! Owns the comparison of two settings: which keys differ.
//!
//! Invariant: keys only, no values: one of them may be a secret.

use super::Settings;
use serde_json::Value;
use std::collections::BTreeMap;

/// The keys that differ, sorted.
pub(super) fn differences(one: &Settings, other: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    match (serde_json::to_value(one), serde_json::to_value(other)) {
        (Ok(one), Ok(other)) => compare("", &one, &other, &mut found),
        // Settings that can't be written down can't be told to be the same.
        _ if one != other => found.push("settings".to_owned()),
        _ => {}
    }
    found.sort();
    found
}

fn compare(key: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    if one == other {
        return;
    }
    let (left, right) = if key == "rules" { (by_name(one), by_name(other)) } else { (members(one), members(other)) };
    // Two lists of rules with the same members differ in their order.
    match (left, right) {
        (Some(left), Some(right)) if left != right => {
            let names: std::collections::BTreeSet<&str> = left.keys().chain(right.keys()).copied().collect();
            for name in names {
                let below = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                let nothing = &Value::Null;
                compare(&below, left.get(name).unwrap_or(&nothing), right.get(name).unwrap_or(&nothing), found);
            }
        }
        _ => found.push(key.to_owned()),
    }
}

fn members(value: &Value) -> Option<BTreeMap<&str, &Value>> {
    Some(value.as_object()?.iter().map(|(name, value)| (name.as_str(), value)).collect())
}

fn by_name(value: &Value) -> Option<BTreeMap<&str, &Value>> {
    value.as_array()?.iter().map(|rule| Some((rule.get("name")?.as_str()?, rule))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::RuleSettings;

    fn rule(name: &str, max: f64) -> RuleSettings {
        serde_json::from_value(serde_json::json!({"name": name, "signal": "pll.bpb", "max": max})).unwrap()
    }

    #[test]
    fn differences_are_named_by_their_keys() {
        let one = Settings { rules: vec![rule("a", 1.0), rule("b", 2.0)], ..Settings::default() };
        assert!(one.differences(&one.clone()).is_empty());
        let mut other = one.clone();
        other.rules[1].max = Some(3.0);
        other.delivery.drain_ms = 1;
        other.routes.review = Some("r".into());
        other.models.insert("default".into(), crate::engine::Settings::default());
        assert_eq!(one.differences(&other), ["delivery.drain_ms", "models.default", "routes.review", "rules.b.max"]);
    }

    #[test]
    fn the_order_of_rules_is_a_difference() {
        let one = Settings { rules: vec![rule("a", 1.0), rule("b", 2.0)], ..Settings::default() };
        let other = Settings { rules: vec![rule("b", 2.0), rule("a", 1.0)], ..Settings::default() };
        assert_eq!(one.differences(&other), ["rules"]);
    }
}
