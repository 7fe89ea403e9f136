//! Any bytes, by libFuzzer: see `../src/decode.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("decode"), |data: &[u8]| tamis_fuzz::run("decode", data));
