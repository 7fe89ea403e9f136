//! Owns Protobuf: a schema's files made into descriptors, and the walk over a message that keeps what the pointers lead to.
//!
//! Wire format as in "Encoding" of protobuf.dev; names, wrappers and enums as its "ProtoJSON Format" has them. Schemas are compiled by `protox` into
//! `prost-reflect`'s descriptors; messages are not read by these, which build a message whole, at up to a hundred times its bytes.
//! Invariants: memory beyond the four fields does not grow with the message; what no pointer leads into is stepped over; depth is at most the
//! pointers', groups are stepped over; no text is in a message.

mod wire;

use super::fields::{Child, Fields, Found, Node};
use super::varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::collections::{BTreeMap, HashMap};
use std::ptr;
use wire::{Raw, Reader};

/// The deepest that brackets may lie in each other in a schema's text: its compiler recurses with them.
const BRACKETS_MAX: usize = 64;
/// The most steps from a file's message to the one that is meant.
const INDEXES_MAX: usize = 32;
/// Messages of one field that stand for that field.
const WRAPPERS: [&str; 9] = ["String", "Bytes", "Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double"];

/// A writer's schema.
#[derive(Debug)]
pub(super) struct Schema {
    file: prost_reflect::FileDescriptor,
}

/// The files that a schema may import, by the name that it does so with.
struct Imports(BTreeMap<String, String>);

impl FileResolver for Imports {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

impl Schema {
    /// The schema in `text`, which may import `references` (the name that it imports them with, and their text) and Google's own.
    ///
    /// # Errors
    /// In words, why it is none.
    pub(super) fn parse(text: &str, references: Vec<(String, String)>) -> Result<Self, String> {
        const OWN: &str = "the-schema-itself.proto";
        for text in references.iter().map(|(_, text)| text.as_str()).chain([text]) {
            if depth(text) > BRACKETS_MAX {
                return Err(format!("its brackets lie deeper than {BRACKETS_MAX} in each other"));
            }
        }
        let mut files: BTreeMap<String, String> = references.into_iter().collect();
        files.insert(OWN.to_owned(), text.to_owned());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Imports(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).include_source_info(false);
        compiler.open_file(OWN).map_err(|error| error.to_string())?;
        let file = compiler.descriptor_pool().get_file_by_name(OWN);
        Ok(Self { file: file.ok_or("it holds nothing")? })
    }

    /// What the pointers below `root` lead to in `bytes`: the indexes of a message type of this schema, and one message of it.
    ///
    /// # Errors
    /// In words, what is wrong and at which byte.
    pub(super) fn extract(&self, root: &Node, bytes: &[u8]) -> Result<Fields, String> {
        let mut reader = Reader::new(bytes);
        let message = self.message(&mut reader)?;
        let mut walk = Walk { fields: Fields::default(), seen: HashMap::new() };
        walk.message(&message, &mut reader, root, false)?;
        let mut fields = walk.fields;
        // A field without presence is there even when it is not, and then it is empty: for a text that is a fact, for a name it is none.
        for name in [&mut fields.id, &mut fields.language, &mut fields.source] {
            if *name == Found::String(String::new()) {
                *name = Found::Nothing;
            }
        }
        Ok(fields)
    }

