//! The file, the environment and `--set`, and what can't be read.

use super::*;
use crate::judge::Missing;
use crate::scorer::Masking;
use proptest::prelude::*;

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(loaded(""), Settings::default());
}

#[test]
fn later_layers_win_and_the_rest_stays() {
    let variables = [
        ("TAMIS__DELIVERY__COMMIT_INTERVAL_MS", "250"),
        ("TAMIS__CACHE__ENABLED", "false"),
        ("TAMIS__NAME", "007"),
        ("TAMIS__MODELS__DEFAULT__THREADS", "3"),
        ("TAMIS_LOG", "debug"),
        ("tamis__name", "not ours"),
        ("PATH", "/bin"),
    ];
    let sets = ["delivery.commit_interval_ms=125", "models.other.path=m/o", "delivery.commit_interval_ms=100"];
    let settings = load_with(KAFKA, &variables, &sets).unwrap();
    assert_eq!(settings.delivery.commit_interval_ms, 100);
    assert!(!settings.cache.enabled);
    assert_eq!(settings.name, "007");
    assert_eq!((settings.models["default"].threads, settings.models["default"].budget_tokens), (3, 2048));
    assert_eq!(settings.models["other"].path, Path::new("m/o"));
    assert_eq!(settings.rules.len(), 2);
}

#[test]
fn an_override_is_read_as_its_key_asks() {
    let sets = [
        "signals.pll.masking=strided",
        "signals.pll.stride=7",
        "rules.fluent.max=5",
        "rules.1.min=2.5",
        "rules.long.missing=review",
        "rules.fluent.by_language.de.max=1e1",
        "routes.review=true",
        "delivery.instance=3",
        "source.kafka.brokers=a:1,b:2",
        "source.kafka.properties.sasl.password=a=b, {c} [d]",
        "name=",
    ];
    let settings = load_with(KAFKA, &[], &sets).unwrap();
    let SignalSettings::Pll(pll) = &settings.signals["pll"] else { panic!() };
    assert_eq!((pll.masking, pll.stride), (Masking::Strided, Some(7)));
    assert_eq!((settings.rules[0].max, settings.rules[1].min), (Some(5.0), Some(2.5)));
    assert_eq!(settings.rules[1].missing, Missing::Review);
    assert_eq!(settings.rules[0].by_language["de"].max, Some(10.0));
    assert_eq!(settings.routes.review.as_deref(), Some("true"));
    assert_eq!(settings.delivery.instance, Some(3));
    let kafka = settings.source.kafka.unwrap();
    assert_eq!(kafka.brokers, "a:1,b:2");
    assert_eq!(kafka.properties["sasl.password"], "a=b, {c} [d]");
    assert_eq!(settings.name, "");
}

#[test]
fn lists_and_tables_can_be_written_whole() {
    for topics in [r#"["a", "b"]"#, "a,b", " a , b "] {
        let settings = with(&[&format!("source.kafka.topics={topics}")]);
        assert_eq!(settings.source.kafka.unwrap().topics, ["a", "b"]);
    }
    let settings = load_with("", &[("TAMIS__SOURCE__STDIN", "{}")], &["signals.t={ kind = \"text\" }"]).unwrap();
    assert!(settings.source.stdin.is_some());
    assert!(matches!(settings.signals["t"], SignalSettings::Text(_)));
    let settings = load_with("", &[], &["signals.p.kind=pll", "signals.p.window_tokens=64"]).unwrap();
    assert!(matches!(&settings.signals["p"], SignalSettings::Pll(pll) if pll.window_tokens == 64));
}

#[test]
fn a_variable_meets_names_of_any_case_and_properties_with_dots() {
    let text = "[models.EN]\n[source.kafka.properties]\n\"sasl.username\" = \"a\"\n[[rules]]\nname = \"Fluent\"\nsignal = \"s\"";
    let variables = [
        ("TAMIS__MODELS__EN__DEVICE", "cuda:1"),
        ("TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_USERNAME", "b"),
        ("TAMIS__RULES__FLUENT__MAX", "3"),
    ];
    let settings = load_with(text, &variables, &[]).unwrap();
    assert_eq!(settings.models["EN"].device.to_string(), "cuda:1");
    assert_eq!(settings.models.len(), 1);
    let properties = settings.source.kafka.unwrap().properties;
    assert_eq!(properties["sasl.password"], "hunter2");
    assert_eq!((properties["sasl.username"].as_str(), properties.len()), ("b", 2));
    assert_eq!(settings.rules[0].max, Some(3.0));
}

