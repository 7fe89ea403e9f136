//! Owns what can be said of outputs and positions before anything is opened for them.
//!
//! In: a directory and the names of outputs. Out: what was delivered, and every reason why a run would be refused there.
//! Invariants: nothing is created, written or renamed, so that a check leaves no trace and disturbs no worker, unless it starts in the
//! microseconds in which the lock is tried. Must not know: what the reasons mean for a pipeline.

use super::checkpoint::{Checkpoint, Mark};
use super::error::Error;
use super::output;
use rustix::fs::{Access, access};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What is known about a directory of outputs and positions.
#[derive(Debug)]
pub struct Survey {
    /// The directory itself, or the nearest one above it that is there: the directory is made in it.
    pub nearest: PathBuf,
    /// Whether the directory is there already.
    pub exists: bool,
    /// How far each input was delivered, by lane.
    pub marks: BTreeMap<String, Mark>,
    /// Why a run can't write there.
    pub problems: Vec<Error>,
}

impl Survey {
    /// Looks at `dir`, in which outputs called `names` would be written.
    #[must_use]
    pub fn of(dir: &Path, names: &[String]) -> Self {
        let whole = if dir.is_absolute() { dir.to_owned() } else { Path::new(".").join(dir) };
        let nearest = whole.ancestors().find(|path| path.exists()).unwrap_or(Path::new(".")).to_owned();
        let mut survey = Self { exists: whole.exists(), nearest, marks: BTreeMap::new(), problems: Vec::new() };
        if let Err(error) = writable(&survey.nearest) {
            survey.problems.push(Error::Directory { path: survey.nearest.clone(), error });
        }
        let [journal, lock] = Checkpoint::files(dir);
        // A lock that can't be looked at is the directory's problem, told above.
        if let Ok(file) = File::open(&lock)
            && let Err(TryLockError::WouldBlock) = file.try_lock()
        {
            // Whoever holds it is writing: what stands there now says nothing about the next start.
            survey.problems.push(Error::Taken { path: lock });
            return survey;
        }
        for path in [journal, lock].into_iter().chain(names.iter().map(|name| dir.join(name))) {
            if path.exists()
                && let Err(error) = access(&path, Access::WRITE_OK | Access::READ_OK)
            {
                survey.problems.push(Error::Directory { path, error: error.into() });
            }
        }
        match Checkpoint::read(dir) {
            Ok((marks, lengths)) => {
                survey.problems.extend(output::problems(dir, names, &lengths));
                survey.marks = marks;
            }
            Err(error @ Error::Directory { .. }) if !survey.problems.is_empty() => drop(error),
            Err(error) => survey.problems.push(error),
        }
        survey
    }
}

fn writable(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["pass.jsonl".to_owned()]
    }

    fn told(dir: &Path) -> Vec<String> {
        Survey::of(dir, &names()).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_no_problem_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let survey = Survey::of(&dir.path().join("a/b"), &names());
        assert!(survey.problems.is_empty() && !survey.exists && survey.nearest == dir.path(), "{survey:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(told(&file.join("out")).len(), 1);
    }

    #[test]
    fn what_a_start_would_refuse_is_told_and_nothing_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pass.jsonl"), "mine").unwrap();
        assert!(told(dir.path())[0].contains("tamis did not write it"));
        std::fs::remove_file(dir.path().join("pass.jsonl")).unwrap();
        let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert!(told(dir.path())[0].contains("held by another process"));
        checkpoint.commit(&[], &BTreeMap::from([("pass.jsonl".to_owned(), 4)])).unwrap();
        drop(checkpoint);
        let before = std::fs::read(dir.path().join("tamis.checkpoint")).unwrap();
        assert!(told(dir.path())[0].contains("4 were written and committed"));
        assert_eq!(std::fs::read(dir.path().join("tamis.checkpoint")).unwrap(), before);
        std::fs::write(dir.path().join("tamis.checkpoint"), "damaged\n").unwrap();
        assert!(told(dir.path())[0].contains("damaged at line 1"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
