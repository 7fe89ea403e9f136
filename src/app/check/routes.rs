//! Owns what the facts about the outputs' cluster mean: topics, room for records, order, permissions, transactions.

use super::finding::{Finding, Findings, Table};
use super::machine::bytes;
use super::source::leaders;
use crate::config::Settings;
use crate::corpus::Route;
use crate::kafka::survey::{Partition, Seen, SinkFacts, SourceFacts, Topic};
use crate::pipeline::Guarantee;

/// Room for the headers that tamis adds, and for what wraps a record: generous for a few dozen signals and rules.
const HEADERS_BYTES: u64 = 16 * 1024;

/// Findings about `[routes]` and `[delivery]`. `id` is what transactions were tried with.
pub(super) fn routes(
    settings: &Settings,
    source: Option<&SourceFacts>,
    facts: &SinkFacts,
    id: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Routes);
    let needs = Needs::of(settings, source);
    for topic in &facts.topics {
        let keys = keys(settings, &topic.name);
        let Some(partitions) = of_topic(&keys, topic, &mut findings) else { continue };
        leaders(&keys, topic, &mut findings);
        copies(&keys, topic, partitions, facts.brokers, &mut findings);
        order(&keys, topic, source, &mut findings);
        let is_dead_letter = topic.name == settings.routes.place(Route::DeadLetter);
        room(&keys, topic, &needs, is_dead_letter, &mut findings);
    }
    let wanted = settings.document.max_bytes.saturating_add(HEADERS_BYTES);
    if facts.message_max_bytes < wanted {
        let what = format!(
            "message.max.bytes is {} and document.max_bytes {}: with its headers, the largest document is not handed to the broker",
            bytes(facts.message_max_bytes),
            bytes(settings.document.max_bytes),
        );
        findings.warning("sink.kafka.properties", what, "raise the one or lower the other");
    }
    let mut delivery = Findings::about(Table::Delivery);
    of_delivery(settings, facts, id, &mut delivery);
    findings.list.extend(delivery.list);
    findings.list
}

/// The routes that lead to `topic`.
fn keys(settings: &Settings, topic: &str) -> String {
    let routes = &settings.routes;
    let all = [
        ("routes.pass", Some(&routes.pass)),
        ("routes.review", routes.review.as_ref()),
        ("routes.fail", Some(&routes.fail)),
        ("routes.dead_letter", Some(&routes.dead_letter)),
        ("routes.annotate", routes.annotate.as_ref()),
    ];
    let keys: Vec<&str> =
        all.into_iter().filter(|(_, name)| name.is_some_and(|name| name == topic)).map(|(key, _)| key).collect();
    keys.join(", ")
}

/// Whether the topic can be written; its partitions if it is there.
fn of_topic<'a>(keys: &str, topic: &'a Topic, findings: &mut Findings) -> Option<&'a [Partition]> {
    let name = &topic.name;
    let partitions = match &topic.seen {
        Seen::There(partitions) => partitions,
        Seen::Absent => {
            findings.unavailable(keys, format!("there is no topic {name:?}"), "create it, or fix the key");
            return None;
        }
        Seen::Hidden => {
            let what = format!("topic {name:?} may not be seen by this user, if it is there");
            findings.unavailable(keys, what, "allow it Write on the topic, or fix the key");
            return None;
        }
        Seen::Unclear(why) => {
            findings.warning(keys, format!("topic {name:?}: the broker tells nothing ({why})"), "try again");
            return None;
        }
    };
    let count = partitions.len();
    match topic.may_write {
        Some(false) => {
            let what = format!("topic {name:?} may not be written: this user lacks Write on it");
            findings.unavailable(keys, what, "allow it Write on the topic");
        }
        Some(true) => findings.good(keys, format!("{name}: {count} partitions, may be written")),
        None => {
            findings
                .good(keys, format!("{name}: {count} partitions; whether it may be written, the broker does not tell"));
        }
    }
    Some(partitions)
}

/// Copies of the records: enough to be acknowledged, and more than one where there is more than one broker.
fn copies(keys: &str, topic: &Topic, partitions: &[Partition], brokers: usize, findings: &mut Findings) {
    let least = topic.settings.as_ref().ok().and_then(|settings| settings.min_in_sync).unwrap_or(1);
    let short = partitions.iter().filter(|partition| partition.has_leader && partition.in_sync < least).count();
    if short > 0 {
        let what = format!(
            "{}: {short} partitions have fewer copies up to date than min.insync.replicas = {least} asks for",
            topic.name
        );
        findings.warning(keys, what, "outputs wait until they are back: look at the brokers");
    }
    if brokers > 1 && partitions.iter().any(|partition| partition.replicas == 1) {
        findings
            .note(keys, format!("{}: has one copy only; a broker that is lost takes its records along", topic.name));
    }
}

