//! Owns the places of schemas: which are kept, which ids were unknown a moment ago, and what goes where there are too many.
//!
//! Invariants: at most [`SCHEMAS_MAX`] places, and of what fills them [`TEXT_BYTES_MAX`] bytes, or the newest alone where that is larger; as many
//! unknown ids as places.

use super::Schema;
use crate::corpus::Fault;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The most schemas that are kept; of more, the oldest goes.
const SCHEMAS_MAX: usize = 1_000;
/// The most bytes of text that the schemas kept were read from, their references included: most are of some thousands.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// For how long an unknown id is taken for unknown without asking.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// One schema's place: empty until somebody has it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) done: OnceLock<Result<Arc<Schema>, Fault>>,
    /// Whoever holds it asks; the others wait.
    pub(super) gate: tokio::sync::Mutex<()>,
}

/// A place that is kept, and the bytes of what fills it; none until it is filled.
#[derive(Debug)]
struct Kept {
    slot: Arc<Slot>,
    bytes: usize,
}

/// All places.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    kept: HashMap<u32, Kept>,
    /// In the order of asking.
    order: VecDeque<u32>,
    unknown: VecDeque<(u32, Instant)>,
    bytes: usize,
}

impl Shelf {
    /// The place of a schema; `None` for an id that was unknown a moment ago.
    pub(super) fn slot(&mut self, id: u32) -> Option<Arc<Slot>> {
        if let Some(kept) = self.kept.get(&id) {
            return Some(Arc::clone(&kept.slot));
        }
        while self.unknown.front().is_some_and(|(_, since)| since.elapsed() >= UNKNOWN_FOR) {
            self.unknown.pop_front();
        }
        if self.unknown.iter().any(|(unknown, _)| *unknown == id) {
            return None;
        }
        if self.order.len() >= SCHEMAS_MAX {
            self.drop_oldest();
        }
        let slot = Arc::new(Slot::default());
        self.kept.insert(id, Kept { slot: Arc::clone(&slot), bytes: 0 });
        self.order.push_back(id);
        Some(slot)
    }

    /// Notes that the place of `id` was filled from so many bytes of text, and makes room where that is too much. Whoever has a place keeps it.
    pub(super) fn weigh(&mut self, id: u32, bytes: usize) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        self.bytes = self.bytes - kept.bytes + bytes;
        kept.bytes = bytes;
        // The newest to be filled is the last to go.
        self.order.retain(|kept| *kept != id);
        self.order.push_back(id);
        while self.bytes > TEXT_BYTES_MAX && self.order.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Gives up the place of `id`, and remembers for a while if the registry does not know it.
    pub(super) fn forget(&mut self, id: u32, is_unknown: bool) {
        self.order.retain(|kept| *kept != id);
        self.remove(id);
        if is_unknown {
            if self.unknown.len() >= SCHEMAS_MAX {
                self.unknown.pop_front();
            }
            self.unknown.push_back((id, Instant::now()));
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(kept) = self.kept.remove(&id) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept(shelf: &Shelf, id: u32) -> bool {
        shelf.kept.contains_key(&id)
    }

    #[test]
    fn schemas_are_kept_by_their_bytes_as_well_as_by_their_count() {
        let mut shelf = Shelf::default();
        for id in 0..4 {
            shelf.slot(id).unwrap();
            shelf.weigh(id, TEXT_BYTES_MAX / 4);
        }
        assert!((0..4).all(|id| is_kept(&shelf, id)));
        shelf.slot(4).unwrap();
        shelf.weigh(4, 1);
        assert!(!is_kept(&shelf, 0) && (1..5).all(|id| is_kept(&shelf, id)), "the oldest goes, and no more than that");
        // One that is larger than all is kept alone.
        shelf.slot(5).unwrap();
        shelf.weigh(5, 2 * TEXT_BYTES_MAX);
        assert!(is_kept(&shelf, 5) && (0..5).all(|id| !is_kept(&shelf, id)));
        shelf.slot(6).unwrap();
        shelf.weigh(6, 1);
        assert!(is_kept(&shelf, 6) && !is_kept(&shelf, 5));
        assert_eq!(shelf.bytes, 1);
        shelf.forget(6, true);
        assert!(shelf.slot(6).is_none(), "it was unknown a moment ago");
        assert_eq!((shelf.bytes, shelf.order.len()), (0, 0));
    }

    #[test]
    fn small_schemas_are_kept_by_their_count() {
        let mut shelf = Shelf::default();
        for id in 0..=SCHEMAS_MAX as u32 {
            shelf.slot(id).unwrap();
            shelf.weigh(id, 10);
        }
        assert!(!is_kept(&shelf, 0) && is_kept(&shelf, 1));
        assert_eq!((shelf.kept.len(), shelf.bytes), (SCHEMAS_MAX, 10 * SCHEMAS_MAX));
        // A place that is gone weighs nothing, whoever fills it.
        shelf.weigh(0, 10);
        assert_eq!(shelf.bytes, 10 * SCHEMAS_MAX);
    }
}
