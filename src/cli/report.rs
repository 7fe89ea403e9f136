//! Owns the demo's report: how many went where, examples with their reasons, and the agreement with the labels.

use super::demo::agrees;
use super::labels::Labels;
use crate::corpus::{Bound, Judged, Reason, Route, SignalValue};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const EXAMPLES: usize = 3;
const SHOWN_DISAGREEMENTS: usize = 12;
const SNIPPET: usize = 88;

struct Shown {
    line: usize,
    route: Route,
    snippet: String,
    why: String,
}

/// What the demo saw.
pub(super) struct Report {
    labels: Labels,
    shown: Vec<Shown>,
    took: Duration,
}

impl Report {
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels, shown: Vec::new(), took: Duration::ZERO }
    }

    /// Takes note of one delivered record, by its line in the sample.
    pub(super) fn add(&mut self, line: usize, judged: &Judged) {
        let (route, text, why) = match judged {
            Judged::Document { document, verdict, signals, .. } => {
                let why = if verdict.reasons.is_empty() {
                    let score = signals.iter().find(|(name, _)| name.ends_with(".nll_token"));
                    score.map_or_else(String::new, |(name, value)| format!("{name} {}", shown_value(value)))
                } else {
                    verdict.reasons.iter().map(shown_reason).collect::<Vec<_>>().join(", ")
                };
                (Route::from(verdict.decision), document.text.clone(), why)
            }
            Judged::Tombstone { .. } => (Route::Fail, String::new(), "deletion".to_owned()),
            Judged::Dead { record, fault, .. } => {
                let bytes = record.value.as_deref().unwrap_or_default();
                (Route::DeadLetter, String::from_utf8_lossy(bytes).into_owned(), fault.to_string())
            }
        };
        self.shown.push(Shown { line, route, snippet: snippet(&text), why });
    }

    pub(super) fn seen(&self) -> usize {
        self.shown.len()
    }

    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// Counts by route, on one line.
    pub(super) fn routes(&self) -> String {
        Route::ALL.map(|route| format!("{} {}", route.as_str(), self.count(route))).join("  ")
    }

    fn count(&self, route: Route) -> usize {
        self.shown.iter().filter(|shown| shown.route == route).count()
    }

    fn agreed(&self, shown: &Shown) -> bool {
        self.labels.get(shown.line).is_some_and(|label| agrees(shown.route, label))
    }

    fn write_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for route in Route::ALL {
            let share = 100.0 * as_f64(self.count(route)) / as_f64(self.shown.len().max(1));
            writeln!(f, "\n{:<12}{:>4}  {share:>4.1}%", route.as_str(), self.count(route))?;
            // Spread over the sample, so that not all examples are of one kind.
            let of_route: Vec<&Shown> = self.shown.iter().filter(|shown| shown.route == route).collect();
            let step = (of_route.len() / EXAMPLES).max(1);
            for shown in of_route.iter().step_by(step).take(EXAMPLES) {
                writeln!(f, "    {}\n        {}", shown.snippet, shown.why)?;
            }
        }
        Ok(())
    }

    fn write_agreement(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreed = self.shown.iter().filter(|shown| self.agreed(shown)).count();
        let share = 100.0 * as_f64(agreed) / as_f64(self.shown.len().max(1));
        writeln!(f, "\nagreement with the labels: {agreed} of {} ({share:.1}%)", self.shown.len())?;
        let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for shown in &self.shown {
            let kind = self.labels.get(shown.line).map_or("unlabelled", |label| label.kind.as_str());
            let entry = kinds.entry(kind).or_default();
            entry.0 += usize::from(self.agreed(shown));
            entry.1 += 1;
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, (good, all))| format!("{kind} {good}/{all}")).collect();
        writeln!(f, "    {}", kinds.join("  "))?;
        let wrong: Vec<&Shown> = self.shown.iter().filter(|shown| !self.agreed(shown)).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        writeln!(f, "\ndisagreements ({} of {} shown)", wrong.len().min(SHOWN_DISAGREEMENTS), wrong.len())?;
        for shown in wrong.iter().take(SHOWN_DISAGREEMENTS) {
            let (label, kind) = self
                .labels
                .get(shown.line)
                .map_or(("none", ""), |label| (label.expected.as_str(), label.kind.as_str()));
            writeln!(f, "    labelled {label} ({kind}), went to {}: {}", shown.route.as_str(), shown.why)?;
            writeln!(f, "        {}", shown.snippet)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} documents in {:.1} s: {}", self.shown.len(), self.took.as_secs_f64(), self.routes())?;
        self.write_examples(f)?;
        self.write_agreement(f)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a few hundred documents")]
fn as_f64(n: usize) -> f64 {
    n as f64
}

/// The start of a text on one line, control characters made harmless for a terminal.
fn snippet(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| {
            if c.is_whitespace() {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .take(SNIPPET + 1)
        .collect();
    if line.chars().count() > SNIPPET {
        line = line.chars().take(SNIPPET).chain(['…']).collect();
    }
    if line.trim().is_empty() { "(empty)".to_owned() } else { line }
}

fn shown_value(value: &SignalValue) -> String {
    match value {
        SignalValue::Number(x) => format!("{x:.2}"),
        SignalValue::Count(n) => n.to_string(),
        SignalValue::Text(text) => text.clone(),
    }
}

fn shown_reason(reason: &Reason) -> String {
    let value = reason.value.map_or_else(|| "missing".to_owned(), |value| format!("{value:.2}"));
    let bound = match reason.bound {
        Bound::Min(x) => format!(" < min {x}"),
        Bound::Max(x) => format!(" > max {x}"),
        Bound::ReviewBelow(x) => format!(" < review_below {x}"),
        Bound::ReviewAbove(x) => format!(" > review_above {x}"),
        Bound::Missing => String::new(),
    };
    format!("{}: {} {value}{bound}", reason.rule, reason.signal)
}
