//! Owns the reading of a file's schema, after a look at whether it is a tree that its own bytes can make.
//!
//! The crate takes memory for as many children as an element says to have, and recurses with every group in a group. A file of some hundred bytes could
//! end the process by either, and neither can be caught.
//! Format: Thrift's compact protocol, and `SchemaElement` and `LogicalType` of parquet.thrift 2.12. Invariants: where this reads a type that is not the format's,
//! it stops; what it lets pass, the crate reads at the same bytes. Depth is at most [`DEPTH_MAX`].

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::schema::types::SchemaDescPtr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The deepest that groups may lie in each other.
const DEPTH_MAX: usize = 64;
/// The deepest that structures to be stepped over may lie in each other; the crate's own bound.
const SKIPPED_DEPTH_MAX: usize = 64;
/// The footer's length and the mark, at the end of a file.
const TAIL_BYTES: usize = 8;

// Types of the compact protocol, as far as schemas have them.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// The schema of `file`.
///
/// # Errors
/// In words, why it has none that can be read.
pub(super) fn schema(file: &mut File) -> Result<SchemaDescPtr, String> {
    let footer = footer(file).map_err(|error| error.to_string())?.ok_or("it does not end as a Parquet file does")?;
    Bytes { rest: &footer }.look()?;
    ParquetMetaDataReader::decode_schema(&footer).map_err(|error: ParquetError| error.to_string())
}

/// The footer's bytes; `None` where there is none, or one that is encrypted.
fn footer(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let size = file.metadata()?.len();
    let mut tail = [0; TAIL_BYTES];
    let Some(end) = size.checked_sub(TAIL_BYTES as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = tail else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, d]);
    let Some(start) = end.checked_sub(u64::from(length)) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(u64::from(length)).read_to_end(&mut footer)?;
    Ok(Some(footer))
}

/// Bytes that are still to be read.
struct Bytes<'a> {
    rest: &'a [u8],
}

type Looked<T> = Result<T, String>;

impl Bytes<'_> {
    /// Looks at the schema, which is the file's second field.
    fn look(&mut self) -> Looked<()> {
        let mut last = 0;
        while let Some((id, kind)) = self.field(&mut last)? {
            match (id, kind) {
                // The format's version.
                (1, I32) => self.skip(kind, 0)?,
                (2, LIST) => return self.elements(),
                _ => return Err(damaged()),
            }
        }
        Err("it has no schema".to_owned())
    }

    /// Looks at the elements of a schema, each of which is followed by its children.
    fn elements(&mut self) -> Looked<()> {
        let (kind, count) = self.list()?;
        if kind != STRUCT || count > self.rest.len() {
            return Err(damaged());
        }
        // Of each open group, the children to come; and those of all together.
        let (mut open, mut to_come) = (Vec::new(), 1_usize);
        for left in (0..count).rev() {
            let children = self.element()?;
            to_come = to_come.saturating_sub(1).saturating_add(children);
            if to_come > left {
                return Err("its schema says to have more parts than it has".to_owned());
            }
            if let Some(last) = open.last_mut() {
                *last -= 1_usize;
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > DEPTH_MAX {
                return Err(format!("its columns lie deeper than {DEPTH_MAX} in each other"));
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Ok(())
    }

    /// Reads one element; how many children it has.
    fn element(&mut self) -> Looked<usize> {
        let (mut last, mut children) = (0, 0);
        while let Some((id, kind)) = self.field(&mut last)? {
            match (id, kind) {
                (5, I32) => children = usize::try_from(self.zigzag()?).map_err(|_| damaged())?,
                (10, STRUCT) => self.logical()?,
                (1..=3 | 6..=9, I32) | (4, BINARY) => self.skip(kind, 0)?,
                (1..=10, _) => return Err(damaged()),
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(children)
    }

    /// Steps over a logical type: one structure, by its number.
    fn logical(&mut self) -> Looked<()> {
        let mut last = 0;
        while let Some((of, kind)) = self.field(&mut last)? {
            if kind != STRUCT {
                return Err(damaged());
            }
            let mut within = 0;
            while let Some((id, kind)) = self.field(&mut within)? {
                let is_known = match (of, id) {
                    (5, 1 | 2) | (18, 2) => kind == I32,
                    (7 | 8, 1) | (10, 2) => kind == TRUE || kind == FALSE,
                    (7 | 8, 2) => kind == STRUCT,
                    (10 | 16, 1) => kind == BYTE,
                    (17 | 18, 1) => kind == BINARY,
                    _ => true,
                };
                if !is_known {
                    return Err(damaged());
                }
                self.skip(kind, 0)?;
            }
        }
        Ok(())
    }

    /// The next field of a structure: its number and its type; `None` at the structure's end.
    fn field(&mut self, last: &mut i16) -> Looked<Option<(i16, u8)>> {
        let header = self.byte()?;
        let (delta, kind) = (header >> 4, header & 0xf);
        if kind == 0 {
            return Ok(None);
        }
        *last = match delta {
            0 => i16::try_from(self.zigzag()?).map_err(|_| damaged())?,
            delta => last.checked_add(i16::from(delta)).ok_or_else(damaged)?,
        };
        Ok(Some((*last, kind)))
    }

    /// The type of a list's elements, and their number.
    fn list(&mut self) -> Looked<(u8, usize)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => usize::try_from(self.varint()?).map_err(|_| damaged())?,
            count => usize::from(count),
        };
        Ok((header & 0xf, count))
    }

    /// Steps over a value of this type.
    fn skip(&mut self, kind: u8, depth: usize) -> Looked<()> {
        if depth > SKIPPED_DEPTH_MAX {
            return Err(damaged());
        }
        match kind {
            // The value stands in the type.
            TRUE | FALSE => {}
            BYTE => drop(self.byte()?),
            I32 => drop(self.varint()?),
            BINARY => {
                let length = usize::try_from(self.varint()?).map_err(|_| damaged())?;
                self.rest = self.rest.get(length..).ok_or_else(damaged)?;
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return Err(damaged()),
        }
        Ok(())
    }

    fn byte(&mut self) -> Looked<u8> {
        let (byte, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A number in groups of seven bits, the lowest first. Nine groups are more than any number of a schema takes.
    fn varint(&mut self) -> Looked<u64> {
        let mut number = 0;
        for place in 0..9 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    fn zigzag(&mut self) -> Looked<i64> {
        self.varint().map(|bits| (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }
}

fn damaged() -> String {
    "its schema is damaged".to_owned()
}

#[cfg(test)]
mod tests;
