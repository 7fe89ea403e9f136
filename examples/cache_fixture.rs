//! Makes a cache store whose bytes are then kept as a fixture, so that later programs are tested on what this one wrote:
//!
//! ```sh
//! cargo run --example cache_fixture -- /tmp/store
//! tar -C /tmp/store --sparse --sort=name --mtime=@0 --owner=0 --group=0 -czf tests/fixtures/cache/VERSION.tar.gz 0
//! ```
//!
//! Entry n of 300 has the BLAKE3 hash of n (four bytes, little-endian) as its key and this key twice as its value.

use std::path::PathBuf;
use std::process::ExitCode;
use tamis::cache::{Cache, Key, Settings};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else { return ExitCode::from(64) };
    let cache = Cache::open(&Settings { path, ..Settings::default() }, "0");
    let key = |n: u32| Key(*blake3::hash(&n.to_le_bytes()).as_bytes());
    cache.put_many((0..300).map(|n| (key(n), key(n).0.repeat(2))).collect()).await;
    cache.flush().await;
    let sound = cache.stats().place == "disk" && cache.stats().failures == 0;
    ExitCode::from(u8::from(!sound))
}
