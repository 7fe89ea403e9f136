//! Owns the numbers themselves: weights of single precision, rounded to half, and what does not fit there.

use super::super::proto::{FLOAT, Tensor};
use super::super::{Error, facts};
use half::{bf16, f16};
use std::borrow::Cow;

/// A number type of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// IEEE 754 half precision: eleven significant bits, up to 65504.
    Float16,
    /// The upper half of a float32: eight significant bits, up to 3.4e38.
    Bfloat16,
}

impl Half {
    /// `fp16` or `bf16`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Float16 => "fp16",
            Self::Bfloat16 => "bf16",
        }
    }

    /// `TensorProto.DataType`.
    pub(super) fn element(self) -> i32 {
        match self {
            Self::Float16 => 10,
            Self::Bfloat16 => 16,
        }
    }

    /// What numbers beyond it are taken down to. Two masks of it still add up to a finite number, with room for what they are added to:
    /// a row that is masked throughout must stay even, where infinities would make it no number at all.
    pub(super) fn limit(self) -> f32 {
        match self {
            Self::Float16 => 3e4,
            Self::Bfloat16 => 1e38,
        }
    }

    /// The greatest number.
    fn most(self) -> f32 {
        match self {
            Self::Float16 => f16::MAX.to_f32(),
            Self::Bfloat16 => bf16::MAX.to_f32(),
        }
    }

    /// The least number above zero that has all significant digits.
    fn least(self) -> f32 {
        match self {
            Self::Float16 => f16::MIN_POSITIVE.to_f32(),
            Self::Bfloat16 => bf16::MIN_POSITIVE.to_f32(),
        }
    }

    /// Whether a number lies beyond the greatest, infinity included.
    pub(super) fn is_beyond(self, number: f32) -> bool {
        number.abs() > self.most()
    }

    /// Whether a number would lose its digits, or vanish.
    pub(super) fn is_lost(self, number: f32) -> bool {
        number != 0.0 && number.abs() < self.least()
    }

    /// The bits of the nearest number; of the limit for what lies beyond.
    fn bits(self, number: f32) -> u16 {
        let number = if self.is_beyond(number) { self.limit().copysign(number) } else { number };
        match self {
            Self::Float16 => f16::from_f32(number).to_bits(),
            Self::Bfloat16 => bf16::from_f32(number).to_bits(),
        }
    }

    /// The tensor in this type, under another name; and how many of its numbers lie beyond the greatest.
    pub(super) fn of(self, tensor: &Tensor, name: String, numbers: &[f32]) -> (Tensor, usize) {
        let mut raw = Vec::with_capacity(numbers.len() * 2);
        let mut beyond = 0;
        for number in numbers {
            beyond += usize::from(self.is_beyond(*number));
            raw.extend_from_slice(&self.bits(*number).to_le_bytes());
        }
        let made = Tensor {
            dims: tensor.dims.clone(),
            data_type: Some(self.element()),
            name: Some(name),
            raw_data: Some(raw.into()),
            ..Tensor::default()
        };
        (made, beyond)
    }
}

/// Where the bytes of a weight lie that is not in the graph's own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the model's directory and inside of it.
    pub location: String,
    /// Where they begin.
    pub offset: u64,
    /// How many they are; all up to the file's end if that isn't said.
    pub length: Option<u64>,
}

/// The numbers of a float32 tensor that the graph holds itself.
pub(super) fn read(tensor: &Tensor) -> Result<Cow<'_, [f32]>, Error> {
    let numbers: Cow<'_, [f32]> = match tensor.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        None => Cow::Borrowed(&tensor.float_data),
        Some(raw) => Cow::Owned(raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
    };
    match tensor.data_type() == FLOAT && tensor.external_data.is_empty() && Some(numbers.len() as u64) == count(tensor)
    {
        true => Ok(numbers),
        false => Err(unsound(tensor, "does not have as many numbers as its axes say")),
    }
}

/// Brings a weight of a file of its own into the graph.
pub(super) fn bring<F>(tensor: &mut Tensor, fetch: &mut F) -> Result<(), Error>
where
    F: FnMut(&Place) -> Result<Vec<u8>, String>,
{
    if tensor.external_data.is_empty() {
        return Ok(());
    }
    let place = place(tensor)?;
    let bytes =
        fetch(&place).map_err(|why| unsound(tensor, &format!("can't be read from {:?}: {why}", place.location)))?;
    tensor.raw_data = Some(bytes.into());
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}

fn place(tensor: &Tensor) -> Result<Place, Error> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
    let number = |key: &str| entry(key).map(str::parse::<u64>).transpose();
    let (Ok(offset), Ok(length), Some(location)) = (number("offset"), number("length"), entry("location")) else {
        return Err(unsound(tensor, "does not tell where it lies"));
    };
    Ok(Place { location: facts::inside(location)?.to_owned(), offset: offset.unwrap_or(0), length })
}

fn count(tensor: &Tensor) -> Option<u64> {
    tensor.dims.iter().try_fold(1_u64, |all, axis| all.checked_mul(u64::try_from(*axis).ok()?))
}

fn unsound(tensor: &Tensor, why: &str) -> Error {
    Error::Unsound { why: format!("the weight {:?} {why}", tensor.name()) }
}
