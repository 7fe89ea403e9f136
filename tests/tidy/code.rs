//! Owns what code may not look like: headers, lengths, shortcuts, switched-off tests, role objects, unsafe code.

use crate::rust;
use crate::tree::{File, Violation};

/// The longest a file may be, its tests not counted.
const MAX_LINES: usize = 450;
/// The rooms in which unsafe code may be needed: two outside libraries written in C.
const UNSAFE_ROOMS: [&str; 2] = ["src/engine/", "src/kafka/"];
/// Traits whose implementations are chosen by a closed enum.
const ROLES: [&str; 3] = ["Source", "Sink", "Scorer"];

fn rust_files(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is_rust())
}

/// Every file opens with `//!`.
pub(crate) fn headers(files: &[File]) -> Vec<Violation> {
    let without = rust_files(files).filter(|file| !file.text.starts_with("//! "));
    without.map(|file| file.violation(1, "header", "the file does not open with `//!` and its purpose")).collect()
}

/// Every room is a folder with a `mod.rs` whose header says what the room owns. A room without code owns nothing yet.
pub(crate) fn rooms(files: &[File]) -> Vec<Violation> {
    const RULE: &str = "rooms";
    let mut found = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for file in rust_files(files) {
        let Some((room, _)) = file.below_src().and_then(|below| below.split_once('/')) else { continue };
        if seen.contains(&room) {
            continue;
        }
        seen.push(room);
        let Some(front) = files.iter().find(|file| file.path == format!("src/{room}/mod.rs")) else {
            found.push(file.violation(0, RULE, format!("the room `{room}` has no mod.rs")));
            continue;
        };
        let empty = rust::code(&front.text).trim().is_empty();
        let header = front.text.lines().take_while(|line| line.starts_with("//!"));
        if !empty && !header.into_iter().any(|line| line.contains("Owns")) {
            found.push(front.violation(1, RULE, format!("the header of `{room}` does not say what the room owns")));
        }
    }
    found
}

/// No file is longer than a person reads in one go.
pub(crate) fn lengths(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in rust_files(files).filter(|file| file.below_src().is_some() && !rust::is_test_file(files, file)) {
        let lines = rust::lines_outside_tests(&rust::code(&file.text));
        if lines > MAX_LINES {
            found.push(file.violation(0, "length", format!("{lines} lines without tests; {MAX_LINES} is the most")));
        }
    }
    found
}

/// Neither `unwrap()` nor a placeholder outside tests.
pub(crate) fn shortcuts(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in rust_files(files).filter(|file| file.below_src().is_some() && !rust::is_test_file(files, file)) {
        let code = rust::without_tests(&rust::code(&file.text));
        for shortcut in [".unwrap()", "todo!", "unimplemented!"] {
            for (at, _) in code.match_indices(shortcut) {
                found.push(file.violation(
                    rust::line_of(&code, at),
                    "shortcuts",
                    format!("`{shortcut}` outside tests"),
                ));
            }
        }
    }
    found
}

/// A test that can't run says so and counts itself; it is not switched off.
pub(crate) fn ignored_tests(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in rust_files(files) {
        let code = rust::code(&file.text);
        for at in rust::words(&code, "ignore").filter(|at| code[..*at].trim_end().ends_with("#[")) {
            found.push(file.violation(rust::line_of(&code, at), "ignored tests", "a test is switched off"));
        }
    }
    found
}

/// Roles are dispatched by enums: the compiler lists what was missed.
pub(crate) fn role_objects(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in rust_files(files).filter(|file| file.below_src().is_some()) {
        let code = rust::code(&file.text);
        for at in rust::words(&code, "dyn") {
            let path: String =
                code[at + 3..].trim_start().chars().take_while(|c| rust::is_word(*c) || *c == ':').collect();
            let name = path.rsplit("::").next().unwrap_or_default();
            if ROLES.contains(&name) {
                found.push(file.violation(
                    rust::line_of(&code, at),
                    "role objects",
                    format!("`dyn {name}`: add a variant to the room's enum"),
                ));
            }
        }
    }
    found
}

/// Unsafe code stands in two rooms, each time allowed by name and with a reason.
pub(crate) fn unsafe_code(files: &[File]) -> Vec<Violation> {
    const RULE: &str = "unsafe code";
    let mut found = Vec::new();
    for file in rust_files(files) {
        let code = rust::code(&file.text);
        let at_home = UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room));
        for at in rust::words(&code, "unsafe").filter(|_| !at_home) {
            found.push(file.violation(rust::line_of(&code, at), RULE, "unsafe code outside engine/ and kafka/"));
        }
        for at in rust::words(&code, "unsafe_code") {
            let level = code[..at].trim_end().trim_end_matches('(');
            let reasoned = code[at + "unsafe_code".len()..]
                .trim_start()
                .strip_prefix(',')
                .is_some_and(|rest| rest.trim_start().starts_with("reason"));
            let allows = level.ends_with("allow") || level.ends_with("expect");
            if allows && (!reasoned || !at_home) {
                found.push(file.violation(
                    rust::line_of(&code, at),
                    RULE,
                    "unsafe code is allowed without a reason, or out of its rooms",
                ));
            }
        }
    }
    found
}

