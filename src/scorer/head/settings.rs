//! Owns the keys of `[signals.X]` with `kind = "sequence-classifier"` and `"token-classifier"`.

use super::labels::{self, COUNTS};
use crate::engine::OnePass;
use crate::scorer::{Error, Shape, Task};
use serde::{Deserialize, Serialize};

/// What windows of models with 512 positions and two special tokens hold.
const WINDOW_TOKENS: usize = 510;

/// `kind = "sequence-classifier"`: a text classifier's probability of each label, for each window and pooled over them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The greatest of the windows: one bad passage is enough.
    #[default]
    Max,
    /// Their mean, weighted by tokens: the document as a whole.
    Mean,
}

/// What makes numbers of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// One of the labels is true: e^z over the sum of all.
    Softmax,
    /// Each label is true or not: 1 / (1 + e^-z).
    Sigmoid,
    /// None: the logits themselves, as for a regression.
    None,
}

/// A head's settings, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head<'a> {
    /// `kind = "sequence-classifier"`.
    Sequence(&'a SequenceSettings),
    /// `kind = "token-classifier"`.
    Tokens(&'a TokenSettings),
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
        }
    }

    /// What the score takes.
    #[must_use]
    pub fn shape(self) -> Shape<'a> {
        let (model, masking, window_tokens) = match self {
            Self::Sequence(settings) => (&settings.model, "sequence-classifier", settings.window_tokens),
            Self::Tokens(settings) => (&settings.model, "token-classifier", settings.window_tokens),
        };
        Shape { model, masking, window_tokens, passes: 1 }
    }

    /// What is read of the model.
    #[must_use]
    pub fn pass(self) -> OnePass {
        match self {
            Self::Sequence(_) => OnePass::Sequence,
            Self::Tokens(_) => OnePass::Tokens,
        }
    }

    /// What its model is loaded for.
    #[must_use]
    pub fn task(self) -> Task {
        Task::OnePass(self.pass())
    }

    /// What the signals are called, behind the table's name and a dot.
    #[must_use]
    pub fn signal_tails(self) -> Vec<&'a str> {
        let mut tails: Vec<&str> = match self {
            Self::Sequence(settings) => settings.labels.iter().map(String::as_str).collect(),
            Self::Tokens(_) => TokenSettings::TAILS.to_vec(),
        };
        tails.extend(COUNTS);
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
    fn activations_are_what_they_are_called() {
        let softmax = Activation::Softmax.of(&[1000.0, 1000.0 + 3.0_f64.ln()]);
        assert!((softmax[0] - 0.25).abs() < 1e-12 && (softmax[1] - 0.75).abs() < 1e-12);
        assert_eq!(Activation::Sigmoid.of(&[0.0, -1e4, 1e4]), [0.5, 0.0, 1.0]);
        assert_eq!(Activation::None.of(&[-3.5]), [-3.5]);
    }
}
