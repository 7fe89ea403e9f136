//! Owns the keys of `[signals.X]` with a `kind` that reads its model in one pass: `sequence-classifier`, `token-classifier`, `embedding`, `prompt`.

use super::labels::{self, COUNTS, LEFT_OUT};
use super::prompt;
use crate::engine::{Needs, OnePass};
use crate::scorer::{Error, Shape, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What windows of models with 512 positions and two special tokens hold.
const WINDOW_TOKENS: usize = 510;

/// `kind = "sequence-classifier"`: a text classifier's probability of each label, for each window and pooled over them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceSettings {
    /// Name of a `[models.X]` table: an export with `logits [B,L]`.
    pub model: String,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    pub window_tokens: usize,
    /// Names of the model's labels, in the order of its logits; each is a signal.
    pub labels: Vec<String>,
    /// How windows become a document.
    pub pool: Pool,
    /// What makes probabilities of logits. Left out: as `problem_type` in config.json says, else softmax over several labels and sigmoid
    /// of a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// `kind = "token-classifier"`: which share of the tokens a model flags (replaced tokens, as in Clark et al. 2020, "ELECTRA"; inserted ones;
/// any labels of tokens).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSettings {
    /// Name of a `[models.X]` table: an export with `logits [B,T]` or `[B,T,L]`.
    pub model: String,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    pub window_tokens: usize,
    /// Names of the model's labels, in the order of its logits; empty for a model with one logit a token, whose positive values are the
    /// flagged ones.
    pub labels: Vec<String>,
    /// Those of the labels that flag a token: at least one, and not all.
    pub flags: Vec<String>,
}

/// How the windows of a document become one number for each label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The greatest of the windows: one bad passage is enough.
    #[default]
    Max,
    /// Their mean, weighted by tokens: the document as a whole.
    Mean,
}

/// What makes numbers of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// One of the labels is true: e^z over the sum of all.
    Softmax,
    /// Each label is true or not: 1 / (1 + e^-z).
    Sigmoid,
    /// None: the logits themselves, as for a regression.
    None,
}

/// `kind = "embedding"`: a small head over an encoder's hidden states, its weights in a file of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingSettings {
    /// Name of a `[models.X]` table: an encoder with `last_hidden_state [B,T,H]`, or a masked language model, which is cut before its last product.
    pub model: String,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    pub window_tokens: usize,
    /// The head: weights as JSON (linear or trees), or an ONNX graph `[N,H]` to `[N,L]`.
    pub head: PathBuf,
    /// Names of the head's labels, in its order; each is a signal.
    pub labels: Vec<String>,
    /// How hidden states become the embedding of a window.
    pub pooling: Pooling,
    /// How windows become a document.
    pub pool: Pool,
}

/// How a window's hidden states become its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean over the window's tokens, special ones included (Reimers and Gurevych 2019, "Sentence-BERT").
    #[default]
    Mean,
    /// The first token's, `[CLS]` say.
    First,
}

/// `kind = "prompt"`: which label words a masked language model puts at the mask of a template around the text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptSettings {
    /// Name of a `[models.X]` table: a masked language model.
    pub model: String,
    /// Tokens of the text in one prompt, at most; template and special tokens come on top.
    pub window_tokens: usize,
    /// Windows of a document that are read, its first ones; 0 for all.
    pub max_windows: usize,
    /// The text around `{text}` and `{mask}`, each once.
    pub template: String,
    /// For each label the words that stand for it at the mask, each one token of the model.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Texts without content: what the model says of them is taken off. Empty: nothing is.
    pub content_free: Vec<String>,
    /// How windows become a document.
    pub pool: Pool,
}

/// A head's settings, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head<'a> {
    /// `kind = "sequence-classifier"`.
    Sequence(&'a SequenceSettings),
    /// `kind = "token-classifier"`.
    Tokens(&'a TokenSettings),
    /// `kind = "embedding"`.
    Embedding(&'a EmbeddingSettings),
    /// `kind = "prompt"`.
    Prompt(&'a PromptSettings),
}

impl Default for SequenceSettings {
    fn default() -> Self {
        Self {
            model: "default".to_owned(),
            window_tokens: WINDOW_TOKENS,
            labels: Vec::new(),
            pool: Pool::default(),
            activation: None,
        }
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self { model: "default".to_owned(), window_tokens: WINDOW_TOKENS, labels: Vec::new(), flags: Vec::new() }
    }
}

impl Default for EmbeddingSettings {
    fn default() -> Self {
        Self {
            model: "default".to_owned(),
            window_tokens: WINDOW_TOKENS,
            head: PathBuf::new(),
            labels: Vec::new(),
            pooling: Pooling::default(),
            pool: Pool::default(),
        }
    }
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self {
            model: "default".to_owned(),
            window_tokens: 128,
            max_windows: 1,
            template: "{text} It is {mask}.".to_owned(),
            labels: BTreeMap::new(),
            content_free: vec![String::new(), "N/A".to_owned()],
            pool: Pool::default(),
        }
    }
}

impl Pooling {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::First => "first",
        }
    }
}

