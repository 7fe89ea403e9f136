//! Owns numbers of seven bits a byte, the lowest first, as Avro and Protobuf write them.
//!
//! Must not know: what the numbers mean.

/// The number that begins at byte `at`, of which `next` gives one byte after the other. An error of `next` is passed on; another one is
/// a number that is longer than 64 bits.
pub(super) fn read(at: usize, mut next: impl FnMut() -> Result<u8, String>) -> Result<u64, String> {
    let mut bits = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(next()?);
        if shift == 63 && byte > 1 {
            break;
        }
        bits |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(bits);
        }
    }
    Err(format!("the number at byte {at} is longer than 64 bits"))
}

/// The signed number that zig-zag wrote as `bits`: 0, −1, 1, −2, …
pub(super) fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -((bits & 1).cast_signed())
}