#[test]
fn properties_may_be_numbers_and_booleans() {
    let settings = loaded("[source.kafka.properties]\n\"fetch.wait.max.ms\" = 5\n\"socket.keepalive.enable\" = true");
    let properties = settings.source.kafka.unwrap().properties;
    assert_eq!((&*properties["fetch.wait.max.ms"], &*properties["socket.keepalive.enable"]), ("5", "true"));
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_column_but_not_its_text() {
    for (text, place) in [
        ("name = \"a\"\nsecret = hunter2\n", "my.toml:2:10: "),
        ("[source.kafka\n", "my.toml:1:14: "),
        ("name = \"a\"\nname = \"b\"\n", "my.toml:2:1: "),
        ("ä = 1\n", "my.toml:1:1: "),
        ("delivery.drain_ms = 99999999999999999999\n", "my.toml:1:"),
    ] {
        let told = refused(text);
        assert!(told.starts_with(place), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    for (text, told) in [
        ("[admin]\nlisen = \"x\"", r#"my.toml: admin.lisen: unknown key; did you mean "listen"? (known: listen, "#),
        ("[document]\ncolour = 1", "my.toml: document.colour: unknown key; known: format, text, id,"),
        ("[signals.p]\nkind = \"pll\"\nstrid = 7", r#"my.toml: signals.p.strid: unknown key; did you mean "stride"?"#),
        ("[source.pulsar]\ntopics = []", "my.toml: source.pulsar: unknown key; known: kafka, files, stdin"),
        ("[source.stdin]\na = 1", "my.toml: source.stdin.a: unknown key; this table has no keys"),
        (
            "[[rules]]\nname = \"r\"\nsignal = \"s\"\nmaxx = 1",
            r#"my.toml: rules.r.maxx: unknown key; did you mean "max"?"#,
        ),
        (
            "[[rules]]\nname = \"r\"\nsignal = \"s\"\nby_language = { de = { mx = 1 } }",
            "rules.r.by_language.de.mx: unknown",
        ),
        ("[rule]\n", r#"my.toml: rule: unknown key; did you mean "rules"?"#),
    ] {
        assert!(refused(text).contains(told), "{} lacks {told}", refused(text));
    }
}

#[test]
fn values_that_do_not_fit_are_told_with_what_would() {
    for (text, told) in [
        ("[delivery]\ndrain_ms = \"30000\"", "delivery.drain_ms: expected a whole number from 0 up, found text"),
        ("[delivery]\ndrain_ms = 1.5", "delivery.drain_ms: expected a whole number from 0 up, found a number with"),
        ("[delivery]\ndrain_ms = -1", "delivery.drain_ms: -1 is not within 0 and 18446744073709551615"),
        ("[delivery]\ninstance = 5000000000", "delivery.instance: 5000000000 is not within 0 and 4294967295"),
        ("[delivery]\ndrain_ms = true", "delivery.drain_ms: expected a whole number from 0 up, found a boolean"),
        (
            "[delivery]\nguarantee = \"exactly_once\"",
            r#"did you mean "exactly-once"? (known: exactly-once, at-least-once)"#,
        ),
        ("[judge]\nevaluate = \"some\"", r#"judge.evaluate: unknown value "some"; known: all, until-decided"#),
        ("[cache]\nenabled = 1", "cache.enabled: expected true or false, found an integer"),
        ("cache = 1", "cache: expected a table, found an integer"),
        ("rules = 1", "rules: expected a list, found an integer"),
        ("name = []", "name: expected text, found a list"),
        ("[signals]\np = \"pll\"", "signals.p: expected a table with a `kind`, found text"),
        ("[signals.p]\nmodel = \"x\"", "signals.p: it needs a `kind`, one of pll, nelbo, sequence-classifier"),
        ("[signals.p]\nkind = \"ppl\"", r#"signals.p.kind: unknown value "ppl"; did you mean "pll"?"#),
        ("[signals.p]\nkind = \"pll\"\nmasking = \"global-l2r\"", r#"signals.p.masking: unknown value "global-l2r""#),
        ("[signals.p]\nkind = \"pll\"\nstride = \"7\"", "signals.p.stride: expected a whole number"),
        ("[models.m]\ndevice = \"gpu\"", r#"models.m.device: unknown device "gpu": use auto"#),
        ("[[rules]]\nsignal = \"s\"", "rules.0.name: this key is needed"),
        ("[[rules]]\nname = \"r\"\nsignal = \"s\"\nmax = \"4\"", "rules.r.max: expected a number, found text"),
    ] {
        let error = refused(text);
        assert!(error.contains(told) && error.starts_with("my.toml: "), "{error} lacks {told}");
    }
}

#[test]
fn an_override_that_is_wrong_is_told_by_its_own_name() {
    for (variable, set, told) in [
        ("TAMIS__ADMIN__LISEN=x", "", r#"TAMIS__ADMIN__LISEN: admin.lisen: unknown key; did you mean "listen"?"#),
        ("TAMIS__ADMN__LISTEN=x", "", r#"TAMIS__ADMN__LISTEN: admn: unknown key; did you mean "admin"?"#),
        ("TAMIS__DELIVERY__DRAIN_MS=soon", "", "TAMIS__DELIVERY__DRAIN_MS: delivery.drain_ms: expected a whole number"),
        ("TAMIS__DELIVERY__=1", "", "TAMIS__DELIVERY__: a part of the name is empty"),
        ("", "delivery.drain_ms=-1", "--set delivery.drain_ms: delivery.drain_ms: -1 is not within"),
        ("", "cache.enabled=yes", "--set cache.enabled: cache.enabled: expected true or false"),
        ("", "signals.pll.kind=ppl", r#"--set signals.pll.kind: signals.pll.kind: unknown value "ppl""#),
        (
            "",
            "models.default.device=gpu",
            r#"--set models.default.device: models.default.device: unknown device "gpu""#,
        ),
        (
            "",
            "rules.fluentt.max=1",
            r#"--set rules.fluentt.max: there is no "fluentt" in this list of 2; did you mean "fluent"?"#,
        ),
        ("", "rules.2.max=1", r#"there is no "2" in this list of 2; known: fluent, long"#),
        ("", "cache.enabled", "--set cache.enabled: there is no `=`"),
        ("", "cache..enabled=true", "--set cache..enabled: a part of the key is empty"),
        ("", "name.x=1", "--set name.x: name: expected text, found a table"),
        ("", "source.kafka.topics=[a", "--set source.kafka.topics: source.kafka.topics: this does not read as TOML"),
        ("", "models=hunter2", "--set models: models: expected a table, found text"),
    ] {
        let variables: Vec<(&str, &str)> = variable.split_once('=').into_iter().collect();
        let sets: Vec<&str> = Some(set).filter(|set| !set.is_empty()).into_iter().collect();
        let error = load_with(KAFKA, &variables, &sets).unwrap_err().to_string();
        assert!(error.contains(told), "{error} lacks {told}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let error = load(Path::new("no/such.toml"), &[]).unwrap_err().to_string();
    assert!(error.starts_with("no/such.toml: ") && error.contains("check the path"), "{error}");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "[a-z\\[\\]{}=\"',.\n #0-9-]{0,80}", set in ".{0,40}", name in "[A-Z_]{0,20}") {
        let variable = format!("TAMIS__{name}");
        let _ = load_with(&text, &[], &[]);
        let _ = load_with(KAFKA, &[(&variable, &set)], &[]);
        let _ = load_with(KAFKA, &[], &[&set]);
    }

    #[test]
    fn any_text_survives_as_a_name(text in ".*") {
        prop_assert_eq!(&with(&[&format!("name={text}")]).name, &text);
        let settings = load_with(KAFKA, &[("TAMIS__NAME", &text)], &[]);
        prop_assert_eq!(settings.unwrap().name, text);
    }
}

#[test]
fn a_file_without_end_is_refused_and_so_is_one_that_no_person_wrote() {
    let refused = |path: &Path| load(path, &[]).unwrap_err().to_string();
    assert!(refused(Path::new("/dev/zero")).contains("larger than 1048576 bytes"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.toml");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(refused(&path).contains("larger than 1048576 bytes"));
    std::fs::write(&path, "#".repeat(1 << 20)).unwrap();
    assert!(load(&path, &[]).is_ok());
}
