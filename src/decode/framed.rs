//! Owns the frame around a value that has a schema: Confluent's wire format, a zero byte and the schema's id in four bytes, the highest first.
//!
//! ("Wire format" in the documentation of Confluent's Schema Registry; Apicurio and Karapace write the same.)

#[cfg(feature = "registry")]
use super::fields::{Fields, Node};
#[cfg(feature = "registry")]
use super::registry::Registry;
use crate::corpus::{Class, Fault, Stage};

/// What the pointers below `root` lead to in a framed `value`.
#[cfg(feature = "registry")]
pub(super) async fn extract(registry: &Registry, root: &Node, value: &[u8]) -> Result<Fields, Fault> {
    let (id, inner) = opened(value)?;
    registry.schema(id).await?.extract(root, inner)
}

/// The schema's id, and what is in the frame.
///
/// # Errors
/// `bad-framing` for a value that has none.
pub(super) fn opened(value: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let fault = |message: String| Fault::new(Stage::Decode, Class::BadFraming, message);
    match value {
        [0, a, b, c, d, inner @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), inner)),
        [0, ..] => Err(fault(format!(
            "the value has {} bytes; a schema's id alone takes 5 with the zero byte before it",
            value.len()
        ))),
        [first, ..] => Err(fault(format!(
            "the value begins with byte {first:#04x}, not with the zero byte that stands before a schema's id: its writer used no schema registry, or \
             another wire format"
        ))),
        [] => Err(fault("the value is empty, without a schema's id".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_a_zero_byte_and_an_id() {
        assert_eq!(opened(b"\0\0\0\x01\x02rest").unwrap(), (258, &b"rest"[..]));
        assert_eq!(opened(b"\0\xff\0\0\0").unwrap(), (0xff00_0000, &b""[..]));
        for (value, told) in
            [(&b""[..], "empty"), (b"\0\0\0\0", "4 bytes"), (b"{\"text\"", "0x7b"), (b"\x01\0\0\0\0", "0x01")]
        {
            let fault = opened(value).unwrap_err();
            assert!(fault.class == Class::BadFraming && fault.message.contains(told), "{fault}");
        }
    }
}
