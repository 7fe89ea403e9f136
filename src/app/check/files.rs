//! Owns the checks of inputs and outputs that are files: what a run would read, and whether it could write and go on.
//!
//! Invariant: nothing is created or changed; a changed input is read up to where it was delivered, as a run would.

use super::finding::{Finding, Findings, Grade, Table};
use super::machine::bytes;
use crate::app::open;
use crate::config::Settings;
use crate::files::{self, Checkpoint, Survey};
use crate::sink::FilesSink;
use crate::source;
use std::path::Path;

/// Findings about `[source.files]` and `[sink.files]`. Blocking.
pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let Some(dir) = open::positions(settings).filter(|dir| !dir.as_os_str().is_empty()) else { return Vec::new() };
    let (table, key) = match &settings.sink.files {
        Some(_) => (Table::Routes, "sink.files.dir"),
        None => (Table::Source, "source.files.state"),
    };
    let own = settings.sink.files.as_ref().map(|sink| FilesSink::names(sink, &settings.routes)).unwrap_or_default();
    let survey = Survey::of(&dir, &own);
    let mut findings = Findings::about(table);
    for problem in &survey.problems {
        findings.unavailable(key, problem, "");
    }
    if survey.problems.is_empty() {
        let how = if survey.exists { "may be written" } else { "will be made" };
        findings.good(key, format!("{} {how}", dir.display()));
    }
    let mut list = findings.list;
    list.extend(of_inputs(settings, &survey, &dir));
    list
}

fn of_inputs(settings: &Settings, survey: &Survey, dir: &Path) -> Vec<Finding> {
    let (mut findings, key) = (Findings::about(Table::Source), "source.files.paths");
    let inputs = match open::inputs(settings) {
        None => return Vec::new(),
        Some(Err(error)) => {
            findings.add(grade(&error), key, error, "");
            return findings.list;
        }
        Some(Ok(inputs)) => inputs,
    };
    let total = inputs.len();
    let [checkpoint, _] = Checkpoint::files(dir);
    let (count, size, errors) = source::unread(inputs, &survey.marks, &checkpoint);
    for error in &errors {
        let grade = match error {
            source::Error::Files(error) => grade(error),
            source::Error::Kafka(_) | source::Error::Thread(_) => Grade::Unavailable,
        };
        findings.add(grade, key, error, "");
    }
    if total > 0 && count == 0 && errors.is_empty() {
        let what = format!("{total} files, all delivered by earlier runs: there is nothing to do");
        findings.warning(key, what, "to begin anew, remove the checkpoint and the outputs");
    } else if errors.is_empty() {
        findings.good(key, format!("{total} files, {count} of them still to be read, {} on disk", bytes(size)));
    }
    findings.list
}

/// As `run` would end.
fn grade(error: &files::Error) -> Grade {
    if error.is_input() { Grade::Unreadable } else { Grade::Unavailable }
}
