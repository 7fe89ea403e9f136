//! Owns lines: a stream cut at its newlines, with the number of each and a digest of all up to it.
//!
//! Invariants: memory is bounded by `max_bytes` whatever a line's length (of a longer line only its start is kept, enough to tell that it is
//! too large); a last line without a newline counts; a byte-order mark before the first line and a carriage return before a newline are
//! no part of a line; a line that an error cuts off is not a line.

use super::checkpoint::Mark;
use super::trail::hex;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, Ordering};

/// What of a line is kept beyond `max_bytes`: a byte-order mark, a carriage return, and one byte more, which makes it too large.
const MARGIN: usize = 5;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A digest of everything up to the end of a line.
pub type Digest = [u8; 8];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 0.
    pub number: i64,
    /// Its bytes without the newline; of a line longer than `max_bytes` its start, which is longer than `max_bytes` too.
    pub bytes: Vec<u8>,
}

impl Line {
    /// Whether it holds nothing but white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

/// Reads lines.
pub struct LineReader<R> {
    reader: R,
    keep: usize,
    next: i64,
    hasher: blake3::Hasher,
}

impl<R: BufRead> LineReader<R> {
    /// A reader at the start of a stream.
    pub fn new(reader: R, max_bytes: u64) -> Self {
        let keep = usize::try_from(max_bytes).unwrap_or(usize::MAX).saturating_add(MARGIN);
        Self { reader, keep, next: 0, hasher: blake3::Hasher::new() }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// What the stream says. Nothing more can be read then.
    pub fn read(&mut self) -> io::Result<Option<Line>> {
        let (mut bytes, mut length, mut seen) = (Vec::new(), 0_usize, false);
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() && !seen {
                return Ok(None);
            }
            seen = true;
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            self.hasher.update(part);
            length = length.saturating_add(part.len());
            bytes.extend_from_slice(&part[..part.len().min(self.keep - bytes.len())]);
            let ended = newline.is_some() || chunk.is_empty();
            let used = part.len() + usize::from(newline.is_some());
            self.reader.consume(used);
            if ended {
                self.hasher.update(b"\n");
                return Ok(Some(self.finished(bytes, length)));
            }
        }
    }

    fn finished(&mut self, mut bytes: Vec<u8>, length: usize) -> Line {
        // Of a line that was cut nothing more is taken away, or it might pass for a whole one.
        if bytes.len() == length && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if self.next == 0 && bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        let number = self.next;
        self.next += 1;
        Line { number, bytes }
    }

    /// Reads past what was delivered before. False if the lines are not those that `mark` remembers.
    ///
    /// # Errors
    /// What the stream says, or [`io::ErrorKind::Interrupted`] once `stop` is set.
    pub fn catch_up(&mut self, mark: &Mark, stop: &AtomicBool) -> io::Result<bool> {
        while self.next < mark.next {
            if stop.load(Ordering::Acquire) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.read()?.is_none() {
                return Ok(false);
            }
        }
        Ok(hex(self.digest()) == mark.digest)
    }

    /// The number of the next line, from 0: how many were read.
    #[must_use]
    pub fn next_number(&self) -> i64 {
        self.next
    }

    /// The digest of everything up to the end of the last line read. A newline that is missing at the end of the stream counts as there.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn lines(bytes: &[u8], max: u64) -> Vec<Vec<u8>> {
        let mut reader = LineReader::new(BufReader::with_capacity(3, bytes), max);
        std::iter::from_fn(|| reader.read().unwrap()).map(|line| line.bytes).collect()
    }

    #[test]
    fn every_line_counts_with_or_without_its_newline() {
        assert_eq!(lines(b"", 9), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n", 9), vec![b"".to_vec()]);
        assert_eq!(lines(b"one\r\n\ntwo", 9), vec![b"one".to_vec(), b"".to_vec(), b"two".to_vec()]);
        assert_eq!(lines(b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}", 9), vec![b"{}".to_vec(), b"\xef\xbb\xbf{}".to_vec()]);
    }

    #[test]
    fn a_line_of_just_the_limit_is_whole_and_a_longer_one_stays_too_large_however_it_is_cut() {
        assert_eq!(lines(b"\xef\xbb\xbf0123\r\nab", 4), vec![b"0123".to_vec(), b"ab".to_vec()]);
        for long in
            [b"01234".to_vec(), b"0123456789".to_vec(), b"01234567\r89".to_vec(), b"\xef\xbb\xbf01234\r6".to_vec()]
        {
            let found = lines(&[&long, b"\nab\n".as_slice()].concat(), 4);
            assert!(found[0].len() > 4 && found[0].len() <= 4 + MARGIN, "{found:?}");
            assert_eq!(found[1], b"ab");
        }
    }

    #[test]
    fn a_line_that_an_error_cuts_off_is_not_a_line() {
        struct Broken(usize);
        impl io::Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 1 {
                    return Err(io::Error::other("broken"));
                }
                buffer[..7].copy_from_slice(b"one\ntwo");
                Ok(7)
            }
        }
        let mut reader = LineReader::new(BufReader::new(Broken(0)), 9);
        assert_eq!(reader.read().unwrap().unwrap().bytes, b"one");
        assert!(reader.read().is_err());
    }

    proptest! {
        #[test]
        fn digests_tell_prefixes_apart(text in "[ab\n\r]{0,40}", cut in 0_usize..40) {
            let digests = |bytes: &[u8]| {
                let mut reader = LineReader::new(BufReader::with_capacity(2, bytes), 3);
                let mut found = vec![reader.digest()];
                while reader.read().unwrap().is_some() { found.push(reader.digest()); }
                found
            };
            let whole = digests(text.as_bytes());
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let cut = cut.min(lines.len());
            // The same lines, whatever follows, have the same digest; another last line has another one.
            prop_assert_eq!(digests(lines[..cut].concat().as_bytes())[cut], whole[cut]);
            if cut > 0 {
                let changed = format!("{}{}", lines[..cut - 1].concat(), "c\n");
                prop_assert_ne!(digests(changed.as_bytes())[cut], whole[cut]);
            }
        }
    }
}
