//! Any bytes, by libFuzzer: see `../src/streams.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("streams"), |data: &[u8]| tamis_fuzz::run("streams", data));
