//! Owns the rules that settings must keep between each other, one variant each, with what to do.

use crate::pipeline::Guarantee;
use std::fmt;

/// One thing wrong with settings that could each be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The key's path, `routes.pass`.
    pub key: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.wrong)
    }
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// A key that must say something is empty or absent.
    #[error("{what} is needed here")]
    Needed {
        /// What is missing, in words.
        what: &'static str,
    },
    /// Not exactly one source.
    #[error("there must be exactly one of [source.kafka], [source.files] and [source.stdin]; {found} are given")]
    Sources {
        /// How many there are.
        found: usize,
    },
    /// More than one sink.
    #[error("there may be only one of [sink.kafka], [sink.files] and [sink.stdout]; leave the others out")]
    Sinks,
    /// The guarantee that was asked for can't be kept.
    #[error(
        "{} needs a Kafka source and outputs on the same cluster; leave delivery.guarantee out, or set it to {}",
        quoted(*.0), quoted(Guarantee::AtLeastOnce)
    )]
    Guarantee(Guarantee),
    /// A property that tamis sets itself, because delivery rests on it.
    #[error("tamis sets the property {property:?} itself, because delivery rests on it; remove it{instead}")]
    OwnedProperty {
        /// The property's name.
        property: String,
        /// The key to use instead, if there is one.
        instead: &'static str,
    },
    /// Not a name that Kafka allows for a topic.
    #[error(
        "{topic:?} can't be a topic: up to 249 letters, digits, dots, underscores and hyphens, not only dots (a source's pattern begins with ^)"
    )]
    Topic {
        /// The name.
        topic: String,
    },
    /// Not a name for an output file.
    #[error(
        "{stem:?} can't be the stem of a file here: letters, digits, dots, underscores and hyphens, not beginning with a dot; it becomes <stem>.jsonl in sink.files.dir"
    )]
    Stem {
        /// The name.
        stem: String,
    },
    /// Not a sha256.
    #[error("this is no sha256: 64 hexadecimal digits, as `sha256sum manifest.json` prints them")]
    Checksum,
    /// A dash among paths.
    #[error("\"-\" is no file here; standard input is [source.stdin]")]
    Dash,
    /// A format of bytes where records are lines.
    #[error(
        "values of this format are bytes in Kafka records, and here records are lines: set it to \"json\" or \"text\", and leave out [document.registry]"
    )]
    Lines,
    /// A level that the compression does not have.
    #[error("{level} is no level of this compression; {known}")]
    Level {
        /// The level.
        level: u32,
        /// The levels there are, in words.
        known: String,
    },
    /// A topic is named twice among the source's.
    #[error("the topic {topic:?} is named twice")]
    TopicTwice {
        /// The name.
        topic: String,
    },
    /// A route leads back into the source.
    #[error("{topic:?} is also read by [source.kafka], so its outputs would come back as inputs; use another topic")]
    RouteIsSource {
        /// The topic.
        topic: String,
    },
    /// A topic for one verdict beside the topic for all of them.
    #[error("routes.annotate takes every document, whatever its verdict; leave this out, or leave out routes.annotate")]
    BesideAnnotate,
    /// Dead letters would mix with documents.
    #[error("{topic:?} also takes documents ({route}); give dead letters a topic of their own")]
    DeadLetterIsRoute {
        /// The topic.
        topic: String,
        /// The other route's key.
        route: &'static str,
    },
    /// A table's name can't be part of a signal's name.
    #[error("{name:?} can't be a table's name here: use lower-case letters, digits, hyphens and underscores")]
    Name {
        /// The name.
        name: String,
    },
    /// A signal names a model that is not there.
    #[error("there is no [models.{model}]; {}", models(.known))]
    UnknownModel {
        /// The model's name.
        model: String,
        /// The models there are.
        known: Vec<String>,
    },
    /// A rule on a signal that is known only when every pass has run, of a score that is to stop before.
    #[error(
        "{signal} is known only when every pass has run, and signals.{table}.stop ends them earlier; put the rule on {table}.nll_token, or on a table \
         without stop (.pppl can be decided early where signals.{table}.clip_nats is at most 700)"
    )]
    DecidedLast {
        /// The signal.
        signal: String,
        /// Its table.
        table: String,
    },
    /// Thresholds of a language or a source where no document has one.
    #[error("no document has a {what} here, so this would never count; {}, or leave it out", if *.is_text {
        "plain text has none: set document.format to one with fields".to_owned()
    } else {
        format!("set document.{what} to the JSON pointer that leads to it, as in \"/{what}\"")
    })]
    NeverFound {
        /// `language` or `source`.
        what: &'static str,
        /// Whether documents are plain text.
        is_text: bool,
    },
    /// A number outside its range.
    #[error("{value} is out of range; it must be {range}")]
    Range {
        /// The value.
        value: u64,
        /// The range, in words.
        range: &'static str,
    },
    /// Not an address to listen on.
    #[error("{listen:?} is no address to listen on; write it like 127.0.0.1:9600, with port 0 for a free one")]
    Listen {
        /// The value.
        listen: String,
    },
    /// What another room says about its own table.
    #[error("{0}")]
    Room(String),
}

fn quoted(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::ExactlyOnce => "\"exactly-once\"",
        Guarantee::AtLeastOnce => "\"at-least-once\"",
    }
}

fn models(known: &[String]) -> String {
    match known {
        [] => "there are no models at all: add one, with its path".to_owned(),
        known => format!("known: {}", known.join(", ")),
    }
}
