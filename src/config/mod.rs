//! Settings: one pipeline file, the environment and `--set`, read into one checked whole.
//!
//! Owns: how settings are found, laid over each other (defaults < file < environment < `--set`), checked against each other, and printed
//! without secrets. In: a file, variables, overrides. Out: [`Settings`], or what is wrong: where, which key, and what to do.
//! Invariants: an unknown key is never ignored; a value is never rounded or guessed; a secret is never printed.
//! Must not know: anything that runs.

mod change;
mod check;
mod error;
mod override_;
mod problem;
mod read;
mod redact;
mod tree;

pub use check::Purpose;
pub use error::Error;
pub use problem::{Problem, Wrong};

use crate::pipeline::{DeliverySettings, Guarantee, ReloadSettings};
use crate::sink::RouteSettings;
use crate::{admin, cache, decode, engine, judge, scorer, signals, sink, source, telemetry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The largest pipeline file: some thousand rules.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A pipeline, as its file and all that lies over it say. Every table may be absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The pipeline's name, for logs and the status page.
    pub name: String,
    /// `[source]`: where records come from.
    pub source: source::Settings,
    /// `[sink]`: where verdicts go; empty means Kafka where the source is Kafka, else standard output.
    pub sink: sink::Settings,
    /// `[document]`: how a record holds its text.
    pub document: decode::Settings,
    /// `[models.X]`, by name.
    pub models: BTreeMap<String, engine::Settings>,
    /// `[signals.X]`, by name, which is also the prefix of the signals it yields.
    pub signals: BTreeMap<String, SignalSettings>,
    /// `[judge]`: how rules are evaluated.
    pub judge: judge::Settings,
    /// `[[rules]]`, in order.
    pub rules: Vec<judge::RuleSettings>,
    /// `[routes]`: a topic or a file for each verdict.
    pub routes: RouteSettings,
    /// `[delivery]`: the guarantee and the bounds on what is in flight.
    pub delivery: DeliverySettings,
    /// `[reload]`: when settings are read again.
    pub reload: ReloadSettings,
    /// `[cache]`: where scores are kept.
    pub cache: cache::Settings,
    /// `[admin]`: where the endpoints listen.
    pub admin: admin::Settings,
    /// `[telemetry]`: where traces go.
    pub telemetry: telemetry::Settings,
}

/// A `[signals.X]` table; its `kind` says which keys it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", from = "Kind")]
#[schemars(!from)]
pub enum SignalSettings {
    /// `kind = "pll"`: a masked language model's score.
    Pll(scorer::Settings),
    /// `kind = "nelbo"`: a bound on the model's negative log-likelihood.
    Nelbo(scorer::NelboSettings),
    /// `kind = "sequence-classifier"`: a text classifier's labels.
    SequenceClassifier(scorer::SequenceSettings),
    /// `kind = "token-classifier"`: how many tokens a model flags.
    TokenClassifier(scorer::TokenSettings),
    /// `kind = "embedding"`: a small head over an encoder.
    Embedding(scorer::EmbeddingSettings),
    /// `kind = "prompt"`: label words at a template's mask.
    Prompt(scorer::PromptSettings),
    /// `kind = "text"`: counts and rates of the text itself.
    Text(signals::Settings),
}

/// How a signal's table is read: the reader (`read.rs`) takes `kind` out of the table as the variant, which keeps the place of every key in error
/// messages, where serde's own tagged enums would lose it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Pll(scorer::Settings),
    Nelbo(scorer::NelboSettings),
    SequenceClassifier(scorer::SequenceSettings),
    TokenClassifier(scorer::TokenSettings),
    Embedding(scorer::EmbeddingSettings),
    Prompt(scorer::PromptSettings),
    Text(signals::Settings),
}

impl From<Kind> for SignalSettings {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Pll(settings) => Self::Pll(settings),
            Kind::Nelbo(settings) => Self::Nelbo(settings),
            Kind::SequenceClassifier(settings) => Self::SequenceClassifier(settings),
            Kind::TokenClassifier(settings) => Self::TokenClassifier(settings),
            Kind::Embedding(settings) => Self::Embedding(settings),
            Kind::Prompt(settings) => Self::Prompt(settings),
            Kind::Text(settings) => Self::Text(settings),
        }
    }
}

