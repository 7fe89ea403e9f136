//! Owns the step from a tree of values to typed settings, strictly, with the place of everything that does not fit.
//!
//! The `config` crate's own reader rounds numbers, takes booleans for numbers and forgets which names it knows; this one does not.
//! Values of overrides are text, read as the key's type asks: numbers and booleans as in TOML, lists as `[...]` or
//! separated by commas, tables as `{...}`.

#![allow(clippy::wildcard_enum_match_arm, reason = "of the kinds of values that `config` knows, TOML has only some")]

mod failure;

#[cfg(test)]
pub(super) use failure::ABSENT;
pub(super) use failure::Failure;

use super::Settings;
use config::{Map, Value, ValueKind};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::de::{IntoDeserializer, value::StringDeserializer};
use std::collections::VecDeque;

/// The settings that `tree` holds.
pub(super) fn read(tree: Value) -> Result<Settings, Failure> {
    Settings::deserialize(Reader(tree))
}

/// Reads one value.
struct Reader(Value);

impl Reader {
    /// The value as the TOML that its text is, if it is an override's text beginning with `open`.
    fn unfolded(self, open: char) -> Result<Self, Failure> {
        let (Some(origin), ValueKind::String(text)) = (self.0.origin(), &self.0.kind) else { return Ok(self) };
        if !text.trim_start().starts_with(open) {
            return Ok(self);
        }
        let origin = origin.to_owned();
        let document = config::Config::builder()
            .add_source(config::File::from_str(&format!("value = {text}"), config::FileFormat::Toml))
            .build();
        let value = document.ok().and_then(|document| document.get::<Value>("value").ok());
        let refused = || Failure::custom("this does not read as TOML").at_origin(Some(&origin));
        value.map(|value| Self(Value::new(Some(&origin), value.kind))).ok_or_else(refused)
    }

    /// The text of an override, to be read as a number or a boolean.
    fn text(&self) -> Option<&str> {
        match &self.0.kind {
            ValueKind::String(text) if self.0.origin().is_some() => Some(text.trim()),
            _ => None,
        }
    }

    fn misfit(&self, expected: &str) -> Failure {
        let found = match &self.0.kind {
            ValueKind::Nil => "nothing",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "an integer",
            ValueKind::Float(_) => "a number with a fraction",
            ValueKind::String(_) => "text",
            ValueKind::Table(_) => "a table",
            ValueKind::Array(_) => "a list",
        };
        Failure::custom(format!("expected {expected}, found {found}")).at_origin(self.0.origin())
    }

