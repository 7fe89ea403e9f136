//! Owns the keys of `[signals.X]` with `kind = "pll"` and with `kind = "nelbo"`.

use super::plan::{self, Plan};
use super::recipe::Recipe;
use super::stop::Stop;
use super::tail::Tail;
use super::{Error, recipe};
use crate::engine::Needs;
use crate::tokenize::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A masked language model's score: its model, and how windows are masked. [docs/scores.md](scores.md) defines each signal it yields.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of a `[models.X]` table.
    pub model: String,
    /// Which tokens are masked together. Scores of different maskings differ, so thresholds belong to one.
    pub masking: Masking,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    #[schemars(range(min = 1))]
    pub window_tokens: usize,
    /// Signals besides the usual ones; they come from the same passes, and cost a little device time each.
    pub extra: Vec<Extra>,
    /// For `unmasked` only: adds `.aul_b`, for models that were trained with kept and random tokens among their targets.
    pub corrected: bool,
    /// For `strided` only: 7 if not given, close to the 15 % that models are trained with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stride: Option<usize>,
    /// For `word-l2r` and `whole-word` only: what a word is. `unicode` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<WordsBy>,
    /// For `sampled` only: tokens scored in each window, at most; 32 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub sample_tokens: Option<usize>,
    /// For `sampled` only: another number draws other tokens. 0 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// For `corrected` only: the share of training targets left as they were, from 0 to below 1; 0.1, as in BERT, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_rate: Option<f64>,
    /// For `corrected` only: the share of training targets replaced by a random token, above 0 and at most 1 together with `keep_rate`; 0.1, as in BERT, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_rate: Option<f64>,
    /// For `single` only: a token's loss counts for this much at most, nats. Part of what the score is. Not clipped if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_nats: Option<f64>,
    /// Whether passes end once the rules on the score are decided.
    pub stop: Stop,
    /// For `calibrated` only: the file with the boundaries, made for this very score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_table: Option<PathBuf>,
    /// For `calibrated` only: the share of the documents that may end early that are scored to the end all the same, to test the rate; 0.01 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_share: Option<f64>,
    /// For `certified` only: the chance that what this score says of a document's rules differs from what the full score says, at most; 0.001 if not given. Several such tables add up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// A secret that the order of the passes depends on; empty if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_key: Option<String>,
}

/// Which tokens of a window are masked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Masking {
    /// One at a time: the exact score, a pass for each token.
    #[default]
    Single,
    /// A token and the later pieces of its word, a pass for each token.
    WordL2r,
    /// All pieces of a word, a pass for each word.
    WholeWord,
    /// Positions r with r mod stride = g, one pass for each g.
    Strided,
    /// Some tokens only, one at a time, drawn by the content: an estimate of `single` without bias.
    Sampled,
    /// None: one pass, in which the model sees what it is to predict.
    Unmasked,
}

impl Masking {
    /// The masking's name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::WordL2r => "word-l2r",
            Self::WholeWord => "whole-word",
            Self::Strided => "strided",
            Self::Sampled => "sampled",
            Self::Unmasked => "unmasked",
        }
    }
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WordsBy {
    /// UAX #29 segments of the text, at most eight pieces at once: the same in every language and for every tokenizer.
    #[default]
    Unicode,
    /// What the tokenizer cuts before it makes pieces (Hugging Face's `word_ids`): comparable to other tools.
    Tokenizer,
}

/// A signal that is made only if asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Mean of ln rank.
    LogRank,
    /// Surprisal over log-rank (Su et al. 2023, "DetectLLM", LRR).
    Lrr,
    /// Mean entropy of the predictions, nats.
    Entropy,
    /// Mean of the best token's log-probability less the own token's, nats.
    ArgmaxGap,
}

/// `kind = "nelbo"`: a bound on the negative log-likelihood of the model as a masked diffusion (Sahoo et al. 2024, "Simple and
/// Effective Masked Diffusion Language Models", equation 10, in the form of fixed counts).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NelboSettings {
    /// Name of a `[models.X]` table.
    pub model: String,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    #[schemars(range(min = 1))]
    pub window_tokens: usize,
    /// Passes for each window: an even number from 2 to 1024, as masks come in complementary pairs.
    #[schemars(range(min = 2, max = 1024))]
    pub draws: usize,
    /// Another number draws other masks.
    pub seed: u64,
}

