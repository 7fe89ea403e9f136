//! Owns the choice of an output partition. Pure.
//!
//! The rule (a record of one source partition always lands in one output partition, so order is kept where it can be): the source's
//! number when source and output topic have the same count; else murmur2 of the key, as Java's default partitioner does; else
//! the source's number modulo the count.

/// The output partition for a record from partition `source` of `source_count`, into a topic of `output_count` partitions.
#[must_use]
pub(crate) fn choose(source: i32, source_count: i32, key: Option<&[u8]>, output_count: i32) -> i32 {
    let output_count = output_count.max(1);
    if source_count == output_count && source < output_count {
        return source;
    }
    match key {
        Some(key) => (murmur2(key) & 0x7fff_ffff).cast_signed() % output_count,
        None => source.rem_euclid(output_count),
    }
}

/// MurmurHash2 as Kafka's Java client computes it (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    #[allow(clippy::cast_possible_truncation, reason = "Java's int length wraps in the same way")]
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_own_test_vectors() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn equal_counts_keep_the_number_and_others_follow_the_key() {
        assert_eq!(choose(3, 4, Some(b"k"), 4), 3);
        assert_eq!(choose(3, 4, None, 2), 1);
        let chosen = choose(3, 4, Some(b"foobar"), 7);
        assert_eq!(chosen, ((-790_332_482_i32) & 0x7fff_ffff) % 7);
        assert_eq!(choose(0, 4, Some(b"foobar"), 7), chosen, "the key decides, not the source partition");
    }
}
