//! Owns the record: what a source read, byte for byte, and where it stood.
//!
//! Invariant: nothing here was decoded; bytes that came in are the bytes that will go out.

use std::fmt;
use std::sync::Arc;

/// One ordered stream of records inside a source: a Kafka partition, one file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Topic name, file path, or `stdin`.
    pub topic: Arc<str>,
    /// Partition number; 0 where the source has none.
    pub partition: i32,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Where one record stood in its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The ordered stream it came from.
    pub lane: Lane,
    /// Kafka offset, or 0-based line number for lines. Strictly increasing within a lane, not necessarily by one.
    pub offset: i64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lane, self.offset)
    }
}

/// Up to where a lane was delivered, in which assignment of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The lane.
    pub lane: Lane,
    /// The epoch in which it was read; in a later one, or in none, this position is not ours to commit.
    pub epoch: u64,
    /// The offset to read next.
    pub next: i64,
}

/// How far a lane was read where what was read last are no records: a position that may be committed once every record before it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The position. No record lies between `after` and it.
    pub position: Position,
    /// The last record of the lane in this epoch, if there was any.
    pub after: Option<i64>,
}

/// What a header takes in memory beside the bytes of its name and its value, about: a record may have a hundred thousand without a byte in them.
pub const HEADER_BYTES: usize = 64;

/// One record header. Names may repeat; order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Header name.
    pub name: String,
    /// Header value; Kafka tells a null value from an empty one, so we do too.
    pub value: Option<Vec<u8>>,
}

/// One record as its source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stood.
    pub origin: Origin,
    /// Key bytes, if any.
    pub key: Option<Vec<u8>>,
    /// Value bytes; `None` is a deletion (tombstone), not a document.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch, if the source knows one.
    pub timestamp_ms: Option<i64>,
    /// Headers in order.
    pub headers: Vec<Header>,
    /// What the source could not carry over faithfully (a header name that is not UTF-8, for one); such a record is dead-lettered.
    pub defect: Option<String>,
}

impl Header {
    /// Bytes of name and value, and [`HEADER_BYTES`].
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Vec::len) + HEADER_BYTES
    }
}

impl Record {
    /// Bytes of key, value, headers and defect, and [`HEADER_BYTES`] for each header: what the record weighs against the byte permits. A header that was
    /// not carried over is not held, and weighs nothing but what the defect says of it.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(Header::weight_bytes).sum();
        let defect = self.defect.as_ref().map_or(0, String::len);
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers + defect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_without_a_byte_weigh_what_they_take_in_memory() {
        let empty = Header { name: String::new(), value: None };
        assert!(std::mem::size_of::<Header>() <= HEADER_BYTES);
        let record = Record {
            origin: Origin { lane: Lane { topic: "t".into(), partition: 0 }, offset: 0 },
            key: Some(vec![0; 3]),
            value: Some(vec![0; 40]),
            timestamp_ms: None,
            headers: vec![empty; 99_999],
            defect: Some("why".into()),
        };
        assert_eq!(record.weight_bytes(), 46 + 99_999 * HEADER_BYTES);
    }
}
