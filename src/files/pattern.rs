//! Owns patterns: which files `source.files.paths` means, each once, in an order that is the same on every machine.
//!
//! Invariants: a pattern that matches nothing is an error, and so is a folder that can't be looked into: its files would be missing without
//! anybody's knowing; a name need not be UTF-8; a path that exists as written is that file, whatever signs are in its name.

use super::error::Error;
use super::stream::modified_ns;
use globset::{GlobBuilder, GlobMatcher};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use walkdir::WalkDir;

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its path, without needless dots.
    pub path: PathBuf,
    /// The name under which its position is kept: the path, with backslashes doubled and bytes that are not UTF-8 as `\xff`.
    pub lane: String,
    /// What it would be called by its other names that were found: links, of either kind.
    pub aliases: Vec<String>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since the Unix epoch; 0 where the file system does not say.
    pub modified_ns: u64,
}

/// The regular files that `patterns` mean, sorted by path; a file with several names is taken once, by the first. Links are followed; names that begin with a dot need a
/// pattern that does. `own` are files that must not be among them.
///
/// # Errors
/// A pattern that can't be read or matches nothing, a file that can't be opened, one of `own`.
pub fn expand(patterns: &[String], own: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut paths = BTreeSet::new();
    for pattern in patterns {
        let before = paths.len();
        let found = matches(pattern)?;
        if found.is_empty() {
            return Err(Error::NothingMatches { pattern: pattern.clone() });
        }
        paths.extend(found);
        tracing::debug!(pattern, files = paths.len() - before, "files found");
    }
    let own: HashSet<PathBuf> = own.iter().filter_map(|path| resolved(path)).collect();
    let mut seen = HashMap::new();
    let mut inputs: Vec<Input> = Vec::with_capacity(paths.len());
    for path in paths {
        let failed = |error| Error::Input { path: path.clone(), error };
        if own.contains(&fs::canonicalize(&path).map_err(failed)?) {
            return Err(Error::OwnOutput { path });
        }
        let facts = File::open(&path).and_then(|file| file.metadata()).map_err(failed)?;
        let lane = lane_name(&path);
        let known = *seen.entry((facts.dev(), facts.ino())).or_insert(inputs.len());
        if let Some(input) = inputs.get_mut(known) {
            tracing::info!(path = %path.display(), as = %input.path.display(), "a file has several names here and is read once");
            input.aliases.push(lane);
            continue;
        }
        let (size, modified_ns) = (facts.len(), modified_ns(&facts));
        inputs.push(Input { lane, aliases: Vec::new(), path, size, modified_ns });
    }
    Ok(inputs)
}

/// Where a file that need not exist would really be.
fn resolved(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().or_else(|| Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?)))
}

/// The name of a path as a lane; different paths have different names.
#[must_use]
pub fn lane_name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        name.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            name.push_str(&format!("\\x{byte:02x}"));
        }
    }
    name
}

/// The same path without `.` parts.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, Error> {
    let literal = Path::new(pattern);
    let is_pattern = pattern.contains(['*', '?', '[', '{', '\\']);
    match fs::metadata(literal) {
        Ok(facts) if facts.is_file() => return Ok(vec![plain(literal)]),
        Ok(facts) => {
            let what = if facts.is_dir() {
                "is a directory; name the files in it, as in \"dir/*.jsonl\""
            } else {
                "is not a regular file"
            };
            return Err(Error::Kind { path: literal.to_owned(), why: what.to_owned() });
        }
        Err(error) if !is_pattern => return Err(Error::Input { path: literal.to_owned(), error }),
        Err(_) => {}
    }
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let root = if pattern.starts_with('/') { "/" } else { "" };
    let pattern = &format!("{root}{}", parts.join("/"));
    let matcher = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| Error::Pattern { pattern: pattern.to_owned(), why: error.kind().to_string() })?
        .compile_matcher();
    walk(pattern, &matcher)
}

fn walk(pattern: &str, matcher: &GlobMatcher) -> Result<Vec<PathBuf>, Error> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let fixed = parts.iter().take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).count();
    let base = parts[..fixed].join("/");
    let base = match base.as_str() {
        "" if pattern.starts_with('/') => Path::new("/"),
        "" => Path::new("."),
        base => Path::new(base),
    };
    let rest = &parts[fixed..];
    // A brace may hold slashes, and two stars stand for any number of folders.
    let depth = if pattern.contains("**") || pattern.contains('{') { usize::MAX } else { rest.len() };
    let shows_hidden = rest.iter().any(|part| part.starts_with('.'));
    let is_shown = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || shows_hidden || !entry.file_name().as_bytes().starts_with(b".")
    };
    let mut found = Vec::new();
    for entry in WalkDir::new(base).follow_links(true).max_depth(depth).into_iter().filter_entry(is_shown) {
        match entry {
            Ok(entry) => {
                let path = plain(entry.path());
                if !matcher.is_match(&path) || entry.file_type().is_dir() {
                    continue;
                }
                if entry.file_type().is_file() {
                    found.push(path);
                } else {
                    tracing::warn!(path = %path.display(), "not a regular file, left out");
                }
            }
            Err(error) => passable(&error, matcher)?,
        }
    }
    Ok(found)
}

