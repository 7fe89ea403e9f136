//! Owns the bytes of Protobuf's messages: fields with their numbers and wire types, each stepped over once it is read.
//!
//! Must not know: schemas. Invariant: nothing recurses; groups lie at most [`GROUPS_MAX`] deep in each other.

use super::super::varint;

/// The deepest that groups may lie in each other.
const GROUPS_MAX: usize = 100;

/// Bytes of a message, from `at` to `end`.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    end: usize,
}

/// One field's value as it stands on the wire.
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// Where it stands in the message is known: an error names the byte.
    Run(Reader<'a>),
    Group,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, end: bytes.len() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.end
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.end);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("it ends within the field at byte {}", self.at))?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    fn varint(&mut self) -> Result<u64, String> {
        varint::read(self.at, || self.take(1).map(|byte| byte[0]))
    }

    pub(super) fn zigzag(&mut self) -> Result<i64, String> {
        self.varint().map(varint::unzigzag)
    }

    /// The next field: its number, and its value stepped over.
    pub(super) fn field(&mut self) -> Result<(u32, Raw<'a>), String> {
        let at = self.at;
        let (number, wire) = self.tag()?;
        let raw = match wire {
            3 => {
                self.skip_group(number)?;
                Raw::Group
            }
            4 => return Err(format!("a group that did not begin ends at byte {at}")),
            wire => self.raw(wire, at)?,
        };
        Ok((number, raw))
    }

    fn tag(&mut self) -> Result<(u32, u64), String> {
        let at = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        Ok((number.ok_or_else(|| format!("there is no field of that number, at byte {at}"))?, tag & 7))
    }

    pub(super) fn raw(&mut self, wire: u64, at: usize) -> Result<Raw<'a>, String> {
        Ok(match wire {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.take(8)?.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))),
            5 => Raw::Fixed32(self.take(4)?.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte))),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let at = self.at;
                self.take(length)?;
                Raw::Run(Reader { bytes: self.bytes, at, end: self.at })
            }
            other => return Err(format!("there is no wire type {other}, at byte {at}")),
        })
    }

    /// Steps over what is left of a group, without recursion.
    fn skip_group(&mut self, number: u32) -> Result<(), String> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let at = self.at;
            match self.tag()? {
                (number, 3) if open.len() < GROUPS_MAX => open.push(number),
                (_, 3) => return Err(format!("groups lie deeper than {GROUPS_MAX} in each other at byte {at}")),
                (number, 4) if number == innermost => drop(open.pop()),
                (_, 4) => return Err(format!("a group that did not begin ends at byte {at}")),
                (_, wire) => {
                    self.raw(wire, at)?;
                }
            }
        }
        Ok(())
    }
}
