//! Owns what the repository's other files may not do: dead links, large files, names of machines, series that do not exist, a code
//! map with holes.

use crate::floors::FLOORS;
use crate::tree::{File, Violation};
use std::collections::BTreeSet;

/// The largest tracked file, in bytes.
const MAX_BYTES: u64 = 20_000_000;
/// Files that people and machines read as instructions. Data may contain any text.
const WRITTEN: [&str; 17] = [
    "rs",
    "md",
    "toml",
    "sh",
    "py",
    "yml",
    "yaml",
    "service",
    "properties",
    "xml",
    "html",
    "css",
    "conf",
    "cfg",
    "Dockerfile",
    "Makefile",
    "rules",
];

/// Links between documents lead to a tracked file or folder, and to a heading that exists.
pub(crate) fn links(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_markdown()) {
        for (line, target) in targets(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let full = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
            let exact = files.iter().find(|other| other.path == full);
            let folder = full.is_empty() || files.iter().any(|other| other.path.starts_with(&format!("{full}/")));
            let what = match (exact, anchor) {
                (None, _) if !folder => format!("`{target}` leads nowhere"),
                (Some(other), Some(anchor)) if other.is_markdown() && !anchors(&other.text).contains(anchor) => {
                    format!("`{target}`: no heading `{anchor}` in {full}")
                }
                _ => continue,
            };
            found.push(file.violation(line, "links", what));
        }
    }
    found
}

/// `target` seen from the folder of `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Lines of a document outside code blocks, with inline code blanked.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        let words = line.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { " " });
        (!fenced).then(|| (i + 1, words.collect()))
    })
}

/// Link targets with their lines: `[text](target)` and `[name]: target`.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, prose) in prose(text) {
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            found.push((line, target.trim_matches(['<', '>']).to_owned()));
        }
        if let Some((name, target)) = prose.split_once("]: ")
            && name.starts_with('[')
        {
            found.push((line, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// No tracked file is so large that a clone hurts.
pub(crate) fn sizes(files: &[File]) -> Vec<Violation> {
    let large = files.iter().filter(|file| file.bytes > MAX_BYTES);
    large.map(|file| file.violation(0, "size", format!("{} bytes; {MAX_BYTES} is the most", file.bytes))).collect()
}

/// Nothing names a folder of somebody's machine.
pub(crate) fn machine_paths(files: &[File]) -> Vec<Violation> {
    // Put together here, so that this file does not name them either.
    let roots = ["work", "root", "home", "Users"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_written(file)) {
        for (i, line) in file.text.lines().enumerate() {
            for root in &roots {
                let own = line.match_indices(root.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "_-./~}*".contains(c))
                });
                if own {
                    found.push(file.violation(i + 1, "machine paths", format!("names `{root}…`")));
                }
            }
        }
    }
    found
}

fn is_written(file: &File) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    WRITTEN.iter().any(|kind| file.has_extension(kind) || name == *kind)
}

/// Every series that a document, a dashboard or an alert names exists.
pub(crate) fn series(files: &[File], names: &[&str]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| names_series(&file.path)) {
        for (i, line) in file.text.lines().enumerate() {
            for (at, _) in line.match_indices("tamis_") {
                if line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                    continue;
                }
                let word: String = line[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
                if !names.contains(&word.as_str()) && !base.is_some_and(|base| names.contains(&base)) {
                    found.push(file.violation(i + 1, "series", format!("`{word}` is not in telemetry/series.rs")));
                }
            }
        }
    }
    found
}

fn names_series(path: &str) -> bool {
    path.starts_with("docs/") || path.starts_with("deploy/") || (path.ends_with(".md") && !path.contains('/'))
}

