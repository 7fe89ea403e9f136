//! Any bytes, by libFuzzer: see `../src/parquet.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("parquet"), |data: &[u8]| tamis_fuzz::run("parquet", data));