    /// The type of message that the indexes before it name: its place in the file, then in the message that it stands in, and so on. One zero
    /// byte is short for the file's first.
    fn message(&self, reader: &mut Reader<'_>) -> Result<MessageDescriptor, String> {
        let none = || "its message indexes name no type of the schema".to_owned();
        let count = reader.zigzag()?;
        let steps = usize::try_from(count).ok().filter(|steps| *steps <= INDEXES_MAX);
        let steps = steps.ok_or_else(|| format!("{count} message indexes; {INDEXES_MAX} are the most"))?;
        let first = if steps == 0 { 0 } else { usize::try_from(reader.zigzag()?).map_err(|_| none())? };
        let mut message = self.file.messages().nth(first).ok_or_else(none)?;
        for _ in 1..steps {
            let index = usize::try_from(reader.zigzag()?).map_err(|_| none())?;
            // A map field is made of a type that stands in no file. Writers that go by descriptors (Python's, Go's) count it, and others don't; only where
            // counting leads to such a type it is certain which one this was.
            let mut counted = message.child_messages().nth(index).filter(|child| !child.is_map_entry());
            if counted.is_none() {
                counted = message.child_messages().filter(|child| !child.is_map_entry()).nth(index);
            }
            message = counted.ok_or_else(none)?;
        }
        Ok(message)
    }
}

/// How deep brackets lie in each other in `text`; strings and comments are not told apart, which only makes it deeper.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'<' => now += 1,
            b'}' | b']' | b'>' => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// What a walk knows of a node: a message, and also a list, may come in parts ("Encoding", "Last One Wins").
#[derive(Default)]
struct Seen {
    /// Whether a part of this message was read already.
    begun: bool,
    /// The index of this list's next element.
    next: usize,
}

/// A walk over one message.
struct Walk {
    fields: Fields,
    /// By the node, of which there are as many as steps in the pointers.
    seen: HashMap<*const Node, Seen>,
}

impl Walk {
    /// Walks a message, or one more part of it; where pointers go on from it is `node`. Of a wrapper, the one field stands for the message.
    fn message(
        &mut self,
        of: &MessageDescriptor,
        reader: &mut Reader<'_>,
        node: &Node,
        is_wrapper: bool,
    ) -> Result<(), String> {
        if !std::mem::replace(&mut self.seen(node).begun, true) {
            self.begin(of, node, is_wrapper);
        }
        while !reader.is_done() {
            let (number, raw) = reader.field()?;
            let Some(field) = of.get_field(number) else { continue };
            if is_wrapper {
                self.scalar(&field, raw, node)?;
                continue;
            }
            if fits(&raw, &field) {
                self.supersede(&field, node);
            }
            if let Some(child) = child(node, &field) {
                self.field(&field, raw, &child.node)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, of: &MessageDescriptor, node: &Node, is_wrapper: bool) {
        if is_wrapper {
            let empty = matches!(of.get_field(1).map(|field| field.kind()), Some(Kind::String));
            node.keep(if empty { Found::String(String::new()) } else { Found::Nothing }, &mut self.fields);
        } else {
            node.keep(Found::Other("an object"), &mut self.fields);
            self.assume(of, node);
        }
    }

    fn seen(&mut self, node: &Node) -> &mut Seen {
        self.seen.entry(ptr::from_ref(node)).or_default()
    }

    /// Forgets what was found at `node` and below it: something overrules it, and its next part is a first one.
    fn forget(&mut self, node: &Node) {
        node.forget(&mut self.fields);
        node.each(&mut |node| {
            self.seen.remove(&ptr::from_ref(node));
        });
    }

    /// What fields without presence are until they are read.
    fn assume(&mut self, of: &MessageDescriptor, node: &Node) {
        for field in of.fields().filter(|field| matches!(field.kind(), Kind::String)) {
            if !field.supports_presence()
                && !field.is_list()
                && let Some(child) = child(node, &field)
            {
                child.node.keep(Found::String(String::new()), &mut self.fields);
            }
        }
    }

    /// Of the fields of a oneof, the last one counts.
    fn supersede(&mut self, field: &FieldDescriptor, node: &Node) {
        let Some(oneof) = field.containing_oneof() else { return };
        for other in oneof.fields().filter(|other| other.number() != field.number()) {
            if let Some(child) = child(node, &other) {
                self.forget(&child.node);
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor, raw: Raw<'_>, node: &Node) -> Result<(), String> {
        if field.is_map() {
            return self.entry(field, raw, node);
        }
        if !field.is_list() {
            return self.value(field, raw, node);
        }
        node.keep(Found::Other("an array"), &mut self.fields);
        match (raw, width(&field.kind())) {
            // Packed: many values behind one length.
            (Raw::Run(mut run), Some(wire)) => {
                while !run.is_done() {
                    let at = run.at;
                    let raw = run.raw(wire, at)?;
                    self.element(field, raw, node)?;
                }
                Ok(())
            }
            (raw, _) => self.element(field, raw, node),
        }
    }

    fn element(&mut self, field: &FieldDescriptor, raw: Raw<'_>, node: &Node) -> Result<(), String> {
        let next = &mut self.seen(node).next;
        let index = *next;
        *next = next.saturating_add(1);
        match node.element(index) {
            Some(child) => self.value(field, raw, &child.node),
            None => Ok(()),
        }
    }

    /// One entry of a map: a message of a key and a value, in any order.
    fn entry(&mut self, field: &FieldDescriptor, raw: Raw<'_>, node: &Node) -> Result<(), String> {
        let (Raw::Run(mut entry), Kind::Message(of)) = (raw, field.kind()) else { return Ok(()) };
        node.keep(Found::Other("an object"), &mut self.fields);
        let (mut values, mut key) = (entry.clone(), None);
        while !entry.is_done() {
            if let (1, raw) = entry.field()? {
                key = Some(raw);
            }
        }
        let (of_key, of_value) = (of.map_entry_key_field(), of.map_entry_value_field());
        let key = match key {
            Some(raw) => spelled(&of_key.kind(), &raw),
            None if matches!(of_key.kind(), Kind::String) => Some(String::new()),
            None => None,
        };
        let Some(child) = key.and_then(|key| node.member(&key)) else { return Ok(()) };
        self.forget(&child.node);
        if matches!(of_value.kind(), Kind::String) {
            child.node.keep(Found::String(String::new()), &mut self.fields);
        }
        // The value may come in parts as well.
        while !values.is_done() {
            if let (2, raw) = values.field()? {
                self.value(&of_value, raw, &child.node)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldDescriptor, raw: Raw<'_>, node: &Node) -> Result<(), String> {
        match (field.kind(), raw) {
            (Kind::Message(of), Raw::Run(mut run)) => {
                let is_wrapper = is_wrapper(&of);
                self.message(&of, &mut run, node, is_wrapper)
            }
            (_, raw) => self.scalar(field, raw, node),
        }
    }

    fn scalar(&mut self, field: &FieldDescriptor, raw: Raw<'_>, node: &Node) -> Result<(), String> {
        if !node.is_wanted() {
            return Ok(());
        }
        let found = match (field.kind(), raw) {
            (Kind::String, Raw::Run(run)) => {
                let text = std::str::from_utf8(run.rest()).map_err(|error| {
                    format!("the string at byte {} is not UTF-8 at its byte {}", run.at, error.valid_up_to())
                })?;
                Found::String(text.to_owned())
            }
            (Kind::Bytes, Raw::Run(_)) => Found::Other("bytes"),
            (Kind::Enum(symbols), Raw::Varint(bits)) => {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "enums are read modulo 2^32 (Encoding, \"Bools and Enums\")"
                )]
                let number = bits as u32;
                let symbol = symbols.get_value(number.cast_signed());
                symbol.map_or_else(
                    || Found::Integer(number.cast_signed().to_string()),
                    |symbol| Found::String(symbol.name().to_owned()),
                )
            }
            (Kind::Bool, Raw::Varint(_)) => Found::Other("a boolean"),
            (Kind::Float, Raw::Fixed32(_)) | (Kind::Double, Raw::Fixed64(_)) => Found::Other("a number"),
            (kind, raw) => match spelled(&kind, &raw) {
                Some(number) => Found::Integer(number),
                // A value of another wire type than its field's is an unknown field.
                None => return Ok(()),
            },
        };
        node.keep(found, &mut self.fields);
        Ok(())
    }
}

/// Where pointers go on from `node` for `field`: by its name, or by its name in JSON.
fn child<'a>(node: &'a Node, field: &FieldDescriptor) -> Option<&'a Child> {
    node.member(field.name()).or_else(|| node.member(field.json_name()))
}

fn is_wrapper(of: &MessageDescriptor) -> bool {
    let name = of.full_name().strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value"));
    name.is_some_and(|name| WRAPPERS.contains(&name))
}

/// The wire type of a kind that can be packed.
fn width(kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some(1),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Some(5),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64 => Some(0),
        Kind::Bool | Kind::Enum(_) => Some(0),
        Kind::String | Kind::Bytes | Kind::Message(_) => None,
    }
}

/// Whether a value is of `field`'s wire type; of another one, it is a field that the schema does not know.
fn fits(raw: &Raw<'_>, field: &FieldDescriptor) -> bool {
    match raw {
        Raw::Varint(_) => width(&field.kind()) == Some(0),
        Raw::Fixed64(_) => width(&field.kind()) == Some(1),
        Raw::Fixed32(_) => width(&field.kind()) == Some(5),
        Raw::Run(_) => field.is_list() || width(&field.kind()).is_none(),
        Raw::Group => field.is_group(),
    }
}

/// A whole number, or the key of a map, as JSON spells it.
fn spelled(kind: &Kind, raw: &Raw<'_>) -> Option<String> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "numbers of 32 bits are read modulo 2^32 (Encoding, \"More Integer Types\")"
    )]
    Some(match (kind, raw) {
        (Kind::Int32, Raw::Varint(bits)) => (*bits as u32).cast_signed().to_string(),
        (Kind::Int64, Raw::Varint(bits)) => bits.cast_signed().to_string(),
        (Kind::Uint32, Raw::Varint(bits)) => (*bits as u32).to_string(),
        (Kind::Uint64, Raw::Varint(bits)) | (Kind::Fixed64, Raw::Fixed64(bits)) => bits.to_string(),
        (Kind::Sint32 | Kind::Sint64, Raw::Varint(bits)) => varint::unzigzag(*bits).to_string(),
        (Kind::Fixed32, Raw::Fixed32(bits)) => bits.to_string(),
        (Kind::Sfixed32, Raw::Fixed32(bits)) => bits.cast_signed().to_string(),
        (Kind::Sfixed64, Raw::Fixed64(bits)) => bits.cast_signed().to_string(),
        (Kind::Bool, Raw::Varint(bits)) => (*bits != 0).to_string(),
        (Kind::String, Raw::Run(run)) => std::str::from_utf8(run.rest()).ok()?.to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
