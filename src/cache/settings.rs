//! Owns the `[cache]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The least `max_bytes`, 16 MiB: two generations of a store that allocates its files in half mebibytes.
pub const MIN_BYTES: u64 = 16 * 1024 * 1024;

/// Where scores are kept, so that none is computed twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory that holds one store for each instance, and their lock files. Created if absent.
    pub path: PathBuf,
    /// Disk that one instance's store may take, in bytes, about; at least 16 MiB.
    #[schemars(range(min = 16_777_216))]
    pub max_bytes: u64,
    /// Whether scores are cached at all.
    pub enabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: PathBuf::from("var/cache"), max_bytes: 4_294_967_296, enabled: true }
    }
}

/// What is wrong with the `[cache]` table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `path` is empty.
    #[error("an empty path names no directory; the default is \"var/cache\"")]
    Path,
    /// `max_bytes` is too small to hold two generations.
    #[error("{max_bytes} is too small; the least is {MIN_BYTES} (16 MiB), or set cache.enabled = false")]
    MaxBytes {
        /// The value given.
        max_bytes: u64,
    },
}

impl Error {
    /// The key inside `[cache]` that is wrong.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::MaxBytes { .. } => "max_bytes",
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings. [`super::Cache::open`] itself never refuses: it raises a small `max_bytes`
    /// to the least.
    #[must_use]
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(Error::Path);
        }
        if self.max_bytes < MIN_BYTES {
            problems.push(Error::MaxBytes { max_bytes: self.max_bytes });
        }
        problems
    }
}
