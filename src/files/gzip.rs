//! Owns the members of a gzip file: all of them, one after the other.
//!
//! Invariants: zero bytes behind the last member are padding, as `gzip` itself takes them; anything else there is an error, for it would be
//! text that nobody reads.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// The concatenated contents of every member.
pub(super) struct Members<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer);
            if !matches!(read, Ok(0)) {
                // Also after an error: what is read after it must not look like the end.
                self.member = Some(member);
                return read;
            }
            let mut rest = member.into_inner();
            if is_another(&mut rest)? {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Whether another member begins here; false at the end.
fn is_another(rest: &mut impl BufRead) -> io::Result<bool> {
    let mut padded = false;
    loop {
        let chunk = rest.fill_buf()?;
        match chunk.iter().position(|byte| *byte != 0) {
            None if chunk.is_empty() => return Ok(false),
            None => {
                padded = true;
                let length = chunk.len();
                rest.consume(length);
            }
            Some(0) if !padded && chunk[0] == 0x1f => return Ok(true),
            Some(_) => {
                let said = "what follows the gzip data is not gzip data; what stands before it was read";
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::{BufReader, Write};

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut text = Vec::new();
        // A buffer of three bytes puts every seam somewhere inconvenient.
        let outcome = Members::new(BufReader::with_capacity(3, bytes)).read_to_end(&mut text);
        (text, outcome)
    }

    #[test]
    fn every_member_is_read_empty_ones_and_padding_too() {
        let bytes = [member(b"one\n"), member(b""), member(b"two\n"), vec![0; 700]].concat();
        let (text, outcome) = read(&bytes);
        assert_eq!((text.as_slice(), outcome.unwrap()), (b"one\ntwo\n".as_slice(), 8));
    }

    #[test]
    fn garbage_behind_the_last_member_is_told_after_what_was_readable() {
        for garbage in [b"garbage".as_slice(), b"\0\0x", b"\0\x1f\x8b", b"\x1f"] {
            let (text, outcome) = read(&[&member(b"one\n"), garbage].concat());
            assert_eq!(text, b"one\n");
            assert!(outcome.is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn a_member_that_was_cut_off_anywhere_is_an_error() {
        let whole = [member(b"one\n"), member(b"two, which is longer\n")].concat();
        let first = member(b"one\n").len();
        for cut in (1..whole.len()).filter(|cut| *cut != first) {
            assert!(read(&whole[..cut]).1.is_err(), "cut at {cut}");
        }
    }
}
