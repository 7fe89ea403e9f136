//! Owns how a store is opened when all may be wrong: locked, tried, set aside, started empty.

use super::failure::Failure;
use super::generations::Generations;
use super::settings::{MIN_BYTES, Settings};
use super::stats::Counters;
use super::store::{Deadlines, Store};
use super::worker::{Opener, Worker};
use crate::telemetry::metrics;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a closing store of this process may hold its lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What tests make smaller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The least size of a store.
    pub(super) min_bytes: u64,
    /// How long things may take.
    pub(super) deadlines: Deadlines,
}

impl Default for Limits {
    fn default() -> Self {
        Self { min_bytes: MIN_BYTES, deadlines: Deadlines::default() }
    }
}

/// Opens the store in `<path>/<instance>`, or an empty one in its place.
pub(super) fn open(settings: &Settings, instance: &str, limits: Limits) -> Result<Store, Failure> {
    if Path::new(instance).file_name() != Some(OsStr::new(instance)) {
        return Err(Failure::Refused(format!("{instance:?} can't be a directory's name")));
    }
    fs::create_dir_all(&settings.path)?;
    let counters = Arc::new(Counters::default());
    let mut place = Directory {
        parent: settings.path.clone(),
        instance: instance.to_owned(),
        first: 1,
        max_bytes: settings.max_bytes.max(limits.min_bytes),
        _lock: Arc::new(lock(&lock_path(&settings.path, instance))?),
        counters: Arc::clone(&counters),
    };
    let worker = match Worker::start(place.clone(), limits.deadlines.open) {
        Err(Failure::Deadline) => {
            // Its thread may come back one day; it will find its files gone, and others under numbers that it does not know.
            place.set_aside(&Failure::Deadline)?;
            Worker::start(place, limits.deadlines.open)?
        }
        outcome => outcome?,
    };
    Ok(Store::new(worker, limits.deadlines, counters))
}

/// Where one instance's store lies. Clones share the lock, which is released when the last thread that uses the store has ended.
#[derive(Debug, Clone)]
struct Directory {
    parent: PathBuf,
    instance: String,
    first: u64,
    max_bytes: u64,
    _lock: Arc<File>,
    counters: Arc<Counters>,
}

impl Directory {
    fn path(&self) -> PathBuf {
        self.parent.join(&self.instance)
    }

    fn try_open(&self) -> Result<Generations, Failure> {
        let path = self.path();
        let open = || Generations::open(&path, self.first, self.max_bytes, Arc::clone(&self.counters));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
            .unwrap_or_else(|payload| Err(Failure::from_panic(payload.as_ref())))
    }

    /// Renames the store out of the way, so that the next opening begins empty. Of such stores only this last one is kept.
    fn set_aside(&mut self, why: &Failure) -> Result<(), Failure> {
        let path = self.path();
        self.first = self.first.max(Generations::next_number(&path));
        let prefix = format!("{}.broken-", self.instance);
        for earlier in fs::read_dir(&self.parent)?.flatten() {
            if earlier.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                let _ = fs::remove_dir_all(earlier.path());
            }
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let aside = self.parent.join(format!("{prefix}{now_ms}"));
        match fs::rename(&path, &aside) {
            Ok(()) => (),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.counters.set_aside();
        metrics::cache_error();
        tracing::warn!(store = %path.display(), aside = %aside.display(), %why, "cache store was set aside");
        Ok(())
    }
}

impl Opener for Directory {
    type Backend = Generations;

    fn open(&mut self, condemned: bool) -> Result<Generations, Failure> {
        if condemned {
            self.set_aside(&Failure::Damaged("it failed while in use".to_owned()))?;
        }
        match self.try_open() {
            // A full disk is no fault of the store's, and a store set aside would not make room.
            Err(Failure::DiskFull) => Err(Failure::DiskFull),
            Err(failure) => {
                self.set_aside(&failure)?;
                self.try_open()
            }
            opened => opened,
        }
    }
}

/// The file whose lock the process holds that has the instance's store open.
pub(super) fn lock_path(parent: &Path, instance: &str) -> PathBuf {
    parent.join(format!("{instance}.store.lock"))
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => return Err(Failure::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
