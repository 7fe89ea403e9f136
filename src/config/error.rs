//! Owns what can go wrong while settings are read, as facts.

use std::path::PathBuf;

/// Why settings can't be read. All of them are exit code 64.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file can't be read.
    #[error("{}: {error}; check the path and its permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The pipeline file is not TOML.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A variable or a `--set` is not of the form that leads to a key.
    #[error("{origin}: {why}")]
    Override {
        /// The variable's name, or the `--set` without its value.
        origin: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// A key is not known.
    #[error("{origin}: {key}: unknown key{}", hint(.nearest, .known))]
    UnknownKey {
        /// The file, variable or `--set` that names it.
        origin: String,
        /// The key's path.
        key: String,
        /// Known keys like it, nearest first; may be empty.
        nearest: Vec<String>,
        /// All keys that its table knows.
        known: Vec<String>,
    },
    /// A key has a value that it can't have.
    #[error("{origin}: {key}: {why}")]
    Value {
        /// The file, variable or `--set` that gives it.
        origin: String,
        /// The key's path.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

/// What to do about a name that is not known.
pub(super) fn hint(nearest: &[String], known: &[String]) -> String {
    let known =
        if known.is_empty() { "this table has no keys".to_owned() } else { format!("known: {}", known.join(", ")) };
    match nearest {
        [] => format!("; {known}"),
        [nearest, ..] => format!("; did you mean {nearest:?}? ({known})"),
    }
}
