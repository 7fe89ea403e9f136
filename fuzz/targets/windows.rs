//! Any bytes, by libFuzzer: see `../src/windows.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("windows"), |data: &[u8]| tamis_fuzz::run("windows", data));
