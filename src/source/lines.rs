//! Owns lines: one record a line, from a file or from standard input.
//!
//! Invariants: memory is bounded by `max_bytes` whatever the line's length (of a longer line only its start is kept, enough for decode to
//! say that it is too large); a line's offset is its 0-based number; a final line without a newline counts.

use super::Error;
use super::passing::Passing;
use crate::corpus::{Lane, Outlet};
use crate::files::{self, LineReader, lane_name};
use crate::telemetry::Progress;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Read lines of standard input, one record each; delivery is then at-least-once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdinSettings {}

/// What to read lines from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file, decompressed if it holds zstd or gzip.
    File(PathBuf),
    /// The rows of a Parquet file, each a JSON object of these columns, the first of which must be there.
    #[cfg(feature = "parquet")]
    Rows(PathBuf, Vec<String>),
}

impl Input {
    /// The file; `None` for standard input.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdin => None,
            Self::File(path) => Some(path),
            #[cfg(feature = "parquet")]
            Self::Rows(path, _) => Some(path),
        }
    }
}

/// A running reader of lines.
pub struct Lines {
    stop: Arc<AtomicBool>,
}

impl Lines {
    /// Opens the input and starts its thread. The thread ends at the input's end, or with the first record after a stop. `progress` hears of
    /// a file's bytes.
    ///
    /// # Errors
    /// An input that can't be opened.
    pub fn open(input: &Input, outlet: Outlet, max_bytes: u64, progress: Progress) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let passing = |progress: Progress| Passing { outlet, progress, stop: Arc::clone(&stop) };
        let (reader, topic): (Box<dyn BufRead + Send>, String) = match input {
            #[cfg(feature = "parquet")]
            Input::Rows(path, columns) => {
                let rows = files::Rows::open(path, columns, &progress)?;
                let (topic, passing) = (lane_name(path), passing(progress));
                thread(move || read_rows(rows, &topic, &passing))?;
                return Ok(Self { stop });
            }
            Input::Stdin => (Box::new(BufReader::with_capacity(1 << 16, io::stdin())), "stdin".to_owned()),
            Input::File(path) => {
                let opened = files::open(path, &progress)?;
                progress.expect(opened.size);
                (opened.reader, lane_name(path))
            }
        };
        let passing = passing(progress);
        thread(move || read(LineReader::new(reader, max_bytes), &topic, &passing))?;
        Ok(Self { stop })
    }

    /// Takes no more lines. A read that blocks on a silent input goes on blocking; nobody waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn thread(reads: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let started = std::thread::Builder::new().name("lines-reader".into()).spawn(reads);
    started.map(drop).map_err(Error::Thread)
}

#[cfg(feature = "parquet")]
fn read_rows(mut rows: files::Rows, topic: &str, passing: &Passing) {
    let lane = Lane { topic: topic.into(), partition: 0 };
    loop {
        let (number, bytes) = match rows.read() {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(reason) => return passing.broken(reason),
        };
        if !passing.pass_on(&lane, files::Line { number, bytes }) {
            return;
        }
    }
}

fn read(mut reader: LineReader<Box<dyn BufRead + Send>>, topic: &str, passing: &Passing) {
    let lane = Lane { topic: topic.into(), partition: 0 };
    loop {
        let line = match reader.read() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                let at = reader.next_number() + 1;
                passing.broken(format!("{topic}: reading stopped at line {at}: {}", files::why(&error)));
                return;
            }
        };
        if !passing.pass_on(&lane, line) {
            return;
        }
    }
}
