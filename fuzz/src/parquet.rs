//! Any bytes as a Parquet file: rows of JSON objects in order, or an error that says what is wrong. What the `parquet` crate panics at is caught by the room
//! and is such an error; what it would allocate is not bounded by anybody, so the fuzzer's own limit on memory is the judge of that.

use super::scratch;
use tamis::files::{Cell, Column, Rows, Table};
use tamis::telemetry::Progress;

/// Rows that are read of one file: a few bytes may stand for millions.
const ROWS_MAX: usize = 2_000;

pub(super) fn run(data: &[u8]) {
    let path = scratch("a.parquet");
    std::fs::write(&path, data).expect("a file");
    rows(&path);
    let _ = std::fs::remove_file(&path);
}

fn rows(path: &std::path::Path) {
    let columns = ["text".to_owned(), "id".to_owned(), "page".to_owned()];
    let mut rows = match Rows::open(path, &columns, &Progress::default()) {
        Ok(rows) => rows,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for expected in 0..ROWS_MAX {
        match rows.read() {
            Ok(Some((number, object))) => {
                assert_eq!(number, i64::try_from(expected).expect("few rows"));
                let object: serde_json::Value = serde_json::from_slice(&object).expect("JSON");
                let members = object.as_object().expect("an object");
                assert!(members.keys().all(|name| columns.contains(name)), "{members:?}");
            }
            Ok(None) => break,
            Err(told) => return assert!(!told.is_empty()),
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let columns = [
        Column::Text("text".to_owned()),
        Column::Number("id".to_owned()),
        Column::Group("page".to_owned(), vec![Column::Text("body".to_owned()), Column::Number("size".to_owned())]),
    ];
    let table = |rows: usize| {
        let path = scratch("seed.parquet");
        let table = Table::create(&path, &columns).expect("a table");
        for row in 0..rows {
            let text = if row % 3 == 1 { Cell::Absent } else { Cell::Text(format!("text {row}")) };
            let number = Cell::Number(f64::from(u8::try_from(row % 200).expect("small")));
            table.append(vec![text.clone(), number, text, Cell::Absent]).expect("a row");
        }
        table.finish().expect("an end");
        let bytes = std::fs::read(&path).expect("a table");
        let _ = std::fs::remove_file(path);
        bytes
    };
    vec![table(0), table(1), table(5), table(300), b"PAR1".to_vec()]
}
