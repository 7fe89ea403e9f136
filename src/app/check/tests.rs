//! Owns the tests of the composition: facts in, findings out.

use super::*;
use crate::kafka::SourceSettings;
use crate::kafka::survey::{
    Group, GroupProtocol, Partition, Progress, Seen, SinkFacts, SourceFacts, Topic, TopicSettings,
};

const LIMIT: u64 = 1_048_588;

fn topic(name: &str, partitions: usize) -> Topic {
    let partition = Partition { has_leader: true, replicas: 3, in_sync: 3 };
    Topic {
        name: name.into(),
        seen: Seen::There(vec![partition; partitions]),
        may_read: Some(true),
        may_write: Some(true),
        settings: Ok(TopicSettings { max_message_bytes: Some(LIMIT), is_compacted: false, min_in_sync: Some(2) }),
    }
}

fn source_facts() -> SourceFacts {
    let group = Group {
        is_hidden: false,
        may_read: Some(true),
        members: 0,
        assignor: String::new(),
        protocol: GroupProtocol::Classic,
    };
    SourceFacts {
        brokers: 3,
        topics: vec![topic("raw", 4)],
        patterns: Vec::new(),
        group: Ok(group),
        progress: Ok(Progress { committed: 4, partitions: 4, lag: 17 }),
        assignors: vec!["cooperative-sticky".into()],
        protocol: GroupProtocol::Classic,
        begins_at: "earliest".into(),
    }
}

fn sink_facts() -> SinkFacts {
    let mut dead = topic("dead", 4);
    dead.settings = Ok(TopicSettings { max_message_bytes: Some(2 * LIMIT), is_compacted: false, min_in_sync: Some(2) });
    SinkFacts {
        brokers: 3,
        topics: vec![dead, topic("fail", 4), topic("pass", 4)],
        message_max_bytes: 104_857_600,
        transactions: Some(Ok(())),
    }
}

fn kafka_settings() -> Settings {
    let mut settings = Settings { name: "t".into(), ..Settings::default() };
    settings.source.kafka =
        Some(SourceSettings { topics: vec!["raw".into()], group: "g".into(), ..Default::default() });
    settings.routes.pass = "pass".into();
    settings.routes.fail = "fail".into();
    settings.routes.dead_letter = "dead".into();
    settings
}

/// Grades and keys of all that is not good.
fn of_source(facts: &SourceFacts) -> Vec<(Grade, String)> {
    let findings = source::source(kafka_settings().source.kafka.as_ref().unwrap(), facts);
    findings.into_iter().filter(|f| f.grade != Grade::Good).map(|f| (f.grade, f.to_string())).collect()
}

fn of_routes(facts: &SinkFacts) -> Vec<(Grade, String)> {
    let findings = routes::routes(&kafka_settings(), Some(&source_facts()), facts, Some("g-host-check"));
    findings.into_iter().filter(|f| f.grade != Grade::Good).map(|f| (f.grade, f.to_string())).collect()
}

#[track_caller]
fn one(found: &[(Grade, String)], grade: Grade, parts: &[&str]) {
    let [(found_grade, text)] = found else { panic!("not one finding: {found:?}") };
    assert_eq!(*found_grade, grade, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from {text:?}");
    }
}

#[test]
fn clusters_as_they_should_be_give_nothing_to_say() {
    assert_eq!(of_source(&source_facts()), []);
    assert_eq!(of_routes(&sink_facts()), []);
}

#[test]
fn a_topic_that_is_absent_hidden_or_forbidden_is_a_problem_and_one_that_is_unclear_is_not() {
    for (seen, grade, part) in [
        (Seen::Absent, Grade::Unavailable, "there is no topic \"raw\"; create it"),
        (Seen::Hidden, Grade::Unavailable, "may not be seen"),
        (Seen::Unclear("timed out".into()), Grade::Warning, "timed out"),
    ] {
        let mut facts = source_facts();
        facts.topics[0].seen = seen.clone();
        one(&of_source(&facts), grade, &["source.kafka.topics", part]);
        let mut facts = sink_facts();
        facts.topics[2] = Topic { seen, ..topic("pass", 0) };
        one(&of_routes(&facts), grade, &["routes.pass", &part.replace("raw", "pass")]);
    }
    let mut facts = source_facts();
    facts.topics[0].may_read = Some(false);
    one(&of_source(&facts), Grade::Unavailable, &["\"raw\"", "Read"]);
    let mut facts = sink_facts();
    facts.topics[1].may_write = Some(false);
    one(&of_routes(&facts), Grade::Unavailable, &["routes.fail", "\"fail\"", "Write"]);
    facts.topics[1].may_write = None;
    assert_eq!(of_routes(&facts), [], "what a broker does not tell is no problem");
}

