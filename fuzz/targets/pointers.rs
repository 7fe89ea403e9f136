//! Any bytes, by libFuzzer: see `../src/pointers.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("pointers"), |data: &[u8]| tamis_fuzz::run("pointers", data));