/// The code map in `ARCHITECTURE.md` shows every room that there is, and none that there is not.
pub(crate) fn code_map(files: &[File]) -> Vec<Violation> {
    let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec![File::new("ARCHITECTURE.md", "").violation(0, "code map", "there is no code map")];
    };
    let mut found = Vec::new();
    for room in FLOORS.iter().flat_map(|(_, rooms)| *rooms) {
        let built = files.iter().any(|file| file.path == format!("src/{room}/mod.rs"));
        let shown = map.text.contains(&format!("`{room}/`"));
        if built && !shown {
            found.push(map.violation(0, "code map", format!("the room `{room}/` is missing")));
        }
        if shown && !built {
            found.push(map.violation(0, "code map", format!("the room `{room}/` does not exist")));
        }
    }
    found
}

mod proofs {
    use super::*;

    fn says(found: Vec<Violation>) -> Vec<String> {
        found.into_iter().map(|v| format!("{}:{}: {}", v.path, v.line, v.what)).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let files = [
            File::new(
                "README.md",
                "[a](docs/a.md)\n[b](docs/b.md) [c](docs/a.md#what-it-does) [d](docs/a.md#nope)\n[e](https://x.org/y.md) [f](docs)\n```\n[g](g.md)\n```\n`[h](h.md)` [i](#nope)\n",
            ),
            File::new("docs/a.md", "# What it does!\n[up](../README.md) [self](a.md) [out](../../x)\n[r]: gone.md\n"),
        ];
        let expected = [
            "README.md:2: `docs/b.md` leads nowhere",
            "README.md:2: `docs/a.md#nope`: no heading `nope` in docs/a.md",
            "README.md:7: `#nope`: no heading `nope` in README.md",
            "docs/a.md:2: `../../x` leads nowhere",
            "docs/a.md:3: `gone.md` leads nowhere",
        ];
        assert_eq!(says(links(&files)), expected);
    }

    #[test]
    fn a_large_file_is_found() {
        let mut file = File::new("models/a/model.onnx", "");
        assert_eq!(says(sizes(&[file.clone()])), [""; 0]);
        file.bytes = MAX_BYTES + 1;
        assert_eq!(says(sizes(&[file])), ["models/a/model.onnx:0: 20000001 bytes; 20000000 is the most"]);
    }

    #[test]
    fn a_path_of_somebodys_machine_is_found_and_data_may_say_anything() {
        let [work, root] = ["work", "root"].map(|name| format!("/{name}/"));
        let text = format!("fine\ncd {work}x\nPATH=\"{root}x\"\nsrc{work}x $HOME{work}x a.org{root}\n");
        let found =
            says(machine_paths(&[File::new("tools/a.sh", &text), File::new("Makefile", &format!("x: {root}y"))]));
        let expected = [
            format!("tools/a.sh:2: names `{work}…`"),
            format!("tools/a.sh:3: names `{root}…`"),
            format!("Makefile:1: names `{root}…`"),
        ];
        assert_eq!(found, expected);
        assert_eq!(says(machine_paths(&[File::new("tests/data/a.jsonl", &text)])), [""; 0]);
    }

    #[test]
    fn a_series_that_does_not_exist_is_found() {
        let text = "rate(tamis_a_total[5m])\ntamis_b_seconds_bucket tamis_b_seconds_count\ntamis_c_total\nmy_tamis_x libtamis_y\n";
        let found = says(series(&[File::new("deploy/alerts.yml", text)], &["tamis_a_total", "tamis_b_seconds"]));
        assert_eq!(found, ["deploy/alerts.yml:3: `tamis_c_total` is not in telemetry/series.rs"]);
    }

    #[test]
    fn a_hole_in_the_code_map_is_found_and_so_is_a_room_that_is_none() {
        let files = [
            File::new("ARCHITECTURE.md", "| `judge/` | `graph/` |"),
            File::new("src/judge/mod.rs", ""),
            File::new("src/cache/mod.rs", ""),
        ];
        let expected =
            ["ARCHITECTURE.md:0: the room `graph/` does not exist", "ARCHITECTURE.md:0: the room `cache/` is missing"];
        assert_eq!(says(code_map(&files)), expected);
        assert_eq!(says(code_map(&[])), ["ARCHITECTURE.md:0: there is no code map"]);
    }
}
