//! Owns the checks against live brokers: which clusters are asked what, at the same time, and what their silence means.
//!
//! In: settings. Out: findings about source, routes and delivery. Invariants: the source's group is not joined; the worker's own transactional id is
//! never used here, for that would fence a worker that runs.

use super::finding::{Finding, Findings, Grade, Table};
use super::{routes, source};
use crate::app::open::transactional_id;
use crate::config::Settings;
use crate::kafka::{self, survey};
use crate::pipeline::Guarantee;
use crate::sink::KafkaSink;
use std::sync::Arc;
use std::time::Duration;

/// How long a cluster may take to its first answer.
const REACH: Duration = Duration::from_secs(10);
/// What stands in the place of the instance in the id that transactions are tried with.
const PROBE: &str = "check";

/// Whether transactions are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Under an id of their own, `<group>-<host>-check`. Permissions on ids go by prefix as a rule; one that names each instance's id by itself does not
    /// cover it.
    Ask,
    /// Not at all: a run begins them under its own id anyway.
    Leave,
}

/// Asks the source's and the outputs' cluster, both at once.
pub(crate) async fn broker(settings: &Settings, probe: Probe) -> Vec<Finding> {
    let read = settings.source.kafka.clone();
    let asked = read.clone().filter(|source| !source.brokers.trim().is_empty() && !source.group.is_empty());
    let source = tokio::task::spawn_blocking(move || asked.map(|source| survey::source(&source, REACH)));
    let id = settings.source.kafka.as_ref().filter(|_| settings.guarantee() == Guarantee::ExactlyOnce);
    let id = id
        .filter(|source| probe == Probe::Ask && !source.group.is_empty())
        .map(|source| transactional_id(&source.group, PROBE));
    let sink = settings.delivers_to_kafka().then(|| settings.sink.kafka.clone().unwrap_or_default());
    let topics: Vec<Arc<str>> =
        KafkaSink::topics(&settings.routes).into_iter().filter(|topic| !topic.trim().is_empty()).collect();
    let (from, tried) = (read.clone(), id.clone());
    let sink = tokio::task::spawn_blocking(move || {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        sink.filter(|sink| {
            !sink.brokers.is_empty() || from.as_ref().is_some_and(|from| !from.brokers.trim().is_empty())
        })
        .map(|sink| survey::sink(from.as_ref(), &sink, tried.as_deref(), &names, REACH))
    });
    let (source, sink) = match tokio::join!(source, sink) {
        (Ok(source), Ok(sink)) => (source, sink),
        (Err(error), _) | (_, Err(error)) => {
            let mut findings = Findings::about(Table::Source);
            findings.unavailable(
                "source.kafka",
                format!("the survey ended early: {error}"),
                "report it: this is a bug",
            );
            return findings.list;
        }
    };
    told(settings, id.as_deref(), source, sink)
}

/// What the answers mean. `None` for a cluster that was not asked.
fn told(
    settings: &Settings,
    id: Option<&str>,
    source: Option<Result<survey::SourceFacts, kafka::Error>>,
    sink: Option<Result<survey::SinkFacts, kafka::Error>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let facts = match (source, &settings.source.kafka) {
        (Some(Ok(facts)), Some(kafka)) => {
            findings.extend(source::source(kafka, &facts));
            Some(facts)
        }
        (Some(Err(error)), _) => {
            findings.extend(failed(Table::Source, "source.kafka", &error));
            // One cluster that does not answer is told once.
            let is_same = settings.fits_a_transaction() && matches!(error, kafka::Error::Unreachable { .. });
            let is_silent_too = is_same && matches!(sink, Some(Err(kafka::Error::Unreachable { .. })));
            // So is one file that both ends need.
            let is_told = matches!(
                (&sink, &error),
                (Some(Err(kafka::Error::Secret { room: "source.kafka", .. })), kafka::Error::Secret { .. })
            );
            if is_silent_too || is_told {
                return findings;
            }
            None
        }
        (Some(Ok(_)) | None, _) => None,
    };
    match sink {
        Some(Ok(sink)) => findings.extend(routes::routes(settings, facts.as_ref(), &sink, id)),
        Some(Err(error)) => findings.extend(failed(Table::Routes, "sink.kafka", &error)),
        None => {}
    }
    findings
}

/// A cluster that could not be asked.
fn failed(table: Table, key: &str, error: &kafka::Error) -> Vec<Finding> {
    let mut findings = Findings::about(table);
    match error {
        kafka::Error::Property { message, .. } => {
            findings.add(Grade::Misused, format!("{key}.properties"), message, "");
        }
        kafka::Error::Secret { .. } => findings.unavailable(format!("{key}.properties_files"), error, ""),
        kafka::Error::Unreachable { .. }
        | kafka::Error::Topic { .. }
        | kafka::Error::Unread { .. }
        | kafka::Error::Transactions { .. }
        | kafka::Error::Thread(_)
        | kafka::Error::Embedded(_) => findings.unavailable(format!("{key}.brokers"), error, ""),
    }
    findings.list
}

/// What is not looked at without a broker.
pub(super) fn skipped(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Source);
    if settings.source.kafka.is_some() || settings.delivers_to_kafka() {
        findings.note(
            "source.kafka",
            "no broker was asked (--offline): topics, permissions and transactions are not checked",
        );
    }
    // What stands in files is on this machine.
    for error in survey::properties(settings.source.kafka.as_ref(), settings.sink.kafka.as_ref()) {
        if let kafka::Error::Secret { room, .. } = error {
            findings.list.extend(failed(Table::Source, room, &error));
        }
    }
    findings.list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.source.kafka = Some(kafka::SourceSettings::default());
        settings
    }

    fn silent() -> kafka::Error {
        kafka::Error::Unreachable { brokers: "b:9092".into(), message: "refused".into() }
    }

    #[test]
    fn one_cluster_that_does_not_answer_is_told_once_and_two_are_told_twice() {
        let mut settings = settings();
        let told_of = |settings: &Settings| told(settings, None, Some(Err(silent())), Some(Err(silent())));
        let found = told_of(&settings);
        assert_eq!(
            (found.len(), found[0].grade, found[0].key.as_str()),
            (1, Grade::Unavailable, "source.kafka.brokers")
        );
        settings.sink.kafka = Some(kafka::SinkSettings { brokers: "other:9092".into(), ..Default::default() });
        assert_eq!(told_of(&settings).len(), 2);
    }

    #[test]
    fn a_property_that_is_refused_is_a_setting_that_is_wrong() {
        let error = kafka::Error::Property { room: "source.kafka", message: "no such property".into() };
        let found = told(&settings(), None, Some(Err(error)), Some(Err(silent())));
        assert_eq!(found.iter().map(|finding| finding.grade).collect::<Vec<_>>(), [Grade::Misused, Grade::Unavailable]);
        assert_eq!(found[0].key, "source.kafka.properties");
    }

    #[test]
    fn what_was_not_asked_is_a_note_where_there_is_a_broker_and_nothing_where_there_is_none() {
        assert_eq!(skipped(&settings()).len(), 1);
        let mut lines = Settings::default();
        lines.source.stdin = Some(crate::source::StdinSettings {});
        assert!(skipped(&lines).is_empty());
    }
}
