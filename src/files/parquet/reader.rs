//! Owns the reading of rows: each one a JSON object of the columns that were asked for.
//!
//! Invariants: at most [`ROWS_AHEAD`] rows of a column are held beside its pages; a row that can't be read ends the reading with its place, for in a
//! column nothing marks where the next one would begin.

use super::footer;
use crate::files::Error;
use crate::telemetry::Progress;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS_AHEAD: usize = 16;
/// The deepest that a row's parts may lie in each other.
const DEPTH_MAX: usize = 64;

/// An open file.
pub struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    wanted: Arc<SchemaDescriptor>,
    group: usize,
    rows: Option<ReaderIter>,
    next: i64,
    size: u64,
    progress: Progress,
}

impl Rows {
    /// Opens `path` for these columns, the first of which must be there; others may be absent. `progress` hears of the file's size, and of each group of
    /// rows that was begun.
    ///
    /// # Errors
    /// [`Error::Input`] and [`Error::Kind`].
    pub fn open(path: &Path, columns: &[String], progress: &Progress) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Input { path: path.to_owned(), error };
        let wrong = |why: String| Error::Kind { path: path.to_owned(), why };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let file = guarded(|| opened(file))
            .map_err(|why| wrong(format!("is no Parquet file that can be read: {why}; get it again")))?;
        let schema = Arc::clone(&file.metadata().file_metadata().schema_descr_ptr().root_schema_ptr());
        let wanted = guarded(|| projected(&schema, columns)).map_err(wrong)?;
        progress.expect(size);
        let (path, progress) = (path.to_owned(), progress.clone());
        Ok(Self { path, file, wanted, group: 0, rows: None, next: 0, size, progress })
    }

    /// The next row as a JSON object, and its number from 0; `None` at the end. After an error there is nothing more to be had.
    ///
    /// # Errors
    /// In words, which row of which file could not be read, and why.
    pub fn read(&mut self) -> Result<Option<(i64, Vec<u8>)>, String> {
        let number = self.next;
        let place = format!("{}: reading stopped at row {}", self.path.display(), number + 1);
        let row = guarded(|| self.row()).map_err(|why| format!("{place}: {why}"))?;
        let Some(row) = row else { return Ok(None) };
        self.next += 1;
        let object =
            object(&row, 0).ok_or_else(|| format!("{place}: its parts lie deeper than {DEPTH_MAX} in each other"))?;
        serde_json::to_vec(&object).map(|bytes| Some((number, bytes))).map_err(|error| format!("{place}: {error}"))
    }

    fn row(&mut self) -> Result<Option<Row>, String> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return row.map(Some).map_err(|error| error.to_string());
            }
            let groups = self.file.num_row_groups();
            if self.group >= groups {
                return Ok(None);
            }
            let group = self.file.get_row_group(self.group).map_err(|error| error.to_string())?;
            let rows = TreeBuilder::new().with_batch_size(ROWS_AHEAD).as_iter(Arc::clone(&self.wanted), &*group);
            self.rows = Some(rows.map_err(|error| error.to_string())?);
            let share = |group: usize| self.size / groups as u64 * group as u64;
            self.group += 1;
            self.progress.bytes_read(share(self.group) - share(self.group - 1));
        }
    }
}

/// The file with its schema read first, and once: the crate believes a schema what its elements say.
fn opened(mut file: File) -> Result<SerializedFileReader<File>, String> {
    let options = ReadOptionsBuilder::new().with_parquet_schema(footer::schema(&mut file)?).build();
    SerializedFileReader::new_with_options(file, options).map_err(|error| error.to_string())
}

/// Runs what reads a stranger's bytes with somebody else's code: a panic there is one more way in which a file can't be read.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the file is damaged".to_owned()))
}

/// The schema of those columns that are there.
fn projected(schema: &Type, columns: &[String]) -> Result<Arc<SchemaDescriptor>, String> {
    let all = schema.get_fields();
    let mut fields = Vec::new();
    for (place, name) in columns.iter().enumerate() {
        let Some(field) = all.iter().find(|field| field.name() == name) else {
            if place == 0 {
                let names: Vec<&str> = all.iter().map(|field| field.name()).collect();
                let known = names.join(", ");
                return Err(format!("has no column {name:?}, to which document.text leads; it has: {known}"));
            }
            continue;
        };
        if place == 0 && is_bytes(field) {
            return Err(format!(
                "its column {name:?} holds bytes that nothing says to be text (no UTF-8 annotation); write it as a column of strings"
            ));
        }
        fields.push(Arc::clone(field));
    }
    let root =
        Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(|error| error.to_string())?;
    Ok(Arc::new(SchemaDescriptor::new(Arc::new(root))))
}

fn is_bytes(field: &Type) -> bool {
    let info = field.get_basic_info();
    let bytes = field.is_primitive()
        && matches!(field.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
    let text = matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON)
        || matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum | LogicalType::Json));
    bytes && !text
}

fn object(row: &Row, depth: usize) -> Option<Value> {
    let members = row.get_column_iter().map(|(name, field)| Some((name.clone(), value(field, depth + 1)?)));
    members.collect::<Option<Map<String, Value>>>().map(Value::Object)
}

/// A part of a row in JSON. `None` where it lies too deep. What JSON has no kind for (bytes, dates, decimals) is null.
fn value(field: &Field, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let real = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    Some(match field {
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => real(f64::from(*number)),
        Field::Double(number) => real(*number),
        Field::Str(text) => Value::String(text.clone()),
        Field::Group(row) => object(row, depth)?,
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(|element| value(element, depth + 1)).collect::<Option<_>>()?)
        }
        Field::MapInternal(map) => {
            let mut members = Map::new();
            for (key, held) in map.entries() {
                // A key of another kind than text is none in JSON.
                if let Field::Str(key) = key {
                    members.insert(key.clone(), value(held, depth + 1)?);
                }
            }
            Value::Object(members)
        }
        Field::Null
        | Field::Float16(_)
        | Field::Decimal(_)
        | Field::Bytes(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::Null,
    })
}
