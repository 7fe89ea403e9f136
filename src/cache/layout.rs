//! Owns how a value lies on disk: `[version: 1][checksum: 8][value]`.
//!
//! The checksum is BLAKE3, truncated, over version, key and value, so that neither damage nor a value under the wrong key
//! gets through. A new meaning of the bytes is a new version; what an older program left is then a miss.
//! Public, and in no documentation, for those alone who fuzz it (`fuzz/`): any other way to it leads through sled, a thousand times slower.

use super::Key;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

/// `value` as it lies on disk under `key`.
#[must_use]
pub fn wrap(key: &Key, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + CHECKSUM_BYTES + value.len());
    stored.push(VERSION);
    stored.extend_from_slice(&checksum(key, value));
    stored.extend_from_slice(value);
    stored
}

/// The value that `stored` under `key` holds; `None` if it does not verify.
#[must_use]
pub fn unwrap<'a>(key: &Key, stored: &'a [u8]) -> Option<&'a [u8]> {
    let (&version, rest) = stored.split_first()?;
    let (found, value) = rest.split_at_checked(CHECKSUM_BYTES)?;
    (version == VERSION && found == checksum(key, value)).then_some(value)
}

fn checksum(key: &Key, value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[VERSION]).update(&key.0).update(value);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_wrapped_unwraps(key in any::<[u8; 32]>(), value in prop::collection::vec(any::<u8>(), 0..64)) {
            let stored = wrap(&Key(key), &value);
            prop_assert_eq!(unwrap(&Key(key), &stored), Some(value.as_slice()));
        }

        #[test]
        fn damage_is_noticed(value in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut stored = wrap(&Key([7; 32]), &value);
            let at = at.index(stored.len());
            stored[at] ^= flip;
            prop_assert_eq!(unwrap(&Key([7; 32]), &stored), None);
            stored[at] ^= flip;
            prop_assert_eq!(unwrap(&Key([7; 32]), &stored[..at]), None);
            prop_assert_eq!(unwrap(&Key([8; 32]), &stored), None);
        }

        #[test]
        fn garbage_is_a_miss(stored in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unwrap(&Key([0; 32]), &stored), None);
        }
    }
}
