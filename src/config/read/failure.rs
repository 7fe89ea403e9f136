//! Owns what does not fit, and its place.

use crate::config::error::{Error, hint};
use crate::judge::nearest;
use serde::de;
use std::fmt;
use std::path::Path;

/// Something in the tree that does not fit the settings. Its place is gathered on the way up.
#[derive(Debug)]
pub(in crate::config) struct Failure {
    /// Keys from the root down.
    path: Vec<String>,
    /// The override that wrote the value; `None`: the file did.
    origin: Option<String>,
    what: What,
}

#[derive(Debug)]
enum What {
    UnknownKey { known: Vec<String>, nearest: Vec<String> },
    Value(String),
}

impl Failure {
    fn new(what: What) -> Self {
        Self { path: Vec::new(), origin: None, what }
    }

    /// The same, below `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }

    /// The same, with the origin of the value that it is about, unless a value further down has one.
    pub(super) fn at_origin(mut self, origin: Option<&str>) -> Self {
        self.origin = self.origin.or_else(|| origin.map(str::to_owned));
        self
    }

    /// The error for a person; `file` is the pipeline file.
    pub(in crate::config) fn into_error(self, file: &Path) -> Error {
        let origin = self.origin.unwrap_or_else(|| file.display().to_string());
        let key = self.path.join(".");
        match self.what {
            What::UnknownKey { known, nearest } => Error::UnknownKey { origin, key, nearest, known },
            What::Value(why) => Error::Value { origin, key, why },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::UnknownKey { .. } => f.write_str("unknown key"),
            What::Value(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Value(message.to_string()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (known, nearest) = names(field, expected);
        Self::new(What::UnknownKey { known, nearest })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let (known, nearest) = names(variant, expected);
        Self::new(What::Value(format!("unknown value {variant:?}{}", hint(&nearest, &known))))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Value("this key is needed and has no default".to_owned())).under(field)
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Value(format!("expected {expected}")))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Value(format!("expected {expected}")))
    }
}

fn names(asked: &str, known: &'static [&'static str]) -> (Vec<String>, Vec<String>) {
    let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    (own(known.to_vec()), own(nearest(asked, known.iter().copied())))
}

#[cfg(test)]
thread_local! {
    /// Every key that a table read on this thread could have had and did not, for the test that holds the reference complete.
    pub(in crate::config) static ABSENT: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
pub(super) fn note_absent(fields: &'static [&'static str], table: &config::Value) {
    if let config::ValueKind::Table(table) = &table.kind {
        let absent = fields.iter().filter(|field| !table.contains_key(**field));
        ABSENT.with_borrow_mut(|known| known.extend(absent));
    }
}
