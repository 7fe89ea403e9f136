//! Owns the keys of `[signals.X]` that say whether passes end early, and what is wrong with them.

use super::{Extra, Masking, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Whether passes end once every rule on a score is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Every pass is run, and every score is the exact one.
    #[default]
    Never,
    /// For `single`: tokens are revealed in random order until a test that holds for any document has decided every rule.
    Certified,
    /// For `strided`: passes are run until the estimate is far enough from every rule's edges, by a table made from documents like these.
    Calibrated,
}

/// Bounds the chance of a wrong verdict if nothing else is asked for.
const DELTA: f64 = 0.001;
/// One in a hundred, as long as nothing else is asked for.
const AUDIT_SHARE: f64 = 0.01;

/// How one score stops.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stopping {
    pub(super) rule: Rule,
    pub(super) key: String,
}

/// When it does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// Once the certificate tells; `delta` is the chance that it is wrong about a document, at most.
    Certified { delta: f64 },
    /// Once every edge is as many standard errors away as the table says.
    Calibrated { table: PathBuf, audit_share: f64 },
}

impl Stop {
    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Certified => "certified",
            Self::Calibrated => "calibrated",
        }
    }
}

impl Settings {
    /// How the score stops, if it does.
    pub(super) fn stopping(&self) -> Option<Stopping> {
        let rule = match self.stop {
            Stop::Never => return None,
            Stop::Certified => Rule::Certified { delta: self.delta.unwrap_or(DELTA) },
            Stop::Calibrated => Rule::Calibrated {
                table: self.stop_table.clone().unwrap_or_default(),
                audit_share: self.audit_share.unwrap_or(AUDIT_SHARE),
            },
        };
        Some(Stopping { rule, key: self.stop_key.clone().unwrap_or_default() })
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
        let Stopping { rule, key } = self.stopping()?;
        let order = if key.is_empty() { ", in an order that is no secret: stop_key is not set" } else { "" };
        let sides = if self.clip_nats.is_some() { "" } else { " (above thresholds only: clip_nats is not set)" };
        Some(match rule {
            Rule::Certified { delta } => {
                format!("ends early{sides} with a chance of at most {delta} of another verdict by this score{order}")
            }
            Rule::Calibrated { table, audit_share } => {
                format!("ends early by {}, audited in a share of {audit_share}{order}", table.display())
            }
        })
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
        let share = self.audit_share.filter(|share| !(0.0..=1.0).contains(share));
        if let Some(share) = share {
            return Some(("audit_share", format!("{share} is no share; it must be from 0 to 1, as in 0.01")));
        }
        if let Some(problem) = self.useless_with_stop() {
            return Some(problem);
        }
        let masking = self.masking.as_str();
        match self.stop {
            Stop::Never => None,
            Stop::Certified if self.masking != Masking::Single => {
                let why = "the certificate needs losses that don't depend on which of them are looked at, as those of \"single\" alone";
                Some(("stop", format!("\"certified\" is not for masking = {masking:?}: {why}")))
            }
            Stop::Calibrated if self.masking != Masking::Strided => {
                Some(("stop", format!("\"calibrated\" is for masking = \"strided\", not for {masking:?}")))
            }
            Stop::Calibrated if self.stop_table.is_none() => {
                let why =
                    "is needed for stop = \"calibrated\": a table made for this score, as docs/early-stopping.md says";
                Some(("stop_table", why.to_owned()))
            }
            Stop::Certified | Stop::Calibrated => self.extra.first().map(|extra: &Extra| {
                let extra = super::tail::Tail::from(*extra).as_str();
                let why = "is known for whole documents only; ask for it in another [signals] table, without stop";
                ("extra", format!("{extra:?} {why}"))
            }),
        }
    }

    /// The first key that is given but means nothing with this way to stop.
    fn useless_with_stop(&self) -> Option<(&'static str, String)> {
        let calibrated: &[Stop] = &[Stop::Calibrated];
        let keys: [(&'static str, bool, &[Stop]); 4] = [
            ("delta", self.delta.is_some(), &[Stop::Certified]),
            ("stop_table", self.stop_table.is_some(), calibrated),
            ("audit_share", self.audit_share.is_some(), calibrated),
            ("stop_key", self.stop_key.is_some(), &[Stop::Certified, Stop::Calibrated]),
        ];
        let (key, _, stops) = keys.into_iter().find(|(_, given, stops)| *given && !stops.contains(&self.stop))?;
        let stops = stops.iter().map(|stop| format!("{:?}", stop.as_str())).collect::<Vec<_>>().join(" or ");
        Some((key, format!("stop = {:?} has no {key}; remove it, or use {stops}", self.stop.as_str())))
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
            "masking = \"strided\"\nstop = \"calibrated\"\nstop_table = \"t.json\"\naudit_share = 0.1\nstop_key = \"k\"",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, key) in [
            ("stop = \"certified\"\nmasking = \"strided\"", "stop"),
            ("stop = \"certified\"\nextra = [\"lrr\"]", "extra"),
            ("stop = \"certified\"\ndelta = 0.0", "delta"),
            ("stop = \"certified\"\ndelta = nan", "delta"),
            ("delta = 0.01", "delta"),
            ("stop = \"calibrated\"", "stop"),
            ("masking = \"strided\"\nstop = \"calibrated\"", "stop_table"),
            ("masking = \"strided\"\nstop = \"calibrated\"\nstop_table = \"t\"\ndelta = 0.01", "delta"),
            ("masking = \"strided\"\nstop = \"calibrated\"\nstop_table = \"t\"\naudit_share = 1.5", "audit_share"),
            ("stop = \"certified\"\nstop_table = \"t\"", "stop_table"),
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
