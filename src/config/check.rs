//! Owns the checks that look at more than one key. One function for each table, in the file's order.
//!
//! Invariant: all problems are found, none hides another.

use super::problem::{Problem, Wrong};
use super::{Settings, SignalSettings};
use crate::decode::Format;
use crate::judge::{self, Judge};
use crate::kafka::{self, OWNED_PROPERTIES, survey};
use crate::pipeline::Guarantee;
use crate::scorer;
use std::collections::{BTreeMap, BTreeSet};

/// What settings are to be used for; it decides which tables matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The daemon: everything matters.
    Run,
    /// Scoring a file: name, source, sink, routes, delivery and admin are not looked at.
    Score,
    /// Looking after the cache: what matters to scoring, and documents may be in any format.
    Cache,
}

/// Gathers problems under their keys.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, wrong: Wrong) {
        self.0.push(Problem { key: key.into(), wrong });
    }

    fn needed(&mut self, key: impl Into<String>, value: &str, what: &'static str) {
        if value.trim().is_empty() {
            self.add(key, Wrong::Needed { what });
        }
    }
}

/// Every problem of `settings`, in the file's order.
pub(super) fn problems(settings: &Settings, purpose: Purpose) -> Vec<Problem> {
    let mut problems = Problems::default();
    if purpose == Purpose::Run {
        problems.needed("name", &settings.name, "a name for this pipeline");
        source(settings, &mut problems);
        sink(settings, &mut problems);
        library(settings, &mut problems);
    }
    for problem in settings.document.problems() {
        problems.add(format!("document.{}", problem.key()), Wrong::Room(problem.to_string()));
    }
    models(settings, &mut problems);
    signals(settings, &mut problems);
    rules(settings, &mut problems);
    if purpose == Purpose::Run {
        if settings.document.format.has_schemas() && settings.source.kafka.is_none() {
            problems.add("document.format", Wrong::Lines);
        }
        routes(settings, &mut problems);
        delivery(settings, &mut problems);
    }
    for problem in settings.cache.problems() {
        problems.add(format!("cache.{}", problem.key()), Wrong::Room(problem.to_string()));
    }
    if purpose == Purpose::Run {
        admin(settings, &mut problems);
        for (key, why) in settings.telemetry.problems() {
            problems.add(format!("telemetry.{key}"), Wrong::Room(why));
        }
    }
    problems.0
}

fn source(settings: &Settings, problems: &mut Problems) {
    let source = &settings.source;
    let found = [source.kafka.is_some(), source.files.is_some(), source.stdin.is_some()];
    let found = found.into_iter().filter(|given| *given).count();
    if found != 1 {
        problems.add("source", Wrong::Sources { found });
    }
    if let Some(files) = &source.files {
        if files.paths.is_empty() {
            problems.add("source.files.paths", Wrong::Needed { what: "at least one path, as in \"in/*.jsonl.zst\"," });
        }
        for path in &files.paths {
            problems.needed("source.files.paths", path, "a path in place of the empty one");
            if path == "-" {
                problems.add("source.files.paths", Wrong::Dash);
            }
        }
        if settings.sink.files.is_none() {
            problems.needed("source.files.state", &files.state.to_string_lossy(), "a directory for the positions");
        }
    }
    let Some(kafka) = &settings.source.kafka else { return };
    problems.needed("source.kafka.brokers", &kafka.brokers, "a broker, as in \"127.0.0.1:9092\",");
    problems.needed("source.kafka.group", &kafka.group, "a consumer group");
    if kafka.topics.is_empty() {
        problems.add("source.kafka.topics", Wrong::Needed { what: "at least one topic" });
    }
    let mut seen = BTreeSet::new();
    for topic in &kafka.topics {
        if !kafka::is_pattern(topic) && !is_topic(topic) {
            problems.add("source.kafka.topics", Wrong::Topic { topic: topic.clone() });
        }
        if !seen.insert(topic) {
            problems.add("source.kafka.topics", Wrong::TopicTwice { topic: topic.clone() });
        }
    }
    properties("source.kafka.properties", &kafka.properties, kafka.files_problems(), problems);
    for problem in kafka.problems() {
        problems.add(format!("source.kafka.{}", problem.key), Wrong::Room(problem.why));
    }
}

