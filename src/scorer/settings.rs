//! Owns the keys of `[signals.X]` with `kind = "pll"`.

use super::Error;
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
    fn an_unknown_masking_or_key_is_refused() {
        let message = toml::from_str::<Settings>("masking = \"word-l2r\"").unwrap_err().to_string();
        assert!(message.contains("unknown variant"), "{message}");
        assert!(toml::from_str::<Settings>("strid = 7").is_err());
    }
}
