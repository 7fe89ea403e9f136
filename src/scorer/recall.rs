//! Owns what is remembered of a whole text: its windows' sums and its words, so that a text that comes again need not be tokenised to be known.
//!
//! In memory only: what lies on disk is keyed by windows, and whoever asks for a text to be forgotten there need not think of this.
//! Invariant: what is read is what was written, bit for bit, or nothing.

use super::sums::Sums;
use crate::cache::Key;
use crate::engine::Needs;

/// Windows of a text that is remembered, at most: longer ones seldom come twice, and would crowd out many short ones.
const WINDOWS_MAX: usize = 64;

/// The key of a text under a scorer's identity. Windows' keys begin with the identity alone; the name keeps the two apart.
pub(super) fn key(identity: &[u8; 32], text: &str) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tamis text\0").update(identity).update(text.as_bytes());
    Key(*hasher.finalize().as_bytes())
}

/// Words, then of each window its tokens, the length of its sums, its sums. `None` for a text that is too long to be remembered.
pub(super) fn write(words: usize, windows: &[Sums]) -> Option<Vec<u8>> {
    if windows.len() > WINDOWS_MAX {
        return None;
    }
    let mut bytes = (words as u64).to_le_bytes().to_vec();
    for sums in windows {
        let own = sums.to_bytes();
        bytes.extend_from_slice(&sums.tokens.to_le_bytes());
        bytes.push(u8::try_from(own.len()).ok()?);
        bytes.extend_from_slice(&own);
    }
    Some(bytes)
}

/// Reads it back; `None` where something is amiss, or lacks what is needed.
pub(super) fn read(bytes: &[u8], needs: Needs) -> Option<(usize, Vec<Sums>)> {
    let (words, mut rest) = bytes.split_first_chunk::<8>()?;
    let words = usize::try_from(u64::from_le_bytes(*words)).ok()?;
    let mut windows = Vec::new();
    while !rest.is_empty() {
        let (tokens, behind) = rest.split_first_chunk::<8>()?;
        let (length, behind) = behind.split_first()?;
        let (own, behind) = behind.split_at_checked(usize::from(*length))?;
        windows.push(Sums::from_bytes(own, usize::try_from(u64::from_le_bytes(*tokens)).ok()?, needs)?);
        rest = behind;
    }
    Some((words, windows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(words in 0..1000_usize, nlls in prop::collection::vec((-1e9..1e9_f64, 0..600_u64), 0..9)) {
            let windows: Vec<Sums> =
                nlls.into_iter().map(|(nll, tokens)| Sums { nll, tokens, ..Sums::default() }).collect();
            let bytes = write(words, &windows).unwrap();
            let (read_words, read_windows) = read(&bytes, Needs::default()).unwrap();
            prop_assert_eq!(read_words, words);
            prop_assert_eq!(read_windows, windows);
        }

        #[test]
        fn garbage_is_nothing_or_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes, Needs::default());
        }
    }

    #[test]
    fn a_long_text_is_not_remembered_and_keys_differ_by_scorer_and_text() {
        assert!(write(1, &vec![Sums::default(); WINDOWS_MAX + 1]).is_none());
        assert_ne!(key(&[0; 32], "a").0, key(&[1; 32], "a").0);
        assert_ne!(key(&[0; 32], "a").0, key(&[0; 32], "b").0);
    }
}
