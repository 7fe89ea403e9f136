//! Owns the keys of `[signals.X]` with `kind = "pll"`.

use super::Error;
use crate::tokenize::Tokenizer;
use serde::{Deserialize, Serialize};

/// One masked score: its model, and how windows are masked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of a `[models.X]` table.
    pub model: String,
    /// `single` masks one token a pass: the exact score, a pass for each token. `strided` masks every stride-th token
    /// together: `stride` passes a window, scores a little higher; give it thresholds of its own.
    pub masking: Masking,
    /// Content tokens of a window, at most. Window and special tokens together must fit the model's positions.
    pub window_tokens: usize,
    /// For `strided` only: 7 if not given, close to the 15 % that models are trained with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
}

/// Which tokens of a window are masked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Masking {
    /// One at a time.
    #[default]
    Single,
    /// Positions r with r mod stride = g, one pass for each g.
    Strided,
}

impl Masking {
    /// The masking's name in settings and identities.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Strided => "strided",
        }
    }
}

/// The stride where none is given.
const STRIDE: usize = 7;

impl Default for Settings {
    fn default() -> Self {
        Self { model: "default".to_owned(), masking: Masking::default(), window_tokens: 128, stride: None }
    }
}

impl Settings {
    /// Checks the keys against each other; `name` is the signal's.
    ///
    /// # Errors
    /// A stride without `strided`, or a stride or window of nothing.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        let wrong = |key, why: &str| Err(Error::Settings { name: name.to_owned(), key, why: why.to_owned() });
        match (self.masking, self.stride) {
            (Masking::Single, Some(_)) => {
                wrong("stride", "masking = \"single\" has no stride; remove it, or use \"strided\"")
            }
            (Masking::Strided, Some(0)) => wrong("stride", "must be at least 1"),
            _ if self.window_tokens == 0 => wrong("window_tokens", "must be at least 1"),
            (Masking::Single, None) | (Masking::Strided, Some(_) | None) => Ok(()),
        }
    }

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

    /// Rows that the device runs for a full window: one for each group of positions that are masked together.
    #[must_use]
    pub fn passes(&self) -> usize {
        match self.masking {
            Masking::Single => self.window_tokens,
            Masking::Strided => self.stride().min(self.window_tokens),
        }
    }

    /// Tokens between two that are masked together; 0 for `single`.
    #[must_use]
    pub fn stride(&self) -> usize {
        match self.masking {
            Masking::Single => 0,
            Masking::Strided => self.stride.unwrap_or(STRIDE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_against_each_other() {
        let settings = |text| toml::from_str::<Settings>(text).unwrap();
        assert_eq!(settings(""), Settings::default());
        assert!(settings("masking = \"strided\"\nstride = 5").check("pll").is_ok());
        for text in ["stride = 7", "masking = \"strided\"\nstride = 0", "window_tokens = 0"] {
            let message = settings(text).check("pll").unwrap_err().to_string();
            assert!(message.starts_with("signals.pll."), "{message}");
        }
    }

    #[test]
    fn a_full_window_takes_a_pass_for_each_token_or_for_each_stride() {
        let passes = |text| toml::from_str::<Settings>(text).unwrap().passes();
        assert_eq!(passes("window_tokens = 90"), 90);
        assert_eq!(passes("masking = \"strided\""), STRIDE);
        assert_eq!(passes("masking = \"strided\"\nstride = 9\nwindow_tokens = 4"), 4);
    }

    #[test]
    fn an_unknown_masking_or_key_is_refused() {
        let message = toml::from_str::<Settings>("masking = \"word-l2r\"").unwrap_err().to_string();
        assert!(message.contains("unknown variant"), "{message}");
        assert!(toml::from_str::<Settings>("strid = 7").is_err());
    }
}
