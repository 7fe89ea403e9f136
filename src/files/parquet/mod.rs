//! Owns Parquet files: rows out of them as JSON objects, and tables of text and numbers into them. The `parquet` crate alone, without Arrow.
//!
//! Invariants: of a file those columns alone are read that somebody asks for, and of these some pages at a time; what is written is whole or is
//! not there, for a table gets its name when it is finished.
//! Must not know: documents, verdicts.

mod footer;
mod reader;
mod table;

pub use reader::Rows;
pub use table::{Cell, Column, Table};
