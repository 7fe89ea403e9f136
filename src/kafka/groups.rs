//! Owns what a source's topics and group properties may say: patterns, assignors, static members. Pure.
//!
//! A pattern is a topic that begins with `^`; it must match a topic's whole name. Kafka's two group protocols read patterns by
//! different rules (the classic one in the client, anchored at no end; the newer one on the broker, anchored at both), so tamis takes what
//! both understand alike and anchors it itself.
//! Invariant: what can't work is refused here, with a reason, before anything is opened.

use super::settings::SourceSettings;
use regex::Regex;
use std::collections::BTreeMap;

/// Topics of Kafka's own that a pattern must not reach.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// What the consumer group protocol of Kafka 4 leaves to the broker; the client library refuses to start with one of them.
const CLASSIC_ONLY: [(&str, &str); 4] = [
    ("partition.assignment.strategy", "group.remote.assignor"),
    ("session.timeout.ms", "the broker's group.consumer.session.timeout.ms"),
    ("heartbeat.interval.ms", "the broker's group.consumer.heartbeat.interval.ms"),
    ("group.protocol.type", "nothing"),
];
const COOPERATIVE: &str = "cooperative-sticky";
const EAGER: [&str; 2] = ["range", "roundrobin"];

/// One thing wrong with `[source.kafka]`: its key within the table, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProblem {
    /// `topics` or `properties`.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Whether a topic of the settings is a pattern.
#[must_use]
pub fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// A pattern as both protocols read alike: the whole name, from its beginning to its end.
pub(super) fn anchored(pattern: &str) -> String {
    let inner = pattern.trim_start_matches('^');
    format!("^({})$", inner.strip_suffix('$').filter(|rest| !rest.ends_with('\\')).unwrap_or(inner))
}

/// Whether the group's members get and give partitions one by one, by the protocol of Kafka 4.
pub(super) fn is_consumer_protocol(properties: &BTreeMap<String, String>) -> bool {
    properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}

impl SourceSettings {
    /// What is wrong with patterns and with the group's properties.
    #[must_use]
    pub fn problems(&self) -> Vec<GroupProblem> {
        let mut found = Vec::new();
        for topic in self.topics.iter().filter(|topic| is_pattern(topic)) {
            if let Err(why) = compile(topic) {
                found.push(GroupProblem { key: "topics", why });
            }
        }
        found.extend(self.property_problems().into_iter().map(|why| GroupProblem { key: "properties", why }));
        found
    }

    /// Whether a topic of this name would be read: it is listed, or a pattern matches it.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.topics.iter().any(|topic| {
            if is_pattern(topic) { compile(topic).is_ok_and(|pattern| pattern.is_match(name)) } else { topic == name }
        })
    }

    /// These settings for one worker: `{host}` and `{instance}` in `group.instance.id` replaced, so that workers of one file differ.
    #[must_use]
    pub fn for_worker(&self, host: &str, instance: u32) -> Self {
        let mut settings = self.clone();
        if let Some(id) = settings.properties.get_mut("group.instance.id") {
            *id = id.replace("{host}", host).replace("{instance}", &instance.to_string());
        }
        settings
    }

    fn property_problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let properties = &self.properties;
        if let Some(other) = properties
            .get("group.protocol")
            .filter(|protocol| !["classic", "consumer"].iter().any(|known| protocol.eq_ignore_ascii_case(known)))
        {
            found.push(format!("group.protocol is {other:?}; it can be \"classic\" or \"consumer\""));
        } else if is_consumer_protocol(properties) {
            for (name, instead) in CLASSIC_ONLY.iter().filter(|(name, _)| properties.contains_key(*name)) {
                found.push(format!(
                    "{name} can't be set with group.protocol = \"consumer\", under which the broker decides it; remove it \
                     (in its place: {instead})"
                ));
            }
        } else if properties.contains_key("group.remote.assignor") {
            found.push(
                "group.remote.assignor needs group.protocol = \"consumer\"; set that too, or remove it".to_owned(),
            );
        }
        if let Some(why) = properties.get("partition.assignment.strategy").and_then(|list| assignors(list)) {
            found.push(why);
        }
        if let Some(why) = properties.get("group.instance.id").and_then(|id| instance_id(id)) {
            found.push(why);
        }
        found
    }
}

/// What is wrong with a list of assignors.
fn assignors(list: &str) -> Option<String> {
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|name| **name != COOPERATIVE && !EAGER.contains(name)) {
        return Some(format!(
            "partition.assignment.strategy: there is no {unknown:?}; there are {COOPERATIVE:?}, \"range\" and \"roundrobin\""
        ));
    }
    let cooperative = names.contains(&COOPERATIVE);
    (names.is_empty() || (cooperative && names.len() > 1)).then(|| {
        format!(
            "partition.assignment.strategy {list:?} mixes {COOPERATIVE:?} with eager assignors, which one group can't do; \
             use {COOPERATIVE:?} alone, or \"range\" and \"roundrobin\""
        )
    })
}

