//! Owns the tree of values before it has a shape: the parsed file, and how an override finds its place in it.
//!
//! Invariant: every value knows where it was written; a value of an override stays the text that it was, so that the key's type,
//! not the text's looks, decides what it means.

#![allow(clippy::wildcard_enum_match_arm, reason = "of the kinds of values that `config` knows, TOML has only some")]

use super::error::{Error, hint};
use super::override_::Override;
use crate::judge::nearest;
use config::{Config, ConfigError, File, FileFormat, Map, Value, ValueKind};
use std::path::Path;

/// The tree of `text`, which was read from `path`. Values of the file have no origin; only overrides have one.
pub(super) fn parse(text: &str, path: &Path) -> Result<Value, Error> {
    let file = File::from_str(text, FileFormat::Toml);
    Config::builder().add_source(file).build().map(|config| config.cache).map_err(|error| syntax(error, text, path))
}

fn syntax(error: ConfigError, text: &str, path: &Path) -> Error {
    let (message, start) = match error {
        ConfigError::FileParse { cause, .. } => match cause.downcast_ref::<toml::de::Error>() {
            Some(error) => (error.message().to_owned(), error.span().map_or(0, |span| span.start)),
            None => (cause.to_string(), 0),
        },
        error => (error.to_string(), 0),
    };
    // The parser's own message quotes the line, which may hold a password; ours gives the place.
    let before = text.get(..start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Error::Syntax { path: path.to_owned(), line: before.matches('\n').count() + 1, column, message }
}

/// Lays one override over the tree, making tables on the way where there are none.
///
/// A part of the path is a table's key; in a list of tables, the `name` of one of them, or its number from 0. A variable's parts meet keys of the
/// file whatever their case. Below `properties` and `properties_files` all that is left of the path is one key: dots belong to it, and in a variable's
/// name, which can't hold dots, underscores stand for them.
pub(super) fn lay_over(tree: &mut Value, over: &Override) -> Result<(), Error> {
    let mut node = tree;
    let mut rest = over.path.as_slice();
    let mut below_properties = false;
    while let Some((part, after)) = rest.split_first() {
        let (part, after) = if below_properties { (property(rest, over), &[][..]) } else { (part.clone(), after) };
        below_properties = part == "properties" || part == "properties_files";
        node = step(node, &part, over)?;
        rest = after;
    }
    *node = Value::new(Some(&over.origin), ValueKind::String(over.value.clone()));
    Ok(())
}

fn property(rest: &[String], over: &Override) -> String {
    let joined = rest.join(".");
    if over.is_variable { joined.replace('_', ".") } else { joined.trim_matches('"').to_owned() }
}

/// The place of `part` in a table or a list of tables; what is neither becomes a table.
fn step<'a>(node: &'a mut Value, part: &str, over: &Override) -> Result<&'a mut Value, Error> {
    if !matches!(node.kind, ValueKind::Table(_) | ValueKind::Array(_)) {
        *node = Value::new(Some(&over.origin), ValueKind::Table(Map::new()));
    }
    match &mut node.kind {
        ValueKind::Array(elements) => element(elements, part, over),
        ValueKind::Table(table) => {
            let known = table.keys().find(|key| over.is_variable && key.eq_ignore_ascii_case(part)).cloned();
            let key = known.unwrap_or_else(|| part.to_owned());
            Ok(table.entry(key).or_insert_with(|| Value::new(None, ValueKind::Nil)))
        }
        _ => Err(Error::Override { origin: over.origin.clone(), why: format!("{part:?} leads nowhere") }),
    }
}

fn element<'a>(elements: &'a mut [Value], part: &str, over: &Override) -> Result<&'a mut Value, Error> {
    let name = |element: &Value| match &element.kind {
        ValueKind::Table(table) => table.get("name").and_then(|name| name.clone().into_string().ok()),
        _ => None,
    };
    let names: Vec<Option<String>> = elements.iter().map(name).collect();
    let is_part = |name: &Option<String>| {
        name.as_ref().is_some_and(|name| name == part || (over.is_variable && name.eq_ignore_ascii_case(part)))
    };
    let index = names.iter().position(is_part).or_else(|| part.parse().ok().filter(|index| *index < names.len()));
    let known: Vec<String> = names.into_iter().flatten().collect();
    let missing = || {
        let near = nearest(part, known.iter().map(String::as_str)).into_iter().map(str::to_owned).collect::<Vec<_>>();
        Error::Override {
            origin: over.origin.clone(),
            why: format!("there is no {part:?} in this list of {}{}", known.len(), hint(&near, &known)),
        }
    };
    index.and_then(|index| elements.get_mut(index)).ok_or_else(missing)
}
