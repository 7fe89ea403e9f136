//! Turns a record's bytes into a document.
//!
//! Owns: what the `[document]` table means, and every way in which a value is not a document.
//! In: a [`Record`]. Out: a [`Document`], or a [`Fault`] that says what is wrong and where, never the text itself.
//! Avro, Protobuf (each a cargo feature) and JSON with a schema stand behind that schema's id, and a registry gives it: `framed.rs` is the way to them.
//! Invariants: nothing is trimmed, and nothing normalised unless `document.normalize` asks for it; no input makes it panic or recurse without bound; memory stays
//! proportional to the strings it was asked for, whatever else the value holds.
//! Must not know: Kafka, tokenizers, rules.

#[cfg(feature = "avro")]
mod avro;
mod fields;
mod framed;
mod json;
mod normalize;
mod pointer;
#[cfg(feature = "protobuf")]
mod protobuf;
#[cfg(feature = "registry")]
mod registry;
mod settings;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod varint;

pub use normalize::Normalize;
pub use settings::{Error, Format, Registry, Settings};

use crate::corpus::{Class, Document, Fault, Record, Stage};
use fields::{Extractor, Fields, Found};

/// A byte-order mark: tolerated, and dropped, before a JSON value; kept in plain text, where it is a character of the text.
const BOM: &str = "\u{feff}";

/// Decodes records as the `[document]` table says. Decoding takes `&self`; what needs no schema takes no lock.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    max_bytes: usize,
    normalize: Normalize,
    text_pointer: String,
    extractor: Extractor,
    #[cfg(feature = "registry")]
    registry: Option<registry::Registry>,
}

impl Decoder {
    /// A decoder for `settings`, its JSON pointers parsed once. Blocking where there is a registry: its certificates are read, and nothing is asked.
    ///
    /// # Errors
    /// The first of [`Settings::problems`], or certificates that can't be read.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(problem);
        }
        Ok(Self {
            format: settings.format,
            max_bytes: usize::try_from(settings.max_bytes).unwrap_or(usize::MAX),
            normalize: settings.normalize,
            text_pointer: settings.text.clone(),
            extractor: Extractor::new(settings)?,
            #[cfg(feature = "registry")]
            registry: match &settings.registry {
                Some(registry) => Some(registry::Registry::open(registry, settings.format).map_err(Error::Opening)?),
                None => None,
            },
        })
    }

    /// A name for what is done to texts before they are measured, for the identity of what comes of it; `None` where nothing is done.
    #[must_use]
    pub fn normalization(&self) -> Option<&'static str> {
        self.normalize.identity()
    }

    /// The document in `record`.
    ///
    /// `format = "json"`: one JSON value (RFC 8259), strings taken at the settings' pointers. Of duplicate keys the last wins. The id
    /// may be a string or an integer within 64 bits; any other id, and a language or source that is not a string, is
    /// taken as absent. Parts of the value that no pointer leads to are checked for JSON syntax and otherwise ignored.
    /// `format = "text"`: the whole value is the text, and a key in UTF-8 is the id.
    ///
    /// `format = "avro"`, `"protobuf"` and `"json-schema"`: one value behind its schema's id, taken apart as docs/formats.md says. Waits for a schema that is
    /// not known yet, and as long as `document.registry.patience_ms` for a registry that is away. Cancel safe.
    ///
    /// # Errors
    /// A [`Fault`]: `header-name` (at stage read) for a record with a defect, else at stage decode `too-large`, `bad-utf8`, `bad-json`,
    /// `bad-framing`, `bad-avro`, `bad-protobuf`, `unknown-schema`, `bad-schema`, `missing-text` (also for null) or `text-not-string`; and
    /// `registry-unavailable`, which is no fault of the record's. A null value is a deletion and must be dealt with before decoding: it yields
    /// `bug`.
    pub async fn decode(&self, record: &Record) -> Result<Document, Fault> {
        if let Some(defect) = &record.defect {
            return Err(Fault::new(Stage::Read, Class::HeaderName, defect.clone()));
        }
        let Some(value) = &record.value else {
            return Err(fault(Class::Bug, "a null value is a deletion and has no text to decode".to_owned()));
        };
        if value.len() > self.max_bytes {
            let message = format!("the value is larger than document.max_bytes = {}", self.max_bytes);
            return Err(fault(Class::TooLarge, message));
        }
        match self.format {
            Format::Json => self.document(json::extract(self.extractor.root(), value)?),
            Format::Text => Ok(Document {
                id: record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).map(str::to_owned),
                text: self.normalized(utf8(value)?.to_owned())?,
                language: None,
                source: None,
            }),
            Format::Avro | Format::Protobuf | Format::JsonSchema => self.document(self.framed(value).await?),
        }
    }

    /// What the pointers lead to in a value behind a schema's id.
    #[cfg_attr(not(feature = "registry"), allow(clippy::unused_async, reason = "with a registry it waits"))]
    async fn framed(&self, value: &[u8]) -> Result<Fields, Fault> {
        let root = self.extractor.root();
        #[cfg(feature = "registry")]
        if let Some(registry) = &self.registry {
            return framed::extract(registry, root, value).await;
        }
        match self.format {
            // It says by itself what its parts are.
            Format::JsonSchema => json::extract(root, framed::opened(value)?.1),
            Format::Avro | Format::Protobuf | Format::Json | Format::Text => {
                Err(fault(Class::Bug, "there is no registry, and the settings were not checked".to_owned()))
            }
        }
    }

    fn document(&self, found: Fields) -> Result<Document, Fault> {
        let text = match found.text {
            Found::String(text) => text,
            Found::Nothing => {
                let message = format!("document.text = {:?} leads to nothing in this record", self.text_pointer);
                return Err(fault(Class::MissingText, message));
            }
            Found::Null => {
                let message = format!("document.text = {:?} leads to null in this record", self.text_pointer);
                return Err(fault(Class::MissingText, message));
            }
            Found::Integer(_) => return Err(self.not_a_string("a number")),
            Found::Other(kind) => return Err(self.not_a_string(kind)),
        };
        Ok(Document {
            id: found.id.into_id(),
            text: self.normalized(text)?,
            language: found.language.into_string(),
            source: found.source.into_string(),
        })
    }

    /// The text to be measured, which is no longer than a value may be.
    fn normalized(&self, text: String) -> Result<String, Fault> {
        self.normalize.apply(text, self.max_bytes).ok_or_else(|| {
            let message = format!("the normalised text is larger than document.max_bytes = {}", self.max_bytes);
            fault(Class::TooLarge, message)
        })
    }

    fn not_a_string(&self, kind: &str) -> Fault {
        fault(Class::TextNotString, format!("document.text = {:?} leads to {kind}, not to a string", self.text_pointer))
    }
}

fn utf8(value: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(value)
        .map_err(|error| fault(Class::BadUtf8, format!("the value is not UTF-8 at byte {}", error.valid_up_to())))
}

/// Asks the registry of `settings` which kinds of schemas it knows: where it is, and the kinds. Blocking.
///
/// # Errors
/// In words, why it can't be asked.
#[cfg(feature = "registry")]
pub fn probe(settings: &Registry) -> Result<(String, Vec<String>), String> {
    registry::probe(settings)
}

fn fault(class: Class, message: String) -> Fault {
    Fault::new(Stage::Decode, class, message)
}

#[cfg(test)]
impl Decoder {
    /// [`Decoder::decode`] where nothing has to be waited for.
    fn at_once(&self, record: &Record) -> Result<Document, Fault> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(self.decode(record))
    }
}

#[cfg(test)]
mod tests;
