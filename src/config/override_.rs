//! Owns the overrides: variables `TAMIS__ROOM__KEY` and `--set room.key=value`, as paths and raw values.

use super::error::Error;
use config::{Environment, Source};
use std::collections::HashMap;
use std::ffi::OsString;

const PREFIX: &str = "TAMIS";
const SEPARATOR: &str = "__";

/// One value to lay over a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Override {
    /// The way down, as written. A variable's parts are in lower case.
    pub(super) path: Vec<String>,
    /// The value, as written.
    pub(super) value: String,
    /// Where it was written, for messages: never with the value, which may be a secret.
    pub(super) origin: String,
    /// Whether the path came from a variable's name, which can't hold every character of a key.
    pub(super) is_variable: bool,
}

/// The overrides in `variables`, by name, so that their order is the same in every run. Others than `TAMIS__…` are not looked at.
pub(super) fn from_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Override>, Error> {
    let mut ours = HashMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(&format!("{PREFIX}{SEPARATOR}"))) else {
            continue;
        };
        let refused = |why: &str| Error::Override { origin: name.to_owned(), why: why.to_owned() };
        let value = value.into_string().map_err(|_| refused("its value is not UTF-8"))?;
        ours.insert(name.to_owned(), value);
    }
    let names: HashMap<String, String> = ours.keys().map(|name| (name.to_lowercase(), name.clone())).collect();
    let environment =
        Environment::with_prefix(PREFIX).prefix_separator(SEPARATOR).separator(SEPARATOR).source(Some(ours));
    let collected = environment
        .collect()
        .map_err(|error| Error::Override { origin: "environment".to_owned(), why: error.to_string() })?;
    let mut overrides = Vec::new();
    for (key, value) in collected {
        let lower = format!("{PREFIX}.{key}").replace('.', SEPARATOR).to_lowercase();
        let origin = names.get(&lower).cloned().unwrap_or_else(|| lower.to_uppercase());
        let refused = |why: &str| Error::Override { origin: origin.clone(), why: why.to_owned() };
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(refused("a part of the name is empty; write it like TAMIS__ADMIN__LISTEN"));
        }
        let value = value.into_string().map_err(|_| refused("its value is not text"))?;
        overrides.push(Override { path, value, origin, is_variable: true });
    }
    overrides.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(overrides)
}

/// The override in one `--set`.
pub(super) fn from_set(set: &str) -> Result<Override, Error> {
    let refused =
        |origin: &str, why: &str| Err(Error::Override { origin: format!("--set {origin}"), why: why.to_owned() });
    let Some((key, value)) = set.split_once('=') else {
        return refused(set, "there is no `=`; write it like --set judge.evaluate=all");
    };
    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return refused(key, "a part of the key is empty; write it like --set judge.evaluate=all");
    }
    Ok(Override { path, value: value.to_owned(), origin: format!("--set {}", key.trim()), is_variable: false })
}
