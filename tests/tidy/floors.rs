//! Owns the floors: which room stands where, what may import what, and which outside crate lives in which room.

use crate::rust::{self, Named};
use crate::tree::{File, Violation};

/// The floors from the ground up. A room imports strictly lower floors only; the entry is one floor whose parts may use each other.
pub(crate) const FLOORS: [(&str, &[&str]); 7] = [
    ("0a values", &["corpus", "http", "sentences"]),
    ("0b telemetry", &["telemetry"]),
    ("1 instruments", &["decode", "signals", "judge", "tokenize", "graph", "engine", "cache", "kafka", "files"]),
    ("2 roles", &["source", "sink", "scorer"]),
    ("3 wiring", &["pipeline", "admin"]),
    ("4 settings", &["config"]),
    ("5 entry", ENTRY),
];

const ENTRY: &[&str] = &["cli", "app", "main", "lib"];

/// Outside crates that have a home, and the rooms that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", ENTRY),
    ("apache_avro", &["decode"]),
    ("axum", &["admin"]),
    ("base64", &["cli", "http", "sink"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("config", &["config"]),
    ("flate2", &["files"]),
    ("futures_util", &["admin"]),
    ("gethostname", ENTRY),
    ("globset", &["files"]),
    ("half", &["engine", "graph"]),
    ("humantime", &["cli"]),
    ("indicatif", &["cli"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("moka", &["cache"]),
    ("ndarray", &["engine"]),
    ("ort", &["engine"]),
    ("ort_sys", &["engine"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("parquet", &["files"]),
    ("prost", &["graph"]),
    ("prost_reflect", &["decode"]),
    ("protox", &["decode"]),
    ("ratatui", &["cli"]),
    ("rdkafka", &["kafka"]),
    ("rdkafka_sys", &["kafka"]),
    ("rustix", &["cache", "files"]),
    ("rustls", &["http"]),
    ("rustls_native_certs", &["http"]),
    ("regex", &["kafka"]),
    ("sd_notify", ENTRY),
    ("sha2", &["engine"]),
    ("signal_hook", ENTRY),
    ("sled", &["cache"]),
    ("strsim", &["config", "judge"]),
    ("tokenizers", &["tokenize"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
    ("unicode_normalization", &["decode"]),
    ("unicode_script", &["decode"]),
    ("unicode_security", &["decode"]),
    ("ureq", &["http"]),
    ("walkdir", &["files"]),
    ("whatlang", &["signals"]),
    ("zstd", &["files"]),
];

/// Outside crates that are part of the language as this house speaks it: any room may name them.
const COMMON: &[&str] =
    &["blake3", "libc", "schemars", "serde", "serde_json", "thiserror", "tokio", "tracing", "unicode_segmentation"];

/// The room of a file in `src/`, named by folder or by file.
fn room(file: &File) -> Option<&str> {
    let below = file.below_src().filter(|_| file.is_rust())?;
    Some(below.split_once('/').map_or(below.trim_end_matches(".rs"), |(room, _)| room))
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, rooms)| rooms.contains(&room))
}

/// What a file outside the tests names, and the names that it binds itself.
fn named(files: &[File], file: &File) -> Option<(Vec<Named>, Vec<String>)> {
    if rust::is_test_file(files, file) {
        return None;
    }
    let code = rust::without_tests(&rust::code(&file.text));
    let mut bound = rust::declared_modules(&code);
    let paths = rust::paths(&code);
    bound.extend(paths.iter().filter(|n| is_ours(&n.segments)).filter_map(|n| n.binds.clone()));
    Some((paths, bound))
}

fn is_ours(segments: &[String]) -> bool {
    segments.first().is_some_and(|head| ["crate", "super", "self", "tamis"].contains(&head.as_str()))
}

/// Imports point down only; rooms of one floor do not know each other.
pub(crate) fn imports(files: &[File]) -> Vec<Violation> {
    const RULE: &str = "floors";
    let mut found = Vec::new();
    for file in files {
        let Some(room) = room(file) else { continue };
        let Some(own) = floor(room) else {
            found.push(file.violation(
                0,
                RULE,
                format!(
                    "the room `{room}` stands on no floor: give it one in tests/tidy/floors.rs and in ARCHITECTURE.md"
                ),
            ));
            continue;
        };
        if ENTRY.contains(&room) {
            continue; // the top: everything is below
        }
        let Some((paths, _)) = named(files, file) else { continue };
        for path in paths {
            let Some(target) = from_root(file, &path.segments) else { continue };
            let what = match (target.as_str(), floor(&target)) {
                (same, _) if same == room => continue,
                (_, Some(other)) if other < own => continue,
                ("*" | "", _) => "imports the crate's root, which hides what it uses".to_owned(),
                (_, Some(other)) if other == own => format!(
                    "`{room}` and `{target}` stand on one floor ({}) and may not know each other",
                    FLOORS[own].0
                ),
                (_, Some(other)) => {
                    format!("`{room}` ({}) may not import `{target}` ({})", FLOORS[own].0, FLOORS[other].0)
                }
                (_, None) => format!("`{target}` is no room"),
            };
            found.push(file.violation(path.line, RULE, what));
        }
    }
    found
}

/// The room that a path of ours leads to, seen from the crate's root; `None` for paths that stay inside the room or leave the crate.
fn from_root(file: &File, segments: &[String]) -> Option<String> {
    let below = file.below_src()?.trim_end_matches(".rs");
    let depth = below.split('/').filter(|part| *part != "mod").count();
    let climbed = segments.iter().take_while(|segment| *segment == "super").count();
    let rest = match segments.first()?.as_str() {
        "crate" => &segments[1..],
        "super" if climbed >= depth => &segments[climbed..],
        _ => return None,
    };
    Some(rest.first().cloned().unwrap_or_default())
}

/// One outside crate, one room.
pub(crate) fn outside_crates(files: &[File]) -> Vec<Violation> {
    const RULE: &str = "one crate, one room";
    let mut found = Vec::new();
    for file in files {
        let Some(room) = room(file) else { continue };
        let Some((paths, bound)) = named(files, file) else { continue };
        for path in paths {
            let absolute = path.segments.first().is_some_and(String::is_empty);
            let Some(head) = path.segments.get(usize::from(absolute)) else { continue };
            if !absolute && bound.contains(head) {
                continue; // a module or an import of ours with the same name
            }
            if let Some((name, rooms)) = HOMES.iter().find(|(name, rooms)| name == head && !rooms.contains(&room)) {
                found.push(file.violation(
                    path.line,
                    RULE,
                    format!("`{name}` may be named in {} only", rooms.join(", ")),
                ));
            }
        }
    }
    found.dedup();
    found
}

/// Every dependency in `Cargo.toml` has a home or is common.
pub(crate) fn dependencies(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path == "Cargo.toml") {
        let mut in_dependencies = false;
        for (i, line) in file.text.lines().enumerate() {
            if let Some(table) = line.strip_prefix('[') {
                let table = table.trim_end_matches(']');
                in_dependencies =
                    table == "dependencies" || (table.starts_with("target.") && table.ends_with(".dependencies"));
                continue;
            }
            let name = line.split(['=', '.']).next().unwrap_or_default().trim().trim_matches('"').replace('-', "_");
            let placed = HOMES.iter().any(|(home, _)| *home == name) || COMMON.contains(&name.as_str());
            if in_dependencies && !name.is_empty() && !name.starts_with('#') && !placed {
                found.push(file.violation(
                    i + 1,
                    "dependencies",
                    format!("`{name}` has no room: give it one in tests/tidy/floors.rs"),
                ));
            }
        }
    }
    found
}

mod proofs {
    use super::*;

    /// The violations of one made-up file, as `line: what`.
    fn says(rule: fn(&[File]) -> Vec<Violation>, path: &str, text: &str) -> Vec<String> {
        rule(&[File::new(path, text)]).into_iter().map(|v| format!("{}: {}", v.line, v.what)).collect()
    }

    #[test]
    fn an_import_that_points_up_is_found() {
        let text = "//! x\n\nuse crate::pipeline::Journey;";
        assert_eq!(
            says(imports, "src/judge/mod.rs", text),
            ["3: `judge` (1 instruments) may not import `pipeline` (3 wiring)"]
        );
    }

    #[test]
    fn instruments_may_not_know_each_other_in_any_spelling() {
        let expected = "`judge` and `cache` stand on one floor (1 instruments) and may not know each other";
        for text in [
            "use crate::cache::Key;",
            "use crate::{corpus::Route, cache::{Key}};",
            "fn f() { crate::cache::get() }",
            "use crate::cache as c;",
            "use super::cache::Key;",
        ] {
            let found = says(imports, "src/judge/mod.rs", text);
            assert_eq!(found, [format!("1: {expected}")], "{text}");
        }
        assert_eq!(says(imports, "src/judge/rules.rs", "use super::super::cache::Key;"), [format!("1: {expected}")]);
    }

    #[test]
    fn telemetry_may_import_the_values_only_and_the_values_nothing() {
        assert_eq!(says(imports, "src/telemetry/a.rs", "use crate::corpus::Route;"), [""; 0]);
        assert_eq!(
            says(imports, "src/telemetry/a.rs", "use crate::cache::Key;"),
            ["1: `telemetry` (0b telemetry) may not import `cache` (1 instruments)"]
        );
        assert_eq!(
            says(imports, "src/corpus/a.rs", "use crate::telemetry::metrics;"),
            ["1: `corpus` (0a values) may not import `telemetry` (0b telemetry)"]
        );
    }

    #[test]
    fn the_root_is_no_way_around_and_an_unknown_room_is_reported() {
        let root = "1: imports the crate's root, which hides what it uses";
        for text in ["use crate as house;", "use crate::*;", "use super::*;", "use crate::{self as house};"] {
            assert_eq!(says(imports, "src/judge/mod.rs", text), [root], "{text}");
        }
        assert_eq!(says(imports, "src/judge/a.rs", "use crate::helpers::x;"), ["1: `helpers` is no room"]);
        let found = says(imports, "src/util/mod.rs", "");
        assert!(found.len() == 1 && found[0].contains("`util` stands on no floor"), "{found:?}");
    }

    #[test]
    fn imports_down_inside_the_room_in_comments_and_in_tests_are_fine() {
        let text = "use crate::telemetry::metrics;\nuse crate::judge::Rule;\nuse super::Rule;\n// use crate::cache::Key;\n\
                    const S: &str = \"crate::cache\";\n#[cfg(test)]\nmod tests { use crate::cache::Key; }";
        assert_eq!(says(imports, "src/judge/rules.rs", text), [""; 0]);
        assert_eq!(says(imports, "src/cli/mod.rs", "use crate::app::run;"), [""; 0]);
    }

    #[test]
    fn a_crate_outside_its_room_is_found_in_any_spelling() {
        for (text, expected) in [
            ("use sled::Db;", "`sled` may be named in cache only"),
            ("fn f() -> ::sled::Db { g() }", "`sled` may be named in cache only"),
            ("fn f(db: &sled::Db) {}", "`sled` may be named in cache only"),
            ("use ort;", "`ort` may be named in engine only"),
            ("#[derive(clap::Args)] struct A;", "`clap` may be named in cli only"),
            ("fn f() -> anyhow::Result<()> { g() }", "`anyhow` may be named in cli, app, main, lib only"),
            ("use metrics::counter;", "`metrics` may be named in telemetry only"),
        ] {
            assert_eq!(says(outside_crates, "src/judge/mod.rs", text), [format!("1: {expected}")], "{text}");
        }
    }

    #[test]
    fn a_crate_at_home_or_a_room_of_the_same_name_is_fine() {
        for (path, text) in [
            ("src/cache/store.rs", "use sled::Db;"),
            ("src/judge/mod.rs", "use crate::telemetry::metrics;\nfn f() { metrics::ready(true) }"),
            ("src/app.rs", "use crate::config;\nfn f() { config::load() }"),
            ("src/judge/mod.rs", "// sled::Db\n#[cfg(test)]\nmod tests { use sled::Db; }"),
        ] {
            assert_eq!(says(outside_crates, path, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_dependency_without_a_room_is_found() {
        let text = "[package]\nname = \"x\"\n[dependencies]\nserde = \"1\"\nort = { version = \"2\" }\nleft-pad = \"1\"\n# note\n\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(
            says(dependencies, "Cargo.toml", text),
            ["6: `left_pad` has no room: give it one in tests/tidy/floors.rs"]
        );
    }
}
