//! Any bytes, by libFuzzer: see `../src/settings.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("settings"), |data: &[u8]| tamis_fuzz::run("settings", data));
