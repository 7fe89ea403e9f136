//! Owns the table of a report: which columns there are, and which part of a line stands in which.
//!
//! Invariant: a row holds what the line would, no less; what is a list or an object there is text in JSON here, but for the signals, which have a column
//! each below one name.

use crate::files::{Cell, Column, Error, Table};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Parts of a line that are text.
const TEXTS: [&str; 5] = ["id", "verdict", "status", "policy", "scorer"];
/// Parts of a line that are lists or objects.
const VALUES: [&str; 3] = ["reasons", "skipped", "error"];
/// The signal that is text.
const LANGUAGE: &str = "language";

/// A table for a report. Clones are the same table.
#[derive(Clone)]
pub struct Rows {
    table: Table,
    signals: Vec<String>,
}

impl Rows {
    /// A table at `path` for these signals. Blocking.
    ///
    /// # Errors
    /// See [`Table::create`].
    pub fn create(path: &Path, signals: BTreeSet<String>) -> Result<Self, Error> {
        let signals: Vec<String> = signals.into_iter().filter(|name| name != LANGUAGE).collect();
        let named = |name: &str| Column::Text(name.to_owned());
        let numbers = signals.iter().cloned().map(Column::Number);
        let group = numbers.chain([named(LANGUAGE)]).collect();
        let mut columns: Vec<Column> = TEXTS.iter().chain(&VALUES).map(|name| named(name)).collect();
        columns.push(Column::Group("signals".to_owned(), group));
        Ok(Self { table: Table::create(path, &columns)?, signals })
    }

    /// Appends the row that stands for `line`. Blocking.
    pub(super) fn append(&self, line: &Value) -> Result<(), String> {
        let text = |value: &Value| value.as_str().map_or(Cell::Absent, |text| Cell::Text(text.to_owned()));
        let json = |value: &Value| if value.is_null() { Cell::Absent } else { Cell::Text(value.to_string()) };
        let signals = &line["signals"];
        let number = |name: &String| signals[name.as_str()].as_f64().map_or(Cell::Absent, Cell::Number);
        let cells = TEXTS.iter().map(|name| text(&line[*name])).chain(VALUES.iter().map(|name| json(&line[*name])));
        let cells = cells.chain(self.signals.iter().map(number)).chain([text(&signals[LANGUAGE])]);
        self.table.append(cells.collect()).map_err(|error| error.to_string())
    }

    /// Ends the table, which then is at its path. Blocking.
    ///
    /// # Errors
    /// See [`Table::finish`].
    pub fn finish(&self) -> Result<(), Error> {
        self.table.finish()
    }
}