#[test]
fn a_group_that_may_not_be_used_or_would_not_take_this_worker_is_a_problem() {
    let group = |change: &dyn Fn(&mut Group)| {
        let mut facts = source_facts();
        change(facts.group.as_mut().unwrap());
        of_source(&facts)
    };
    one(&group(&|group| group.may_read = Some(false)), Grade::Unavailable, &["source.kafka.group", "Read"]);
    one(&group(&|group| group.is_hidden = true), Grade::Unavailable, &["Read on the group"]);
    let eager = group(&|group| (group.members, group.assignor) = (2, "range".into()));
    one(&eager, Grade::Unavailable, &["\"range\"", "cooperative-sticky", "refuse"]);
    assert_eq!(group(&|group| (group.members, group.assignor) = (2, "cooperative-sticky".into())), []);
    assert_eq!(
        group(&|group| (group.members, group.assignor) = (2, String::new())),
        [],
        "in the middle of a rebalance"
    );
    let served = group(&|group| (group.members, group.protocol) = (1, GroupProtocol::Consumer));
    one(&served, Grade::Warning, &["group.consumer.migration.policy"]);
}

#[test]
fn where_reading_begins_without_a_committed_offset_is_told() {
    let mut facts = source_facts();
    facts.progress = Ok(Progress { committed: 1, partitions: 4, lag: 0 });
    one(&of_source(&facts), Grade::Note, &["3 of 4 partitions", "first record"]);
    facts.begins_at = "latest".into();
    one(&of_source(&facts), Grade::Warning, &["behind the last record"]);
    facts.progress = Err("not authorized".into());
    one(&of_source(&facts), Grade::Note, &["not authorized"]);
}

#[test]
fn partitions_without_a_leader_or_with_too_few_copies_are_told() {
    let mut facts = sink_facts();
    facts.topics[2].seen = Seen::There(vec![Partition { has_leader: false, replicas: 3, in_sync: 1 }; 4]);
    one(&of_routes(&facts), Grade::Warning, &["no leader"]);
    facts.topics[2].seen = Seen::There(vec![Partition { has_leader: true, replicas: 3, in_sync: 1 }; 4]);
    one(&of_routes(&facts), Grade::Warning, &["min.insync.replicas = 2"]);
    facts.topics[2].seen = Seen::There(vec![Partition { has_leader: true, replicas: 1, in_sync: 1 }; 4]);
    facts.topics[2].settings = Ok(TopicSettings { max_message_bytes: None, is_compacted: false, min_in_sync: Some(1) });
    one(&of_routes(&facts), Grade::Note, &["one copy"]);
}

#[test]
fn another_number_of_partitions_changes_where_records_go() {
    let mut facts = sink_facts();
    facts.topics[2] = topic("pass", 6);
    one(&of_routes(&facts), Grade::Note, &["routes.pass", "6 partitions", "murmur2", "modulo 6"]);
}

#[test]
fn a_topic_too_small_for_what_comes_is_a_warning_and_a_dead_letter_topic_the_more_so() {
    let limited = |index: usize, limit: u64| {
        let mut facts = sink_facts();
        facts.topics[index].settings =
            Ok(TopicSettings { max_message_bytes: Some(limit), is_compacted: false, min_in_sync: Some(2) });
        of_routes(&facts)
    };
    one(&limited(2, LIMIT - 1), Grade::Warning, &["routes.pass", "becomes a dead letter"]);
    one(&limited(0, LIMIT - 1), Grade::Warning, &["routes.dead_letter", "stops the worker"]);
    one(&limited(0, LIMIT), Grade::Note, &["no room for its headers"]);
    let mut facts = sink_facts();
    facts.message_max_bytes = 1_000_000;
    one(&of_routes(&facts), Grade::Warning, &["sink.kafka.properties", "message.max.bytes"]);
    let mut facts = sink_facts();
    facts.topics[1].settings = Err("not authorized".into());
    one(&of_routes(&facts), Grade::Note, &["DescribeConfigs"]);
}

