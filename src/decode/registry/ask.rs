//! Owns the questions to a schema registry: Confluent's REST paths, which others speak too, and what its answers mean.
//!
//! Invariants: blocking; a schema has at most [`REFERENCES_MAX`] references, theirs included, each asked for once; what is for the record to answer for
//! (there is no such schema) is told apart from what is for the registry's operator (no answer, or one that is not a registry's).

use super::super::settings::{Format, Registry as Settings};
use super::Schema;
use crate::http::{Answer, Client, Credentials, Trust, origin};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// The largest answer that is read: ten times the largest schema that a registry takes unless told otherwise.
const ANSWER_BYTES_MAX: u64 = 10 << 20;
/// The most references of one schema, theirs included.
const REFERENCES_MAX: usize = 100;
/// The most bytes of a schema with its references.
const SCHEMA_BYTES_MAX: usize = 20 << 20;
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";
/// Error codes of the registry's own, and what they mean.
const NO_SCHEMA: u32 = 40_403;
const NO_SUBJECT: u32 = 40_401;
const NO_VERSION: u32 = 40_402;

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The registry knows no schema of this id.
    Unknown,
    /// What it knows is of no use for this.
    Bad(String),
    /// It can't be asked now, or it can't be relied on; and how long it wants to be left alone, in seconds.
    Unavailable(String, Option<u64>),
}

/// A registry that can be asked. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    client: Client,
    url: String,
}

#[derive(Deserialize)]
struct Answered {
    schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType", default)]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refused {
    error_code: u32,
}

impl Desk {
    /// A desk for `settings`. Blocking: certificates are read.
    pub(super) fn open(settings: &Settings) -> Result<Self, String> {
        let credentials = match (&settings.username, settings.has_token()) {
            (Some(name), _) => Credentials::basic(name, &settings.password, settings.password_file.as_deref()),
            (None, true) => Credentials::bearer(&settings.token, settings.token_file.as_deref()),
            (None, false) => Credentials::None,
        };
        let trust = settings.ca_file.clone().map_or(Trust::System, Trust::File);
        let timeout = Duration::from_millis(settings.timeout_ms);
        let client = Client::new(&trust, credentials, timeout, ANSWER_BYTES_MAX).map_err(|error| error.to_string())?;
        Ok(Self { client, url: settings.url.trim_end_matches('/').to_owned() })
    }

    /// Where it is, for people: without its path, which may be long.
    pub(super) fn place(&self) -> String {
        origin(&self.url).unwrap_or_default()
    }

    /// Which kinds of schemas the registry knows. Blocking.
    pub(super) fn kinds(&self) -> Result<Vec<String>, Miss> {
        let answer = self.get("/schemas/types")?;
        serde_json::from_slice(&answer.body).map_err(|_| strange("/schemas/types"))
    }

    /// The schema `id` with all that it refers to, ready for values of `format`, and the bytes of all these texts. Blocking.
    pub(super) fn schema(&self, id: u32, format: Format) -> Result<(Schema, usize), Miss> {
        let answered = self.answered(&format!("/schemas/ids/{id}"))?;
        let kind = answered.kind.clone().unwrap_or_else(|| "AVRO".to_owned());
        let wanted = format.schema_type().ok_or_else(|| Miss::Bad("this format has no schemas".to_owned()))?;
        if kind != wanted {
            return Err(Miss::Bad(format!("schema {id} is of type {kind}, and document.format asks for {wanted}")));
        }
        // What a JSON Schema refers to explains no byte of a value.
        let references = if format == Format::JsonSchema { Vec::new() } else { self.references(&answered)? };
        let bytes = references.iter().map(|(_, text)| text.len()).sum::<usize>() + answered.schema.len();
        Schema::parse(format, &answered.schema, references)
            .map(|schema| (schema, bytes))
            .map_err(|why| Miss::Bad(format!("schema {id} can't be used: {why}")))
    }

    /// All that a schema refers to, directly or not: names and texts.
    fn references(&self, of: &Answered) -> Result<Vec<(String, String)>, Miss> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut asked = BTreeSet::new();
        let mut bytes = of.schema.len();
        let mut queue: Vec<(String, String, i64)> = of.references.iter().map(Reference::parts).collect();
        while let Some((name, subject, version)) = queue.pop() {
            if !asked.insert((name.clone(), subject.clone(), version)) {
                continue;
            }
            if asked.len() > REFERENCES_MAX {
                return Err(Miss::Bad(format!("it has more than {REFERENCES_MAX} references")));
            }
            let path = format!("/subjects/{}/versions/{version}", escaped(&subject));
            let answered = self.answered(&path).map_err(|miss| match miss {
                Miss::Unknown => {
                    Miss::Bad(format!("it refers to version {version} of {subject:?}, which there is not"))
                }
                Miss::Bad(_) | Miss::Unavailable(..) => miss,
            })?;
            bytes = bytes.saturating_add(answered.schema.len());
            if bytes > SCHEMA_BYTES_MAX {
                return Err(Miss::Bad(format!("with its references it is larger than {SCHEMA_BYTES_MAX} bytes")));
            }
            queue.extend(answered.references.iter().map(Reference::parts));
            found.push((name, answered.schema));
        }
        Ok(found)
    }

    fn answered(&self, path: &str) -> Result<Answered, Miss> {
        serde_json::from_slice(&self.get(path)?.body).map_err(|_| strange(path))
    }

    fn get(&self, path: &str) -> Result<Answer, Miss> {
        let url = format!("{}{path}", self.url);
        let answer = self.client.get(&url, ACCEPT).map_err(|error| Miss::Unavailable(error.to_string(), None))?;
        let code = serde_json::from_slice(&answer.body).map(|refused: Refused| refused.error_code);
        match (answer.status, code) {
            (200, _) => Ok(answer),
            // Only the registry's own word counts: a 404 of a proxy, or of a path that is wrong, says nothing about a schema.
            (404, Ok(NO_SCHEMA | NO_SUBJECT | NO_VERSION)) => Err(Miss::Unknown),
            (404, _) => {
                Err(Miss::Unavailable("it answered 404 as no registry does: check the path in the URL".into(), None))
            }
            (401 | 403, _) => {
                Err(Miss::Unavailable(format!("it answered {}: check the credentials", answer.status), None))
            }
            (status, _) => Err(Miss::Unavailable(format!("it answered {status}"), answer.retry_after)),
        }
    }
}

impl Reference {
    fn parts(&self) -> (String, String, i64) {
        (self.name.clone(), self.subject.clone(), self.version)
    }
}

fn strange(path: &str) -> Miss {
    Miss::Unavailable(format!("what it answered to {path} is not what a registry answers: check the URL"), None)
}

/// A subject's name as one step of a path (RFC 3986).
fn escaped(subject: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    subject
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_subject_is_one_step_of_a_path() {
        assert_eq!(escaped("docs-value"), "docs-value");
        assert_eq!(escaped("a/b c?%é.proto"), "a%2Fb%20c%3F%25%C3%A9.proto");
    }
}
