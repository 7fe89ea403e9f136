//! Each rule between settings, broken once; and the print-out.

use super::*;

fn told(settings: &Settings, purpose: Purpose) -> Vec<String> {
    settings.validate(purpose).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_pipeline_is_sound_for_everything() {
    assert_eq!(told(&with(&[]), Purpose::Run), [""; 0]);
    assert_eq!(told(&with(&[]), Purpose::Score), [""; 0]);
}

#[test]
fn scoring_needs_no_source_sink_routes_or_name() {
    let sets = ["name=", "routes.pass=", "source.stdin={}", "admin.listen=x", "delivery.max_documents=0"];
    assert_eq!(told(&with(&sets), Purpose::Score), [""; 0]);
    assert_eq!(told(&Settings::default(), Purpose::Score), [""; 0]);
    assert_eq!(told(&with(&sets), Purpose::Run).len(), 5);
}

#[test]
fn each_rule_is_told_under_its_key() {
    let golden = [
        ("name=", "name: a name for this pipeline is needed"),
        (
            "source.stdin={}",
            "source: there must be exactly one of [source.kafka], [source.files] and [source.stdin]; 2",
        ),
        ("source.kafka.brokers= ", "source.kafka.brokers: a broker"),
        ("source.kafka.group=", "source.kafka.group: a consumer group"),
        ("source.kafka.topics=[]", "source.kafka.topics: at least one topic"),
        ("source.kafka.topics=corpus*", r#"source.kafka.topics: "corpus*" can't be a topic"#),
        ("source.kafka.topics=a,a", r#"source.kafka.topics: the topic "a" is named twice"#),
        ("models.default.manifest_sha256=abc", "models.default.manifest_sha256: this is no sha256"),
        (
            "source.kafka.properties_files.linger.ms=f",
            "source.kafka.properties_files: \"linger.ms\" can't come from a file",
        ),
        ("source.kafka.properties.group.id=x", r#"source.kafka.properties: tamis sets the property "group.id" itself"#),
        ("source.kafka.properties.isolation.level=x", "see delivery.guarantee"),
        (
            "sink.kafka.properties.transactional.id=x",
            r#"sink.kafka.properties: tamis sets the property "transactional.id""#,
        ),
        ("document.text=text", r#"document.text: "text" is not a JSON pointer"#),
        ("document.max_bytes=0", "document.max_bytes: 0 leaves no room"),
        ("models.default.path=", "models.default.path: the model's directory is needed"),
        ("models.default.budget_tokens=0", "models.default.budget_tokens: 0 is out of range"),
        ("models.A b.path=x", r#"models.A b: "A b" can't be a table's name"#),
        ("signals.P.kind=text", r#"signals.P: "P" can't be a table's name"#),
        ("signals.pll.model=other", "signals.pll.model: there is no [models.other]; known: default"),
        ("signals.pll.stride=7", "signals.pll.stride: masking = \"single\" has no stride"),
        ("signals.pll.words=tokenizer", "use \"word-l2r\" or \"whole-word\""),
        ("signals.pll.corrected=true", "signals.pll.corrected: masking = \"single\" has no corrected"),
        ("signals.bound={kind = \"nelbo\", draws = 5}", "signals.bound.draws: must be an even number"),
        ("signals.bound={kind = \"nelbo\", model = \"other\"}", "signals.bound.model: there is no [models.other]"),
        ("signals.pll.window_tokens=0", "signals.pll.window_tokens: must be at least 1"),
        (
            "rules.fluent.signal=pll.nll_tokn",
            r#"rules.fluent.signal: no signal is called "pll.nll_tokn"; did you mean"#,
        ),
        ("rules.fluent.min=4", "rules.fluent: min = 4 must not be above review_above = 3.9"),
        ("rules.fluent.name=long", "rules.long.name: an earlier rule has this name"),
        ("routes.pass=", "routes.pass: a topic is needed"),
        ("routes.dead_letter=", "routes.dead_letter: a topic is needed"),
        ("routes.review=a b", r#"routes.review: "a b" can't be a topic"#),
        ("routes.fail=corpus.raw", r#"routes.fail: "corpus.raw" is also read by [source.kafka]"#),
        ("routes.dead_letter=corpus.fail", r#"routes.dead_letter: "corpus.fail" also takes documents (routes.fail)"#),
        ("delivery.commit_interval_ms=0", "delivery.commit_interval_ms: 0 is out of range"),
        ("delivery.max_documents=0", "delivery.max_documents: 0 is out of range; it must be at least 1"),
        ("cache.max_bytes=1000", "cache.max_bytes: 1000 is too small"),
        ("cache.path=", "cache.path: an empty path"),
        ("admin.listen=9600", r#"admin.listen: "9600" is no address"#),
        ("admin.listen=localhost:99999", "admin.listen: "),
        ("admin.stall_after_ms=0", "admin.stall_after_ms: 0 is out of range"),
    ];
    for (set, expected) in golden {
        let told = told(&with(&[set]), Purpose::Run);
        assert_eq!(told.len(), 1, "{set}: {told:#?}");
        assert!(told[0].contains(expected), "{set}: {} lacks {expected}", told[0]);
    }
}

#[test]
fn thresholds_of_a_language_or_a_source_that_no_document_has_are_told() {
    let (language, source) = ("rules.fluent.by_language.de.max=10", "rules.fluent.by_source.books.max=10");
    assert_eq!(told(&with(&[language, source]), Purpose::Run), [""; 0]);
    for (set, expected) in [
        ("document.format=text", "document.format"),
        ("document.language=", "set document.language to the JSON pointer that leads to it, as in \"/language\""),
    ] {
        let told = told(&with(&[language, set]), Purpose::Score);
        assert_eq!(told.len(), 1, "{set}: {told:#?}");
        assert!(told[0].starts_with("rules.fluent.by_language: no document has a language here"), "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
    }
    let told = told(&with(&[language, source, "document.source="]), Purpose::Run);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("rules.fluent.by_source: no document has a source here"), "{told:?}");
}

#[test]
fn all_problems_are_told_at_once_in_the_file_s_order() {
    let sets = ["admin.listen=x", "name=", "rules.long.signal=x", "document.id=x", "routes.fail="];
    let told = told(&with(&sets), Purpose::Run);
    let keys: Vec<&str> = told.iter().filter_map(|told| told.split(':').next()).collect();
    assert_eq!(keys, ["name", "document.id", "rules.long.signal", "routes.fail", "admin.listen"]);
}

#[test]
fn without_any_source_there_is_nothing_to_run() {
    let told = told(&loaded("name = \"x\""), Purpose::Run);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("0 are given"), "{told:#?}");
}

#[test]
fn exactly_once_is_for_kafka_and_the_default_there() {
    let stdin = "name = \"x\"\n[source.stdin]\n";
    assert_eq!(with(&[]).guarantee(), Guarantee::ExactlyOnce);
    assert_eq!(with(&["delivery.guarantee=at-least-once"]).guarantee(), Guarantee::AtLeastOnce);
    assert_eq!(loaded(stdin).guarantee(), Guarantee::AtLeastOnce);
    assert_eq!(told(&loaded(stdin), Purpose::Run), [""; 0]);
    for (text, sets) in [
        (stdin, vec!["delivery.guarantee=exactly-once"]),
        (KAFKA, vec!["delivery.guarantee=exactly-once", "sink.stdout={}"]),
        (KAFKA, vec!["delivery.guarantee=exactly-once", "sink.kafka.brokers=elsewhere:9092"]),
    ] {
        let told = told(&load_with(text, &[], &sets).unwrap(), Purpose::Run);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].starts_with("delivery.guarantee: \"exactly-once\" needs a Kafka source"), "{told:#?}");
    }
    assert_eq!(with(&["sink.stdout={}"]).guarantee(), Guarantee::AtLeastOnce);
    let two_clusters = with(&["sink.kafka.brokers=elsewhere:9092"]);
    assert_eq!(two_clusters.guarantee(), Guarantee::AtLeastOnce, "one transaction can't span two clusters");
}

#[test]
fn a_sink_is_one_and_knows_its_brokers() {
    let told_of = |text: &str, sets: &[&str]| told(&load_with(text, &[], sets).unwrap(), Purpose::Run).join("\n");
    assert!(told_of(KAFKA, &["sink.stdout={}", "sink.kafka.brokers=b:1"]).contains("sink: there may be only one"));
    let stdin = KAFKA.replace("[source.kafka]\ntopics = [\"corpus.raw\"]\ngroup = \"tamis-web\"", "[source.stdin]");
    assert!(
        told_of(&stdin, &["sink.kafka={}"]).starts_with("sink.kafka.brokers: a broker (there is no [source.kafka]")
    );
    assert_eq!(told_of(&stdin, &["sink.kafka.brokers=b:1"]), "");
    // Another cluster may have a topic of the same name.
    assert_eq!(told_of(KAFKA, &["sink.kafka.brokers=b:1", "routes.fail=corpus.raw"]), "");
    assert_eq!(told_of(KAFKA, &["sink.stdout={}", "routes.pass="]), "", "standard output has no routes");
}

/// From files to files, with nothing that is not needed.
const FILES: &str = r#"
name = "files"
[source.files]
paths = ["in/*.jsonl.zst"]
[sink.files]
dir = "out"
[routes]
pass = "pass"
fail = "fail"
dead_letter = "dead"
"#;

#[test]
fn files_are_told_what_they_need() {
    assert_eq!(told(&loaded(FILES), Purpose::Run), [""; 0]);
    assert_eq!(loaded(FILES).guarantee(), Guarantee::AtLeastOnce);
    let golden = [
        ("source.files.paths=[]", "source.files.paths: at least one path"),
        (r#"source.files.paths=["a", ""]"#, "source.files.paths: a path in place of the empty one"),
        ("source.files.paths=-", "standard input is [source.stdin]"),
        ("source.kafka.topics=a", "source: there must be exactly one"),
        ("sink.files.dir=", "sink.files.dir: the directory of the outputs is needed"),
        ("sink.stdout={}", "sink: there may be only one"),
        (
            "sink.files.level=3",
            "sink.files.level: 3 is no level of this compression; without compression there is none",
        ),
        ("routes.pass=", "routes.pass: the stem of a file is needed"),
        ("routes.pass=a/b", r#"routes.pass: "a/b" can't be the stem of a file"#),
        ("routes.pass=.a", r#"routes.pass: ".a" can't be the stem of a file"#),
        ("routes.dead_letter=fail", r#"routes.dead_letter: "fail" also takes documents"#),
        ("delivery.guarantee=exactly-once", "delivery.guarantee: \"exactly-once\" needs a Kafka source"),
    ];
    for (set, expected) in golden {
        let told = told(&load_with(FILES, &[], &[set]).unwrap(), Purpose::Run);
        assert!(told.iter().any(|told| told.contains(expected)), "{set}: {told:#?} lacks {expected}");
    }
    for (set, level) in [("zstd", 19), ("gzip", 9)] {
        let sets = [format!("sink.files.compression={set}"), format!("sink.files.level={level}")];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        assert_eq!(told(&load_with(FILES, &[], &sets).unwrap(), Purpose::Run), [""; 0]);
        let sets = [sets[0], "sink.files.level=20"];
        assert!(
            told(&load_with(FILES, &[], &sets).unwrap(), Purpose::Run)[0].contains(&format!("it has 1 to {level}"))
        );
    }
    let to_kafka = load_with(
        &FILES.replace("[sink.files]\ndir = \"out\"", ""),
        &[],
        &["sink.kafka.brokers=b:1", "source.files.state="],
    );
    assert_eq!(
        told(&to_kafka.unwrap(), Purpose::Run),
        ["source.files.state: a directory for the positions is needed here"]
    );
}

#[test]
fn annotating_takes_the_place_of_the_routes_by_verdict() {
    let annotate = |sets: &[&str]| {
        let mut all = vec!["routes.annotate=corpus.scored", "routes.pass=", "routes.fail=", "routes.review="];
        all.extend(sets);
        told(&with(&all), Purpose::Run)
    };
    assert_eq!(annotate(&[]), [""; 0], "dead letters may have a topic of their own");
    assert_eq!(annotate(&["routes.dead_letter="]), [""; 0], "or go where everything goes");
    for key in ["pass", "fail", "review"] {
        let told = annotate(&[&format!("routes.{key}=corpus.x")]);
        assert!(told.len() == 1 && told[0].starts_with(&format!("routes.{key}: routes.annotate takes")), "{told:#?}");
    }
    for (set, part) in [
        ("routes.annotate=", "routes.annotate: a topic is needed"),
        ("routes.annotate=a b", "can't be a topic"),
        ("routes.annotate=corpus.raw", "is also read by"),
        ("routes.dead_letter=corpus.scored", "also takes documents (routes.annotate)"),
    ] {
        let told = annotate(&[set]);
        assert!(told.len() == 1 && told[0].contains(part), "{set}: {told:#?}");
    }
}

#[test]
fn every_owned_property_is_refused_on_both_sides() {
    for side in ["source", "sink"] {
        for property in crate::kafka::OWNED_PROPERTIES {
            let settings = with(&[&format!("{side}.kafka.properties.{property}=x")]);
            let told = told(&settings, Purpose::Run);
            assert!(told[0].contains(property), "{told:#?}");
        }
    }
}

#[test]
fn secrets_are_not_printed_and_the_rest_is() {
    let sets = [
        "source.kafka.properties.sasl.password=hunter2",
        "source.kafka.properties.sasl.username=tamis",
        "source.kafka.properties.ssl.key.password=hunter2",
        "source.kafka.properties.ssl.key.pem=hunter2",
        "source.kafka.properties.ssl.key.location=keys/tamis.key",
        "source.kafka.properties.sasl.oauthbearer.token.endpoint.url=https://id.example/token",
        "sink.kafka.properties.sasl.oauthbearer.client.secret=hunter2",
        "sink.kafka.properties.sasl.oauthbearer.config=hunter2",
    ];
    let printed = with(&sets).redacted();
    assert!(!printed.contains("hunter2"), "{printed}");
    for kept in ["\"sasl.username\" = \"tamis\"", "keys/tamis.key", "https://id.example/token", "\"***\""] {
        assert!(printed.contains(kept), "{printed}");
    }
    for name in crate::kafka::OWNED_PROPERTIES {
        assert!(!redact::is_secret(name), "{name}");
    }
}

#[test]
fn what_is_printed_reads_back_as_it_was() {
    for text in [KAFKA, "", "[source.stdin]\n[sink.stdout]\n"] {
        let settings = loaded(text);
        assert_eq!(loaded(&settings.redacted()), settings, "{}", settings.redacted());
    }
}

#[test]
fn a_model_reads_what_all_its_signals_need() {
    let needs = |sets: &[&str]| match with(sets).tasks("default").as_slice() {
        [] => engine::Needs::default(),
        [scorer::Task::Masked(needs)] => *needs,
        tasks => panic!("{tasks:?}"),
    };
    assert_eq!(needs(&[]), engine::Needs::default());
    let sets =
        ["signals.pll.extra=[\"entropy\"]", "signals.one={kind = \"pll\", masking = \"unmasked\", corrected = true}"];
    assert_eq!(needs(&sets[..1]), engine::Needs { ranks: true, odds: false });
    assert_eq!(needs(&sets), engine::Needs { ranks: true, odds: true });
    let head = ["signals.toxic={kind = \"sequence-classifier\", labels = [\"no\", \"yes\"]}"];
    let tasks = [scorer::Task::Masked(engine::Needs::default()), scorer::Task::OnePass(engine::OnePass::Sequence)];
    assert_eq!(with(&head).tasks("default"), tasks);
    let apart = ["models.other.path=m", "signals.pll.model=other", sets[0]];
    assert_eq!(needs(&apart), engine::Needs::default());
}

#[test]
fn a_pattern_is_read_and_no_route_may_match_it() {
    let fine = with(&[r#"source.kafka.topics=["^corpus\\.raw\\..*", "news"]"#]);
    assert_eq!(told(&fine, Purpose::Run), Vec::<String>::new());
    let looped = told(&with(&[r#"source.kafka.topics=["^corpus\\..*"]"#]), Purpose::Run);
    assert!(looped.len() == 3 && looped.iter().all(|line| line.contains("would come back as inputs")), "{looped:#?}");
    let elsewhere = with(&[r#"source.kafka.topics=["^corpus\\..*"]"#, "sink.kafka.brokers=other:9092"]);
    assert_eq!(told(&elsewhere, Purpose::Run), Vec::<String>::new(), "another cluster may use the same names");
    let broken = told(&with(&[r#"source.kafka.topics=["^corpus.(raw"]"#]), Purpose::Run);
    assert!(broken.len() == 1 && broken[0].starts_with("source.kafka.topics: "), "{broken:#?}");
}

#[test]
fn group_properties_that_contradict_each_other_are_told_under_their_key() {
    let mixed = with(&["source.kafka.properties.partition.assignment.strategy=cooperative-sticky,range"]);
    let told = told(&mixed, Purpose::Run);
    assert!(
        told.len() == 1 && told[0].starts_with("source.kafka.properties: ") && told[0].contains("mixes"),
        "{told:#?}"
    );
}
