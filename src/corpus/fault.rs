//! Owns the fault: why a record did not become a verdict, as facts, in closed sets.
//!
//! Rooms classify their own errors into a [`Fault`]; `pipeline/disposition.rs` alone decides what a fault leads to.

use std::fmt;

/// The stage of the road on which a fault arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the record from its source.
    Read,
    /// Turning bytes into a document.
    Decode,
    /// Turning text into token ids.
    Tokenize,
    /// Running the model.
    Score,
    /// Writing the verdict to its route.
    Deliver,
}

impl Stage {
    /// Every stage, for help texts and filters.
    pub const ALL: [Stage; 5] = [Self::Read, Self::Decode, Self::Tokenize, Self::Score, Self::Deliver];

    /// The stage's name in headers, logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Tokenize => "tokenize",
            Self::Score => "score",
            Self::Deliver => "deliver",
        }
    }
}

/// What kind of fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A null value without a key: a deletion of nothing.
    TombstoneWithoutKey,
    /// A header whose name is not UTF-8, or holds a NUL, and so can't be passed on byte for byte.
    HeaderName,
    /// The record's value, or its text once it is normalised, is larger than `document.max_bytes`.
    TooLarge,
    /// The value (or the text in it) is not UTF-8.
    BadUtf8,
    /// The value is not JSON.
    BadJson,
    /// The value is not in the frame that its format asks for: no schema's id stands before it.
    BadFraming,
    /// The value is not Avro of its writer's schema.
    BadAvro,
    /// The value is not Protobuf of its writer's schema.
    BadProtobuf,
    /// The schema registry knows no schema of that id.
    UnknownSchema,
    /// The writer's schema can't be used: it can't be read, is of another kind, or refers to what there is not.
    BadSchema,
    /// The schema registry could not be asked for long. No fault of the record's.
    RegistryUnavailable,
    /// `document.text` points at nothing.
    MissingText,
    /// `document.text` points at something that is not a string.
    TextNotString,
    /// The tokenizer refused the text.
    Tokenizer,
    /// The device ran out of memory on this document alone.
    DeviceMemory,
    /// The device failed on this document alone.
    Device,
    /// The engine has stopped: nothing can be scored any more.
    EngineGone,
    /// The output is larger than its topic allows.
    OutputTooLarge,
    /// The output was refused by its topic.
    OutputRefused,
    /// A bug of ours.
    Bug,
}

impl Class {
    /// Every class, in the order of the enum, for help texts, filters and series. Its length is the enum's, so that none is forgotten.
    pub const ALL: [Self; Self::Bug as usize + 1] = [
        Self::TombstoneWithoutKey,
        Self::HeaderName,
        Self::TooLarge,
        Self::BadUtf8,
        Self::BadJson,
        Self::BadFraming,
        Self::BadAvro,
        Self::BadProtobuf,
        Self::UnknownSchema,
        Self::BadSchema,
        Self::RegistryUnavailable,
        Self::MissingText,
        Self::TextNotString,
        Self::Tokenizer,
        Self::DeviceMemory,
        Self::Device,
        Self::EngineGone,
        Self::OutputTooLarge,
        Self::OutputRefused,
        Self::Bug,
    ];

    /// The class's name in headers, logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TombstoneWithoutKey => "tombstone-without-key",
            Self::HeaderName => "header-name",
            Self::TooLarge => "too-large",
            Self::BadUtf8 => "bad-utf8",
            Self::BadJson => "bad-json",
            Self::BadFraming => "bad-framing",
            Self::BadAvro => "bad-avro",
            Self::BadProtobuf => "bad-protobuf",
            Self::UnknownSchema => "unknown-schema",
            Self::BadSchema => "bad-schema",
            Self::RegistryUnavailable => "registry-unavailable",
            Self::MissingText => "missing-text",
            Self::TextNotString => "text-not-string",
            Self::Tokenizer => "tokenizer",
            Self::DeviceMemory => "device-memory",
            Self::Device => "device",
            Self::EngineGone => "engine-gone",
            Self::OutputTooLarge => "output-too-large",
            Self::OutputRefused => "output-refused",
            Self::Bug => "bug",
        }
    }
}

/// Why a record did not become a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where on the road.
    pub stage: Stage,
    /// What kind.
    pub class: Class,
    /// One sentence for a person: what is wrong and where. Never the document's text.
    pub message: String,
}

impl Fault {
    /// A fault of `class` at `stage`.
    pub fn new(stage: Stage, class: Class, message: impl Into<String>) -> Self {
        Self { stage, class, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.class.as_str(), self.stage.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_listed_in_its_place_under_its_own_name() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, place, "{}", class.as_str());
            assert_eq!(Class::ALL.iter().filter(|other| other.as_str() == class.as_str()).count(), 1);
        }
    }
}
