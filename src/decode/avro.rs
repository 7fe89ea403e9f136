//! Owns Avro: a schema made into a plan of what its bytes are, and the walk over a value that keeps what the pointers lead to.
//!
//! Binary encoding as in the Avro specification 1.12, "Binary Encoding"; schemas are read by the `apache-avro` crate, values are not: that crate builds
//! a value whole and recurses as deep as the bytes say, and here bytes come from strangers.
//! Invariants: memory beyond the four fields does not grow with the value; depth is at most [`DEPTH_MAX`]; work is at most in proportion to the value's
//! length, also where a schema has parts of no bytes at all; no schema's text ends the process or is read without end; no text is in a message.

use super::fields::{Fields, Found, Node};
use super::varint;
use apache_avro::Schema as Parsed;
use serde_json::Value;
use std::collections::HashMap;

/// The deepest that parts may lie in parts.
const DEPTH_MAX: usize = 128;
/// The most parts of one schema, its references included.
const PARTS_MAX: usize = 100_000;
/// Parts that a value may have for each of its bytes. A record costs no byte of its own, so some must be granted.
const PARTS_PER_BYTE: usize = 64;

/// The stack that schemas are read on. The crate recurses as deep as a schema and all that it refers to lie in each other; a hundred references, each as
/// deep as JSON may be, take less than half of it without optimisation, and a blocking task's 2 MiB hold a tenth of them.
const STACK_BYTES: usize = 64 << 20;
/// What a schema says that changes no value's bytes. For some logical types the crate forgets how many bytes they have. Defaults and aliases are for those who
/// read by a schema of their own, and the crate follows a default through names and aliases without end.
const OF_NO_BYTES: [&str; 3] = ["logicalType", "default", "aliases"];

/// What the bytes of one part of a value are.
#[derive(Debug)]
enum Part {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
    /// A name whose part is not known yet; there is none in a finished plan.
    Named(String),
}

/// A writer's schema, ready to walk values with.
#[derive(Debug)]
pub(super) struct Schema {
    parts: Vec<Part>,
    root: usize,
}

impl Schema {
    /// The schema in `text`, which may name types of `references`. Blocking: it is read on a thread with a stack that holds any.
    ///
    /// # Errors
    /// In words, why it is none.
    pub(super) fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("tamis-schema".to_owned()).stack_size(STACK_BYTES);
            let reader = reader.spawn_scoped(scope, || Self::read(text, references));
            let read = reader.map_err(|error| format!("there is no thread to read it on: {error}"))?.join();
            read.unwrap_or_else(|_| Err("its reader can't bear it".to_owned()))
        })
    }

    fn read(text: &str, references: &[String]) -> Result<Self, String> {
        let text = plain(text)?;
        let references = references.iter().map(|text| plain(text)).collect::<Result<Vec<_>, _>>()?;
        let (main, others) = Parsed::parse_str_with_list(&text, &references).map_err(|error| error.to_string())?;
        let mut plan = Plan::default();
        let root = plan.add(&main, None)?;
        for other in &others {
            plan.add(other, None)?;
        }
        plan.finish(root)
    }

    /// What the pointers below `root` lead to in `bytes`, which must be exactly one value of this schema.
    ///
    /// # Errors
    /// In words, what is wrong and at which byte.
    pub(super) fn extract(&self, root: &Node, bytes: &[u8]) -> Result<Fields, String> {
        let parts_left = bytes.len().saturating_mul(PARTS_PER_BYTE).saturating_add(self.parts.len());
        let mut walk = Walk { schema: self, bytes, at: 0, parts_left, fields: Fields::default() };
        walk.part(self.root, Some(root), 0)?;
        match bytes.len() - walk.at {
            0 => Ok(walk.fields),
            more => Err(format!("{more} bytes follow the value's end at byte {}", walk.at)),
        }
    }
}

/// The schema's text without what changes no value's bytes.
fn plain(text: &str) -> Result<String, String> {
    let mut schema: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    strip(&mut schema);
    Ok(schema.to_string())
}

/// Recurses as deep as serde_json reads, which is 127.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.retain(|name, _| !OF_NO_BYTES.contains(&name.as_str()));
            members.values_mut().for_each(strip);
        }
        Value::Array(elements) => elements.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A plan that is being made.
#[derive(Default)]
struct Plan {
    parts: Vec<Part>,
    names: HashMap<String, usize>,
}

impl Plan {
    fn put(&mut self, part: Part) -> Result<usize, String> {
        if self.parts.len() >= PARTS_MAX {
            return Err(format!("it has more than {PARTS_MAX} parts"));
        }
        self.parts.push(part);
        Ok(self.parts.len() - 1)
    }