impl SignalSettings {
    /// What the score takes; nothing for numbers of the text.
    #[must_use]
    pub fn shape(&self) -> Option<scorer::Shape<'_>> {
        match self {
            Self::Pll(settings) => Some(settings.shape()),
            Self::Nelbo(settings) => Some(settings.shape()),
            Self::SequenceClassifier(_) | Self::TokenClassifier(_) | Self::Embedding(_) | Self::Prompt(_) => {
                self.head().map(scorer::Head::shape)
            }
            Self::Text(_) => None,
        }
    }

    /// Whether the score's passes end early, and what is promised then, in words.
    #[must_use]
    pub fn stop(&self) -> Option<String> {
        match self {
            Self::Pll(settings) => settings.stop_promise(),
            Self::Nelbo(_)
            | Self::SequenceClassifier(_)
            | Self::TokenClassifier(_)
            | Self::Embedding(_)
            | Self::Prompt(_)
            | Self::Text(_) => None,
        }
    }

    /// The settings of a head, which reads its model in one pass.
    #[must_use]
    pub fn head(&self) -> Option<scorer::Head<'_>> {
        match self {
            Self::SequenceClassifier(settings) => Some(scorer::Head::Sequence(settings)),
            Self::TokenClassifier(settings) => Some(scorer::Head::Tokens(settings)),
            Self::Embedding(settings) => Some(scorer::Head::Embedding(settings)),
            Self::Prompt(settings) => Some(scorer::Head::Prompt(settings)),
            Self::Pll(_) | Self::Nelbo(_) | Self::Text(_) => None,
        }
    }

    /// The names of the signals that the table called `name` yields.
    #[must_use]
    pub fn signal_names(&self, name: &str) -> Vec<String> {
        let named = |tails: Vec<&str>| tails.iter().map(|tail| format!("{name}.{tail}")).collect();
        match self {
            Self::Pll(settings) => named(settings.signal_tails()),
            Self::Nelbo(settings) => named(settings.signal_tails()),
            Self::SequenceClassifier(_) | Self::TokenClassifier(_) | Self::Embedding(_) | Self::Prompt(_) => {
                named(self.head().map(scorer::Head::signal_tails).unwrap_or_default())
            }
            Self::Text(_) => {
                signals::TextSignals::new(name).signal_names().iter().map(|name| (**name).to_owned()).collect()
            }
        }
    }

    /// The `[models.X]` table that the signal reads, and what it must read there, where it reads any.
    #[must_use]
    pub fn model(&self) -> Option<(&str, scorer::Task)> {
        match self {
            Self::Pll(settings) => Some((&settings.model, scorer::Task::Masked(settings.needs()))),
            Self::Nelbo(settings) => Some((&settings.model, scorer::Task::Masked(engine::Needs::default()))),
            Self::SequenceClassifier(_) | Self::TokenClassifier(_) | Self::Embedding(_) | Self::Prompt(_) => {
                self.head().map(|head| (head.shape().model, head.task()))
            }
            Self::Text(_) => None,
        }
    }
}

/// Reads the pipeline file at `path`, lays the variables `TAMIS__ROOM__KEY` of this process's environment and then `sets`
/// (`room.key=value`, the last wins) over it, and fills the rest with defaults. Whether the whole makes sense is for [`Settings::validate`].
///
/// # Errors
/// The first thing that can't be read, with its file, line or key: see [`Error`].
pub fn load(path: &Path, sets: &[String]) -> Result<Settings, Error> {
    let text = text_of(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })?;
    load_text(&text, path, std::env::vars_os(), sets)
}

/// The text of the pipeline file, which is a person's writing and not a device without end.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let count = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if count as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes, so it is no pipeline file")));
    }
    Ok(text)
}

/// [`load`] for a `text` that was read from `path` and given variables.
fn load_text(
    text: &str,
    path: &Path,
    variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    sets: &[String],
) -> Result<Settings, Error> {
    let mut tree = tree::parse(text, path)?;
    for over in override_::from_environment(variables)? {
        tree::lay_over(&mut tree, &over)?;
    }
    for set in sets {
        tree::lay_over(&mut tree, &override_::from_set(set)?)?;
    }
    read::read(tree).map_err(|error| error.into_error(path))
}

/// The JSON schema of a pipeline file: every key with its type, range, default and meaning, as the settings' types say them. For editors, and for
/// `docs/configuration.md`, which is made of it.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Settings);
    schema.insert("title".to_owned(), "A pipeline of tamis".into());
    schema.to_value()
}

impl Settings {
    /// The guarantee in force: the one asked for, else exactly-once within one Kafka cluster and at-least-once otherwise.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.delivery.guarantee.unwrap_or(if self.fits_a_transaction() {
            Guarantee::ExactlyOnce
        } else {
            Guarantee::AtLeastOnce
        })
    }

    /// Whether outputs go to Kafka: where that is asked for, or where the source is Kafka and nothing else is asked for.
    #[must_use]
    pub fn delivers_to_kafka(&self) -> bool {
        let elsewhere = self.sink.stdout.is_some() || self.sink.files.is_some();
        self.sink.kafka.is_some() || (!elsewhere && self.source.kafka.is_some())
    }

    /// Whether input and outputs are topics of one cluster, as a transaction over both needs.
    #[must_use]
    pub fn fits_a_transaction(&self) -> bool {
        let other = self.sink.kafka.as_ref().map_or("", |sink| sink.brokers.as_str());
        let source = self.source.kafka.as_ref();
        self.delivers_to_kafka() && source.is_some_and(|source| other.is_empty() || other == source.brokers)
    }

    /// What the model `name` is loaded for, once each: masked scores all together, and what heads read in one pass.
    #[must_use]
    pub fn tasks(&self, name: &str) -> Vec<scorer::Task> {
        let asked = self.signals.values().filter_map(SignalSettings::model).filter(|(model, _)| *model == name);
        asked.fold(Vec::new(), |tasks, (_, task)| task.joined(tasks))
    }

    /// The names of all signals that the `[signals]` tables yield: what a rule may look at.
    #[must_use]
    pub fn signal_names(&self) -> BTreeSet<String> {
        self.signals.iter().flat_map(|(name, settings)| settings.signal_names(name)).collect()
    }

    /// Whether these settings make sense for `purpose`, all in all.
    ///
    /// # Errors
    /// Every problem there is, in the file's order.
    pub fn validate(&self, purpose: Purpose) -> Result<(), Vec<Problem>> {
        let problems = check::problems(self, purpose);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The keys in which `other` differs from these settings, without their values, as in `models.default.path`; lists are compared whole, but
    /// for rules, which go by their names.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        change::differences(self, other)
    }

    /// These settings as TOML, complete, with every secret replaced by `***`.
    #[must_use]
    pub fn redacted(&self) -> String {
        redact::print(self)
    }
}

#[cfg(test)]
mod tests;
