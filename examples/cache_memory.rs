//! Owns a measurement: what the score cache takes of memory while more and more entries are put, in steps of a twentieth.
//!
//! `cargo run --release --example cache_memory -- FOLDER MAX_MIB ENTRIES [VALUE_BYTES]`; docs/performance.md has what it gave.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use tamis::cache::{Cache, Key, Settings};

/// Entries of one put, as a document of some windows makes it.
const TOGETHER: u64 = 16;

fn key(number: u64) -> Key {
    Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Resident memory in MiB.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, max_mib, entries, rest @ ..] = arguments.as_slice() else {
        return Err("usage: cache_memory FOLDER MAX_MIB ENTRIES [VALUE_BYTES]".into());
    };
    let value = vec![7; rest.first().map_or(Ok(100), |bytes| bytes.parse())?];
    let entries: u64 = entries.parse()?;
    let settings = Settings { path: folder.into(), max_bytes: max_mib.parse::<u64>()? << 20, enabled: true };
    let cache = Cache::open(&settings, "0");
    let start = resident()?;
    println!("entries  MiB beyond the start  MiB on disk  generations dropped");
    let mut next = 0;
    for put in (0..entries).step_by(TOGETHER as usize) {
        cache.put_many((put..put + TOGETHER).map(|number| (key(number), value.clone())).collect()).await;
        if put >= next {
            let stats = cache.stats();
            let grown = resident()?.saturating_sub(start);
            println!("{put:7}  {grown:20}  {:11}  {:19}", stats.disk_bytes >> 20, stats.generations_dropped);
            next += entries / 20;
        }
    }
    cache.flush().await;
    Ok(())
}