impl Pool {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Mean => "mean",
        }
    }
}

impl Activation {
    /// The activation's name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::None => "none",
        }
    }

    /// Numbers of `logits`, one each.
    pub(super) fn of(self, logits: &[f64]) -> Vec<f64> {
        match self {
            Self::None => logits.to_vec(),
            Self::Sigmoid => logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
            Self::Softmax => {
                let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let parts: Vec<f64> = logits.iter().map(|logit| (logit - greatest).exp()).collect();
                let all: f64 = parts.iter().sum();
                parts.into_iter().map(|part| part / all).collect()
            }
        }
    }
}

impl<'a> Head<'a> {
    /// Checks the keys against each other; `name` is the signal's.
    ///
    /// # Errors
    /// A window of nothing, labels that can't be signals, flags that are no labels.
    pub fn check(self, name: &str) -> Result<(), Error> {
        let wrong = |key, why: String| Err(Error::Settings { name: name.to_owned(), key, why });
        if self.shape().window_tokens == 0 {
            return wrong("window_tokens", "must be at least 1".to_owned());
        }
        match self {
            Self::Sequence(settings) => {
                if settings.labels.is_empty() {
                    return wrong("labels", "needs the model's labels, in the order of its logits".to_owned());
                }
                labels::wrong(settings.labels.iter().map(String::as_str)).map_or(Ok(()), |why| wrong("labels", why))
            }
            Self::Tokens(settings) => {
                if let Some(why) = labels::wrong(settings.labels.iter().map(String::as_str)) {
                    return wrong("labels", why);
                }
                settings.flags_wrong().map_or(Ok(()), |why| wrong("flags", why))
            }
            Self::Embedding(settings) => {
                if settings.head.as_os_str().is_empty() {
                    return wrong("head", "needs the head's file: JSON or ONNX".to_owned());
                }
                if settings.labels.is_empty() {
                    return wrong("labels", "needs the head's labels, in its order".to_owned());
                }
                labels::wrong(settings.labels.iter().map(String::as_str)).map_or(Ok(()), |why| wrong("labels", why))
            }
            Self::Prompt(settings) => {
                if let Some(why) = prompt::template_wrong(&settings.template) {
                    return wrong("template", why);
                }
                if settings.labels.len() < 2 || settings.labels.values().any(Vec::is_empty) {
                    return wrong("labels", "needs at least two labels, each with at least one word".to_owned());
                }
                let names = settings.labels.keys().map(String::as_str);
                labels::wrong(names).map_or(Ok(()), |why| wrong("labels", why))
            }
        }
    }

    /// What the score takes.
    #[must_use]
    pub fn shape(self) -> Shape<'a> {
        let (model, masking, window_tokens) = match self {
            Self::Sequence(settings) => (&settings.model, "sequence-classifier", settings.window_tokens),
            Self::Tokens(settings) => (&settings.model, "token-classifier", settings.window_tokens),
            Self::Embedding(settings) => (&settings.model, "embedding", settings.window_tokens),
            Self::Prompt(settings) => (&settings.model, "prompt", settings.window_tokens),
        };
        Shape { model, masking, window_tokens, passes: 1 }
    }

    /// What its model is loaded for.
    #[must_use]
    pub fn task(self) -> Task {
        match self {
            Self::Sequence(_) => Task::OnePass(OnePass::Sequence),
            Self::Tokens(_) => Task::OnePass(OnePass::Tokens),
            Self::Embedding(settings) => match settings.pooling {
                Pooling::Mean => Task::OnePass(OnePass::Mean),
                Pooling::First => Task::OnePass(OnePass::First),
            },
            Self::Prompt(_) => Task::Masked(Needs::default()),
        }
    }

    /// What the signals are called, behind the table's name and a dot.
    #[must_use]
    pub fn signal_tails(self) -> Vec<&'a str> {
        let mut tails: Vec<&str> = match self {
            Self::Sequence(settings) => settings.labels.iter().map(String::as_str).collect(),
            Self::Tokens(_) => TokenSettings::TAILS.to_vec(),
            Self::Embedding(settings) => settings.labels.iter().map(String::as_str).collect(),
            Self::Prompt(settings) => settings.labels.keys().map(String::as_str).collect(),
        };
        tails.extend(COUNTS);
        if let Self::Prompt(_) = self {
            tails.push(LEFT_OUT);
        }
        tails
    }
}

