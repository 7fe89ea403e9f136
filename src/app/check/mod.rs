//! The check before a run: every problem in one go, and what the run would do.
//!
//! Owns: which parts are looked at, in which order, and what each fact means for a pipeline; the plan. In: settings. Out: findings and a plan.
//! Invariants: one part's problem hides no other's; nothing is joined, read, written, created or left behind; what a check calls a problem,
//! `run` refuses with the same words, because both ask here.
//! Must not know: how findings are shown.

mod broker;
mod files;
mod finding;
mod machine;
mod models;
mod plan;
mod routes;
mod schemas;
mod source;

pub use finding::{Finding, Grade, Table, exit};
pub use plan::{Plan, Score};

pub(super) use broker::{Probe, broker};
pub(super) use finding::refuse;
pub(super) use schemas::registry;

use crate::config::{self, Purpose, Settings};
use finding::Findings;

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Everything that was looked at, table by table.
    pub findings: Vec<Finding>,
    /// What a run would do; `None` where the settings could not be read.
    pub plan: Option<Plan>,
}

impl Report {
    /// The report on settings that can't be read at all: there is nothing else to look at.
    #[must_use]
    pub fn unread(error: &config::Error) -> Self {
        let mut findings = Findings::about(Table::Settings);
        findings.add(Grade::Misused, "settings", error, "");
        Self { findings: findings.list, plan: None }
    }
}

/// Checks `settings` for `run`. Loads the models, which takes seconds; asks the brokers unless `offline`.
pub async fn check(settings: &Settings, offline: bool) -> Report {
    let mut findings = of_settings(settings);
    findings.extend(models::models(settings).await);
    findings.extend(machine::machine(settings));
    let own = settings.clone();
    match tokio::task::spawn_blocking(move || files::files(&own)).await {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let mut bug = Findings::about(Table::Source);
            bug.unavailable("source.files", format!("the check ended early: {error}"), "report it: this is a bug");
            findings.extend(bug.list);
        }
    }
    if offline {
        findings.extend(broker::skipped(settings));
        findings.extend(schemas::skipped(settings));
    } else {
        let (brokers, schemas) = tokio::join!(broker(settings, Probe::Ask), registry(settings));
        findings.extend(brokers);
        findings.extend(schemas);
    }
    // A stable sort: within a table, in the order of looking.
    findings.sort_by_key(|finding| finding.table);
    Report { findings, plan: Some(Plan::of(settings)) }
}

/// What the settings say of themselves.
fn of_settings(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Settings);
    match settings.validate(Purpose::Run) {
        Ok(()) => findings.good("settings", "every key is known, and they fit together"),
        Err(problems) => {
            for problem in problems {
                findings.add(Grade::Misused, problem.key, problem.wrong, "");
            }
        }
    }
    if settings.rules.is_empty() {
        findings.warning("rules", "there are no rules, so every document passes", "add a [[rules]] table");
    }
    for (name, signal) in &settings.signals {
        let yields = signal.signal_names(name);
        if !settings.rules.is_empty() && !settings.rules.iter().any(|rule| yields.contains(&rule.signal)) {
            findings.note(format!("signals.{name}"), "no rule looks at it; its numbers are only delivered");
        }
    }
    findings.list
}

#[cfg(test)]
mod tests;
