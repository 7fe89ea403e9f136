//! Owns the print-out of settings, without secrets.

use super::Settings;
use toml::{Table, Value};

/// What a secret is replaced by.
const MASK: &str = "***";

/// Parts of key names that mark a secret. `sasl.oauthbearer.config` may hold one among other things.
const SECRET: [&str; 9] =
    ["password", "secret", "passphrase", "token", "credential", "private", "key.pem", "jaas", "oauthbearer.config"];

/// Names with such a part that are no secrets: they say where to find one.
const PLACES: [&str; 4] = ["location", "url", "file", "uri"];

/// `settings` as TOML, complete but for keys that are unset, secrets masked.
pub(super) fn print(settings: &Settings) -> String {
    let printed = Table::try_from(settings).map(|mut table| {
        mask(&mut table);
        toml::to_string(&table)
    });
    match printed {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => format!("# these settings can't be printed: {error}\n"),
        Err(error) => format!("# these settings can't be printed: {error}\n"),
    }
}

fn mask(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        if key == "properties" {
            mask_properties(value);
        } else if key == "stop_key" {
            *value = Value::String(MASK.to_owned());
        } else if key == "registry" {
            mask_registry(value);
        } else {
            walk(value);
        }
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Table(table) => mask(table),
        Value::Array(values) => values.iter_mut().for_each(walk),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => (),
    }
}

fn mask_properties(properties: &mut Value) {
    let Value::Table(properties) = properties else { return };
    for (key, value) in properties.iter_mut() {
        if is_secret(key) {
            *value = Value::String(MASK.to_owned());
        }
    }
}

/// Of a registry's keys these two hold secrets; the others are names and places.
fn mask_registry(registry: &mut Value) {
    let Value::Table(registry) = registry else { return };
    for key in ["password", "token"] {
        if let Some(Value::String(secret)) = registry.get_mut(key).filter(|value| value.as_str() != Some("")) {
            MASK.clone_into(secret);
        }
    }
}

/// Whether a property of this name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    SECRET.iter().any(|part| name.contains(part)) && !PLACES.contains(&last)
}
