//! Owns the `check` command's face: findings and plan for people, or as one JSON value.

use super::args::{Check, Override};
use super::main::{block_on, load};
use crate::app::{self, Failure, Finding, Grade, Report};
use crate::cli::Exit;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// The widest mark, `warning` and `problem`.
const MARK: usize = 7;

pub(super) fn check(args: &Check, overrides: &[Override]) -> Result<(), Failure> {
    let report = match load(&args.pipeline, overrides) {
        Ok(settings) => block_on(async { Ok(app::check(&settings, args.offline).await) })?,
        Err(error) => Report::unread(&error),
    };
    let pipeline = args.pipeline.display().to_string();
    let text = if args.json { json(&pipeline, &report)? } else { text(&pipeline, &report, colourful()) };
    io::stdout().write_all(text.as_bytes()).map_err(app::bug)?;
    let problems = count(&report.findings, "problem");
    let exit = app::exit(&report.findings);
    if exit == Exit::Done {
        return Ok(());
    }
    Err(Failure::new(exit, format!("{pipeline}: {}, so `run` would refuse it", counted(problems, "problem"))))
}

/// Whether marks are coloured: on a terminal, unless its owner wants none (<https://no-color.org>).
fn colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    pipeline: &'a str,
    exit: u8,
    findings: &'a [Finding],
    plan: &'a Option<app::Plan>,
}

fn json(pipeline: &str, report: &Report) -> Result<String, Failure> {
    let exit = app::exit(&report.findings).code();
    let printed = Printed { pipeline, exit, findings: &report.findings, plan: &report.plan };
    serde_json::to_string(&printed).map(|line| line + "\n").map_err(app::bug)
}

/// One line a finding below its table's name, then the plan, then the counts.
fn text(pipeline: &str, report: &Report, colour: bool) -> String {
    let mut out = format!("{pipeline}\n");
    let mut table = None;
    for finding in &report.findings {
        if table.replace(finding.table) != Some(finding.table) {
            line(&mut out, format_args!("\n{}", finding.table.as_str()));
        }
        let mark = format!("{:<MARK$}", finding.grade.as_str());
        line(&mut out, format_args!("  {}  {}", painted(&mark, finding.grade, colour), plain(&finding.to_string())));
    }
    if let Some(plan) = &report.plan {
        line(&mut out, format_args!("\nplan"));
        for (what, words) in plan.lines() {
            line(&mut out, format_args!("  {what:<MARK$}  {}", plain(&words)));
        }
    }
    let counts: Vec<String> = ["problem", "warning", "note"]
        .into_iter()
        .map(|mark| (mark, count(&report.findings, mark)))
        .filter(|(mark, count)| *count > 0 || *mark == "problem")
        .map(|(mark, count)| counted(count, mark))
        .collect();
    line(&mut out, format_args!("\n{} ok, {}", count(&report.findings, "ok"), counts.join(", ")));
    out
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(out, "{words}");
}

/// Brokers' words and names on one line, without what a terminal would obey.
fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn painted(mark: &str, grade: Grade, colour: bool) -> String {
    let code = match grade {
        Grade::Good => "32",
        Grade::Note => "36",
        Grade::Warning => "33",
        Grade::Unavailable | Grade::Unreadable | Grade::Misused => "1;31",
    };
    if colour { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_owned() }
}

fn count(findings: &[Finding], mark: &str) -> usize {
    findings.iter().filter(|finding| finding.grade.as_str() == mark).count()
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Table;

    fn report() -> Report {
        let finding = |table, grade, what: &str, next: Option<&str>| Finding {
            table,
            grade,
            key: "a.b".into(),
            what: what.into(),
            next: next.map(str::to_owned),
        };
        let findings = vec![
            finding(Table::Settings, Grade::Good, "fits", None),
            finding(Table::Routes, Grade::Unavailable, "is not\x1b[2J\nthere", Some("make it")),
            finding(Table::Routes, Grade::Warning, "is small", None),
        ];
        Report { findings, plan: None }
    }

    #[test]
    fn people_read_one_line_a_finding_under_its_table_and_no_control_characters() {
        let expected = "p.toml\n\nsettings\n  ok       a.b: fits\n\nroutes\n  problem  a.b: is not [2J there; make it\n  \
                        warning  a.b: is small\n\n1 ok, 1 problem, 1 warning\n";
        assert_eq!(text("p.toml", &report(), false), expected);
        assert!(text("p.toml", &report(), true).contains("\x1b[1;31mproblem\x1b[0m"));
    }

    #[test]
    fn programs_read_one_object_with_the_exit_code() {
        let line = json("p.toml", &report()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["exit"], 69);
        assert_eq!(
            value["findings"][0],
            serde_json::json!({"table": "settings", "grade": "ok", "key": "a.b", "what": "fits"})
        );
        assert_eq!(
            (&value["findings"][1]["grade"], &value["findings"][1]["next"]),
            (&"problem".into(), &"make it".into())
        );
        assert!(value["plan"].is_null());
    }
}
