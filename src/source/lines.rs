//! Owns lines: one record a line, from a file or from standard input.
//!
//! Invariants: memory is bounded by `max_bytes` whatever the line's length (of a longer line only its start is kept, enough for decode to
//! say that it is too large); a line's offset is its 0-based number; a final line without a newline counts.

use super::Error;
use crate::corpus::{Lane, Origin, Outlet, Parcel, Receipt, Record};
use crate::telemetry::metrics;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `[source.stdin]` has no keys yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdinSettings {}

/// What to read lines from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// A running reader of lines.
pub struct Lines {
    stop: Arc<AtomicBool>,
}

impl Lines {
    /// Opens the input and starts its thread. The thread ends at the input's end, or with the first record after a stop.
    ///
    /// # Errors
    /// An input that can't be opened.
    pub fn open(input: &Input, outlet: Outlet, max_bytes: u64) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let reader: Box<dyn BufRead + Send> = match input {
            Input::Stdin => Box::new(BufReader::with_capacity(1 << 16, io::stdin())),
            Input::File(path) => {
                let failed = |error| Error::Input { path: path.display().to_string(), error };
                let file = File::open(path).map_err(failed)?;
                if file.metadata().map_err(failed)?.is_dir() {
                    return Err(failed(io::Error::other("is a directory")));
                }
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
        };
        let topic: Arc<str> = match input {
            Input::Stdin => Arc::from("stdin"),
            Input::File(path) => Arc::from(path.display().to_string()),
        };
        let keep = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let heard = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("lines-reader".into())
            .spawn(move || read(reader, &topic, &outlet, keep, &heard))
            .map_err(Error::Thread)?;
        Ok(Self { stop })
    }

    /// Takes no more lines. A read that blocks on a silent input goes on blocking; nobody waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn read(mut reader: Box<dyn BufRead + Send>, topic: &Arc<str>, outlet: &Outlet, max_bytes: usize, stop: &AtomicBool) {
    let lane = Lane { topic: Arc::clone(topic), partition: 0 };
    let mut offset = 0;
    loop {
        let value = match line(&mut reader, max_bytes.saturating_add(1)) {
            Ok(Some(value)) => value,
            Ok(None) => return,
            Err(error) => {
                let reason = format!("{topic}: reading stopped at line {}: {error}", offset + 1);
                let _ = outlet.notices.blocking_send(crate::corpus::Notice::Failed(reason));
                return;
            }
        };
        let origin = Origin { lane: lane.clone(), offset };
        offset += 1;
        let record =
            Record { origin, key: None, value: Some(value), timestamp_ms: None, headers: Vec::new(), defect: None };
        let Some(permits) = permits(outlet, record.weight_bytes(), stop) else { return };
        metrics::record_read(record.weight_bytes());
        let receipt = Receipt { origin: record.origin.clone(), epoch: 1, permits };
        if outlet.records.blocking_send(Parcel { body: record, receipt }).is_err() {
            return;
        }
    }
}

/// Waits for permits, looking up from time to time to see whether to stop.
fn permits(outlet: &Outlet, weight: usize, stop: &AtomicBool) -> Option<crate::corpus::Permits> {
    while !stop.load(Ordering::Acquire) && !outlet.records.is_closed() {
        if let Some(permits) = outlet.allowance.try_take(weight) {
            return Some(permits);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// The next line without its newline, at most `keep` bytes of it; `None` at the end.
fn line(reader: &mut impl BufRead, keep: usize) -> io::Result<Option<Vec<u8>>> {
    let mut kept = Vec::new();
    let mut seen = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(seen.then_some(kept));
        }
        seen = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        kept.extend_from_slice(&part[..part.len().min(keep - kept.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            if kept.last() == Some(&b'\r') {
                kept.pop();
            }
            return Ok(Some(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], keep: usize) -> Vec<Vec<u8>> {
        let mut reader = BufReader::with_capacity(3, bytes);
        std::iter::from_fn(|| line(&mut reader, keep).unwrap()).collect()
    }

    #[test]
    fn every_line_counts_with_or_without_its_newline() {
        assert_eq!(lines(b"", 9), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n", 9), vec![b"".to_vec()]);
        assert_eq!(lines(b"one\r\n\ntwo", 9), vec![b"one".to_vec(), b"".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn of_a_long_line_only_the_start_is_kept() {
        assert_eq!(lines(b"0123456789\nab\n", 4), vec![b"0123".to_vec(), b"ab".to_vec()]);
    }
}