/// What is wrong with a static member's name, its two variables not counted.
fn instance_id(id: &str) -> Option<String> {
    let plain = id.replace("{host}", "h").replace("{instance}", "0");
    let fits = (1..=249).contains(&plain.len())
        && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (!fits).then(|| {
        format!(
            "group.instance.id {id:?}: use letters, digits, dots, underscores and hyphens, and {{host}} and {{instance}} for what \
             differs between workers"
        )
    })
}

/// A pattern's meaning, or what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let whole = anchored(pattern);
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next().is_none_or(|escaped| escaped.is_ascii_alphanumeric()) {
            return Err(format!("{pattern:?}: after a backslash only a punctuation mark is read alike everywhere"));
        }
    }
    if ["(?", "*?", "+?", "}?", "??"].iter().any(|sign| pattern.contains(sign)) {
        return Err(format!(
            "{pattern:?}: groups that begin with (? and lazy repetitions are not read alike everywhere"
        ));
    }
    let compiled = Regex::new(&whole).map_err(|error| {
        let line = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("{pattern:?} is not a pattern that can be read: {line}")
    })?;
    if let Some(own) = INTERNAL.iter().find(|name| compiled.is_match(name)) {
        return Err(format!("{pattern:?} also matches Kafka's own {own}; begin it with what your topics begin with"));
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(topics: &[&str], properties: &[(&str, &str)]) -> SourceSettings {
        SourceSettings {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..SourceSettings::default()
        }
    }

    fn whys(topics: &[&str], properties: &[(&str, &str)]) -> Vec<String> {
        settings(topics, properties).problems().into_iter().map(|problem| problem.why).collect()
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        let settings = settings(&[r"^corpus\.raw\..*", "^web|news$", "plain"], &[]);
        assert_eq!(settings.problems(), []);
        for (name, read) in [
            ("corpus.raw.en", true),
            ("corpus.raw", false),
            ("corpusXraw.en", false),
            ("old.corpus.raw.en", false),
            ("web", true),
            ("news", true),
            ("webnews", false),
            ("plain", true),
            ("plain2", false),
        ] {
            assert_eq!(settings.reads(name), read, "{name}");
        }
        assert_eq!(anchored(r"^costs\$"), r"^(costs\$)$", "an escaped dollar is no end");
    }

    #[test]
    fn patterns_that_are_broken_or_reach_too_far_or_mean_two_things_are_refused() {
        for (pattern, said) in [
            ("^corpus.(raw", "can't be read"),
            ("^corpus[", "can be read"),
            ("^.*", "__consumer_offsets"),
            (r"^raw\d+", "backslash"),
            ("^(?:raw)", "(?"),
            ("^raw.*?", "lazy"),
            ("^raw\\", "backslash"),
        ] {
            let whys = whys(&[pattern], &[]);
            assert_eq!(whys.len(), 1, "{pattern}: {whys:?}");
            assert!(whys[0].contains(said) || whys[0].contains("can be read"), "{pattern}: {whys:?}");
        }
    }

    #[test]
    fn each_way_to_share_partitions_is_taken_and_mixtures_are_refused_with_a_reason() {
        for fine in [
            &[("partition.assignment.strategy", "range")][..],
            &[("partition.assignment.strategy", "range,roundrobin")],
            &[("partition.assignment.strategy", "cooperative-sticky")],
            &[("group.protocol", "consumer"), ("group.remote.assignor", "uniform")],
            &[("group.protocol", "classic"), ("session.timeout.ms", "6000")],
            &[("group.instance.id", "tamis-{host}-{instance}")],
        ] {
            assert_eq!(whys(&["t"], fine), Vec::<String>::new(), "{fine:?}");
        }
        for (wrong, said) in [
            (&[("partition.assignment.strategy", "cooperative-sticky,range")][..], "mixes"),
            (&[("partition.assignment.strategy", "sticky")], "there is no \"sticky\""),
            (&[("group.protocol", "consumer"), ("session.timeout.ms", "6000")], "group.consumer.session.timeout.ms"),
            (&[("group.protocol", "consumer"), ("heartbeat.interval.ms", "500")], "the broker decides"),
            (&[("group.protocol", "consumer"), ("partition.assignment.strategy", "range")], "group.remote.assignor"),
            (&[("group.protocol", "streams")], "\"classic\" or \"consumer\""),
            (&[("group.remote.assignor", "uniform")], "group.protocol"),
            (&[("group.instance.id", "a b")], "letters"),
            (&[("group.instance.id", "{number}")], "{instance}"),
        ] {
            let whys = whys(&["t"], wrong);
            assert!(whys.len() == 1 && whys[0].contains(said), "{wrong:?}: {whys:?}");
        }
    }

    #[test]
    fn static_members_of_one_file_differ() {
        let named = settings(&["t"], &[("group.instance.id", "w-{host}-{instance}")]).for_worker("node7", 3);
        assert_eq!(named.properties["group.instance.id"], "w-node7-3");
    }
}
