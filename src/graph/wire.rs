//! Owns a look at a model's bytes before anything is decoded: how large its structure is, weights aside.
//!
//! A file of two gigabytes may hold nothing but nodes, and would take minutes and tens of gigabytes before anybody could refuse it.
//! Skipping from field to field costs no memory and some nanoseconds a field.

use super::Error;

/// Nodes of the main graph and of graphs within its nodes. The largest masked language models have some ten thousand.
pub(super) const NODES_MAX: usize = 50_000;
/// Bytes that are not the numbers of weights: names, shapes, attributes.
pub(super) const STRUCTURE_BYTES_MAX: usize = 64 << 20;
/// Graphs within graphs are followed this deep; deeper ones are refused elsewhere.
const DEPTH_MAX: usize = 16;

/// What messages lie in a message, by the field's number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Function,
}

impl Kind {
    /// What a field of this message holds, if that is a message to look into.
    fn within(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Some(Self::Tensor),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }

    /// Whether a field holds a weight's numbers, whatever their type.
    fn is_numbers(self, field: u64) -> bool {
        self == Self::Tensor && [4, 5, 7, 9, 10, 11].contains(&field)
    }
}

/// Refuses a model whose structure is larger than any masked language model's. Bytes that are no model are left to the decoder.
pub(super) fn refuse_huge(bytes: &[u8]) -> Result<(), Error> {
    let (mut nodes, mut structure) = (0, bytes.len());
    let mut waiting = vec![(Kind::Model, bytes, 0)];
    while let Some((kind, message, depth)) = waiting.pop() {
        let mut rest = message;
        while let Some((field, content)) = next(&mut rest) {
            if kind.is_numbers(field) {
                structure -= content.len();
            }
            if let Some(kind) = kind.within(field)
                && depth < DEPTH_MAX
            {
                nodes += usize::from(kind == Kind::Node);
                let depth = depth + usize::from(kind == Kind::Graph);
                waiting.push((kind, content, depth));
            }
            if nodes > NODES_MAX {
                return Err(Error::Huge { what: format!("more than {NODES_MAX} nodes") });
            }
        }
    }
    match structure > STRUCTURE_BYTES_MAX {
        true => Err(Error::Huge { what: format!("{structure} bytes that are no weights") }),
        false => Ok(()),
    }
}

/// The next field and its content, empty where that is a number; `None` at the end, and where the bytes are no message.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let tag = varint(rest)?;
    let length = match tag & 7 {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((tag >> 3, if tag & 7 == 2 { content } else { &[] }))
}

/// A number in groups of seven bits, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