const STRIDE: usize = 7;
const SAMPLE_TOKENS: usize = 32;
/// BERT's share of targets that are kept, and of those that are random (Devlin et al. 2019, section 3.1).
const RATE: f64 = 0.1;
const DRAWS_MAX: usize = 1024;

/// What a score takes, whatever its kind: for checks and plans made without a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape<'a> {
    /// Name of the `[models.X]` table.
    pub model: &'a str,
    /// How windows are masked, in a word.
    pub masking: &'static str,
    /// Content tokens of a window, at most.
    pub window_tokens: usize,
    /// Rows that the device runs for a full window, at most.
    pub passes: usize,
}

impl Shape<'_> {
    /// Checks the window against the positions of the model's `tokenizer`; `name` is the signal's.
    ///
    /// # Errors
    /// Window and special tokens together don't fit.
    pub fn fits(&self, name: &str, tokenizer: &Tokenizer) -> Result<(), Error> {
        let (before, after) = tokenizer.template();
        let (specials, positions) = (before.len() + after.len(), tokenizer.max_positions());
        if self.window_tokens.saturating_add(specials) <= positions {
            return Ok(());
        }
        let why = format!(
            "{} tokens and {specials} special ones are more than the {positions} positions of models.{}; at most {}",
            self.window_tokens,
            self.model,
            positions.saturating_sub(specials)
        );
        Err(Error::Settings { name: name.to_owned(), key: "window_tokens", why })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "default".to_owned(),
            masking: Masking::default(),
            window_tokens: 128,
            extra: Vec::new(),
            corrected: false,
            stride: None,
            words: None,
            sample_tokens: None,
            seed: None,
            keep_rate: None,
            random_rate: None,
            clip_nats: None,
            stop: Stop::default(),
            delta: None,
            stop_table: None,
            audit_share: None,
            stop_key: None,
        }
    }
}

impl Default for NelboSettings {
    fn default() -> Self {
        Self { model: "default".to_owned(), window_tokens: 128, draws: 16, seed: 0 }
    }
}

