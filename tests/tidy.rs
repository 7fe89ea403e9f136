//! Tidy: the rules of the house that a machine can check, each with a proof that its check can fail.
//!
//! Owns: floors and rooms, one outside crate in one room, file headers and sizes, what code and documents may not contain. In: the
//! repository's files as (path, text) pairs. Out: violations, each with its file, line and rule. Invariants: rules are pure functions,
//! so the proofs feed them small made-up trees; comments and string literals can't confuse a scan of code.
//! Must not know: how anything works.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/operations.rs"]
mod operations;
#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/settings.rs"]
mod settings;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{File, Violation};

/// Fails with every violation on its own line.
fn expect_none(violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} violation(s):\n{}", lines.len(), lines.join("\n"));
}

/// The repository, and a guard against passing because nothing was looked at.
fn house() -> Vec<File> {
    let files = tree::tracked();
    for must in ["Cargo.toml", "src/lib.rs", "src/corpus/mod.rs", "tests/tidy.rs"] {
        assert!(files.iter().any(|file| file.path == must), "{must} is not among the {} files found", files.len());
    }
    files
}

#[test]
fn imports_point_down_only() {
    expect_none(&floors::imports(&house()));
}

#[test]
fn one_outside_crate_lives_in_one_room() {
    expect_none(&floors::outside_crates(&house()));
}

#[test]
fn every_dependency_was_given_a_place() {
    expect_none(&floors::dependencies(&house()));
}

#[test]
fn every_file_opens_with_its_purpose() {
    expect_none(&code::headers(&house()));
}

#[test]
fn every_room_says_what_it_owns() {
    expect_none(&code::rooms(&house()));
}

#[test]
fn files_stay_short() {
    expect_none(&code::lengths(&house()));
}

#[test]
fn no_shortcut_is_taken_outside_tests() {
    expect_none(&code::shortcuts(&house()));
}

#[test]
fn no_test_is_switched_off() {
    expect_none(&code::ignored_tests(&house()));
}

#[test]
fn roles_are_enums_not_objects() {
    expect_none(&code::role_objects(&house()));
}

#[test]
fn unsafe_code_is_in_two_rooms_and_says_why() {
    expect_none(&code::unsafe_code(&house()));
}

#[test]
fn links_between_documents_lead_somewhere() {
    expect_none(&papers::links(&house()));
}

#[test]
fn no_tracked_file_is_large() {
    expect_none(&papers::sizes(&house()));
}

#[test]
fn nothing_names_somebodys_machine() {
    expect_none(&papers::machine_paths(&house()));
}

#[test]
fn every_series_that_is_named_exists() {
    let names: Vec<&str> = tamis::telemetry::SERIES.iter().map(|series| series.name).collect();
    expect_none(&papers::series(&house(), &names));
}

#[test]
fn the_code_map_shows_every_room() {
    expect_none(&papers::code_map(&house()));
}

#[test]
fn the_page_of_metrics_is_what_the_table_of_series_says() {
    if std::env::var_os("TAMIS_WRITE_PAGES").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        std::fs::write(path, operations::page()).expect("docs/ can be written");
    }
    expect_none(&operations::metrics_page(&house()));
}

#[test]
fn the_page_of_settings_is_what_the_types_say() {
    if std::env::var_os("TAMIS_WRITE_PAGES").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        std::fs::write(path, settings::page()).expect("docs/ can be written");
    }
    expect_none(&settings::settings_page(&house()));
}

#[test]
fn every_alert_has_its_entry_in_the_runbook() {
    expect_none(&operations::runbook(&house()));
}

#[test]
fn the_chart_is_of_this_version() {
    expect_none(&operations::chart_version(&house()));
}
