//! Any bytes where the cache looks: as a stored value, as the small files beside the generations, as the names of things in its folder, as the sums of a
//! window. A miss, or what was put; damage never gets through.

use super::scratch;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use tamis::cache::{Key, Layout, inventory, layout};
use tamis::scorer;

const MARKER: &str = "tamis-cache 1\n";

/// What is done, a number, a byte of the key, then the bytes.
pub(super) fn run(data: &[u8]) {
    let [what, number, byte, rest @ ..] = data else { return };
    match what % 4 {
        0 => stored(&Key([*byte; 32]), *number, rest),
        1 => sums(usize::from(*number), *byte, rest),
        2 => beside(*number, rest),
        _ => names(rest),
    }
}

/// A value under a key, whole and damaged.
fn stored(key: &Key, number: u8, bytes: &[u8]) {
    if let Some(value) = layout::unwrap(key, bytes) {
        assert_eq!(layout::wrap(key, value), bytes);
    }
    let mut stored = layout::wrap(key, bytes);
    assert_eq!(layout::unwrap(key, &stored), Some(bytes));
    let other = Key([!key.0[0]; 32]);
    assert_eq!(layout::unwrap(&other, &stored), None, "another key's value");
    let at = usize::from(number) % stored.len();
    assert_eq!(layout::unwrap(key, &stored[..at]), None, "cut at {at}");
    stored[at] ^= 1 << (number % 8);
    assert_eq!(layout::unwrap(key, &stored), None, "a bit of byte {at} flipped");
}

/// What a verified value holds: read by another program's layout, it is a miss; else it is written as it was read.
fn sums(tokens: usize, needs: u8, bytes: &[u8]) {
    if let Some(again) = scorer::reread(bytes, tokens, needs & 1 != 0, needs & 2 != 0) {
        assert_eq!(again, bytes);
    }
}

/// A store's folder, made once.
static STORE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = scratch("cached");
    for generation in ["0/gen-1", "0/gen-2"] {
        fs::create_dir_all(path.join(generation)).expect("a store's folder");
    }
    path
});

/// The marker and the count of entries beside the generations.
fn beside(number: u8, bytes: &[u8]) {
    let (marker, entries) = match number % 3 {
        0 => (bytes, &b"1 7\n"[..]),
        1 => (MARKER.as_bytes(), bytes),
        _ => bytes.split_at(bytes.len() / 2),
    };
    fs::write(STORE.join("0/layout"), marker).expect("the marker");
    fs::write(STORE.join("0/entries"), entries).expect("the count");
    let found = inventory::survey(&STORE).expect("a folder that can be read");
    let [store] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((store.instance, store.generations), (0, 2));
    match &store.layout {
        Layout::Current { marked } => assert!(*marked && marker == MARKER.as_bytes()),
        Layout::Other(said) => assert!(marker != MARKER.as_bytes() && said.chars().count() <= 32, "{said:?}"),
    }
}

/// Whatever lies in the folder, only stores are taken for stores, and looking changes nothing.
fn names(bytes: &[u8]) {
    let path = scratch("names");
    fs::create_dir_all(&path).expect("a folder");
    let names = String::from_utf8_lossy(bytes);
    let names = names.split('/').filter(|name| !name.is_empty() && !name.starts_with('.') && !name.contains('\0'));
    let names: Vec<&str> = names.filter(|name| name.len() < 200).take(8).collect();
    for name in &names {
        let _ = fs::create_dir(path.join(name));
    }
    let found = inventory::survey(&path).expect("a folder that can be read");
    for store in &found {
        let own = store.instance.to_string();
        let is_it = |name: &&str| **name == own || name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'));
        assert!(names.iter().any(is_it), "instance {own} of {names:?}");
        assert!(store.set_aside.iter().all(|(aside, _)| aside.is_dir()));
        let cleared = inventory::clear(&path, store, true);
        assert!(cleared.is_ok(), "an empty store can be cleared: {cleared:?}");
    }
    assert!(names.iter().all(|name| path.join(name).is_dir()), "looking removed something");
    fs::remove_dir_all(path).expect("a folder that is ours");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let stored = layout::wrap(&Key([7; 32]), b"value");
    let sums: Vec<u8> =
        [2_u8, 0].into_iter().chain([2.5_f64.to_bits(), 3, 1].into_iter().flat_map(u64::to_le_bytes)).collect();
    let partial =
        [vec![3, 10, 0, 0, 0, 1, 2], (-0.5_f64).to_le_bytes().to_vec(), (-1.5_f64).to_le_bytes().to_vec()].concat();
    vec![
        [&[0, 9, 7], stored.as_slice()].concat(),
        [&[1, 3, 0], sums.as_slice()].concat(),
        [&[1, 10, 0], partial.as_slice()].concat(),
        [&[2, 0, 0], MARKER.as_bytes()].concat(),
        b"\x02\x01\x001 18446744073709551615\n2 4\n".to_vec(),
        b"\x02\x01\x001 17\n2 4\nx y\n".to_vec(),
        b"\x03\0\x000/0.broken-17/00/+1/1.lock/4294967296/2.erasing-/2.cleared-3/7".to_vec(),
    ]
}
