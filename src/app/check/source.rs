//! Owns what the facts about the source's cluster mean: brokers, topics, the group, where reading begins.

use super::finding::{Finding, Findings, Table};
use crate::kafka::SourceSettings;
use crate::kafka::survey::{Group, GroupProtocol, Progress, Seen, SourceFacts, Topic};

/// Findings about `[source.kafka]`.
pub(super) fn source(settings: &SourceSettings, facts: &SourceFacts) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Source);
    let brokers = if facts.brokers == 1 { "one broker".to_owned() } else { format!("{} brokers", facts.brokers) };
    findings.good("source.kafka.brokers", format!("{}: the cluster answers, with {brokers}", settings.brokers));
    of_patterns(&facts.patterns, &mut findings);
    for topic in &facts.topics {
        of_topic(topic, &mut findings);
    }
    match &facts.group {
        Ok(group) => of_group(settings, group, facts, &mut findings),
        Err(why) => {
            findings.note("source.kafka.group", format!("{}: the broker tells nothing ({why})", settings.group))
        }
    }
    if facts.topics.iter().any(|topic| topic.partitions().is_some()) {
        of_progress(facts, &mut findings);
    }
    findings.list
}

fn of_patterns(patterns: &[(String, Result<usize, String>)], findings: &mut Findings) {
    let key = "source.kafka.topics";
    for (pattern, count) in patterns {
        match count {
            Ok(0) => {
                let what = format!("{pattern:?} matches no topic that this user may see now");
                findings.warning(key, what, "topics that appear later are found within a minute; else fix the key");
            }
            Ok(count) => findings.good(key, format!("{pattern:?} matches {count} topics now")),
            Err(why) => {
                findings.warning(key, format!("{pattern:?}: which topics match is not known ({why})"), "try again")
            }
        }
    }
}

fn of_topic(topic: &Topic, findings: &mut Findings) {
    let (key, name) = ("source.kafka.topics", &topic.name);
    let partitions = match &topic.seen {
        Seen::There(partitions) => partitions,
        Seen::Absent => {
            return findings.unavailable(key, format!("there is no topic {name:?}"), "create it, or fix the key");
        }
        Seen::Hidden => {
            let what = format!("topic {name:?} may not be seen by this user, if it is there");
            return findings.unavailable(key, what, "allow it Read on the topic, or fix the key");
        }
        Seen::Unclear(why) => {
            return findings.warning(key, format!("topic {name:?}: the broker tells nothing ({why})"), "try again");
        }
    };
    let count = partitions.len();
    match topic.may_read {
        Some(false) => {
            let what = format!("topic {name:?} may not be read: this user lacks Read on it");
            findings.unavailable(key, what, "allow it Read on the topic");
        }
        Some(true) => findings.good(key, format!("{name}: {count} partitions, may be read")),
        None => {
            findings.good(key, format!("{name}: {count} partitions; whether it may be read, the broker does not tell"))
        }
    }
    leaders(key, topic, findings);
}

/// Partitions that no broker leads stand still.
pub(super) fn leaders(key: &str, topic: &Topic, findings: &mut Findings) {
    let Seen::There(partitions) = &topic.seen else { return };
    let without = partitions.iter().filter(|partition| !partition.has_leader).count();
    if without > 0 {
        let what =
            format!("{}: {without} of {} partitions have no leader and stand still", topic.name, partitions.len());
        findings.warning(key, what, "look at the brokers");
    }
}

fn of_group(settings: &SourceSettings, group: &Group, facts: &SourceFacts, findings: &mut Findings) {
    let (key, name) = ("source.kafka.group", &settings.group);
    if group.is_hidden || group.may_read == Some(false) {
        let what = format!("group {name:?} may not be used: this user lacks Read on it");
        return findings.unavailable(key, what, "allow it Read on the group");
    }
    match group.members {
        0 => findings.good(key, format!("{name}: has no members now")),
        members => {
            findings.good(key, format!("{name}: has {members} now; a worker more shares the partitions with them"))
        }
    }
    let next = "whether the broker lets both be members of one group is its group.consumer.migration.policy; better end the others first";
    let (broker, itself) =
        ("let the broker assign partitions (group.protocol=consumer)", "assign partitions themselves");
    let assignors = &facts.assignors;
    match (group.protocol, facts.protocol) {
        _ if group.members == 0 => {}
        (GroupProtocol::Consumer, GroupProtocol::Classic | GroupProtocol::Unknown) => {
            findings.warning(key, format!("{name}: its members {broker}, this worker does not"), next);
        }
        (GroupProtocol::Classic, GroupProtocol::Consumer) => {
            findings.warning(
                key,
                format!("{name}: its members {itself}, this worker would let the broker do it"),
                next,
            );
        }
        (GroupProtocol::Classic | GroupProtocol::Unknown, GroupProtocol::Classic | GroupProtocol::Unknown)
            if !group.assignor.is_empty() && !assignors.contains(&group.assignor) =>
        {
            let what = format!(
                "{name}: its members agreed on the assignor {:?}, and this worker offers {:?}: the group would refuse it",
                group.assignor,
                assignors.join(",")
            );
            findings.unavailable(key, what, "end them first, or take another group");
        }
        (GroupProtocol::Classic | GroupProtocol::Consumer | GroupProtocol::Unknown, _) => {}
    }
}

fn of_progress(facts: &SourceFacts, findings: &mut Findings) {
    let key = "source.kafka.group";
    let Progress { committed, partitions, lag } = match &facts.progress {
        Ok(progress) => *progress,
        Err(why) => return findings.note(key, format!("where it stands, the broker does not tell ({why})")),
    };
    if committed > 0 {
        findings.good(key, format!("{lag} records wait behind the committed offsets of {committed} partitions"));
    }
    let fresh = partitions.saturating_sub(committed);
    if fresh == 0 {
        return;
    }
    let without = format!("{fresh} of {partitions} partitions have no committed offset");
    match facts.begins_at.as_str() {
        "earliest" | "smallest" | "beginning" => {
            findings.note(key, format!("{without}: there reading begins with the first record (auto.offset.reset)"));
        }
        "error" => findings.warning(
            key,
            format!("{without}, and auto.offset.reset = \"error\" makes that an error"),
            "commit offsets for the group first, or set it to \"earliest\"",
        ),
        other => findings.warning(
            key,
            format!("{without}, and auto.offset.reset = {other:?} begins behind the last record: what is there now is not read"),
            "set it to \"earliest\" to read everything",
        ),
    }
}
