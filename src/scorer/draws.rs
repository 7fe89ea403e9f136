//! Owns chance that is no chance: draws that depend on a window's ids and a seed alone.
//!
//! The stream is BLAKE3's extendable output over `"tamis draws\0"`, the seed (u64, little-endian) and the window's content ids (u32,
//! little-endian), read as little-endian u64. So the same content is scored the same way on every machine, by every model with the
//! same tokenizer, and an independent program can repeat it.

/// A stream of draws. It never ends.
pub(super) struct Draws(blake3::OutputReader);

impl Draws {
    pub(super) fn new(seed: u64, ids: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tamis draws\0").update(&seed.to_le_bytes());
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
        Self(hasher.finalize_xof())
    }

    /// A stream for `what` that depends on a secret `key` too: nobody without it can tell what it draws for which content.
    pub(super) fn keyed(what: &str, key: &str, content: &[&[u32]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tamis 2026 the order in which losses are revealed");
        for text in [what, key] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        for ids in content {
            hasher.update(&(ids.len() as u64).to_le_bytes());
            for id in *ids {
                hasher.update(&id.to_le_bytes());
            }
        }
        Self(hasher.finalize_xof())
    }

    pub(super) fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in (0, 1], in steps of 2⁻⁵³.
    #[allow(clippy::cast_precision_loss, reason = "at most 2^53, which f64 holds exactly")]
    pub(super) fn unit(&mut self) -> f64 {
        ((self.word() >> 11) + 1) as f64 / 2.0_f64.powi(53)
    }

    /// `n` of `0..of` without replacement, all subsets alike (the remainder's bias is below 2⁻⁴⁰), ascending.
    pub(super) fn subset(&mut self, n: usize, of: usize) -> Vec<u32> {
        let mut ranks = self.shuffled(n, of);
        ranks.sort_unstable();
        ranks
    }

    /// `0..of` in an order, all orders alike but for that bias.
    pub(super) fn order(&mut self, of: usize) -> Vec<u32> {
        self.shuffled(of, of)
    }

    /// Turns at windows of so many passes each: window and pass, one of each window in a turn, in an order of its own for each window, until all have run.
    pub(super) fn turns(mut self, counts: &[usize]) -> Vec<Vec<(usize, usize)>> {
        let orders: Vec<Vec<u32>> = counts.iter().map(|count| self.order(*count)).collect();
        let turn = |at: usize| {
            let passes = orders.iter().enumerate();
            passes.filter_map(|(window, order)| Some((window, *order.get(at)? as usize))).collect()
        };
        (0..counts.iter().copied().max().unwrap_or(0)).map(turn).collect()
    }

    /// The stream that such orders are drawn from, for a document of windows with this content.
    pub(super) fn of_passes(key: &str, content: &[&[u32]]) -> Self {
        Self::keyed("passes", key, content)
    }

    /// The first `n` places of a Fisher–Yates shuffle.
    fn shuffled(&mut self, n: usize, of: usize) -> Vec<u32> {
        let mut ranks: Vec<u32> = (0..u32::try_from(of).unwrap_or(u32::MAX)).collect();
        for place in 0..n.min(of) {
            let drawn = usize::try_from(self.word() % (of - place) as u64).unwrap_or(0);
            ranks.swap(place, place + drawn);
        }
        ranks.truncate(n);
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_same_content_draws_the_same_and_other_content_or_seeds_do_not() {
        let draw = |seed, ids: &[u32]| Draws::new(seed, ids).subset(8, 100);
        assert_eq!(draw(0, &[1, 2, 3]), draw(0, &[1, 2, 3]));
        assert_ne!(draw(0, &[1, 2, 3]), draw(1, &[1, 2, 3]));
        assert_ne!(draw(0, &[1, 2, 3]), draw(0, &[1, 2, 4]));
    }

    #[test]
    fn subsets_are_sorted_distinct_and_all_alike() {
        let mut seen: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        for seed in 0..10_000 {
            let subset = Draws::new(seed, &[]).subset(2, 5);
            assert!(subset[0] < subset[1] && subset[1] < 5);
            *seen.entry(subset).or_default() += 1;
        }
        // Ten subsets, a thousand each, and a standard deviation of 30.
        assert_eq!(seen.len(), 10);
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(Draws::new(0, &[]).subset(9, 3), [0, 1, 2], "no more than there is");
    }

    #[test]
    fn an_order_holds_each_place_once_and_depends_on_key_and_content() {
        let order = |key: &str, content: &[&[u32]]| Draws::keyed("order", key, content).order(50);
        let mut sorted = order("k", &[&[1, 2]]);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<u32>>());
        assert_eq!(order("k", &[&[1, 2]]), order("k", &[&[1, 2]]));
        for other in [order("l", &[&[1, 2]]), order("k", &[&[1], &[2]]), order("k", &[&[1, 3]])] {
            assert_ne!(order("k", &[&[1, 2]]), other);
        }
    }

    #[test]
    fn units_lie_above_zero_and_up_to_one() {
        let mut draws = Draws::new(0, &[7]);
        let units: Vec<f64> = (0..10_000).map(|_| draws.unit()).collect();
        assert!(units.iter().all(|unit| *unit > 0.0 && *unit <= 1.0));
        assert!((units.iter().sum::<f64>() / 10_000.0 - 0.5).abs() < 0.02);
    }
}
