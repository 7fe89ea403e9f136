//! Owns what can go wrong with files, as facts, and whose fault it is: the input's or the output's.

use std::io;
use std::path::PathBuf;

/// Why files can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input can't be opened or decompressed.
    #[error("{}: {error}; check the path and its permissions", .path.display())]
    Input {
        /// The input.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What an input holds is not what its name says, or is not something that tamis reads.
    #[error("{}: {why}", .path.display())]
    Kind {
        /// The input.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A pattern matches no file.
    #[error("{pattern:?} matches no file; check source.files.paths, and the directory that tamis was started in")]
    NothingMatches {
        /// The pattern.
        pattern: String,
    },
    /// A pattern can't be read.
    #[error("{pattern:?} is not a pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// An input is one of the sink's own files.
    #[error("{}: the sink writes this file, so its outputs would come back as inputs; narrow source.files.paths or choose another sink.files.dir", .path.display())]
    OwnOutput {
        /// The input.
        path: PathBuf,
    },
    /// An input does not begin any more with what was delivered of it.
    #[error(
        "{}: the first {lines} lines are not those that were delivered from it: the file was changed since. Put it back as it was, or give it another name; \
         or begin anew, with another directory for the outputs (the position is kept in {})", .path.display(), .checkpoint.display()
    )]
    Changed {
        /// The input.
        path: PathBuf,
        /// How many lines were delivered.
        lines: i64,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// The directory of outputs or positions can't be used.
    #[error("the directory {} can't be used: {error}; it must be writable", .path.display())]
    Directory {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process writes there.
    #[error("{} is held by another process; one directory serves one worker at a time, so give this one another", .path.display())]
    Taken {
        /// The lock file.
        path: PathBuf,
    },
    /// The checkpoint can't be read.
    #[error("{}: the checkpoint is damaged at line {line}: {why}; restore it, or begin anew in another directory", .path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// An output is shorter than what was committed to it.
    #[error("{}: {found} bytes, but {committed} were written and committed: it was changed since. Put it back, or begin anew in another directory", .path.display())]
    OutputLost {
        /// The output.
        path: PathBuf,
        /// The committed length.
        committed: u64,
        /// The length now.
        found: u64,
    },
    /// A file that is not ours stands where an output goes.
    #[error("{}: there is such a file already and tamis did not write it; move it away, or choose another sink.files.dir", .path.display())]
    OutputForeign {
        /// The output.
        path: PathBuf,
    },
    /// Writing failed.
    #[error("{}: {error}; nothing of this step counts as delivered: {}, then start again", .path.display(), remedy(.error))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl Error {
    /// Whether the input is at fault, as opposed to where outputs and positions go.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Input { .. }
            | Self::Kind { .. }
            | Self::NothingMatches { .. }
            | Self::Pattern { .. }
            | Self::OwnOutput { .. }
            | Self::Changed { .. } => true,
            Self::Directory { .. }
            | Self::Taken { .. }
            | Self::Checkpoint { .. }
            | Self::OutputLost { .. }
            | Self::OutputForeign { .. }
            | Self::Write { .. } => false,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull { "make room" } else { "mend it" }
}
