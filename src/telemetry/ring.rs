//! Owns the ring: one value for each of the last N equal stretches of time.
//!
//! Invariants: no more than N values, however long nobody asks; a stretch in which nothing happened is there, empty.
//! Must not know: what is counted, or what the clock is.

use std::collections::VecDeque;

/// The last `N` slots, the newest last.
#[derive(Debug, Clone)]
pub(super) struct Ring<T, const N: usize> {
    newest: u64,
    slots: VecDeque<T>,
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self { newest: 0, slots: VecDeque::new() }
    }
}

impl<T: Default + Clone, const N: usize> Ring<T, N> {
    /// The slot numbered `slot`, which becomes the newest. A number below the newest one means the newest.
    pub(super) fn at(&mut self, slot: u64) -> &mut T {
        if self.slots.is_empty() {
            self.slots.push_back(T::default());
        }
        let ahead = slot.saturating_sub(self.newest);
        self.newest = self.newest.max(slot);
        for _ in 0..ahead.min(N as u64) {
            self.slots.push_back(T::default());
        }
        let over = self.slots.len().saturating_sub(N);
        self.slots.drain(..over);
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    /// The slots, the oldest first; fewer than `N` while the clock is young.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.slots.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_without_events_leaves_empty_slots_and_old_ones_go() {
        let mut ring = Ring::<u32, 4>::default();
        *ring.at(0) += 1;
        *ring.at(2) += 5;
        *ring.at(1) += 1;
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [1, 0, 6], "a late event counts as the newest");
        ring.at(4);
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [0, 6, 0, 0]);
        ring.at(u64::MAX);
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [0; 4]);
    }
}
