//! Owns what can be told of a value's axes and of small constants: the number of heads stands in no attribute, but in the shape that a value was given.

use super::super::index::Index;
use super::super::proto::{FLOAT, Node, Tensor};
use half::{bf16, f16};
use std::borrow::Cow;

/// Nodes that are looked at for one size: exports have a dozen between a projection and its product, rotations included.
const NODES_MAX: usize = 64;
/// Computed number by number: axes are those of the inputs, broadcast.
const TOGETHER: [&str; 10] = ["Add", "Cast", "Clip", "Div", "Dropout", "Identity", "Mul", "Neg", "Sub", "Where"];
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

/// The size of a value's axis, counted from the last one (0), where a constant tells it.
pub(super) fn size(index: &Index<'_>, value: &str, axis: usize) -> Option<i64> {
    Walk { index, left: NODES_MAX }.size(value, axis)
}

/// The only number of a constant that the file holds, of float32 or half precision; and its type.
pub(super) fn number(index: &Index<'_>, value: &str) -> Option<(f32, i32)> {
    let tensor = constant(index, value).filter(|tensor| tensor.dims.iter().all(|axis| *axis == 1))?;
    let raw = tensor.raw_data.as_deref().filter(|raw| !raw.is_empty());
    let bits = || match raw {
        Some(raw) => Some(u16::from_le_bytes(*raw.first_chunk::<2>()?)),
        None => u16::try_from(*tensor.int32_data.first()?).ok(),
    };
    let number = match tensor.data_type() {
        FLOAT => match raw {
            Some(raw) => f32::from_le_bytes(*raw.first_chunk::<4>()?),
            None => *tensor.float_data.first()?,
        },
        FLOAT16 => f16::from_bits(bits()?).to_f32(),
        BFLOAT16 => bf16::from_bits(bits()?).to_f32(),
        _ => return None,
    };
    Some((number, tensor.data_type()))
}

/// A constant that the file holds.
fn constant<'a>(index: &Index<'a>, value: &str) -> Option<Cow<'a, Tensor>> {
    if let Some(tensor) = index.initializers.get(value) {
        return Some(Cow::Borrowed(*tensor));
    }
    let node = index.made_by(value).filter(|node| node.op_type() == "Constant")?;
    match (node.attribute("value"), node.attribute("value_float")) {
        (Some(attribute), _) => attribute.t.as_ref().map(Cow::Borrowed),
        (None, Some(attribute)) => attribute.f.map(|number| Cow::Owned(Tensor::float("", number))),
        (None, None) => None,
    }
}

struct Walk<'a> {
    index: &'a Index<'a>,
    left: usize,
}

impl Walk<'_> {
    fn size(&mut self, value: &str, axis: usize) -> Option<i64> {
        self.left = self.left.checked_sub(1)?;
        if let Some(tensor) = self.index.initializers.get(value) {
            return Some(from_last(&tensor.dims, axis).unwrap_or(1));
        }
        let node = self.index.made_by(value)?;
        let data = node.input.first()?;
        match node.op_type() {
            "Constant" => Some(from_last(&constant(self.index, value)?.dims, axis).unwrap_or(1)),
            "Transpose" => {
                let perm = &node.attribute("perm")?.ints;
                self.size(data, mirrored(usize::try_from(from_last(perm, axis)?).ok()?, perm.len())?)
            }
            "Reshape" => from_last(&self.tail(node.input.get(1)?), axis).filter(|size| *size > 0),
            "Squeeze" => {
                let gone = self.axes(node)?;
                self.without(data, axis, &gone)
            }
            "Gather" if self.index.shape(node.input.get(1)?).is_some_and(|shape| shape.is_empty()) => {
                self.without(data, axis, &[node.int("axis", 0)])
            }
            "Slice" => {
                let cut = self.index.int64s(node.input.get(3)?)?;
                self.unless_among(data, axis, &cut)
            }
            "Split" => self.unless_among(data, axis, &[node.int("axis", 0)]),
            "Concat" => self.unless_among(data, axis, &[node.int("axis", 0)]),
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => self.size(data, axis),
            operator if TOGETHER.contains(&operator) => {
                let sizes: Vec<Option<i64>> = node.input.iter().map(|input| self.size(input, axis)).collect();
                // What is broadcast has 1 there, or no such axis.
                let told = sizes.iter().flatten().copied().find(|size| *size > 1);
                told.or_else(|| sizes.iter().all(|size| *size == Some(1)).then_some(1))
            }
            _ => None,
        }
    }

    /// The size of an axis that is none of `axes` of the same value; of `data`, which has it too.
    fn unless_among(&mut self, data: &str, axis: usize, axes: &[i64]) -> Option<i64> {
        let known = |of: i64| if of < 0 { usize::try_from(-of - 1).ok() } else { None };
        let mut others = axes.iter().map(|of| match known(*of) {
            Some(of) => Some(of),
            None => mirrored(usize::try_from(*of).ok()?, self.rank(data)?),
        });
        if others.any(|of| of.is_none_or(|of| of == axis)) { None } else { self.size(data, axis) }
    }

    /// The size of an axis of what is left of `data` without the axes `gone`.
    fn without(&mut self, data: &str, axis: usize, gone: &[i64]) -> Option<i64> {
        let rank = self.rank(data)?;
        let full = i64::try_from(rank).ok()?;
        let gone: Vec<i64> = gone.iter().map(|of| if *of < 0 { of + full } else { *of }).collect();
        let mut left = (0..rank).rev().filter(|of| i64::try_from(*of).is_ok_and(|of| !gone.contains(&of)));
        let place = left.nth(axis)?;
        self.size(data, mirrored(place, rank)?)
    }

    /// How many axes a value has, where that is plain: behind a transposition.
    fn rank(&self, value: &str) -> Option<usize> {
        let mut value = value;
        for _ in 0..4 {
            let node = self.index.made_by(value)?;
            match node.op_type() {
                "Transpose" => return Some(node.attribute("perm")?.ints.len()),
                "Slice" | "Split" => value = node.input.first()?,
                _ => return None,
            }
        }
        None
    }

    /// The axes that a node takes away: an attribute before opset 13, an input since.
    fn axes(&self, node: &Node) -> Option<Vec<i64>> {
        match node.attribute("axes") {
            Some(attribute) => Some(attribute.ints.clone()),
            None => self.index.int64s(node.input.get(1)?),
        }
    }

    /// The last sizes of a shape, as far as constants tell them.
    fn tail(&self, shape: &str) -> Vec<i64> {
        if let Some(sizes) = self.index.int64s(shape) {
            return sizes;
        }
        let Some(node) = self.index.made_by(shape).filter(|node| node.op_type() == "Concat") else { return Vec::new() };
        let known = node.input.iter().rev().map_while(|piece| self.index.int64s(piece));
        let mut tail: Vec<i64> = known.flat_map(|piece| piece.into_iter().rev()).collect();
        tail.reverse();
        tail
    }
}

/// What stands so many places before the last.
fn from_last(list: &[i64], place: usize) -> Option<i64> {
    list.iter().rev().nth(place).copied()
}

/// A place counted from the first, counted from the last of `count`, or the other way round.
fn mirrored(place: usize, count: usize) -> Option<usize> {
    count.checked_sub(1)?.checked_sub(place)
}
