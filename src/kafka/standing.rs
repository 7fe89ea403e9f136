//! Owns the sight of partitions that stand still: there is more to fetch, and what is fetched leads no further.
//!
//! The client library says of a batch that it can't decompress neither partition nor offset, and fetches it again and again. Its statistics tell where.
//! In: the library's statistics. Invariant: a partition is named only once two looks in a row found it at the same offset, before its end. Must not know:
//! why it stands.

use crate::corpus::{Lane, Origin};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Offsets at which lanes were seen, and in how many looks in a row.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<HashMap<Lane, (i64, u32)>>);

impl Standing {
    /// Fetching goes on at `next` now, and the lane ends at `end`. Negative offsets are unknown ones.
    pub(super) fn look(&self, lane: &Lane, next: i64, end: i64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if next < 0 || next >= end {
            seen.remove(lane);
            return;
        }
        let (at, looks) = seen.entry(lane.clone()).or_default();
        (*at, *looks) = (next, if *at == next { looks.saturating_add(1) } else { 1 });
    }

    /// The lanes that stand still and for which `is_ours` holds, with the offset of the next record, in order.
    pub(super) fn still(&self, is_ours: impl Fn(&Lane) -> bool) -> Vec<Origin> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = seen.iter().filter(|(lane, (_, looks))| *looks > 1 && is_ours(lane));
        let mut still: Vec<Origin> =
            still.map(|(lane, (offset, _))| Origin { lane: lane.clone(), offset: *offset }).collect();
        still.sort();
        still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_stands_still_where_two_looks_find_it_at_one_offset_before_its_end() {
        let (standing, lane) = (Standing::default(), |partition| Lane { topic: "t".into(), partition });
        let still = |is_ours: bool| standing.still(|_| is_ours).iter().map(Origin::to_string).collect::<Vec<_>>();
        standing.look(&lane(0), 5, 9);
        standing.look(&lane(1), 9, 9);
        standing.look(&lane(2), -1001, 9);
        assert!(still(true).is_empty(), "one look says nothing");
        standing.look(&lane(0), 5, 9);
        standing.look(&lane(1), 9, 9);
        assert_eq!(still(true), ["t/0/5"], "the other one is at its end");
        assert!(still(false).is_empty());
        standing.look(&lane(0), 6, 9);
        assert!(still(true).is_empty(), "it went on");
    }
}
