//! Owns the little that the rules need to know about Rust: where comments, literals and tests are, and which paths a file names.
//!
//! Not a parser: it keeps every newline, so that offsets in what is left still give lines of the original.

use crate::tree::File;

/// `text` with comments, string contents and character literals blanked.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `None` when none starts there.
fn skipped(chars: &[char], at: usize) -> Option<usize> {
    let after = |n: usize| chars.get(at + n).copied();
    match chars[at] {
        '/' if after(1) == Some('/') => Some(find(chars, at, |c| c == '\n')),
        '/' if after(1) == Some('*') => Some(block_comment(chars, at)),
        '"' => Some(quoted(chars, at, '"')),
        '\'' if after(1) == Some('\\') || (after(2) == Some('\'') && after(1) != Some('\'')) => {
            Some(quoted(chars, at, '\''))
        }
        'r' if !part_of_word(chars, at) => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            (after(1 + hashes) == Some('"')).then(|| raw(chars, at + 2 + hashes, hashes))
        }
        _ => None,
    }
}

/// Whether the `r` at `at` belongs to a longer word; `br` and `cr` begin literals.
fn part_of_word(chars: &[char], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| chars[i]);
    let word = |c: Option<char>| c.is_some_and(is_word);
    match before(1) {
        Some('b' | 'c') => word(before(2)),
        other => word(other),
    }
}

fn find(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| stop(chars[*i])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw(chars: &[char], from: usize, hashes: usize) -> usize {
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (from..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes)
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line, from 1, of the byte at `offset`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Byte ranges of the items of `code` that exist in tests only: what follows `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let inside = &code[start + "#[cfg(".len()..];
        let test_only =
            inside.starts_with("test)") || inside.starts_with("all(test,") || inside.starts_with("all(test)");
        if test_only && ranges.last().is_none_or(|last| last.end <= start) {
            ranges.push(start..item_end(code, start));
        }
    }
    ranges
}

/// Where the item whose attributes begin at `start` ends.
fn item_end(code: &str, start: usize) -> usize {
    let mut at = start;
    while code[at..].trim_start().starts_with("#[") {
        let open = at + code[at..].find('[').unwrap_or(0);
        at = closing(code, open);
    }
    let words = code[at..].split_whitespace().find(|word| !word.starts_with("pub"));
    let to_semicolon = words.is_some_and(|word| ["use", "const", "static", "type", "let"].contains(&word));
    let mut depth = 0usize;
    for (i, c) in code[at..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !to_semicolon {
                    return at + i + 1;
                }
            }
            ';' if depth == 0 => return at + i + 1,
            _ => {}
        }
    }
    code.len()
}

/// The byte behind the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return open + i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// `code` with its test-only items blanked.
pub(crate) fn without_tests(code: &str) -> String {
    blank(code, &test_items(code))
}

/// How many lines of `code` do not belong to a test-only item.
pub(crate) fn lines_outside_tests(code: &str) -> usize {
    let in_tests: usize = test_items(code).iter().map(|range| code[range.clone()].lines().count()).sum();
    code.lines().count().saturating_sub(in_tests)
}

fn blank(code: &str, ranges: &[std::ops::Range<usize>]) -> String {
    let mut out = String::with_capacity(code.len());
    for (i, c) in code.char_indices() {
        let hidden = ranges.iter().any(|range| range.contains(&i));
        // A blank of the same width keeps offsets.
        if hidden && c != '\n' { out.extend(std::iter::repeat_n(' ', c.len_utf8())) } else { out.push(c) }
    }
    out
}

/// The files that are modules of tests only: declared by `#[cfg(test)] mod name;`, and what lies below them.
pub(crate) fn is_test_file(files: &[File], file: &File) -> bool {
    files.iter().filter(|parent| parent.is_rust() && parent.path.starts_with("src/")).any(|parent| {
        let code = code(&parent.text);
        test_items(&code).into_iter().any(|range| {
            let item = code[range].trim_end();
            let Some(name) =
                item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")).map(|(_, name)| name.trim())
            else {
                return false;
            };
            let home = module_folder(&parent.path);
            file.path == format!("{home}/{name}.rs") || file.path.starts_with(&format!("{home}/{name}/"))
        })
    })
}

/// The folder in which the modules that a file declares are looked for.
fn module_folder(path: &str) -> &str {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if ["mod.rs", "lib.rs", "main.rs"].contains(&name) { folder } else { path.trim_end_matches(".rs") }
}

/// One path that a file names, as its segments. A leading `::` is kept as an empty first segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The name that a `use` binds; `None` for a path inside code.
    pub(crate) binds: Option<String>,
}

/// Every path that `code` (without comments, literals, tests) imports or spells out.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let mut named = Vec::new();
    let mut uses = Vec::new();
    for start in words(code, "use") {
        let rest = &code[start + 3..];
        if rest.trim_start().starts_with('<') {
            continue; // precise capturing, not an import
        }
        let end = rest.find(';').unwrap_or(rest.len());
        let mut leaves = Vec::new();
        expand(&mut Vec::new(), rest[..end].trim(), &mut leaves);
        let line = line_of(code, start);
        named.extend(leaves.into_iter().map(|(segments, name)| Named { segments, line, binds: Some(name) }));
        uses.push(start..start + 3 + end);
    }
    named.extend(spelled_out(&blank(code, &uses)));
    named
}

