//! What is fuzzed: a function for each room that reads strangers' bytes, with what must hold whatever they are.
//!
//! Owns: the targets, their names, and the inputs that each begins with, made of the repository's fixtures. In: bytes. Out: nothing, or a panic that
//! says which promise is broken. Used twice: by the entry points in `targets/`, which libFuzzer drives, and by `tests/fuzz.rs`, which holds them to
//! their seeds and some thousand changes of these in every `make test`.
//! Must not know: who makes up the bytes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a target that can't begin, or finds what must not be, has to end there"
)]

mod cached;
mod decode;
mod graph;
mod headers;
#[cfg(feature = "parquet")]
mod parquet;
mod pointers;
mod settings;
mod streams;
mod windows;

use std::path::{Path, PathBuf};
use tamis::corpus::{Lane, Origin, Record};

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `make fuzz TARGET=…`.
    pub name: &'static str,
    /// What is done with some bytes. Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// What a fuzzer begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "cached", run: cached::run, seeds: cached::seeds },
    Target { name: "decode", run: decode::run, seeds: decode::seeds },
    Target { name: "graph", run: graph::run, seeds: graph::seeds },
    Target { name: "headers", run: headers::run, seeds: headers::seeds },
    #[cfg(feature = "parquet")]
    Target { name: "parquet", run: parquet::run, seeds: parquet::seeds },
    Target { name: "pointers", run: pointers::run, seeds: pointers::seeds },
    Target { name: "settings", run: settings::run, seeds: settings::seeds },
    Target { name: "streams", run: streams::run, seeds: streams::seeds },
    Target { name: "windows", run: windows::run, seeds: windows::seeds },
];

/// Begins a run of the target `name` by libFuzzer: its seeds are written into the folder that `TAMIS_FUZZ_SEEDS` names, if it does.
#[allow(dead_code, reason = "libFuzzer's entry points use it, tests/fuzz.rs does not")]
pub fn begin(name: &str) {
    // Only a panic that nobody catches is a finding: the reader of Parquet panics at damaged bytes, and is expected to.
    let _ = std::panic::take_hook();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|place| !place.file().contains("/parquet-")) {
            tell(panic);
        }
    }));
    let Some(folder) = std::env::var_os("TAMIS_FUZZ_SEEDS").map(PathBuf::from) else { return };
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    std::fs::create_dir_all(&folder).expect("a folder for seeds");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:04}")), seed).expect("a seed");
    }
}

/// What the target `name` does with `data`.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}

/// The root of the repository, where the fixtures lie.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Included by tests/fuzz.rs, this is compiled in the root already.
    if here.join("fuzz").is_dir() { here.to_owned() } else { here.join("..") }
}

/// A path for a small file of the target `name`, in memory where the machine has such a place.
fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("tamis-fuzz-{}-{name}", std::process::id()))
}

/// A record of this value.
fn record(key: Option<Vec<u8>>, value: Vec<u8>) -> Record {
    let origin = Origin { lane: Lane { topic: "t".into(), partition: 0 }, offset: 0 };
    Record { origin, key, value: Some(value), timestamp_ms: None, headers: Vec::new(), defect: None }
}

/// A record's value as serde_json reads it. `None` where that refuses it.
fn tree(value: &[u8]) -> Option<serde_json::Value> {
    let value = std::str::from_utf8(value).ok()?;
    serde_json::from_str(value.strip_prefix('\u{feff}').unwrap_or(value)).ok()
}

/// Runs what waits. Nothing here waits for long.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
