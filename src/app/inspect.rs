//! Owns the inspection of a model's directory: which settings it is loaded with, and what the process took for it.

use super::failure::Failure;
use crate::cli::Exit;
use crate::engine::{Attention, Device, Settings};
use crate::scorer::{self, Inspection};
use serde::Serialize;
use std::path::Path;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspected {
    /// The model.
    #[serde(flatten)]
    pub inspection: Inspection,
    /// Threads that it ran with.
    pub threads: usize,
    /// The most memory that this process held, in bytes, loading included; absent where the system doesn't tell.
    pub peak_memory_bytes: Option<u64>,
}

/// Loads the model in `path` and tries it for some seconds. `threads`: 0 takes all cores.
///
/// # Errors
/// There is no such directory ([`Exit::Usage`]), or the model can't be loaded ([`Exit::Unavailable`]).
pub async fn inspect(path: &Path, device: Device, attention: Attention, threads: usize) -> Result<Inspected, Failure> {
    if !path.is_dir() {
        let what = format!("{}: no such directory; give the one that holds model.onnx", path.display());
        return Err(Failure::new(Exit::Usage, what));
    }
    let (owned, device) = (path.to_owned(), device.into());
    let settings = Settings { path: owned, device, attention, threads, ..Settings::default() };
    let inspection = scorer::inspect(&settings).await?;
    let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
    Ok(Inspected { inspection, threads, peak_memory_bytes: peak_memory_bytes() })
}

/// `VmHWM` of this process.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
