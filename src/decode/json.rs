//! Owns the walk over a JSON value that keeps what the pointers lead to and skips the rest.
//!
//! Invariants: what is skipped is checked for syntax but never built, so a value of many small parts costs no memory; depth is
//! bounded by serde_json's recursion limit along a pointer, and skipping does not recurse.

use super::fields::{Child, Fields, Found, Node};
use super::{BOM, fault, utf8};
use crate::corpus::{Class, Fault};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What the pointers below `root` lead to in `value`, which must be exactly one JSON value (RFC 8259) in UTF-8; a byte-order mark before it is dropped.
///
/// # Errors
/// `bad-utf8` or `bad-json`, with the place.
pub(super) fn extract(root: &Node, value: &[u8]) -> Result<Fields, Fault> {
    let json = utf8(value)?;
    let json = json.strip_prefix(BOM).unwrap_or(json);
    walked(root, json).map_err(|error| fault(Class::BadJson, describe(&error)))
}

fn walked(root: &Node, json: &str) -> Result<Fields, serde_json::Error> {
    let mut fields = Fields::default();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Walk { node: root, fields: &mut fields }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(fields)
}

/// What is wrong with the JSON, with its place but without its text.
fn describe(error: &serde_json::Error) -> String {
    // Syntax errors name what was expected, never what the value holds; anything else is reduced to its place.
    if error.is_syntax() || error.is_eof() {
        format!("the value is not JSON: {error}")
    } else {
        format!("the value is not usable JSON at line {} column {}", error.line(), error.column())
    }
}

struct Walk<'a> {
    node: &'a Node,
    fields: &'a mut Fields,
}

impl Walk<'_> {
    fn keep(self, found: Found) {
        self.node.keep(found, self.fields);
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
            let child = node.element(index);
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
        Ok(self.node.member(key))
    }
}