impl Settings {
    /// Checks the keys against each other; `name` is the signal's.
    ///
    /// # Errors
    /// A key that the masking has no use for, or a value out of range.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        let wrong = |key, why: String| Err(Error::Settings { name: name.to_owned(), key, why });
        if let Some((key, why)) = self.useless().or_else(|| self.stop_problem()) {
            return wrong(key, why);
        }
        let counts = [
            ("window_tokens", Some(self.window_tokens)),
            ("stride", self.stride),
            ("sample_tokens", self.sample_tokens),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return wrong(key, "must be at least 1".to_owned());
        }
        let (keep, random) = self.rates();
        if !(0.0..1.0).contains(&keep) {
            return wrong("keep_rate", format!("{keep} is no share; it must be at least 0 and below 1"));
        }
        if !(random > 0.0 && keep + random <= 1.0) {
            let why = "must be above 0, and at most 1 together with keep_rate; a model trained without random tokens has no corrected score";
            return wrong("random_rate", why.to_owned());
        }
        match self.extra.iter().enumerate().find(|(at, extra)| self.extra[..*at].contains(extra)) {
            Some((_, twice)) => wrong("extra", format!("{:?} stands there twice", Tail::from(*twice).as_str())),
            None => Ok(()),
        }
    }

    /// The first key that is given but means nothing under this masking.
    fn useless(&self) -> Option<(&'static str, String)> {
        use Masking::{Sampled, Single, Strided, Unmasked, WholeWord, WordL2r};
        let sampled: &[Masking] = &[Sampled];
        let rates = self.keep_rate.is_some() || self.random_rate.is_some();
        let keys: [(&'static str, bool, &[Masking]); 6] = [
            ("clip_nats", self.clip_nats.is_some(), &[Single]),
            ("stride", self.stride.is_some(), &[Strided]),
            ("words", self.words.is_some(), &[WordL2r, WholeWord]),
            ("sample_tokens", self.sample_tokens.is_some(), sampled),
            ("seed", self.seed.is_some(), sampled),
            ("corrected", self.corrected, &[Unmasked]),
        ];
        for (key, given, maskings) in keys {
            if given && !maskings.contains(&self.masking) {
                let use_it =
                    maskings.iter().map(|masking| format!("{:?}", masking.as_str())).collect::<Vec<_>>().join(" or ");
                let why = format!("masking = {:?} has no {key}; remove it, or use {use_it}", self.masking.as_str());
                return Some((key, why));
            }
        }
        let key = if self.keep_rate.is_some() { "keep_rate" } else { "random_rate" };
        (rates && !self.corrected).then(|| (key, "is for corrected = true only; remove it, or set that".to_owned()))
    }

    /// What this score takes.
    #[must_use]
    pub fn shape(&self) -> Shape<'_> {
        let (masking, window_tokens) = (self.masking.as_str(), self.window_tokens);
        Shape { model: &self.model, masking, window_tokens, passes: self.recipe().plan.passes_at_most(window_tokens) }
    }

    fn rates(&self) -> (f64, f64) {
        (self.keep_rate.unwrap_or(RATE), self.random_rate.unwrap_or(RATE))
    }

    /// What model and engine must be able to read for this score.
    #[must_use]
    pub fn needs(&self) -> Needs {
        Needs { ranks: !self.extra.is_empty(), odds: self.corrected }
    }

    /// What this score's signals are called, behind the table's name and a dot.
    #[must_use]
    pub fn signal_tails(&self) -> Vec<&'static str> {
        self.tails().into_iter().map(Tail::as_str).collect()
    }

    /// Whether these scores are pseudo-log-likelihoods, so that a perplexity may be made of them: not where nothing is masked.
    #[must_use]
    pub fn has_perplexity(&self) -> bool {
        self.masking != Masking::Unmasked
    }

    pub(super) fn tails(&self) -> Vec<Tail> {
        let mut tails = vec![Tail::NllToken];
        tails.extend(self.has_perplexity().then_some(Tail::Pppl));
        tails.extend([Tail::NllWord, Tail::Bpb, Tail::Tokens, Tail::Windows, Tail::WorstDecile, Tail::UnkRate]);
        tails.extend((self.masking == Masking::Sampled).then_some(Tail::Stderr));
        tails.extend((self.stop != Stop::Never).then_some(Tail::Revealed));
        tails.extend(self.corrected.then_some(Tail::AulB));
        tails.extend(self.extra.iter().map(|extra| Tail::from(*extra)));
        tails
    }

    pub(super) fn recipe(&self) -> Recipe {
        let words = match self.words.unwrap_or_default() {
            WordsBy::Unicode => plan::Words::Unicode,
            WordsBy::Tokenizer => plan::Words::Tokenizer,
        };
        let plan = match self.masking {
            Masking::Single => Plan::Single,
            Masking::WordL2r => Plan::WordL2r(words),
            Masking::WholeWord => Plan::WholeWord(words),
            Masking::Strided => Plan::Strided { stride: self.stride.unwrap_or(STRIDE) },
            Masking::Sampled => Plan::Sampled {
                tokens: self.sample_tokens.unwrap_or(SAMPLE_TOKENS),
                seed: self.seed.unwrap_or_default(),
            },
            Masking::Unmasked => Plan::Unmasked,
        };
        let (keep, random) = self.rates();
        let correction = self.corrected.then_some(recipe::Correction { keep, random });
        Recipe { plan, window_tokens: self.window_tokens, correction, clip_nats: self.clip_nats }
    }
}

