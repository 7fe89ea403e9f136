//! Owns the writing of a table: columns of text and numbers, each of which may be absent in a row.
//!
//! Invariants: rows are held up to [`ROWS_MAX`] or [`BYTES_MAX`], then they are a group in the file; the file has another name until it is
//! finished, so that what bears the name is whole.

use crate::files::Error;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most rows of a group.
const ROWS_MAX: usize = 16_384;
/// The most bytes of text that are held before they are written, about.
const BYTES_MAX: usize = 32 << 20;

/// A column, or a group of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Text in UTF-8.
    Text(String),
    /// Numbers of 64 bits.
    Number(String),
    /// Columns below one name.
    Group(String, Vec<Column>),
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// None.
    Absent,
    /// For a column of text.
    Text(String),
    /// For a column of numbers.
    Number(f64),
}

/// A table that is being written. Clones are the same table.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    writer: Option<SerializedFileWriter<File>>,
    path: PathBuf,
    unfinished: PathBuf,
    /// Column by column, groups opened.
    cells: Vec<Vec<Cell>>,
    bytes: usize,
}

impl Table {
    /// A table of these columns, which will be at `path` when it is finished.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn create(path: &Path, columns: &[Column]) -> Result<Self, Error> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let failed = |error: io::Error| Error::Write { path: unfinished.clone(), error };
        let schema = group("tamis", columns, true).map_err(|error| failed(io::Error::other(error)))?;
        let compression = Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_created_by(concat!("tamis ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = File::create(&unfinished).map_err(failed)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        let writer = Some(writer.map_err(|error| failed(io::Error::other(error)))?);
        let cells = vec![Vec::new(); columns.iter().map(width).sum()];
        Ok(Self { inner: Arc::new(Mutex::new(Inner { writer, path: path.to_owned(), unfinished, cells, bytes: 0 })) })
    }

    /// Appends a row: a cell for each column, groups opened. Blocking.
    ///
    /// # Errors
    /// [`Error::Write`]; also for a table that is finished, and for a row that does not fit the columns.
    pub fn append(&self, row: Vec<Cell>) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if row.len() != inner.cells.len() {
            return Err(inner.failed(io::Error::other("a row does not fit the table")));
        }
        for (column, cell) in inner.cells.iter_mut().zip(row) {
            column.push(cell);
        }
        let last: usize = inner.cells.iter().filter_map(|column| column.last()).map(weight).sum();
        inner.bytes += last;
        let rows = inner.cells.first().map_or(0, Vec::len);
        if rows >= ROWS_MAX || inner.bytes >= BYTES_MAX { inner.flush() } else { Ok(()) }
    }

    /// Writes what is held, ends the file and gives it its name. Once; later calls do nothing. Blocking.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(&self) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.writer.is_none() {
            return Ok(());
        }
        inner.flush()?;
        let Some(writer) = inner.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|error| inner.failed(said(error)))?;
        file.sync_all()
            .and_then(|()| std::fs::rename(&inner.unfinished, &inner.path))
            .map_err(|error| inner.failed(error))
    }
}

impl Drop for Inner {
    /// What was never finished is no table.
    fn drop(&mut self) {
        if self.writer.is_some() {
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

impl Inner {
    fn failed(&self, error: io::Error) -> Error {
        Error::Write { path: self.unfinished.clone(), error }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.cells.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let width = self.cells.len();
        let cells = std::mem::replace(&mut self.cells, vec![Vec::new(); width]);
        self.bytes = 0;
        let written = match &mut self.writer {
            Some(writer) => write(writer, &cells).map_err(said),
            None => Err(io::Error::other("the table is finished")),
        };
        written.map_err(|error| self.failed(error))
    }
}

/// What the system said, where it was the system.
fn said(error: ParquetError) -> io::Error {
    if let ParquetError::External(error) = error {
        return error.downcast().map_or_else(io::Error::other, |error: Box<io::Error>| *error);
    }
    io::Error::other(error)
}

fn write(writer: &mut SerializedFileWriter<File>, cells: &[Vec<Cell>]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for column in cells {
        let Some(mut place) = group.next_column()? else { break };
        // A cell of the other kind counts as absent: a column never holds what its type does not say.
        match place.untyped() {
            ColumnWriter::DoubleColumnWriter(writer) => {
                let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
                let (levels, numbers) = parted(column, number);
                writer.write_batch(&numbers, Some(&levels), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.as_str().into()) } else { None };
                let (levels, texts) = parted(column, text);
                writer.write_batch(&texts, Some(&levels), None)?;
            }
            ColumnWriter::BoolColumnWriter(_)
            | ColumnWriter::Int32ColumnWriter(_)
            | ColumnWriter::Int64ColumnWriter(_)
            | ColumnWriter::Int96ColumnWriter(_)
            | ColumnWriter::FloatColumnWriter(_)
            | ColumnWriter::FixedLenByteArrayColumnWriter(_) => {}
        }
        place.close()?;
    }
    group.close().map(drop)
}

/// Which cells hold a value (definition levels), and the values.
fn parted<T>(column: &[Cell], value: impl Fn(&Cell) -> Option<T>) -> (Vec<i16>, Vec<T>) {
    let values: Vec<Option<T>> = column.iter().map(value).collect();
    (values.iter().map(|value| i16::from(value.is_some())).collect(), values.into_iter().flatten().collect())
}

fn weight(cell: &Cell) -> usize {
    match cell {
        Cell::Absent => 1,
        Cell::Number(_) => 8,
        Cell::Text(text) => text.len() + 16,
    }
}

fn width(column: &Column) -> usize {
    match column {
        Column::Text(_) | Column::Number(_) => 1,
        Column::Group(_, columns) => columns.iter().map(width).sum(),
    }
}

fn group(name: &str, columns: &[Column], is_root: bool) -> Result<Type, ParquetError> {
    let fields = columns.iter().map(|column| match column {
        Column::Group(name, columns) => group(name, columns, false),
        Column::Text(name) => Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::String))
            .build(),
        Column::Number(name) => {
            Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(Repetition::OPTIONAL).build()
        }
    });
    let fields = fields.map(|field| field.map(Arc::new)).collect::<Result<_, _>>()?;
    let builder = Type::group_type_builder(name).with_fields(fields);
    if is_root { builder.build() } else { builder.with_repetition(Repetition::REQUIRED).build() }
}