    /// Adds `schema` as it stands inside `space`; where it is. Recurses as deep as the schema is written.
    fn add(&mut self, schema: &Parsed, space: Option<&str>) -> Result<usize, String> {
        let owned = |space: Option<&str>| space.map(str::to_owned);
        match schema {
            Parsed::Null => self.put(Part::Null),
            Parsed::Boolean => self.put(Part::Boolean),
            Parsed::Int => self.put(Part::Int),
            Parsed::Long => self.put(Part::Long),
            Parsed::Float => self.put(Part::Float),
            Parsed::Double => self.put(Part::Double),
            Parsed::Bytes => self.put(Part::Bytes),
            Parsed::String => self.put(Part::String),
            Parsed::Array(array) => {
                let items = self.add(&array.items, space)?;
                self.put(Part::Array(items))
            }
            Parsed::Map(map) => {
                let values = self.add(&map.types, space)?;
                self.put(Part::Map(values))
            }
            Parsed::Union(union) => {
                let variants = union.variants().iter().map(|variant| self.add(variant, space));
                let variants = variants.collect::<Result<_, _>>()?;
                self.put(Part::Union(variants))
            }
            Parsed::Fixed(fixed) => self.named(fixed.name.fullname(owned(space)), Part::Fixed(fixed.size)),
            Parsed::Enum(symbols) => {
                self.named(symbols.name.fullname(owned(space)), Part::Enum(symbols.symbols.clone()))
            }
            Parsed::Record(record) => {
                let name = record.name.fullname(owned(space));
                let inner = name.rsplit_once('.').map(|(space, _)| space.to_owned());
                // Its place is known before its fields are: they may name it.
                let place = self.named(name, Part::Record(Vec::new()))?;
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push((field.name.clone(), self.add(&field.schema, inner.as_deref())?));
                }
                if let Some(part) = self.parts.get_mut(place) {
                    *part = Part::Record(fields);
                }
                Ok(place)
            }
            Parsed::Ref { name } => self.put(Part::Named(name.fullname(owned(space)))),
            // Logical types were taken out of the text.
            Parsed::Decimal(_)
            | Parsed::BigDecimal
            | Parsed::Uuid
            | Parsed::Date
            | Parsed::TimeMillis
            | Parsed::TimeMicros
            | Parsed::TimestampMillis
            | Parsed::TimestampMicros
            | Parsed::TimestampNanos
            | Parsed::LocalTimestampMillis
            | Parsed::LocalTimestampMicros
            | Parsed::LocalTimestampNanos
            | Parsed::Duration => Err("it has a logical type that is not known here".to_owned()),
        }
    }

    /// Adds a part with a name. The first of a name counts: the same type may be met again where it is referred to.
    fn named(&mut self, name: String, part: Part) -> Result<usize, String> {
        let place = self.put(part)?;
        self.names.entry(name).or_insert(place);
        Ok(place)
    }

    /// Leads every name to its part.
    fn finish(self, root: usize) -> Result<Schema, String> {
        let Self { mut parts, names } = self;
        let mut places: Vec<usize> = (0..parts.len()).collect();
        for (place, part) in parts.iter().enumerate() {
            if let Part::Named(name) = part {
                let found = names.get(name).ok_or_else(|| format!("the type {name:?} is not defined in it"))?;
                places[place] = *found;
            }
        }
        let led = |place: &mut usize| *place = places.get(*place).copied().unwrap_or(*place);
        for part in &mut parts {
            match part {
                Part::Array(inner) | Part::Map(inner) => led(inner),
                Part::Union(variants) => variants.iter_mut().for_each(led),
                Part::Record(fields) => fields.iter_mut().for_each(|(_, place)| led(place)),
                Part::Null
                | Part::Boolean
                | Part::Int
                | Part::Long
                | Part::Float
                | Part::Double
                | Part::Bytes
                | Part::String
                | Part::Fixed(_)
                | Part::Enum(_)
                | Part::Named(_) => {}
            }
        }
        let root = places.get(root).copied().unwrap_or(root);
        Ok(Schema { parts, root })
    }
}

/// A walk over one value.
struct Walk<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    parts_left: usize,
    fields: Fields,
}