#[test]
fn a_compacted_output_is_told_with_what_it_does_to_records_without_a_key() {
    let mut facts = sink_facts();
    facts.topics[2].settings = Ok(TopicSettings { max_message_bytes: None, is_compacted: true, min_in_sync: None });
    one(&of_routes(&facts), Grade::Warning, &["routes.pass", "compact", "without a key becomes a dead letter"]);
}

#[test]
fn transactions_that_are_refused_are_a_problem_in_the_brokers_words() {
    let mut facts = sink_facts();
    facts.transactions = Some(Err("transactional id g-host-check can't be used: it is too long".into()));
    one(&of_routes(&facts), Grade::Unavailable, &["delivery.guarantee", "no transaction", "g-host-check", "too long"]);
}

#[test]
fn one_topic_of_several_routes_is_told_once_with_all_its_keys() {
    let mut settings = kafka_settings();
    settings.routes.review = Some("fail".into());
    let mut facts = sink_facts();
    facts.topics[1].seen = Seen::Absent;
    let findings = routes::routes(&settings, None, &facts, None);
    let problems: Vec<String> = findings.iter().filter(|f| f.grade.is_problem()).map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("routes.review, routes.fail: "), "{problems:?}");
}

#[test]
fn settings_that_are_wrong_are_told_by_key_and_rule_and_those_that_do_nothing_are_noted() {
    let mut settings = kafka_settings();
    settings.signals.insert("text".into(), config::SignalSettings::Text(crate::signals::Settings::default()));
    let told = |settings: &Settings| -> Vec<(Grade, String)> {
        of_settings(settings).into_iter().map(|finding| (finding.grade, finding.key)).collect()
    };
    assert_eq!(told(&settings), [(Grade::Good, "settings".to_owned()), (Grade::Warning, "rules".to_owned())]);
    let rule = r#"
        name = "long-enough"
        signal = "text.wrods"
        max = 3
        by_language = { de = { min = 4 } }
    "#;
    settings.rules = vec![toml::from_str(rule).unwrap()];
    let found = told(&settings);
    assert_eq!(found[0], (Grade::Misused, "rules.long-enough.signal".to_owned()));
    assert_eq!(found[1], (Grade::Misused, "rules.long-enough.by_language.de".to_owned()));
    assert_eq!(found[2], (Grade::Note, "signals.text".to_owned()));
}

#[tokio::test]
async fn a_model_that_is_absent_is_told_once_and_one_that_nobody_uses_is_no_problem() {
    let mut settings = kafka_settings();
    let absent = |path: &str| crate::engine::Settings { path: path.into(), ..Default::default() };
    settings.models.insert("main".into(), absent("/nowhere/main"));
    settings.models.insert("spare".into(), absent("/nowhere/spare"));
    let pll = crate::scorer::Settings { model: "main".into(), ..Default::default() };
    settings.signals.insert("pll".into(), config::SignalSettings::Pll(pll));
    let found = models::models(&settings).await;
    let problems: Vec<&Finding> = found.iter().filter(|finding| finding.grade.is_problem()).collect();
    assert_eq!(problems.len(), 1, "{found:?}");
    assert!(problems[0].key == "models.main.path" && problems[0].what.contains("/nowhere/main"));
    let warnings: Vec<&str> =
        found.iter().filter(|finding| finding.grade == Grade::Warning).map(|finding| finding.key.as_str()).collect();
    assert_eq!(warnings, ["models.spare.path"]);
}

#[test]
fn a_pattern_says_how_many_topics_match_and_none_is_a_warning() {
    let mut facts = source_facts();
    facts.patterns = vec![("^raw.*".into(), Ok(1)), ("^row.*".into(), Ok(0))];
    one(&of_source(&facts), Grade::Warning, &["^row.*", "matches no topic", "found within a minute"]);
}

#[test]
fn members_of_the_other_group_protocol_are_a_warning_and_of_the_same_are_none() {
    let mut facts = source_facts();
    let group = |protocol, assignor: &str| {
        Ok(Group { is_hidden: false, may_read: Some(true), members: 2, assignor: assignor.into(), protocol })
    };
    facts.group = group(GroupProtocol::Consumer, "uniform");
    one(&of_source(&facts), Grade::Warning, &["group.consumer.migration.policy"]);
    (facts.protocol, facts.assignors) = (GroupProtocol::Consumer, vec![String::new()]);
    assert_eq!(of_source(&facts), []);
    facts.group = group(GroupProtocol::Classic, "cooperative-sticky");
    one(&of_source(&facts), Grade::Warning, &["this worker would let the broker"]);
}
