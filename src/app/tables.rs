//! Owns the two ends of `score`: lines, or tables where a file is one of Parquet.
//!
//! Invariants: which it is shows in the file's first bytes for an input, in its name for an output; an output is never the input; what stands in
//! the output's place stands until the model is loaded.

use super::failure::Failure;
use crate::cli::Exit;
use crate::config::Settings;
use crate::files;
use crate::sink::{Bookmark, Imprint, Report};
use crate::source::Input;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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
    /// Lines on standard output.
    Stdout,
    /// Lines in a file, with its path.
    Lines(File, PathBuf),
    #[cfg(feature = "parquet")]
    Rows(crate::sink::Rows),
}

impl Output {
    /// The report that writes here. Of lines there is one.
    ///
    /// # Errors
    /// The file can't be emptied, or be opened a second time.
    pub(super) fn report(&mut self, imprint: Imprint) -> Result<Report, Failure> {
        let writer: Box<dyn Write + Send> = match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::Lines(file, path) => {
                // A pipe or a terminal has no length.
                let is_file = file.metadata().is_ok_and(|facts| facts.is_file());
                let emptied = if is_file { file.set_len(0) } else { Ok(()) };
                Box::new(emptied.and_then(|()| file.try_clone()).map_err(|error| unwritable(path, &error))?)
            }
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => return Ok(Report::in_rows(rows.clone(), imprint)),
        };
        Ok(Report::new(writer, imprint, Bookmark::Nowhere))
    }

    /// Ends what has an end. Blocking.
    #[cfg_attr(
        not(feature = "parquet"),
        allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "lines have no end")
    )]
    pub(super) fn finish(&self) -> Result<(), Failure> {
        match self {
            Self::Stdout | Self::Lines(..) => Ok(()),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => Ok(rows.finish()?),
        }
    }
}

/// Opens `output`, and leaves what stands there for now; `None` is standard output.
///
/// # Errors
/// It can't be opened, or is the input.
pub(super) fn output(output: Option<PathBuf>, input: &Input, settings: &Settings) -> Result<Output, Failure> {
    let Some(path) = output else { return Ok(Output::Stdout) };
    if input.path().is_some_and(|read| is_one_file(read, &path)) {
        let why = "is the input, which writing would destroy; name another file with --output";
        return Err(Failure::new(Exit::Usage, format!("{}: {why}", path.display())));
    }
    if path.extension().is_some_and(|kind| kind == "parquet") {
        return table(&path, settings);
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(|error| unwritable(&path, &error))?;
    Ok(Output::Lines(file, path))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Input, format!("{}: {error}; check the path and its permissions", path.display()))
}

/// Whether two paths name one regular file, by links of either kind too.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let identity =
        |path: &Path| path.metadata().ok().filter(|facts| facts.is_file()).map(|facts| (facts.dev(), facts.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
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