mod proofs {
    use super::*;

    fn says(rule: fn(&[File]) -> Vec<Violation>, path: &str, text: &str) -> Vec<(usize, String)> {
        rule(&[File::new(path, text)]).into_iter().map(|v| (v.line, v.what)).collect()
    }

    fn is_fine(rule: fn(&[File]) -> Vec<Violation>, path: &str, text: &str) {
        assert_eq!(says(rule, path, text), [], "{path}");
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let expected = [(1, "the file does not open with `//!` and its purpose".to_owned())];
        for text in ["use std::fmt;\n//! too late", "// not a header", "", "//!\n"] {
            assert_eq!(says(headers, "src/judge/a.rs", text), expected, "{text:?}");
        }
        is_fine(headers, "src/judge/a.rs", "//! Owns a.");
    }

    #[test]
    fn a_room_without_a_front_or_without_its_purpose_is_found() {
        assert_eq!(says(rooms, "src/judge/a.rs", ""), [(0, "the room `judge` has no mod.rs".to_owned())]);
        let silent = "//! Judges.\n// Owns: no header any more\nmod a;";
        assert_eq!(
            says(rooms, "src/judge/mod.rs", silent),
            [(1, "the header of `judge` does not say what the room owns".to_owned())]
        );
        is_fine(rooms, "src/judge/mod.rs", "//! Judges.\n//!\n//! Owns: rules.\nmod a;");
        is_fine(rooms, "src/judge/mod.rs", "//! Not built yet.\n");
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let body = "fn f() {}\n".repeat(MAX_LINES);
        is_fine(lengths, "src/judge/a.rs", &body);
        let tests = format!("{body}#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() {}\n".repeat(500));
        is_fine(lengths, "src/judge/a.rs", &tests);
        assert_eq!(
            says(lengths, "src/judge/a.rs", &format!("{body}//\n")),
            [(0, "451 lines without tests; 450 is the most".to_owned())]
        );
    }

    #[test]
    fn shortcuts_are_found_where_they_are_and_tests_may_take_them() {
        let text = "fn f() {\n    x.unwrap();\n    todo!()\n}\nfn g() { unimplemented!() }";
        let expected =
            [(2, "`.unwrap()` outside tests"), (3, "`todo!` outside tests"), (5, "`unimplemented!` outside tests")];
        assert_eq!(says(shortcuts, "src/judge/a.rs", text), expected.map(|(line, what)| (line, what.to_owned())));
        is_fine(
            shortcuts,
            "src/judge/a.rs",
            "// x.unwrap()\nlet s = \"todo!()\"; x.unwrap_or(1);\n#[cfg(test)]\nmod t { fn f() { x.unwrap() } }",
        );
        is_fine(shortcuts, "tests/it/main.rs", "fn f() { x.unwrap() }");
    }

    #[test]
    fn a_switched_off_test_is_found() {
        let off = |attribute: &str| format!("#[cfg(test)]\nmod tests {{\n#[test]\n#[{attribute}]\nfn f() {{}}\n}}");
        let expected = [(4, "a test is switched off".to_owned())];
        assert_eq!(says(ignored_tests, "src/judge/a.rs", &off("ignore")), expected);
        assert_eq!(says(ignored_tests, "tests/it/a.rs", &off("ignore = \"slow\"")), expected);
        is_fine(ignored_tests, "src/judge/a.rs", "// #[ignore]\nfn ignore() { ignore::x() }");
    }

    #[test]
    fn a_role_as_an_object_is_found() {
        let expected = [(1, "`dyn Scorer`: add a variant to the room's enum".to_owned())];
        assert_eq!(says(role_objects, "src/scorer/mod.rs", "fn f(s: Box<dyn Scorer>) {}"), expected);
        assert_eq!(says(role_objects, "src/pipeline/a.rs", "fn f(s: &dyn crate::scorer::Scorer) {}"), expected);
        is_fine(role_objects, "src/scorer/mod.rs", "fn f(e: &dyn std::error::Error, s: &impl Scorer) {}");
    }

    #[test]
    fn unsafe_code_out_of_its_rooms_or_without_a_reason_is_found() {
        let outside = (1, "unsafe code outside engine/ and kafka/".to_owned());
        assert_eq!(says(unsafe_code, "src/cache/a.rs", "fn f() { unsafe { g() } }"), [outside]);
        let silent = (1, "unsafe code is allowed without a reason, or out of its rooms".to_owned());
        assert_eq!(
            says(unsafe_code, "src/kafka/a.rs", "#[allow(unsafe_code)] fn f() { unsafe { g() } }"),
            [silent.clone()]
        );
        assert_eq!(says(unsafe_code, "src/cache/a.rs", "#![allow(unsafe_code, reason = \"fast\")]"), [silent]);
        is_fine(unsafe_code, "src/engine/a.rs", "#[allow(unsafe_code, reason = \"C\")]\nfn f() { unsafe { g() } }");
        is_fine(unsafe_code, "src/lib.rs", "#![deny(unsafe_code)] // unsafe");
    }
}
