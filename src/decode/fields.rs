//! Owns the four fields that pointers lead to, and the tree of pointers that a walk over a value follows, whatever the value is written in.
//!
//! Must not know: JSON, Avro, Protobuf.

use super::pointer::{Pointer, array_index};
use super::settings::{Error, Settings};

/// What a pointer led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Found {
    /// Nothing is there.
    #[default]
    Nothing,
    /// JSON null.
    Null,
    /// A string, unescaped.
    String(String),
    /// An integer within 64 bits, in decimal.
    Integer(String),
    /// Something else, in words.
    Other(&'static str),
}

impl Found {
    /// The string, if it is one.
    pub(super) fn into_string(self) -> Option<String> {
        match self {
            Self::String(string) => Some(string),
            Self::Nothing | Self::Null | Self::Integer(_) | Self::Other(_) => None,
        }
    }

    /// The string or integer, if it is one.
    pub(super) fn into_id(self) -> Option<String> {
        match self {
            Self::String(id) | Self::Integer(id) => Some(id),
            Self::Nothing | Self::Null | Self::Other(_) => None,
        }
    }
}

/// What the four pointers led to.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) text: Found,
    pub(super) id: Found,
    pub(super) language: Found,
    pub(super) source: Found,
}

impl Fields {
    fn slot(&mut self, field: Field) -> &mut Found {
        match field {
            Field::Text => &mut self.text,
            Field::Id => &mut self.id,
            Field::Language => &mut self.language,
            Field::Source => &mut self.source,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Text,
    Id,
    Language,
    Source,
}

/// The pointers merged into one tree, so that one walk serves all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    fields: Vec<Field>,
    children: Vec<Child>,
}

#[derive(Debug, Clone)]
pub(super) struct Child {
    key: String,
    index: Option<usize>,
    pub(super) node: Node,
}

impl Node {
    fn insert(&mut self, tokens: &[String], field: Field) {
        let Some((token, rest)) = tokens.split_first() else {
            self.fields.push(field);
            return;
        };
        let known = self.children.iter().position(|child| child.key == *token);
        let place = known.unwrap_or_else(|| {
            self.children.push(Child { key: token.clone(), index: array_index(token), node: Node::default() });
            self.children.len() - 1
        });
        if let Some(child) = self.children.get_mut(place) {
            child.node.insert(rest, field);
        }
    }

    /// Notes that this is where the walk found `found`.
    pub(super) fn keep(&self, found: Found, fields: &mut Fields) {
        if let Some((last, others)) = self.fields.split_last() {
            for field in others {
                *fields.slot(*field) = found.clone();
            }
            *fields.slot(*last) = found;
        }
    }

    /// Whether a pointer ends here.
    #[cfg(any(feature = "avro", feature = "protobuf"))]
    pub(super) fn is_wanted(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Where pointers go on from the array's element `index`.
    pub(super) fn element(&self, index: usize) -> Option<&Child> {
        self.children.iter().find(|child| child.index == Some(index))
    }

    /// Where pointers go on from the object's member `key`.
    pub(super) fn member(&self, key: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.key == key)
    }

    /// Shows `see` this node and all below it.
    #[cfg(feature = "protobuf")]
    pub(super) fn each(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        for child in &self.children {
            child.node.each(see);
        }
    }

    /// Forgets what was found here and below: something overrules it.
    pub(super) fn forget(&self, fields: &mut Fields) {
        for field in &self.fields {
            *fields.slot(*field) = Found::Nothing;
        }
        for child in &self.children {
            child.node.forget(fields);
        }
    }
}

/// Finds the four fields of a JSON value in one pass.
#[derive(Debug, Clone)]
pub(super) struct Extractor {
    root: Node,
}

impl Extractor {
    /// The extractor for `settings`' pointers; empty optional pointers are left out.
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut root = Node::default();
        root.insert(&Pointer::parse("text", &settings.text)?.tokens, Field::Text);
        let optional = [
            ("id", &settings.id, Field::Id),
            ("language", &settings.language, Field::Language),
            ("source", &settings.source, Field::Source),
        ];
        for (key, pointer, field) in optional {
            if !pointer.is_empty() {
                root.insert(&Pointer::parse(key, pointer)?.tokens, field);
            }
        }
        Ok(Self { root })
    }

    /// The pointers, as a walk follows them.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }
}