impl<'a> Walk<'a> {
    /// Walks the part at `place`; where pointers go on from it is `node`.
    fn part(&mut self, place: usize, node: Option<&Node>, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("parts lie deeper than {DEPTH_MAX} in each other at byte {}", self.at));
        }
        let Some(left) = self.parts_left.checked_sub(1) else {
            return Err(format!("it says to have more parts than its bytes can stand for, at byte {}", self.at));
        };
        self.parts_left = left;
        let schema = self.schema;
        let Some(part) = schema.parts.get(place) else { return Err("the schema is not whole".to_owned()) };
        match part {
            Part::Null => self.keep(node, || Found::Null),
            Part::Boolean => self.step(1, node, "a boolean")?,
            Part::Int | Part::Long => {
                let number = self.long()?;
                self.keep(node, || Found::Integer(number.to_string()));
            }
            Part::Float => self.step(4, node, "a number")?,
            Part::Double => self.step(8, node, "a number")?,
            Part::Fixed(size) => self.step(*size, node, "bytes")?,
            Part::Bytes => {
                self.run()?;
                self.keep(node, || Found::Other("bytes"));
            }
            Part::String => {
                let at = self.at;
                let text = self.run()?;
                if let Some(node) = node.filter(|node| node.is_wanted()) {
                    let text = std::str::from_utf8(text).map_err(|error| {
                        format!("the string at byte {at} is not UTF-8 at its byte {}", error.valid_up_to())
                    })?;
                    node.keep(Found::String(text.to_owned()), &mut self.fields);
                }
            }
            Part::Enum(symbols) => {
                let at = self.at;
                let index = usize::try_from(self.long()?).ok();
                let symbol = index.and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| format!("the enum at byte {at} has no such symbol"))?;
                self.keep(node, || Found::String(symbol.clone()));
            }
            Part::Union(variants) => {
                let at = self.at;
                let index = usize::try_from(self.long()?).ok();
                let variant = index.and_then(|index| variants.get(index));
                let variant = variant.ok_or_else(|| format!("the union at byte {at} has no such branch"))?;
                // A union is no step of a pointer: what is in it stands in its place.
                self.part(*variant, node, depth + 1)?;
            }
            Part::Array(items) => {
                self.keep(node, || Found::Other("an array"));
                self.array(*items, node, depth)?;
            }
            Part::Map(values) => {
                self.keep(node, || Found::Other("an object"));
                self.map(*values, node, depth)?;
            }
            Part::Record(fields) => {
                self.keep(node, || Found::Other("an object"));
                for (name, place) in fields {
                    let below = node.and_then(|node| node.member(name)).map(|child| &child.node);
                    self.part(*place, below, depth + 1)?;
                }
            }
            Part::Named(_) => return Err("the schema is not whole".to_owned()),
        }
        Ok(())
    }

    /// Steps over a part of a size that is known, and is neither text nor a whole number.
    fn step(&mut self, size: usize, node: Option<&Node>, what: &'static str) -> Result<(), String> {
        self.take(size)?;
        self.keep(node, || Found::Other(what));
        Ok(())
    }

    fn array(&mut self, items: usize, node: Option<&Node>, depth: usize) -> Result<(), String> {
        let mut index = 0_usize;
        while let Some((count, size)) = self.block()? {
            if let Some(size) = size.filter(|_| node.is_none()) {
                self.take(size)?;
                continue;
            }
            for _ in 0..count {
                let below = node.and_then(|node| node.element(index)).map(|child| &child.node);
                self.part(items, below, depth + 1)?;
                index = index.saturating_add(1);
            }
        }
        Ok(())
    }

    fn map(&mut self, values: usize, node: Option<&Node>, depth: usize) -> Result<(), String> {
        while let Some((count, size)) = self.block()? {
            if let Some(size) = size.filter(|_| node.is_none()) {
                self.take(size)?;
                continue;
            }
            for _ in 0..count {
                let key = self.run()?;
                let child = node.and_then(|node| node.member(std::str::from_utf8(key).ok()?));
                let below = child.map(|child| &child.node);
                if let Some(below) = below {
                    // A key seen before is overruled by this one, with all that was below it.
                    below.forget(&mut self.fields);
                }
                self.part(values, below, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The next block of an array or a map: how many elements it has, and its bytes where it says so. `None` at the end.
    fn block(&mut self) -> Result<Option<(u64, Option<usize>)>, String> {
        let at = self.at;
        let count = self.long()?;
        if count >= 0 {
            return Ok((count > 0).then_some((count.unsigned_abs(), None)));
        }
        let size = usize::try_from(self.long()?);
        let size = size.map_err(|_| format!("the block at byte {at} has a size below 0"))?;
        Ok(Some((count.unsigned_abs(), Some(size))))
    }

    fn keep(&mut self, node: Option<&Node>, found: impl FnOnce() -> Found) {
        if let Some(node) = node.filter(|node| node.is_wanted()) {
            node.keep(found(), &mut self.fields);
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("it ends within the part at byte {}", self.at))?;
        self.at += count;
        Ok(taken)
    }

    /// Bytes behind their length.
    fn run(&mut self) -> Result<&'a [u8], String> {
        let at = self.at;
        let length = usize::try_from(self.long()?);
        self.take(length.map_err(|_| format!("the length at byte {at} is below 0"))?)
    }

    /// A number in zig-zag.
    fn long(&mut self) -> Result<i64, String> {
        varint::read(self.at, || self.take(1).map(|byte| byte[0])).map(varint::unzigzag)
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
