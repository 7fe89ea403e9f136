//! Owns how many documents are revealed at once: what early stopping keeps of each token is much, and must not add up.
//!
//! Invariant: documents of at most [`REVEALED_AT_ONCE`] tokens, or a single longer one, are under way. Must not know: what is kept.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Tokens of the documents that a scorer reveals at once: what is kept of each pass must not add up to more than some 100 MB, however many documents
/// are under way. It is sixty times what may wait for a device.
const REVEALED_AT_ONCE: u32 = 1 << 19;

/// Bounds the documents that one scorer reveals at once, by their tokens.
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(REVEALED_AT_ONCE as usize))
    }
}

impl Turns {
    /// Waits until a document of so many tokens may be revealed; a longer one than all that there is takes all. Cancel-safe; first come, first served.
    pub(super) async fn take(&self, tokens: usize) -> Option<SemaphorePermit<'_>> {
        let wanted = u32::try_from(tokens).unwrap_or(u32::MAX).min(REVEALED_AT_ONCE);
        // The semaphore is never closed.
        self.0.acquire_many(wanted).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn documents_are_revealed_as_far_as_their_tokens_have_room_and_the_longest_alone() {
        let turns = Turns::default();
        let one = turns.take(REVEALED_AT_ONCE as usize - 3).await;
        let beside = turns.take(3).await;
        assert_eq!(turns.0.available_permits(), 0);
        drop(one);
        // It waits for what the other has, and is not turned away.
        let longest = tokio::time::timeout(std::time::Duration::from_millis(20), turns.take(usize::MAX)).await;
        assert!(longest.is_err());
        drop(beside);
        let longest = turns.take(usize::MAX).await;
        assert_eq!((longest.is_some(), turns.0.available_permits()), (true, 0));
    }
}