impl TokenSettings {
    /// Names of what is told of flagged tokens, in the order in which `score` makes the numbers.
    pub(super) const TAILS: [&'static str; 4] = ["flagged_rate", "nll_token", "max_log_odds", "worst_decile"];

    fn flags_wrong(&self) -> Option<String> {
        if self.labels.is_empty() {
            let why =
                "is for models with several labels; name those, or remove it: one logit flags where it is positive";
            return (!self.flags.is_empty()).then(|| why.to_owned());
        }
        if let Some(unknown) = self.flags.iter().find(|flag| !self.labels.contains(flag)) {
            return Some(format!("{unknown:?} is none of the labels"));
        }
        let distinct = self.labels.iter().filter(|label| self.flags.contains(label)).count();
        let why = "needs at least one of the labels, and not all: those that flag a token";
        (distinct == 0 || distinct == self.labels.len()).then(|| why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_against_each_other() {
        let sequence = |text| {
            let settings: SequenceSettings = toml::from_str(text).unwrap();
            Head::Sequence(&settings).check("toxic").map_err(|error| error.to_string())
        };
        let tokens = |text| {
            let settings: TokenSettings = toml::from_str(text).unwrap();
            Head::Tokens(&settings).check("rtd").map_err(|error| error.to_string())
        };
        assert_eq!(sequence("labels = [\"ok\", \"toxic\"]"), Ok(()));
        assert_eq!(tokens(""), Ok(()));
        assert_eq!(tokens("labels = [\"o\", \"per\", \"loc\"]\nflags = [\"per\", \"loc\"]"), Ok(()));
        for (text, key) in [
            ("", "labels"),
            ("labels = [\"Not OK\"]", "labels"),
            ("labels = [\"a\"]\nwindow_tokens = 0", "window_tokens"),
        ] {
            let message = sequence(text).unwrap_err();
            assert!(message.starts_with(&format!("signals.toxic.{key}: ")), "{text}: {message}");
        }
        for text in [
            "flags = [\"per\"]",
            "labels = [\"o\", \"per\"]",
            "labels = [\"o\", \"per\"]\nflags = [\"loc\"]",
            "labels = [\"o\", \"per\"]\nflags = [\"o\", \"per\"]",
        ] {
            let message = tokens(text).unwrap_err();
            assert!(message.starts_with("signals.rtd.flags: "), "{text}: {message}");
        }
    }

    #[test]
    fn a_prompt_and_an_embedding_say_what_they_lack() {
        let prompt = |text| {
            let settings: PromptSettings = toml::from_str(text).unwrap();
            Head::Prompt(&settings).check("p").map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        let words = "labels = { good = [\"good\"], bad = [\"bad\"] }";
        assert_eq!(prompt(words), "");
        assert!(prompt("").starts_with("signals.p.labels: needs at least two"));
        assert!(prompt("labels = { good = [\"good\"], bad = [] }").starts_with("signals.p.labels: "));
        assert!(prompt(&format!("template = \"{{text}}\"\n{words}")).starts_with("signals.p.template: must hold"));
        let embedding = |text| {
            let settings: EmbeddingSettings = toml::from_str(text).unwrap();
            Head::Embedding(&settings).check("e").map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert!(embedding("").starts_with("signals.e.head: "));
        assert!(embedding("head = \"h.json\"").starts_with("signals.e.labels: "));
        assert_eq!(embedding("head = \"h.json\"\nlabels = [\"spam\"]"), "");
    }

    #[test]
    fn activations_are_what_they_are_called() {
        let softmax = Activation::Softmax.of(&[1000.0, 1000.0 + 3.0_f64.ln()]);
        assert!((softmax[0] - 0.25).abs() < 1e-12 && (softmax[1] - 0.75).abs() < 1e-12);
        assert_eq!(Activation::Sigmoid.of(&[0.0, -1e4, 1e4]), [0.5, 0.0, 1.0]);
        assert_eq!(Activation::None.of(&[-3.5]), [-3.5]);
    }
}
