//! The pipelines that come with tamis: they are read, they are sound, and the reference is complete.

use super::*;
use crate::config::read::ABSENT;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name)).unwrap()
}

#[test]
fn the_reference_is_equal_to_the_defaults() {
    let mut expected = Settings::default();
    expected.source.kafka = Some(Default::default());
    expected.source.files = Some(Default::default());
    expected.sink.kafka = Some(Default::default());
    expected.sink.files = Some(Default::default());
    expected.models.insert("default".to_owned(), Default::default());
    expected.signals.insert("pll".to_owned(), SignalSettings::Pll(Default::default()));
    expected.signals.insert("bound".to_owned(), SignalSettings::Nelbo(Default::default()));
    expected.signals.insert("toxic".to_owned(), SignalSettings::SequenceClassifier(Default::default()));
    expected.signals.insert("replaced".to_owned(), SignalSettings::TokenClassifier(Default::default()));
    expected.signals.insert("spam".to_owned(), SignalSettings::Embedding(Default::default()));
    expected.signals.insert("prompt".to_owned(), SignalSettings::Prompt(Default::default()));
    expected.signals.insert("text".to_owned(), SignalSettings::Text(Default::default()));
    let mut reference = loaded(&file("reference.toml"));
    let [example] = &reference.rules[..] else { panic!("one example of a rule") };
    assert_eq!(example.missing, judge::Missing::default());
    reference.rules.clear();
    assert_eq!(reference, expected);
}

#[test]
fn the_reference_names_every_key() {
    ABSENT.take();
    let text = file("reference.toml");
    let _ = loaded(&text);
    let mut absent = ABSENT.take();
    absent.sort_unstable();
    // Keys without a default stand in the reference as comments.
    let commented = [
        "activation",
        "annotate",
        "audit_share",
        "by_language",
        "by_source",
        "clip_nats",
        "delta",
        "guarantee",
        "instance",
        "keep_rate",
        "level",
        "min",
        "otlp",
        "random_rate",
        "registry",
        "review",
        "review_below",
        "sample_tokens",
        "seed",
        "stdin",
        "stdout",
        "stop_key",
        "stop_table",
        "stride",
        "words",
    ];
    assert_eq!(absent, commented, "a key is missing from pipelines/reference.toml");
    for key in commented {
        let written = text.lines().any(|line| {
            line.strip_prefix("# ").is_some_and(|line| {
                line.starts_with(&format!("{key} =")) || line.starts_with('[') && line.ends_with(&format!(".{key}]"))
            })
        });
        assert!(written, "# {key} = … is missing from pipelines/reference.toml");
    }
}

#[test]
fn every_least_value_that_the_schema_names_is_the_least() {
    let schema = schema();
    let defs = &schema["$defs"];
    let of = |name: &str| &defs[schema["properties"][name]["$ref"].as_str().unwrap().trim_start_matches("#/$defs/")];
    let models = schema["properties"]["models"]["additionalProperties"]["$ref"].as_str().unwrap();
    let kinds = &defs["SignalSettings"]["oneOf"];
    let tables = [
        ("document", of("document"), ""),
        ("delivery", of("delivery"), ""),
        ("cache", of("cache"), ""),
        ("admin", of("admin"), ""),
        ("models.default", &defs[models.trim_start_matches("#/$defs/")], ""),
        ("signals.pll", &kinds[0], "signals.pll.masking"),
        ("signals.bound", &kinds[1], ""),
    ];
    let text = file("reference.toml");
    let mut tried = 0;
    for (table, schema, masking) in tables {
        for (key, of) in schema["properties"].as_object().unwrap() {
            let Some(least) = of["minimum"].as_u64().filter(|least| *least > 0) else { continue };
            let needed = match key.as_str() {
                "stride" => format!("{masking}=strided"),
                "sample_tokens" => format!("{masking}=sampled"),
                _ => "name=x".to_owned(),
            };
            let refused = |value: u64| {
                let sets = [needed.as_str(), &format!("{table}.{key}={value}")];
                let problems = load_with(&text, &[], &sets).unwrap().validate(Purpose::Run).unwrap_err();
                problems.iter().any(|problem| problem.key == format!("{table}.{key}"))
            };
            assert!(refused(least - 1) && !refused(least), "{table}.{key}: {least} is not the least");
            tried += 1;
        }
    }
    assert!(tried >= 14, "{tried}");
}

#[test]
fn what_the_reference_says_of_signals_is_true() {
    let text = file("reference.toml");
    let settings = loaded(&text);
    let every =
        ["signals.pll.masking=sampled", "signals.pll.extra=[\"log_rank\", \"lrr\", \"entropy\", \"argmax_gap\"]"];
    let corrected = ["signals.pll.masking=unmasked", "signals.pll.corrected=true"];
    for sets in [&every, &corrected] {
        for name in load_with(&text, &[], sets).unwrap().signal_names().union(&settings.signal_names()) {
            assert!(text.contains(name), "{name}");
        }
    }
}

/// The TOML files below `dir`, but for the reference.
fn pipelines(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(pipelines(&path));
        } else if path.extension().is_some_and(|kind| kind == "toml") && !path.ends_with("reference.toml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_pipeline_that_comes_with_tamis_is_sound() {
    let all = pipelines(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines"));
    assert!(all.len() >= 2, "{all:?}");
    for path in all {
        let settings = load_text(&std::fs::read_to_string(&path).unwrap(), &path, [], &[]).unwrap();
        assert_eq!(settings.validate(Purpose::Run), Ok(()), "{}", path.display());
        assert_eq!(settings.validate(Purpose::Score), Ok(()), "{}", path.display());
    }
}
