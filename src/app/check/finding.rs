//! Owns what a check finds: how bad it is, where it stands, what it is and what to do; and what all findings mean for the exit code.
//!
//! Invariant: wrong settings (64) win over what is unavailable (69): they are the caller's to mend first, and no waiting mends them.

use crate::app::Failure;
use crate::cli::Exit;
use serde::{Serialize, Serializer};
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Worth knowing; nothing to do.
    Note,
    /// It will run, and may not do what was meant.
    Warning,
    /// A broker, model, device, folder or port is unavailable: `run` refuses, with 69.
    Unavailable,
    /// An input file can't be opened or read: `run` refuses, with 65.
    Unreadable,
    /// The settings are wrong: `run` refuses, with 64.
    Misused,
}

impl Grade {
    /// The mark in front of a line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unavailable | Self::Unreadable | Self::Misused => "problem",
        }
    }

    /// Whether `run` refuses because of it.
    #[must_use]
    pub fn is_problem(self) -> bool {
        match self {
            Self::Good | Self::Note | Self::Warning => false,
            Self::Unavailable | Self::Unreadable | Self::Misused => true,
        }
    }
}

impl Serialize for Grade {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a finding is about, in the order in which findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// The pipeline file and what lies over it.
    Settings,
    /// `[document]`, and the registry of its schemas.
    Document,
    /// `[models]` and the signals made with them.
    Models,
    /// `[cache]`.
    Cache,
    /// `[admin]`.
    Admin,
    /// `[source]`.
    Source,
    /// `[routes]`, and `[sink]` behind them.
    Routes,
    /// `[delivery]`.
    Delivery,
}

impl Table {
    /// The heading over its findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Document => "document",
            Self::Models => "models",
            Self::Cache => "cache",
            Self::Admin => "admin",
            Self::Source => "source",
            Self::Routes => "routes",
            Self::Delivery => "delivery",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub table: Table,
    /// How bad it is.
    pub grade: Grade,
    /// The key of the pipeline file, or the environment's variable.
    pub key: String,
    /// What is so. A room's own error says here what to do, too.
    pub what: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        match &self.next {
            Some(next) => write!(f, "; {next}"),
            None => Ok(()),
        }
    }
}

/// Gathers findings of one table.
pub(super) struct Findings {
    table: Table,
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) fn about(table: Table) -> Self {
        Self { table, list: Vec::new() }
    }

    pub(super) fn add(&mut self, grade: Grade, key: impl Into<String>, what: impl fmt::Display, next: &str) {
        let next = (!next.is_empty()).then(|| next.to_owned());
        self.list.push(Finding { table: self.table, grade, key: key.into(), what: what.to_string(), next });
    }

    pub(super) fn good(&mut self, key: impl Into<String>, what: impl fmt::Display) {
        self.add(Grade::Good, key, what, "");
    }

    pub(super) fn note(&mut self, key: impl Into<String>, what: impl fmt::Display) {
        self.add(Grade::Note, key, what, "");
    }

    pub(super) fn warning(&mut self, key: impl Into<String>, what: impl fmt::Display, next: &str) {
        self.add(Grade::Warning, key, what, next);
    }

    pub(super) fn unavailable(&mut self, key: impl Into<String>, what: impl fmt::Display, next: &str) {
        self.add(Grade::Unavailable, key, what, next);
    }
}

/// The exit code of `findings`: 64 if any setting is wrong, else 69 if anything is unavailable, else 0.
#[must_use]
pub fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.grade).max() {
        Some(Grade::Misused) => Exit::Usage,
        Some(Grade::Unreadable) => Exit::Input,
        Some(Grade::Unavailable) => Exit::Unavailable,
        Some(Grade::Good | Grade::Note | Grade::Warning) | None => Exit::Done,
    }
}

/// Refuses to go on if any of `findings` is a problem, with all of them; what is less is logged.
///
/// # Errors
/// The problems, one a line, and [`exit`]'s code.
pub(in crate::app) fn refuse(findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings.iter().filter(|finding| finding.grade == Grade::Warning) {
        tracing::warn!(key = finding.key, what = finding.what, next = finding.next, "check before the start warns");
    }
    let problems: Vec<String> =
        findings.iter().filter(|finding| finding.grade.is_problem()).map(ToString::to_string).collect();
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::new(exit(findings), one)),
        many => Err(Failure::new(exit(findings), format!("{} problems\n  {}", many.len(), many.join("\n  ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(grades: &[Grade]) -> Vec<Finding> {
        let mut findings = Findings::about(Table::Routes);
        for grade in grades {
            findings.add(*grade, "routes.pass", format!("is {grade:?}"), "mend it");
        }
        findings.list
    }

    #[test]
    fn wrong_settings_win_over_what_is_unavailable() {
        use Grade::{Good, Misused, Note, Unavailable, Unreadable, Warning};
        for (grades, code) in [
            (&[][..], 0),
            (&[Good, Note, Warning], 0),
            (&[Unavailable, Good], 69),
            (&[Unavailable, Unreadable], 65),
            (&[Unreadable, Misused], 64),
            (&[Misused, Unavailable], 64),
            (&[Unavailable, Misused, Warning], 64),
        ] {
            assert_eq!(exit(&findings(grades)).code(), code, "{grades:?}");
        }
    }

    #[test]
    fn a_refusal_names_every_problem_and_only_problems() {
        assert!(refuse(&findings(&[Grade::Good, Grade::Warning])).is_ok());
        let refused = refuse(&findings(&[Grade::Unavailable, Grade::Warning, Grade::Misused])).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        let expected = "2 problems\n  routes.pass: is Unavailable; mend it\n  routes.pass: is Misused; mend it";
        assert_eq!(refused.message, expected);
    }
}