fn sink(settings: &Settings, problems: &mut Problems) {
    let sink = &settings.sink;
    if [sink.kafka.is_some(), sink.files.is_some(), sink.stdout.is_some()].into_iter().filter(|given| *given).count()
        > 1
    {
        problems.add("sink", Wrong::Sinks);
    }
    if let Some(files) = &sink.files {
        problems.needed("sink.files.dir", &files.dir.to_string_lossy(), "the directory of the outputs");
        if let Some(level) = files.level {
            let levels = files.compression.levels().map(|(levels, _)| levels);
            if !levels.as_ref().is_some_and(|levels| levels.contains(&level)) {
                let known = levels.map_or("without compression there is none: leave it out".to_owned(), |levels| {
                    format!("it has {} to {}", levels.start(), levels.end())
                });
                problems.add("sink.files.level", Wrong::Level { level, known });
            }
        }
    }
    let Some(kafka) = &settings.sink.kafka else { return };
    if settings.source.kafka.is_none() {
        problems.needed("sink.kafka.brokers", &kafka.brokers, "a broker (there is no [source.kafka] to take it from)");
    }
    properties("sink.kafka.properties", &kafka.properties, kafka.files_problems(), problems);
}

/// Properties that the client library itself does not take: misspelt names, values out of range.
fn library(settings: &Settings, problems: &mut Problems) {
    for error in survey::properties(settings.source.kafka.as_ref(), settings.sink.kafka.as_ref()) {
        if let kafka::Error::Property { room, message } = error {
            problems.add(format!("{room}.properties"), Wrong::Room(message));
        }
    }
}

fn properties(key: &str, properties: &BTreeMap<String, String>, files: Vec<String>, problems: &mut Problems) {
    for why in files {
        problems.add(format!("{key}_files"), Wrong::Room(why));
    }
    for property in properties.keys().filter(|name| OWNED_PROPERTIES.contains(&name.as_str())) {
        let instead = match property.as_str() {
            "bootstrap.servers" | "metadata.broker.list" => " and use the key brokers",
            "group.id" => " and use the key group",
            "transactional.id" => "; it is made of group, host and delivery.instance",
            "isolation.level" | "enable.idempotence" | "acks" => "; see delivery.guarantee",
            _ => "",
        };
        problems.add(key, Wrong::OwnedProperty { property: property.clone(), instead });
    }
}

fn models(settings: &Settings, problems: &mut Problems) {
    for (name, model) in &settings.models {
        let key = format!("models.{name}");
        if !is_name(name) {
            problems.add(&key, Wrong::Name { name: name.clone() });
        }
        if model.path.as_os_str().is_empty() {
            problems.add(format!("{key}.path"), Wrong::Needed { what: "the model's directory" });
        }
        let pin = &model.manifest_sha256;
        if !pin.is_empty() && (pin.len() != 64 || !pin.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            problems.add(format!("{key}.manifest_sha256"), Wrong::Checksum);
        }
        at_least_one(format!("{key}.budget_tokens"), model.budget_tokens as u64, problems);
    }
}

fn signals(settings: &Settings, problems: &mut Problems) {
    for (name, signal) in &settings.signals {
        let key = format!("signals.{name}");
        if !is_name(name) {
            problems.add(&key, Wrong::Name { name: name.clone() });
        }
        if let Some((model, _)) = signal.model().filter(|(model, _)| !settings.models.contains_key(*model)) {
            let known = settings.models.keys().cloned().collect();
            problems.add(format!("{key}.model"), Wrong::UnknownModel { model: model.to_owned(), known });
        }
        if let SignalSettings::Pll(pll) = signal {
            undecidable(settings, name, pll, problems);
        }
        let checked = match signal {
            SignalSettings::Pll(pll) => pll.check(name),
            SignalSettings::Nelbo(nelbo) => nelbo.check(name),
            SignalSettings::SequenceClassifier(_)
            | SignalSettings::TokenClassifier(_)
            | SignalSettings::Embedding(_)
            | SignalSettings::Prompt(_) => signal.head().map_or(Ok(()), |head| head.check(name)),
            SignalSettings::Text(_) => Ok(()),
        };
        match checked {
            Ok(()) => (),
            Err(scorer::Error::Settings { key: wrong, why, .. }) => {
                problems.add(format!("{key}.{wrong}"), Wrong::Room(why));
            }
            Err(other) => problems.add(&key, Wrong::Room(other.to_string())),
        }
    }
}

/// Rules on signals of a score that stops early, but that can't be decided before its end.
fn undecidable(settings: &Settings, name: &str, pll: &scorer::Settings, problems: &mut Problems) {
    for rule in &settings.rules {
        let tail = rule.signal.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        if tail.is_some_and(|tail| !pll.decides_early(tail)) {
            let wrong = Wrong::DecidedLast { signal: rule.signal.clone(), table: name.to_owned() };
            problems.add(format!("rules.{}.signal", rule.name), wrong);
        }
    }
}