    fn integer(&self, expected: &str) -> Result<i64, Failure> {
        match (&self.0.kind, self.text()) {
            (ValueKind::I64(number), _) => Ok(*number),
            (_, Some(text)) => text.replace('_', "").parse().map_err(|_| self.misfit(expected)),
            _ => Err(self.misfit(expected)),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            let expected = if <$type>::MIN == 0 { "a whole number from 0 up" } else { "a whole number" };
            let number = self.integer(expected)?;
            let fits = <$type>::try_from(number)
                .map_err(|_| Failure::custom(format!("{number} is not within {} and {}", <$type>::MIN, <$type>::MAX)));
            fits.and_then(|number| visitor.$visit(number)).map_err(|failure| failure.at_origin(self.0.origin()))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let origin = self.0.origin().map(str::to_owned);
        let outcome = match self.0.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(value) => visitor.visit_i64(value),
            ValueKind::I128(value) => visitor.visit_i128(value),
            ValueKind::U64(value) => visitor.visit_u64(value),
            ValueKind::U128(value) => visitor.visit_u128(value),
            ValueKind::Float(value) => visitor.visit_f64(value),
            ValueKind::String(value) => visitor.visit_string(value),
            ValueKind::Array(values) => visitor.visit_seq(Elements { values: values.into(), next: 0 }),
            ValueKind::Table(table) => visitor.visit_map(Entries::new(table)),
        };
        outcome.map_err(|failure: Failure| failure.at_origin(origin.as_deref()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match (&self.0.kind, self.text()) {
            (ValueKind::Boolean(value), _) => visitor.visit_bool(*value),
            (_, Some("true")) => visitor.visit_bool(true),
            (_, Some("false")) => visitor.visit_bool(false),
            _ => Err(self.misfit("true or false")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        #[allow(clippy::cast_precision_loss, reason = "a threshold written as an integer is small")]
        match (&self.0.kind, self.text()) {
            (ValueKind::Float(value), _) => visitor.visit_f64(*value),
            (ValueKind::I64(value), _) => visitor.visit_f64(*value as f64),
            (_, Some(text)) => match text.parse() {
                Ok(value) => visitor.visit_f64(value),
                Err(_) => Err(self.misfit("a number")),
            },
            _ => Err(self.misfit("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let origin = self.0.origin().map(str::to_owned);
        let outcome = match self.0.kind {
            ValueKind::String(text) => visitor.visit_string(text),
            // librdkafka's properties are text, but nobody writes "5" for 5.
            ValueKind::I64(number) => visitor.visit_string(number.to_string()),
            ValueKind::Boolean(value) => visitor.visit_string(value.to_string()),
            _ => return Err(self.misfit("text")),
        };
        outcome.map_err(|failure: Failure| failure.at_origin(origin.as_deref()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if matches!(self.0.kind, ValueKind::Nil) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let list = self.unfolded('[')?;
        let origin = list.0.origin().map(str::to_owned);
        match &list.0.kind {
            ValueKind::Array(_) => list.deserialize_any(visitor),
            ValueKind::String(text) if origin.is_some() => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let values = parts.map(|part| Value::new(origin.as_ref(), part)).collect();
                visitor.visit_seq(Elements { values, next: 0 })
            }
            _ => Err(list.misfit("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let table = self.unfolded('{')?;
        if matches!(table.0.kind, ValueKind::Table(_)) {
            table.deserialize_any(visitor)
        } else {
            Err(table.misfit("a table"))
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        #[cfg(test)]
        failure::note_absent(fields, &self.0);
        #[cfg(not(test))]
        let _ = fields;
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let chosen = self.unfolded('{')?;
        let origin = chosen.0.origin().map(str::to_owned);
        let expected = || format!("one of {}", variants.join(", "));
        match chosen.0.kind {
            ValueKind::String(name) => {
                let variant = Variant { name, content: None };
                visitor.visit_enum(variant).map_err(|failure| failure.at_origin(origin.as_deref()))
            }
            // A table whose `kind` names the variant and whose other keys are the variant's own.
            ValueKind::Table(mut table) => {
                let Some(kind) = table.remove("kind") else {
                    return Err(
                        Failure::custom(format!("it needs a `kind`, {}", expected())).at_origin(origin.as_deref())
                    );
                };
                let kind_origin = kind.origin().map(str::to_owned);
                let name = kind.into_string().map_err(|_| Failure::custom("expected text").under("kind"))?;
                if !variants.contains(&name.as_str()) {
                    let unknown = Failure::unknown_variant(&name, variants);
                    return Err(unknown.at_origin(kind_origin.as_deref()).under("kind"));
                }
                let content = Some(Value::new(origin.as_ref(), ValueKind::Table(table)));
                visitor.visit_enum(Variant { name, content })
            }
            kind => Err(Self(Value::new(origin.as_ref(), kind)).misfit(&expected())),
        }
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit identifier ignored_any unit_struct tuple_struct tuple
    }
}

struct Elements {
    values: VecDeque<Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(value) = self.values.pop_front() else { return Ok(None) };
        let place = name_of(&value).unwrap_or_else(|| self.next.to_string());
        self.next += 1;
        read_under(seed, value, &place).map(Some)
    }
}

/// What a rule calls itself, which tells it apart better than its place in the file, and is how `--set` calls it too.
fn name_of(value: &Value) -> Option<String> {
    let ValueKind::Table(table) = &value.kind else { return None };
    let ValueKind::String(name) = &table.get("name")?.kind else { return None };
    (!name.is_empty()).then(|| name.clone())
}

struct Entries {
    entries: VecDeque<(String, Value)>,
}

impl Entries {
    /// In the order of the keys, so that of several mistakes the same one is always told.
    fn new(table: Map<String, Value>) -> Self {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { entries: entries.into() }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.front() else { return Ok(None) };
        let reader: StringDeserializer<Failure> = key.clone().into_deserializer();
        seed.deserialize(reader).map(Some).map_err(|failure| failure.at_origin(first_origin(value)).under(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some((key, value)) = self.entries.pop_front() else {
            return Err(Failure::custom("a key without a value"));
        };
        read_under(seed, value, &key)
    }
}

/// Reads the value under `key`. A conversion that refuses it afterwards (`try_from`) knows no place; this gives it one.
fn read_under<'de, T: DeserializeSeed<'de>>(seed: T, value: Value, key: &str) -> Result<T::Value, Failure> {
    let origin = value.origin().map(str::to_owned);
    seed.deserialize(Reader(value)).map_err(|failure| failure.at_origin(origin.as_deref()).under(key))
}

/// Where an unknown table was written: where the first value in it was.
fn first_origin(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(table) => table.values().find_map(first_origin),
        ValueKind::Array(values) => values.iter().find_map(first_origin),
        _ => None,
    })
}

struct Variant {
    name: String,
    content: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Failure> {
        let reader: StringDeserializer<Failure> = self.name.clone().into_deserializer();
        Ok((seed.deserialize(reader)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        self.content.map_or(Ok(()), |_| Err(Failure::custom("expected text, found a table")))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        let content = self.content.ok_or_else(|| Failure::custom("expected a table with a `kind`, found text"))?;
        seed.deserialize(Reader(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Failure> {
        Err(Failure::custom("no settings have this shape"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        let content = self.content.ok_or_else(|| Failure::custom("expected a table with a `kind`, found text"))?;
        Reader(content).deserialize_map(visitor)
    }
}
