//! Owns the two ends of `score`: lines, or tables where a file is one of Parquet.
//!
//! Invariant: which it is shows in the file's first bytes for an input, in its name for an output.

use super::failure::Failure;
use crate::cli::Exit;
use crate::config::Settings;
use crate::files;
use crate::sink::{Bookmark, Imprint, Report};
use crate::source::Input;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `input` as it is to be read: rows, where it is a Parquet file. Blocking.
pub(super) fn input(input: Input, settings: &Settings) -> Result<Input, Failure> {
    if let Input::File(path) = &input
        && files::is_parquet(path)
    {
        return rows(path.clone(), settings);
    }
    Ok(input)
}

#[cfg(feature = "parquet")]
fn rows(path: PathBuf, settings: &Settings) -> Result<Input, Failure> {
    use crate::decode::Format;
    let document = &settings.document;
    let wrong = |why: &str| Err(Failure::new(Exit::Usage, format!("{}: {why}", path.display())));
    if document.format != Format::Json {
        return wrong(
            "rows of a Parquet file are read as JSON objects; set document.format = \"json\", and document.text to the column's pointer",
        );
    }
    let mut columns: Vec<String> = Vec::new();
    for pointer in [&document.text, &document.id, &document.language, &document.source] {
        // Pointers were checked with the settings.
        if let Some(name) = pointer.strip_prefix('/').and_then(|rest| rest.split('/').next()) {
            let name = name.replace("~1", "/").replace("~0", "~");
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
    }
    if document.text.is_empty() {
        return wrong(
            "document.text = \"\" is a whole value, and here values are rows; set it to a column's pointer, as in \"/text\"",
        );
    }
    Ok(Input::Rows(path, columns))
}

/// Without Parquet, such a file is opened as any other, which says what it is and what to do.
#[cfg(not(feature = "parquet"))]
#[allow(clippy::unnecessary_wraps, reason = "with Parquet it may refuse")]
fn rows(path: PathBuf, _: &Settings) -> Result<Input, Failure> {
    Ok(Input::File(path))
}

/// Where what was found goes.
pub(super) enum Output {
    /// Lines, until the report has them.
    Lines(Option<Box<dyn Write + Send>>),
    #[cfg(feature = "parquet")]
    Rows(crate::sink::Rows),
}

impl Output {
    /// The report that writes here. Of lines there is one.
    pub(super) fn report(&mut self, imprint: Imprint) -> Report {
        match self {
            Self::Lines(writer) => {
                Report::new(writer.take().unwrap_or_else(|| Box::new(io::sink())), imprint, Bookmark::Nowhere)
            }
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => Report::in_rows(rows.clone(), imprint),
        }
    }

    /// Ends what has an end. Blocking.
    #[cfg_attr(
        not(feature = "parquet"),
        allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "lines have no end")
    )]
    pub(super) fn finish(&self) -> Result<(), Failure> {
        match self {
            Self::Lines(_) => Ok(()),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => Ok(rows.finish()?),
        }
    }
}

/// Opens `output`; `None` is standard output.
pub(super) fn output(output: Option<PathBuf>, settings: &Settings) -> Result<Output, Failure> {
    let lines = |writer: Box<dyn Write + Send>| Ok(Output::Lines(Some(writer)));
    let Some(path) = output else { return lines(Box::new(io::stdout())) };
    if path.extension().is_some_and(|kind| kind == "parquet") {
        return table(&path, settings);
    }
    let file = File::create(&path).map_err(|error| {
        Failure::new(Exit::Input, format!("{}: {error}; check the path and its permissions", path.display()))
    })?;
    lines(Box::new(file))
}

#[cfg(feature = "parquet")]
fn table(path: &Path, settings: &Settings) -> Result<Output, Failure> {
    let rows = crate::sink::Rows::create(path, settings.signal_names());
    rows.map(Output::Rows).map_err(|error| Failure::new(Exit::Input, error))
}

#[cfg(not(feature = "parquet"))]
fn table(path: &Path, _: &Settings) -> Result<Output, Failure> {
    let why = "this tamis was built without Parquet; build it with `cargo build --release --features parquet`, or name the file otherwise for lines of JSON";
    Err(Failure::new(Exit::Usage, format!("{}: {why}", path.display())))
}