fn rules(settings: &Settings, problems: &mut Problems) {
    overrides(settings, problems);
    let Err(judge::Error { problems: wrong }) = Judge::new(&settings.rules, &settings.signal_names()) else { return };
    for problem in wrong {
        let name = if problem.rule.is_empty() { problem.index.to_string() } else { problem.rule };
        let dot = if problem.place.is_empty() { "" } else { "." };
        problems.add(format!("rules.{name}{dot}{}", problem.place), Wrong::Room(problem.wrong.to_string()));
    }
}

/// Thresholds by language or source that no document could ever be judged by.
fn overrides(settings: &Settings, problems: &mut Problems) {
    let document = &settings.document;
    let is_text = document.format == Format::Text;
    for rule in &settings.rules {
        for (what, pointer, overrides) in
            [("language", &document.language, &rule.by_language), ("source", &document.source, &rule.by_source)]
        {
            if !overrides.is_empty() && (is_text || pointer.is_empty()) {
                problems.add(format!("rules.{}.by_{what}", rule.name), Wrong::NeverFound { what, is_text });
            }
        }
    }
}

fn routes(settings: &Settings, problems: &mut Problems) {
    let to_files = settings.sink.files.is_some();
    if !to_files && !settings.delivers_to_kafka() {
        return;
    }
    let routes = &settings.routes;
    let annotates = routes.annotate.is_some();
    let by_verdict = [
        ("routes.pass", Some(&routes.pass)),
        ("routes.fail", Some(&routes.fail)),
        ("routes.review", routes.review.as_ref()),
    ];
    let documents = if annotates {
        for (key, topic) in by_verdict {
            if topic.is_some_and(|topic| !topic.is_empty()) {
                problems.add(key, Wrong::BesideAnnotate);
            }
        }
        vec![("routes.annotate", routes.annotate.as_ref())]
    } else {
        by_verdict.to_vec()
    };
    let dead_letter = Some(&routes.dead_letter).filter(|topic| !(annotates && topic.is_empty()));
    let all = documents.iter().copied().chain([("routes.dead_letter", dead_letter)]);
    // A producer of another cluster may use the source's names.
    let same_cluster = settings.source.kafka.as_ref().filter(|_| settings.fits_a_transaction());
    for (key, topic) in all {
        let Some(topic) = topic else { continue };
        if topic.trim().is_empty() {
            problems.add(key, Wrong::Needed { what: if to_files { "the stem of a file" } else { "a topic" } });
        } else if to_files {
            if !is_topic(topic) || topic.starts_with('.') {
                problems.add(key, Wrong::Stem { stem: topic.to_owned() });
            }
        } else if !is_topic(topic) {
            problems.add(key, Wrong::Topic { topic: topic.clone() });
        } else if same_cluster.is_some_and(|source| source.reads(topic)) {
            problems.add(key, Wrong::RouteIsSource { topic: topic.clone() });
        }
    }
    for (route, topic) in documents {
        if topic == Some(&routes.dead_letter) && !routes.dead_letter.is_empty() {
            let topic = routes.dead_letter.clone();
            problems.add("routes.dead_letter", Wrong::DeadLetterIsRoute { topic, route });
        }
    }
}

fn delivery(settings: &Settings, problems: &mut Problems) {
    let delivery = &settings.delivery;
    if delivery.guarantee == Some(Guarantee::ExactlyOnce) && !settings.fits_a_transaction() {
        problems.add("delivery.guarantee", Wrong::Guarantee(Guarantee::ExactlyOnce));
    }
    at_least_one("delivery.commit_interval_ms", delivery.commit_interval_ms, problems);
    at_least_one("delivery.max_batch_documents", delivery.max_batch_documents as u64, problems);
    at_least_one("delivery.max_batch_bytes", delivery.max_batch_bytes as u64, problems);
    at_least_one("delivery.max_journeys", delivery.max_journeys as u64, problems);
    at_least_one("delivery.max_documents", delivery.max_documents as u64, problems);
    at_least_one("delivery.max_in_flight_bytes", delivery.max_in_flight_bytes as u64, problems);
}

fn admin(settings: &Settings, problems: &mut Problems) {
    let listen = &settings.admin.listen;
    let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        problems.add("admin.listen", Wrong::Listen { listen: listen.clone() });
    }
    at_least_one("admin.stall_after_ms", settings.admin.stall_after_ms, problems);
}

fn at_least_one(key: impl Into<String>, value: u64, problems: &mut Problems) {
    if value == 0 {
        problems.add(key, Wrong::Range { value, range: "at least 1" });
    }
}

/// What Kafka takes for a topic's name; in particular no pattern.
fn is_topic(name: &str) -> bool {
    let fits = (1..=249).contains(&name.len()) && name != "." && name != "..";
    fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What may stand before the dot of a signal's name and within the name of a variable.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    !name.is_empty() && !name.contains("__") && name.bytes().all(plain)
}
