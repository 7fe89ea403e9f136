//! Owns the `[document]` table: its keys, defaults and what is wrong with them.

use super::normalize::Normalize;
use super::pointer::Pointer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a record's value holds its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The value is one JSON value; pointers lead to its parts.
    #[default]
    Json,
    /// The whole value is the text.
    Text,
    /// The value is one of Avro, behind the id of its schema in a registry (Confluent's wire format); pointers lead to its parts.
    Avro,
    /// The value is one of Protobuf, behind the id of its schema in a registry (Confluent's wire format); pointers lead to its parts.
    Protobuf,
    /// The value is one JSON value, behind the id of its schema in a registry (Confluent's wire format); pointers lead to its parts. With a registry, the
    /// id must be that of a JSON Schema there; the value is not held against it.
    JsonSchema,
}

impl Format {
    /// Whether values stand behind the id of a schema in a registry.
    #[must_use]
    pub fn has_schemas(self) -> bool {
        self.schema_type().is_some()
    }

    /// What a registry calls the schemas of such values; `None` where values have none.
    #[must_use]
    pub fn schema_type(self) -> Option<&'static str> {
        match self {
            Self::Json | Self::Text => None,
            Self::Avro => Some("AVRO"),
            Self::Protobuf => Some("PROTOBUF"),
            Self::JsonSchema => Some("JSON"),
        }
    }

    /// Whether a value can't be read without its schema.
    fn needs_registry(self) -> bool {
        match self {
            Self::Json | Self::Text | Self::JsonSchema => false,
            Self::Avro | Self::Protobuf => true,
        }
    }

    /// The cargo feature that this build lacks to read it.
    fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Avro if cfg!(not(feature = "avro")) => Some("avro"),
            Self::Protobuf if cfg!(not(feature = "protobuf")) => Some("protobuf"),
            Self::Json | Self::Text | Self::Avro | Self::Protobuf | Self::JsonSchema => None,
        }
    }
}

/// Where the schemas of `avro`, `protobuf` and `json-schema` are to be had.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// The registry's address, http or https, with the path before `/schemas`, if there is one.
    pub url: String,
    /// A user's name, for basic authentication; with `password` or `password_file`.
    pub username: Option<String>,
    /// That user's password.
    pub password: String,
    /// A file that holds that password; read anew for each question.
    pub password_file: Option<PathBuf>,
    /// A token, for bearer authentication.
    pub token: String,
    /// A file that holds that token; read anew for each question.
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest time for one answer, in milliseconds. At least 1.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// How long records wait for a registry that can't be asked before the worker stops with 69, in milliseconds.
    pub patience_ms: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            url: String::new(),
            username: None,
            password: String::new(),
            password_file: None,
            token: String::new(),
            token_file: None,
            ca_file: None,
            timeout_ms: 10_000,
            patience_ms: 300_000,
        }
    }
}

/// Without the secrets: settings are shown where somebody debugs.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("username", &self.username)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Whether a token is given, here or in a file.
    #[must_use]
    pub fn has_token(&self) -> bool {
        !self.token.is_empty() || self.token_file.is_some()
    }

    /// What is wrong with the table: the key, and why.
    fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let address = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        match address.map(|rest| rest.split('/').next().unwrap_or_default()) {
            None | Some("") => {
                found.push(("url", "it must begin with http:// or https://, as in \"https://registry.example:8081\""))
            }
            Some(host) if host.contains('@') => {
                found.push(("url", "a name and a password don't belong here: use username and password_file"));
            }
            Some(_) if self.url.contains(['?', '#']) || self.url.contains(char::is_whitespace) => {
                found.push(("url", "it must be an address with at most a path behind it"));
            }
            Some(_) => {}
        }
        let password = !self.password.is_empty() || self.password_file.is_some();
        match &self.username {
            Some(name) if name.is_empty() || name.contains(':') => {
                found.push(("username", "a user's name is not empty and has no colon"))
            }
            Some(_) if !password => found.push(("username", "it needs a password, or better password_file")),
            None if password => found.push(("password", "it needs a username; a token alone is token or token_file")),
            Some(_) | None => {}
        }
        if !self.password.is_empty() && self.password_file.is_some() {
            found.push(("password_file", "password stands here too; leave out one of the two"));
        }
        if !self.token.is_empty() && self.token_file.is_some() {
            found.push(("token_file", "token stands here too; leave out one of the two"));
        }
        if self.username.is_some() && self.has_token() {
            found.push(("token", "username stands here too; a registry takes one kind of credentials"));
        }
        if self.timeout_ms == 0 {
            found.push(("timeout_ms", "0 leaves no time for an answer; the least is 1"));
        }
        found
    }
}