/// Where records of one source partition land.
fn order(keys: &str, topic: &Topic, source: Option<&SourceFacts>, findings: &mut Findings) {
    let Some(count) = topic.partitions() else { return };
    let read = source.into_iter().flat_map(|facts| &facts.topics);
    for (name, theirs) in read.filter_map(|topic| Some((&topic.name, topic.partitions()?))) {
        if theirs != count {
            findings.note(
                keys,
                format!(
                    "{}: {count} partitions and {name} has {theirs}, so records go by the murmur2 of their key, and those without one by their \
                     source partition modulo {count}",
                    topic.name
                ),
            );
        }
    }
}

/// The largest records that come out, as far as settings and the source's topics tell.
struct Needs {
    /// Of a document that is delivered.
    document: u64,
    /// Of a dead letter, which keeps its original bytes, however many.
    dead_letter: u64,
    /// Where the number comes from.
    why: &'static str,
}

impl Needs {
    fn of(settings: &Settings, source: Option<&SourceFacts>) -> Self {
        let topics = source.into_iter().flat_map(|facts| &facts.topics);
        let limits = topics.map(|topic| topic.settings.as_ref().ok().and_then(|settings| settings.max_message_bytes));
        // One topic whose limit is not known may hold anything.
        let largest = limits.collect::<Option<Vec<u64>>>().and_then(|limits| limits.into_iter().max());
        let document = settings.document.max_bytes;
        match largest {
            Some(largest) if largest < document => {
                Self { document: largest, dead_letter: largest, why: "the source's topics take" }
            }
            Some(largest) => Self { document, dead_letter: largest, why: "document.max_bytes allows" },
            None => Self { document, dead_letter: document, why: "document.max_bytes allows" },
        }
    }
}

/// Whether what comes out fits into the topic. (Limits count compressed batches, so these are rules of thumb: hence no problem.)
fn room(keys: &str, topic: &Topic, needs: &Needs, is_dead_letter: bool, findings: &mut Findings) {
    let settings = match &topic.settings {
        Ok(settings) => settings,
        Err(why) => {
            let name = &topic.name;
            return findings.note(
                keys,
                format!("{name}: its limits can't be seen ({why}); DescribeConfigs on the topic would allow it"),
            );
        }
    };
    if let Some(limit) = settings.max_message_bytes {
        let (limit_shown, name) = (bytes(limit), &topic.name);
        let what = format!("{name}: max.message.bytes is {limit_shown}");
        if is_dead_letter && limit < needs.dead_letter {
            let what = format!(
                "{what}, and the source's topics take records of {}: a dead letter that does not fit stops the worker",
                bytes(needs.dead_letter)
            );
            findings.warning(keys, what, "raise it above theirs");
        } else if is_dead_letter && limit < needs.dead_letter.saturating_add(HEADERS_BYTES) {
            findings.note(keys, format!("{what}, which leaves a dead letter as large as the source takes no room for its headers; raise it by 64 KiB"));
        } else if !is_dead_letter && limit < needs.document {
            let what =
                format!("{what}, and {} {}: a larger document becomes a dead letter", needs.why, bytes(needs.document));
            findings.warning(keys, what, "raise it, or lower document.max_bytes");
        }
    }
    if settings.is_compacted {
        let then = if is_dead_letter { "stops the worker" } else { "becomes a dead letter" };
        let what = format!(
            "{}: cleanup.policy is compact: a record without a key {then}, and of those with one key only the last stays",
            topic.name
        );
        findings.warning(keys, what, "set cleanup.policy to delete, unless that is meant");
    }
}

fn of_delivery(settings: &Settings, facts: &SinkFacts, id: Option<&str>, findings: &mut Findings) {
    let key = "delivery.guarantee";
    match (settings.guarantee(), &facts.transactions, id) {
        (Guarantee::ExactlyOnce, Some(Ok(())), Some(id)) => {
            findings.good(key, format!("exactly-once: transactions can be begun (tried under the id {id})"));
        }
        (Guarantee::ExactlyOnce, Some(Err(why)), Some(_)) => {
            findings.unavailable(key, format!("exactly-once: no transaction can be begun: {why}"), "");
        }
        (Guarantee::ExactlyOnce, _, _) => {}
        (Guarantee::AtLeastOnce, _, _) => {
            findings.note(key, "at-least-once: after a crash, documents may be delivered twice");
        }
    }
}