/// Whether a place that can't be looked at may be passed by: a folder that leads back into itself, or something gone that was not meant.
fn passable(error: &walkdir::Error, matcher: &GlobMatcher) -> Result<(), Error> {
    let path = plain(error.path().unwrap_or(Path::new("")));
    if error.loop_ancestor().is_some() {
        tracing::warn!(path = %path.display(), "a link leads back to a folder above it, not followed");
        return Ok(());
    }
    let gone = error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    if gone && !matcher.is_match(&path) {
        return Ok(());
    }
    let kind = error.io_error().map_or(io::ErrorKind::Other, io::Error::kind);
    Err(Error::Input { path, error: io::Error::from(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            Self(dir)
        }

        fn expand(&self, patterns: &[&str]) -> Result<Vec<String>, String> {
            let root = self.0.path().to_str().unwrap();
            let patterns: Vec<String> = patterns.iter().map(|pattern| format!("{root}/{pattern}")).collect();
            let found = expand(&patterns, &[]).map_err(|error| error.to_string())?;
            Ok(found.into_iter().map(|input| input.lane.strip_prefix(root).unwrap()[1..].to_owned()).collect())
        }
    }

    #[test]
    fn stars_stay_in_their_folder_two_stars_do_not_and_the_order_is_sorted() {
        let tree = Tree::new(&[
            "b.jsonl",
            "a.jsonl",
            "in/c.jsonl",
            "in/deep/d.jsonl",
            "in/e.txt",
            "in/.hidden.jsonl",
            ".git/x.jsonl",
        ]);
        assert_eq!(tree.expand(&["*.jsonl"]).unwrap(), ["a.jsonl", "b.jsonl"]);
        assert_eq!(tree.expand(&["**/*.jsonl"]).unwrap(), ["a.jsonl", "b.jsonl", "in/c.jsonl", "in/deep/d.jsonl"]);
        assert_eq!(tree.expand(&["in/**"]).unwrap(), ["in/c.jsonl", "in/deep/d.jsonl", "in/e.txt"]);
        assert_eq!(
            tree.expand(&["in/{c,e}.*", "[ab].jsonl"]).unwrap(),
            ["a.jsonl", "b.jsonl", "in/c.jsonl", "in/e.txt"]
        );
        assert_eq!(tree.expand(&["in/.hid*"]).unwrap(), ["in/.hidden.jsonl"]);
        assert_eq!(tree.expand(&["./in/*.jsonl", "in/c.jsonl"]).unwrap(), ["in/c.jsonl"]);
    }

    #[test]
    fn a_directory_that_matches_is_left_out_and_one_that_is_named_is_told() {
        let tree = Tree::new(&["folder.jsonl/a.txt", "b.jsonl"]);
        assert_eq!(tree.expand(&["*.jsonl"]).unwrap(), ["b.jsonl"]);
        assert!(tree.expand(&["folder.jsonl"]).unwrap_err().contains("is a directory; name the files in it"));
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_told_though_another_matches() {
        let tree = Tree::new(&["a.jsonl"]);
        for pattern in ["*.json", "none/*.jsonl", "b/**/*"] {
            assert!(tree.expand(&["*.jsonl", pattern]).unwrap_err().contains("matches no file"), "{pattern}");
        }
        assert!(tree.expand(&["none.jsonl"]).unwrap_err().contains("check the path"));
        assert!(tree.expand(&["[a.jsonl"]).unwrap_err().contains("is not a pattern"));
    }

    #[test]
    fn a_file_is_read_once_by_whatever_names() {
        let tree = Tree::new(&["in/a.jsonl", "weird[1].jsonl"]);
        symlink("a.jsonl", tree.0.path().join("in/z.jsonl")).unwrap();
        symlink("in", tree.0.path().join("link")).unwrap();
        symlink("..", tree.0.path().join("in/loop")).unwrap();
        assert_eq!(tree.expand(&["in/*.jsonl", "in/a.jsonl", "link/*.jsonl"]).unwrap(), ["in/a.jsonl"]);
        assert_eq!(tree.expand(&["in/**/a.jsonl"]).unwrap(), ["in/a.jsonl"], "the loop is not followed for ever");
        assert_eq!(tree.expand(&["weird[1].jsonl"]).unwrap(), ["weird[1].jsonl"], "a name that exists is no pattern");
        symlink("nowhere", tree.0.path().join("in/gone.jsonl")).unwrap();
        assert!(tree.expand(&["in/*.jsonl"]).unwrap_err().contains("gone.jsonl"), "a dangling link is told");
        assert_eq!(tree.expand(&["in/a*.jsonl"]).unwrap(), ["in/a.jsonl"]);
    }

    #[test]
    fn names_that_are_not_utf8_are_found_and_told_apart() {
        let tree = Tree::new(&[]);
        for name in [b"a\xff.jsonl".as_slice(), b"a\xfe.jsonl", b"a\\xff.jsonl"] {
            fs::write(tree.0.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        let found = tree.expand(&["*.jsonl"]).unwrap();
        assert_eq!(found, [r"a\\xff.jsonl", r"a\xfe.jsonl", r"a\xff.jsonl"]);
    }

    #[test]
    fn the_sinks_own_files_are_refused() {
        let tree = Tree::new(&["a.jsonl", "out/pass.jsonl"]);
        let root = tree.0.path();
        let pattern = format!("{}/**/*.jsonl", root.display());
        let error = expand(&[pattern], &[root.join("./out/pass.jsonl"), root.join("out/fail.jsonl")]).unwrap_err();
        assert!(matches!(&error, Error::OwnOutput { path } if path.ends_with("out/pass.jsonl")), "{error}");
    }
}