/// How a record holds its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How a value is read.
    pub format: Format,
    /// JSON pointer (RFC 6901) to the text. The empty pointer is the whole value, which must then be a JSON string.
    pub text: String,
    /// JSON pointer to the document's id (a string or an integer); empty: none.
    pub id: String,
    /// JSON pointer to the language tag (a string); empty: none.
    pub language: String,
    /// JSON pointer to the source label (a string); empty: none.
    pub source: String,
    /// What is done to a text before it is measured; the record is passed on as it came. A text that grows beyond `max_bytes` by it is dead-lettered.
    pub normalize: Normalize,
    /// Values above this many bytes are dead-lettered undecoded, and texts that `normalize` makes longer. At least 1.
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
    /// Where the schemas of `avro`, `protobuf` and `json-schema` are to be had; the last can do without.
    pub registry: Option<Registry>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Json,
            text: "/text".to_owned(),
            id: "/id".to_owned(),
            language: "/language".to_owned(),
            source: "/source".to_owned(),
            normalize: Normalize::None,
            max_bytes: 10_485_760,
            registry: None,
        }
    }
}

impl Settings {
    /// These settings for lines, which can't hold values behind a schema's id: there such values are plain JSON, to which the same pointers lead.
    #[must_use]
    pub fn of_lines(mut self) -> Self {
        if self.format.has_schemas() {
            self.format = Format::Json;
            self.registry = None;
        }
        self
    }

    /// Everything that is wrong with these settings; empty when [`super::Decoder::new`] would accept them.
    #[must_use]
    pub fn problems(&self) -> Vec<Error> {
        let pointers = [("text", &self.text), ("id", &self.id), ("language", &self.language), ("source", &self.source)];
        let mut problems: Vec<Error> =
            pointers.into_iter().filter_map(|(key, pointer)| Pointer::parse(key, pointer).err()).collect();
        if self.max_bytes == 0 {
            problems.push(Error::MaxBytes);
        }
        if let Some(feature) = self.format.missing_feature() {
            problems.push(Error::Feature { key: "format", feature });
        }
        match &self.registry {
            None if self.format.needs_registry() => problems.push(Error::NoRegistry),
            Some(_) if !self.format.has_schemas() => problems.push(Error::NoNeedOfRegistry),
            Some(_) if cfg!(not(feature = "registry")) && !self.format.needs_registry() => {
                problems.push(Error::Feature { key: "registry", feature: "json-schema" });
            }
            Some(registry) => {
                problems.extend(registry.problems().into_iter().map(|(key, why)| Error::Registry { key, why }))
            }
            None => {}
        }
        problems
    }
}

/// What is wrong with the `[document]` table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key does not hold a JSON pointer.
    #[error("{pointer:?} is not a JSON pointer: {why}")]
    Pointer {
        /// The key inside `[document]`.
        key: &'static str,
        /// What it holds.
        pointer: String,
        /// Which rule of RFC 6901 it breaks.
        why: &'static str,
    },
    /// `max_bytes` is zero, so that no record could ever be decoded.
    #[error("0 leaves no room for any document; the least is 1")]
    MaxBytes,
    /// This build can't read that.
    #[error(
        "this tamis was built without it; build it with `cargo build --release --features {feature}`, or with all formats: `make build FEATURES=formats`"
    )]
    Feature {
        /// The key inside `[document]`.
        key: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// A format with schemas, and no registry to have them from.
    #[error("this format needs its schemas: add [document.registry] with the url of a schema registry")]
    NoRegistry,
    /// A registry that nobody would ask.
    #[error(
        "only the formats \"avro\", \"protobuf\" and \"json-schema\" have schemas; leave this table out, or set document.format"
    )]
    NoNeedOfRegistry,
    /// A key of `[document.registry]` is wrong.
    #[error("{why}")]
    Registry {
        /// The key inside `[document.registry]`.
        key: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The registry can't be used as the settings say.
    #[error("{0}")]
    Opening(String),
}

impl Error {
    /// The key inside `[document]` that is wrong.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Pointer { key, .. } | Self::Feature { key, .. } => (*key).to_owned(),
            Self::MaxBytes => "max_bytes".to_owned(),
            Self::NoRegistry | Self::NoNeedOfRegistry | Self::Opening(_) => "registry".to_owned(),
            Self::Registry { key, .. } => format!("registry.{key}"),
        }
    }
}
