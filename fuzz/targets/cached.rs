//! Any bytes, by libFuzzer: see `../src/cached.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("cached"), |data: &[u8]| tamis_fuzz::run("cached", data));
