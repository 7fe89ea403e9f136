//! Owns the walk over a JSON value that keeps what the pointers lead to and skips the rest.
//!
//! Invariants: what is skipped is checked for syntax but never built, so a value of many small parts costs no memory; depth is
//! bounded by serde_json's recursion limit along a pointer, and skipping does not recurse.

use super::pointer::{Pointer, array_index};
use super::settings::{Error, Settings};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

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
struct Node {
    fields: Vec<Field>,
    children: Vec<Child>,
}

#[derive(Debug, Clone)]
struct Child {
    key: String,
    index: Option<usize>,
    node: Node,
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

    fn forget(&self, fields: &mut Fields) {
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

    /// What the pointers lead to in `json`, which must be exactly one JSON value.
    pub(super) fn extract(&self, json: &str) -> Result<Fields, serde_json::Error> {
        let mut fields = Fields::default();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Walk { node: &self.root, fields: &mut fields }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(fields)
    }
}

struct Walk<'a> {
    node: &'a Node,
    fields: &'a mut Fields,
}

impl Walk<'_> {
    fn keep(self, found: Found) {
        if let Some((last, others)) = self.node.fields.split_last() {
            for field in others {
                *self.fields.slot(*field) = found.clone();
            }
            *self.fields.slot(*last) = found;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // A key seen before is overruled by this one, with all that was below it.
        self.node.forget(self.fields);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.keep(Found::Null);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.keep(Found::Other("a boolean"));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.keep(Found::Integer(number.to_string()));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.keep(Found::Integer(number.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.keep(Found::Other("a number"));
        Ok(())
    }

    fn visit_str<E>(self, string: &str) -> Result<(), E> {
        self.keep(Found::String(string.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Walk { node, fields } = self;
        Walk { node, fields: &mut *fields }.keep(Found::Other("an array"));
        let mut index = 0_usize;
        loop {
            let child = node.children.iter().find(|child| child.index == Some(index));
            let more = match child {
                Some(child) => seq.next_element_seed(Walk { node: &child.node, fields: &mut *fields })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index = index.checked_add(1).ok_or_else(|| A::Error::custom("array too long"))?;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { node, fields } = self;
        Walk { node, fields: &mut *fields }.keep(Found::Other("an object"));
        while let Some(child) = map.next_key_seed(Key { node })? {
            match child {
                Some(child) => map.next_value_seed(Walk { node: &child.node, fields: &mut *fields })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Looks an object's key up among a node's children without building it.
struct Key<'a> {
    node: &'a Node,
}

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Child>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<&'a Child>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object's key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.node.children.iter().find(|child| child.key == key))
    }
}
