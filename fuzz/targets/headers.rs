//! Any bytes, by libFuzzer: see `../src/headers.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("headers"), |data: &[u8]| tamis_fuzz::run("headers", data));
