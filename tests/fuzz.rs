//! The fuzz targets in short: each held to its seeds and to as many changes of these as fit some seconds, in the same order every time.
//!
//! What they are and what must hold is in `fuzz/src/`, which this includes, so that it compiles and stays true in every `make test`. `make fuzz` runs them
//! for as long as one likes, by libFuzzer, which sees where it has not been yet; this does not.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test all over")]
#![allow(unreachable_pub, reason = "what is public there is for the other crate that it is compiled in")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::TARGETS;

/// How long each target is tried, at most; and how often.
const SECONDS: u64 = 8;
const CHANGES: usize = 4_000;

/// Numbers that look random (xorshift, Marsaglia 2003) and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides.max(1)
    }

    /// `seed` with up to four changes, of the kinds that libFuzzer makes.
    fn change(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'/', b'\n', b'{', b'9'];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.throw(4) {
            let at = self.throw(bytes.len());
            let some = at..(at + 1 + self.throw(16)).min(bytes.len());
            match self.throw(8) {
                _ if bytes.is_empty() => bytes.push(TELLING[self.throw(TELLING.len())]),
                0 => bytes[at] ^= 1 << self.throw(8),
                1 => bytes[at] = TELLING[self.throw(TELLING.len())],
                2 => bytes[at] = bytes[at].wrapping_add(u8::try_from(self.throw(256)).unwrap()),
                3 => drop(bytes.drain(some)),
                4 => drop(bytes.splice(at..at, bytes[some].to_vec())),
                5 => bytes.truncate(at.max(1)),
                6 => bytes.insert(at, TELLING[self.throw(TELLING.len())]),
                _ => {
                    let from = self.throw(other.len());
                    let piece = &other[from..(from + self.throw(32)).min(other.len())];
                    drop(bytes.splice(at..at, piece.iter().copied()));
                }
            }
        }
        bytes
    }
}

/// Runs the target `name`; a promise that is broken is told with the bytes that broke it.
fn hold(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = (target.seeds)();
    assert!(seeds.len() > 1, "nothing to begin with");
    let attempt = |bytes: &[u8]| {
        if let Err(panic) = std::panic::catch_unwind(|| targets::run(name, bytes)) {
            eprintln!("{name} at {:?}", bytes.escape_ascii().to_string());
            std::panic::resume_unwind(panic);
        }
    };
    seeds.iter().for_each(|seed| attempt(seed));
    let began = std::time::Instant::now();
    let mut dice = Dice(0x7461_6d69_7321);
    let mut done = 0;
    while done < CHANGES && (done < 100 || began.elapsed().as_secs() < SECONDS) {
        let (seed, other) = (&seeds[dice.throw(seeds.len())], &seeds[dice.throw(seeds.len())]);
        attempt(&dice.change(seed, other));
        done += 1;
    }
    eprintln!("{name}: {} seeds and {done} changes of them", seeds.len());
}

macro_rules! each {
    ($($name:ident: $promise:ident,)*) => {
        $(#[test] fn $promise() { hold(stringify!($name)); })*

        #[test]
        fn every_target_is_here() {
            // With the feature that it is about, parquet has its test below.
            let here = [$(stringify!($name),)* "parquet"];
            assert!(TARGETS.iter().all(|target| here.contains(&target.name)));
            assert!(TARGETS.iter().all(|target| {
                let entry = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/targets/{}.rs", target.name));
                std::fs::read_to_string(entry).unwrap().contains(&format!("tamis_fuzz::run({:?}, data)", target.name))
            }));
        }
    };
}

each! {
    cached: damage_never_gets_through_the_cache,
    decode: any_value_is_a_document_or_a_fault_and_no_other_than_other_readers_find,
    graph: any_model_is_refused_or_rewritten_into_a_model,
    headers: headers_go_in_and_out_as_they_are,
    pointers: pointers_lead_where_those_of_serde_json_lead,
    settings: any_settings_are_refused_in_words_or_print_as_themselves,
    streams: any_file_is_lines_within_their_bound_or_an_error,
    windows: spans_lie_in_order_at_characters_and_windows_tile,
}

#[cfg(feature = "parquet")]
#[test]
fn any_table_is_rows_or_an_error() {
    hold("parquet");
}