impl NelboSettings {
    /// Checks the keys; `name` is the signal's.
    ///
    /// # Errors
    /// A window of nothing, or an odd number of draws, none, or more than 1024.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        let wrong = |key, why: &str| Err(Error::Settings { name: name.to_owned(), key, why: why.to_owned() });
        if self.window_tokens == 0 {
            return wrong("window_tokens", "must be at least 1");
        }
        if self.draws == 0 || self.draws > DRAWS_MAX || !self.draws.is_multiple_of(2) {
            return wrong("draws", "must be an even number from 2 to 1024: masks come in complementary pairs");
        }
        Ok(())
    }

    /// What this score's signals are called, behind the table's name and a dot.
    #[must_use]
    pub fn signal_tails(&self) -> Vec<&'static str> {
        Self::TAILS.into_iter().map(Tail::as_str).collect()
    }

    /// What this score takes.
    #[must_use]
    pub fn shape(&self) -> Shape<'_> {
        Shape { model: &self.model, masking: "nelbo", window_tokens: self.window_tokens, passes: self.draws }
    }

    pub(super) const TAILS: [Tail; 4] = [Tail::NelboToken, Tail::Bpb, Tail::Tokens, Tail::Windows];

    pub(super) fn recipe(&self) -> Recipe {
        let plan = Plan::Nelbo { draws: self.draws, seed: self.seed };
        Recipe { plan, window_tokens: self.window_tokens, correction: None, clip_nats: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_against_each_other() {
        let check = |text| toml::from_str::<Settings>(text).unwrap().check("pll").map_err(|error| error.to_string());
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
        for text in [
            "masking = \"strided\"\nstride = 5",
            "masking = \"word-l2r\"\nwords = \"tokenizer\"\nextra = [\"lrr\", \"log_rank\", \"entropy\", \"argmax_gap\"]",
            "masking = \"sampled\"\nsample_tokens = 5\nseed = 3",
            "masking = \"unmasked\"\ncorrected = true\nkeep_rate = 0\nrandom_rate = 0.2",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, key) in [
            ("stride = 7", "stride"),
            ("masking = \"strided\"\nstride = 0", "stride"),
            ("window_tokens = 0", "window_tokens"),
            ("masking = \"strided\"\nwords = \"unicode\"", "words"),
            ("sample_tokens = 5", "sample_tokens"),
            ("masking = \"sampled\"\nsample_tokens = 0", "sample_tokens"),
            ("masking = \"whole-word\"\nseed = 1", "seed"),
            ("corrected = true", "corrected"),
            ("masking = \"unmasked\"\nkeep_rate = 0.1", "keep_rate"),
            ("masking = \"unmasked\"\ncorrected = true\nkeep_rate = 1.0", "keep_rate"),
            ("masking = \"unmasked\"\ncorrected = true\nrandom_rate = 0.0", "random_rate"),
            ("masking = \"unmasked\"\ncorrected = true\nrandom_rate = nan", "random_rate"),
            ("masking = \"unmasked\"\ncorrected = true\nkeep_rate = 0.5\nrandom_rate = 0.6", "random_rate"),
            ("extra = [\"lrr\", \"lrr\"]", "extra"),
        ] {
            let message = check(text).unwrap_err();
            assert!(message.starts_with(&format!("signals.pll.{key}: ")), "{text}: {message}");
        }
    }

    #[test]
    fn the_bound_s_keys_are_checked() {
        let check =
            |text| toml::from_str::<NelboSettings>(text).unwrap().check("bound").map_err(|error| error.to_string());
        assert_eq!(check(""), Ok(()));
        for (text, key) in [
            ("draws = 3", "draws"),
            ("draws = 0", "draws"),
            ("draws = 1026", "draws"),
            ("window_tokens = 0", "window_tokens"),
        ] {
            let message = check(text).unwrap_err();
            assert!(message.starts_with(&format!("signals.bound.{key}: ")), "{text}: {message}");
        }
    }

    #[test]
    fn an_unknown_masking_extra_or_key_is_refused() {
        for text in ["masking = \"global-l2r\"", "extra = [\"rank\"]", "words = \"icu\""] {
            let message = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(message.contains("unknown variant"), "{message}");
        }
        assert!(toml::from_str::<Settings>("strid = 7").is_err());
        assert!(toml::from_str::<NelboSettings>("masking = \"single\"").is_err());
    }
}
