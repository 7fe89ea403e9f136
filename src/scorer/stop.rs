//! Owns the keys of `[signals.X]` that say whether passes end early, and what is wrong with them.

use super::{Extra, Masking, Settings};
use serde::{Deserialize, Serialize};

/// Whether passes end once every rule on a score is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Every pass is run, and every score is the exact one.
    #[default]
    Never,
    /// For `single`: tokens are revealed in random order until a test that holds for any document has decided every rule.
    Certified,
}

/// Bounds the chance of a wrong verdict if nothing else is asked for.
const DELTA: f64 = 0.001;

/// How one score stops.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stopping {
    /// Of a document, at most.
    pub(super) delta: f64,
    pub(super) key: String,
}

impl Stop {
    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Certified => "certified",
        }
    }
}

impl Settings {
    /// How the score stops, if it does.
    pub(super) fn stopping(&self) -> Option<Stopping> {
        (self.stop != Stop::Never)
            .then(|| Stopping { delta: self.delta.unwrap_or(DELTA), key: self.stop_key.clone().unwrap_or_default() })
    }

    /// Whether the rules on a signal, named by what follows the table's name, can be decided before every pass has run; all can where none ends early.
    #[must_use]
    pub fn decides_early(&self, tail: &str) -> bool {
        match tail {
            "worst_decile" => self.stop == Stop::Never,
            "pppl" => self.stop == Stop::Never || self.recipe().has_perplexity_always(),
            _ => true,
        }
    }

    /// What is promised of verdicts, in words; `None` where every pass is run.
    #[must_use]
    pub fn stop_promise(&self) -> Option<String> {
        let Stopping { delta, key } = self.stopping()?;
        let sides = if self.clip_nats.is_some() { "" } else { " (above thresholds only: clip_nats is not set)" };
        let order = if key.is_empty() { ", in an order that is no secret: stop_key is not set" } else { "" };
        Some(format!("ends early{sides} with a chance of at most {delta} of another verdict{order}"))
    }

    /// The first thing that is wrong with how the score stops.
    pub(super) fn stop_problem(&self) -> Option<(&'static str, String)> {
        let clip = self.clip_nats.filter(|clip| !(clip.is_finite() && *clip > 0.0));
        if let Some(clip) = clip {
            return Some(("clip_nats", format!("{clip} is no loss to clip at; it must be above 0, as in 10")));
        }
        let delta = self.delta.filter(|delta| !(*delta > 0.0 && *delta < 1.0));
        if let Some(delta) = delta {
            return Some(("delta", format!("{delta} is no chance of an error; it must be above 0 and below 1")));
        }
        match self.stop {
            Stop::Never => {
                let given = [("delta", self.delta.is_some()), ("stop_key", self.stop_key.is_some())];
                let (key, _) = given.into_iter().find(|(_, given)| *given)?;
                Some((key, "is for stop = \"certified\" only; remove it, or set that".to_owned()))
            }
            Stop::Certified if self.masking != Masking::Single => {
                let masking = self.masking.as_str();
                let why = "the certificate needs losses that don't depend on which of them are looked at, as those of \"single\" alone";
                Some(("stop", format!("\"certified\" is not for masking = {masking:?}: {why}")))
            }
            Stop::Certified => self.extra.first().map(|extra: &Extra| {
                let extra = super::tail::Tail::from(*extra).as_str();
                let why = "is known for whole documents only; ask for it in another [signals] table, without stop";
                ("extra", format!("{extra:?} {why}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_stopping_are_checked_against_each_other() {
        let check = |text| toml::from_str::<Settings>(text).unwrap().check("pll").map_err(|error| error.to_string());
        for text in [
            "stop = \"certified\"",
            "stop = \"certified\"\ndelta = 0.05\nclip_nats = 10\nstop_key = \"k\"",
            "clip_nats = 8.5",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, key) in [
            ("stop = \"certified\"\nmasking = \"strided\"", "stop"),
            ("stop = \"certified\"\nextra = [\"lrr\"]", "extra"),
            ("stop = \"certified\"\ndelta = 0.0", "delta"),
            ("stop = \"certified\"\ndelta = nan", "delta"),
            ("delta = 0.01", "delta"),
            ("stop_key = \"k\"", "stop_key"),
            ("clip_nats = 0.0", "clip_nats"),
            ("clip_nats = inf", "clip_nats"),
            ("clip_nats = 10\nmasking = \"strided\"", "clip_nats"),
        ] {
            let message = check(text).unwrap_err();
            assert!(message.starts_with(&format!("signals.pll.{key}: ")), "{text}: {message}");
        }
        assert!(toml::from_str::<Settings>("stop = \"soon\"").is_err());
    }
}
