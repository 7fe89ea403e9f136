//! Any bytes, by libFuzzer: see `../src/graph.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tamis_fuzz::begin("graph"), |data: &[u8]| tamis_fuzz::run("graph", data));