/// Offsets at which `word` stands alone in `code`.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(|c| is_word(c) || c == '#') && !after.is_some_and(is_word)
    })
}

/// Turns `a::{b, c::{self, d as e}}` into its leaves, each with the name that it binds.
fn expand(prefix: &mut Vec<String>, tree: &str, leaves: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let before = prefix.len();
        push_segments(prefix, tree[..open].trim().trim_end_matches("::"));
        let inside = &tree[open + 1..closing(tree, open).max(open + 2) - 1];
        for part in split_top(inside) {
            expand(prefix, part, leaves);
        }
        prefix.truncate(before);
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut segments = prefix.clone();
    push_segments(&mut segments, path.trim());
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    let name = alias.map(str::to_owned).or_else(|| segments.last().cloned()).unwrap_or_default();
    leaves.push((segments, name));
}

fn push_segments(segments: &mut Vec<String>, path: &str) {
    if !path.is_empty() {
        segments.extend(path.split("::").map(|segment| segment.trim().trim_start_matches("r#").to_owned()));
    }
}

fn split_top(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0usize, 0);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&list[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[from..]);
    parts
}

/// Paths of two or more segments in code.
fn spelled_out(code: &str) -> Vec<Named> {
    let mut named = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("::") {
        let colons = at + found;
        let head_start =
            code[..colons].char_indices().rev().take_while(|(_, c)| is_word(*c)).last().map_or(colons, |(i, _)| i);
        let before = code[..colons].trim_end();
        let closed = before.ends_with(['>', ')', ']', '}']) && !before.ends_with("->") && !before.ends_with("=>");
        if head_start == colons && closed {
            at = colons + 2; // the rest of `<T as Trait>::name` or of a turbofish
            continue;
        }
        let mut segments = vec![code[head_start..colons].to_owned()];
        let mut end = colons;
        while code[end..].starts_with("::") {
            let segment: String = code[end + 2..].chars().take_while(|c| is_word(*c)).collect();
            end += 2 + segment.len();
            if segment.is_empty() {
                break; // a turbofish or a group
            }
            segments.push(segment);
        }
        named.push(Named { segments, line: line_of(code, colons), binds: None });
        at = end;
    }
    named
}

/// Names that a file declares as modules of its own.
pub(crate) fn declared_modules(code: &str) -> Vec<String> {
    words(code, "mod").map(|at| code[at + 3..].trim_start().chars().take_while(|c| is_word(*c)).collect()).collect()
}

mod proofs {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        paths(&without_tests(&code(text))).into_iter().map(|n| n.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = r####"a /* qq /* qq */ qq */ b // unwrap()
let s = "unwrap() \" // \\"; let c = '"'; let d = '\''; let e: &'static str = r#"todo!() " "#; br"qq"; r#type; f"####;
        let left = code(text);
        assert_eq!(left.lines().count(), text.lines().count());
        assert!(!left.contains("unwrap") && !left.contains("todo") && !left.contains("qq"), "{left}");
        for kept in ["a ", " b ", "let s =", "let c =", "let d =", "&'static str =", "r#type; f"] {
            assert!(left.contains(kept), "{kept} is missing from {left}");
        }
    }

    #[test]
    fn a_multi_line_string_keeps_the_lines_behind_it() {
        let left = code("let s = \"one\ntwo\";\nlet t = 1;");
        assert_eq!(line_of(&left, left.find("let t").unwrap()), 3);
    }

    #[test]
    fn test_items_are_blanked_to_their_end_and_no_further() {
        let text = "use a::b;\n#[cfg(test)]\nuse t::u::{v};\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() { g::h(); } }\nfn z() { k::l(); }\n#[cfg(not(test))]\nuse m::n;";
        assert_eq!(names(text), ["a::b", "m::n", "k::l"]);
        assert_eq!(lines_outside_tests(&code(text)), 4);
    }

    #[test]
    fn groups_aliases_globs_and_spelled_out_paths_are_seen() {
        let text = "pub(crate) use crate::{corpus::{Route, Fault as F}, judge, cache::*};\nfn f() -> ::ort::Session { crate::engine::run::<u8>(); <T as X>::y() }";
        let expected = [
            "crate::corpus::Route",
            "crate::corpus::Fault",
            "crate::judge",
            "crate::cache::*",
            "::ort::Session",
            "crate::engine::run",
        ];
        assert_eq!(names(text), expected);
        let bound: Vec<_> = paths(&code(text)).into_iter().filter_map(|n| n.binds).collect();
        assert_eq!(bound, ["Route", "F", "judge", "*"]);
    }

    #[test]
    fn a_file_declared_for_tests_is_one_and_its_neighbour_is_not() {
        let files = [
            File::new(
                "src/admin/mod.rs",
                "mod page;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod contract_tests;",
            ),
            File::new("src/admin/tests.rs", ""),
            File::new("src/admin/contract_tests/a.rs", ""),
            File::new("src/admin/page.rs", ""),
        ];
        let found: Vec<bool> = files.iter().map(|file| is_test_file(&files, file)).collect();
        assert_eq!(found, [false, true, true, false]);
    }
}
