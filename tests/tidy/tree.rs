//! Owns the tree that the rules look at: files as paths and texts, and the form of a violation.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// One file. `text` is empty where the bytes are not UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) bytes: u64,
}

impl File {
    /// A made-up file, for proofs.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), bytes: text.len() as u64 }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        self.has_extension("md")
    }

    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// The part of the path below `src/`, if the file is there.
    pub(crate) fn below_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/")
    }

    pub(crate) fn violation(&self, line: usize, rule: &'static str, what: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, rule, what: what.into() }
    }
}

/// One broken rule. `line` counts from 1; 0 stands for the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.what)
    }
}

/// Every file that git tracks or would track: what is ignored is nobody's business. Without git, every file but build outputs.
pub(crate) fn tracked() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output();
    let paths = match listing {
        Ok(out) if out.status.success() => {
            String::from_utf8_lossy(&out.stdout).split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect()
        }
        _ => walk(root, ""),
    };
    let mut files: Vec<File> = paths.into_iter().filter_map(|path| read(root, path)).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    files
}

/// `None` for what is listed but not there (deleted and not yet committed) and for links to directories.
fn read(root: &Path, path: String) -> Option<File> {
    let bytes = std::fs::metadata(root.join(&path)).ok().filter(std::fs::Metadata::is_file)?.len();
    // A text that a rule reads is small; a model is not worth its megabytes here.
    let text =
        if bytes < 4 << 20 { std::fs::read_to_string(root.join(&path)).unwrap_or_default() } else { String::new() };
    Some(File { path, text, bytes })
}

fn walk(root: &Path, below: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else { return Vec::new() };
    let mut paths = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let skipped = [".git", ".venv", "target", "var", "__pycache__"].contains(&name.as_str());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !skipped => paths.extend(walk(root, &path)),
            Ok(kind) if kind.is_file() => paths.push(path),
            _ => {}
        }
    }
    paths
}
