//! Owns a look at a model's bytes before anything is decoded: how large its structure is, weights aside.
//!
//! A file of two gigabytes may hold nothing but nodes, and would take minutes and tens of gigabytes before anybody could refuse it.
//! Skipping from field to field costs no memory and some nanoseconds a field.
//! Invariant: what the decoder makes of the bytes that pass is bounded, however few bytes say it.

use super::Error;

/// Nodes of the main graph and of graphs within its nodes. The largest masked language models have some ten thousand.
pub(super) const NODES_MAX: usize = 50_000;
/// Bytes that are not the numbers of weights: names, shapes, attributes.
pub(super) const STRUCTURE_BYTES_MAX: usize = 64 << 20;
/// Graphs within graphs are followed this deep; deeper ones are refused elsewhere.
const DEPTH_MAX: usize = 16;
/// Messages, names and strings in all: two bytes of the file can stand for one, which takes hundreds once decoded. A node has some ten.
const PARTS_MAX: usize = 500_000;
/// Bytes of a weight's numbers once decoded, where the file holds them in fewer: as many as a file may have.
const NUMBERS_BYTES_MAX: usize = 2 << 30;

/// What messages lie in a message, by the field's number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Function,
    Value,
}

impl Kind {
    /// What a field of this message holds, if that is a message to look into.
    fn within(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 11..=13) => Some(Self::Value),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Some(Self::Tensor),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }

    /// Whether a field holds a weight's numbers, whatever their type.
    fn is_numbers(self, field: u64) -> bool {
        self == Self::Tensor && [4, 5, 7, 9, 10, 11].contains(&field)
    }

    /// Bytes of each of a weight's numbers once decoded, where the file holds them in as few as they need.
    fn width(self, field: u64) -> Option<usize> {
        match (self, field) {
            (Self::Tensor, 5) => Some(4),
            (Self::Tensor, 7 | 11) => Some(8),
            _ => None,
        }
    }
}

/// One field's content.
enum Content<'a> {
    /// A message, a name, a string, or numbers one after the other.
    Run(&'a [u8]),
    Number,
}

/// Refuses a model whose structure is larger than any masked language model's, and one with groups, behind which the rest would not be seen. Other bytes
/// that are no model are left to the decoder.
pub(super) fn refuse_huge(bytes: &[u8]) -> Result<(), Error> {
    refuse(bytes, NUMBERS_BYTES_MAX)
}

fn refuse(bytes: &[u8], numbers_max: usize) -> Result<(), Error> {
    let huge = |what: String| Err(Error::Huge { what });
    let (mut nodes, mut parts, mut numbers, mut structure) = (0_usize, 0_usize, 0_usize, bytes.len());
    let mut waiting = vec![(Kind::Model, bytes, 0)];
    while let Some((kind, message, depth)) = waiting.pop() {
        let mut rest = message;
        while let Some((field, content)) = next(&mut rest)? {
            let Content::Run(content) = content else { continue };
            if kind.is_numbers(field) {
                structure -= content.len();
            }
            if let Some(width) = kind.width(field) {
                // The last byte of each number is the one without the highest bit.
                let count = content.iter().filter(|byte| **byte < 0x80).count();
                numbers = numbers.saturating_add(count.saturating_mul(width));
            }
            parts += 1;
            if let Some(kind) = kind.within(field)
                && depth < DEPTH_MAX
            {
                nodes += usize::from(kind == Kind::Node);
                let depth = depth + usize::from(kind == Kind::Graph);
                waiting.push((kind, content, depth));
            }
            if nodes > NODES_MAX {
                return huge(format!("more than {NODES_MAX} nodes"));
            }
            if parts > PARTS_MAX {
                return huge(format!("more than {PARTS_MAX} parts"));
            }
            if numbers > numbers_max {
                return huge(format!("weights that are more than {numbers_max} bytes once decoded"));
            }
        }
    }
    match structure > STRUCTURE_BYTES_MAX {
        true => huge(format!("{structure} bytes that are no weights")),
        false => Ok(()),
    }
}

/// The next field and its content; `None` at the end, and where the bytes are no message that a decoder would go on with.
///
/// # Errors
/// [`Error::Bytes`] for a group: decoders step over one, and ONNX has none.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Content<'a>)>, Error> {
    let Some(tag) = varint(rest) else { return Ok(None) };
    let length = match tag & 7 {
        0 => varint(rest).map(|_| 0),
        1 => Some(8),
        2 => varint(rest).and_then(|length| usize::try_from(length).ok()),
        5 => Some(4),
        3 | 4 => {
            let why = format!("it has a group as its field {}, and ONNX has no groups; export it again", tag >> 3);
            return Err(Error::Bytes { why });
        }
        _ => None,
    };
    let Some((content, after)) = length.and_then(|length| rest.split_at_checked(length)) else { return Ok(None) };
    *rest = after;
    Ok(Some((tag >> 3, if tag & 7 == 2 { Content::Run(content) } else { Content::Number })))
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

#[cfg(test)]
mod tests;
