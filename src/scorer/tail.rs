//! Owns the names of a score's signals, and how pooled sums become their values.
//!
//! Invariant: a number that can't be made (nothing scored, no words, an overflow) is absent.

use super::settings::Extra;
use super::sums::Sums;
use crate::corpus::Signals;
use std::sync::Arc;

/// One signal of a score, by what follows the table's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    NllToken,
    Pppl,
    NllWord,
    Bpb,
    Tokens,
    Windows,
    WorstDecile,
    UnkRate,
    Revealed,
    Stderr,
    AulB,
    LogRank,
    Lrr,
    Entropy,
    ArgmaxGap,
    NelboToken,
}

impl From<Extra> for Tail {
    fn from(extra: Extra) -> Self {
        match extra {
            Extra::LogRank => Self::LogRank,
            Extra::Lrr => Self::Lrr,
            Extra::Entropy => Self::Entropy,
            Extra::ArgmaxGap => Self::ArgmaxGap,
        }
    }
}

impl Tail {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NllToken => "nll_token",
            Self::Pppl => "pppl",
            Self::NllWord => "nll_word",
            Self::Bpb => "bpb",
            Self::Tokens => "tokens",
            Self::Windows => "windows",
            Self::WorstDecile => "worst_decile",
            Self::UnkRate => "unk_rate",
            Self::Revealed => "revealed",
            Self::Stderr => "stderr",
            Self::AulB => "aul_b",
            Self::LogRank => "log_rank",
            Self::Lrr => "lrr",
            Self::Entropy => "entropy",
            Self::ArgmaxGap => "argmax_gap",
            Self::NelboToken => "nelbo_token",
        }
    }
}

/// The signals of one `[signals.X]` table, named once.
pub(super) struct Output(Vec<(Tail, Arc<str>)>);

impl Output {
    pub(super) fn new(prefix: &str, tails: impl IntoIterator<Item = Tail>) -> Self {
        Self(tails.into_iter().map(|tail| (tail, Arc::from(format!("{prefix}.{}", tail.as_str())))).collect())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.iter().map(|(_, name)| Arc::clone(name))
    }

    /// Which of these signals is called `name`, if one is.
    pub(super) fn tail(&self, name: &str) -> Option<Tail> {
        self.0.iter().find(|(_, known)| &**known == name).map(|(tail, _)| *tail)
    }
}

/// A document, scored.
pub(super) struct Pooled<'a> {
    pub(super) windows: &'a [Sums],
    /// UAX #29 segments of the text that hold an alphanumeric.
    pub(super) words: usize,
    /// Of the original text.
    pub(super) bytes: usize,
    /// What is known where not every pass was run: the windows then hold their counts alone.
    pub(super) early: Option<Early>,
}

/// A document's score, told from a part of its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Early {
    /// Estimated sum over all tokens, nats.
    pub(super) nll: f64,
    /// Tokens that it is told from.
    pub(super) revealed: u64,
}

/// Below this mean log-rank a token, the ratio to it says nothing: nearly every token is the model's first choice.
const LOG_RANK_MIN: f64 = 1e-3;

impl Pooled<'_> {
    /// The document's signals for each of `outputs`. Windows are pooled by sums. Without tokens there are counts and no numbers.
    pub(super) fn signals(&self, outputs: &[Output]) -> Signals {
        let mut signals = Signals::new();
        let mut total = Sums::default();
        self.windows.iter().for_each(|window| total.add(window));
        if let Some(early) = self.early {
            total = Sums { nll: early.nll, tokens: total.tokens, unknown: total.unknown, ..Sums::default() };
        }
        for (tail, name) in outputs.iter().flat_map(|output| &output.0) {
            if *tail == Tail::Tokens {
                signals.count(Arc::clone(name), total.tokens);
            } else if *tail == Tail::Windows {
                signals.count(Arc::clone(name), self.windows.len() as u64);
            } else if *tail == Tail::Revealed {
                signals.count(Arc::clone(name), self.early.map_or(total.tokens, |early| early.revealed));
            } else if total.tokens > 0
                && let Some(value) = self.number(*tail, &total)
            {
                match self.early.is_some() && *tail != Tail::UnkRate {
                    true => signals.estimate(Arc::clone(name), value),
                    false => signals.number(Arc::clone(name), value),
                }
            }
        }
        signals
    }

    /// A signal's value; not finite, or `None`, where there is none.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn number(&self, tail: Tail, total: &Sums) -> Option<f64> {
        let tokens = total.tokens as f64;
        Some(match tail {
            Tail::NllToken | Tail::NelboToken => total.nll / tokens,
            Tail::Pppl => (total.nll / tokens).exp(),
            Tail::NllWord => total.nll / self.words as f64,
            Tail::Bpb => total.nll / (self.bytes as f64 * std::f64::consts::LN_2),
            Tail::Tokens => tokens,
            Tail::Windows => self.windows.len() as f64,
            Tail::Revealed => self.early.map_or(tokens, |early| early.revealed as f64),
            // Which windows are the worst is not known before all of them are.
            Tail::WorstDecile if self.early.is_some() => return None,
            Tail::WorstDecile => worst_decile(self.windows),
            Tail::UnkRate => total.unknown as f64 / tokens,
            Tail::Stderr => total.variance?.sqrt() / tokens,
            Tail::AulB => total.corrected? / tokens,
            Tail::LogRank => total.spread?.log_rank / tokens,
            Tail::Lrr => match total.spread?.log_rank {
                // Every token was the model's first choice: the ratio is degenerate, and no number.
                0.0 => return None,
                log_rank => total.nll / log_rank.max(tokens * LOG_RANK_MIN),
            },
            Tail::Entropy => total.spread?.entropy / tokens,
            Tail::ArgmaxGap => total.spread?.gap / tokens,
        })
    }
}

/// Token-weighted mean over the worst ceil(n/10) windows, nats a token.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn worst_decile(windows: &[Sums]) -> f64 {
    let mean = |sums: &Sums| sums.nll / sums.tokens as f64;
    let mut worst = windows.to_vec();
    worst.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    worst.truncate(windows.len().div_ceil(10));
    let mut total = Sums::default();
    worst.iter().for_each(|window| total.add(window));
    mean(&total)
}

#[cfg(test)]
mod tests {
    use super::super::sums::Spread;
    use super::super::{NelboSettings, Settings};
    use super::*;
    use crate::corpus::SignalValue;

    fn pool(tails: &[Tail], windows: &[Sums], words: usize, bytes: usize) -> Signals {
        Pooled { windows, words, bytes, early: None }.signals(&[Output::new("p", tails.iter().copied())])
    }

    fn usual() -> Vec<Tail> {
        Settings::default().tails()
    }

    fn number(signals: &Signals, name: &str) -> Option<f64> {
        signals.get(name).and_then(SignalValue::as_number)
    }

    #[test]
    fn windows_are_pooled_by_sums() {
        let window = |nll, tokens, unknown| Sums { nll, tokens, unknown, ..Sums::default() };
        let signals = pool(&usual(), &[window(10.0, 10, 0), window(10.0, 2, 1)], 4, 50);
        assert_eq!(number(&signals, "p.nll_token"), Some(20.0 / 12.0));
        assert_eq!(number(&signals, "p.nll_word"), Some(5.0));
        assert_eq!(number(&signals, "p.worst_decile"), Some(5.0));
        assert_eq!(number(&signals, "p.unk_rate"), Some(1.0 / 12.0));
        let byte_perplexity = (20.0_f64 / 50.0).exp();
        assert!(
            (number(&signals, "p.bpb").unwrap().exp2() - byte_perplexity).abs() < 1e-12,
            "2^bpb is byte perplexity"
        );
    }

    #[test]
    fn nothing_has_counts_and_no_number() {
        let tails: Vec<Tail> =
            usual().into_iter().chain(NelboSettings::TAILS).chain([Tail::Lrr, Tail::Stderr]).collect();
        let names: Vec<String> = pool(&tails, &[], 0, 0).iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["p.tokens", "p.windows"]);
    }

    #[test]
    fn without_words_or_within_no_range_a_number_is_absent() {
        let signals = pool(&usual(), &[Sums { nll: 2000.0, tokens: 1, ..Sums::default() }], 0, 3);
        assert_eq!(number(&signals, "p.nll_word"), None);
        assert_eq!(number(&signals, "p.pppl"), None);
        assert_eq!(number(&signals, "p.nll_token"), Some(2000.0));
    }

    #[test]
    fn ranks_and_errors_are_pooled_by_sums_too() {
        let tails = [Tail::LogRank, Tail::Lrr, Tail::Entropy, Tail::ArgmaxGap, Tail::Stderr, Tail::AulB];
        let window = |nll, tokens, log_rank, variance| Sums {
            nll,
            tokens,
            unknown: 0,
            spread: Some(Spread { log_rank, entropy: 2.0 * nll, gap: 0.5 }),
            corrected: Some(nll * 1.5),
            variance: Some(variance),
        };
        let signals = pool(&tails, &[window(10.0, 6, 1.0, 9.0), window(20.0, 4, 2.0, 16.0)], 4, 50);
        let values: Vec<Option<f64>> =
            tails.iter().map(|tail| number(&signals, &format!("p.{}", tail.as_str()))).collect();
        assert_eq!(values, [0.3, 10.0, 6.0, 0.1, 0.5, 4.5].map(Some));
    }

    #[test]
    fn a_ratio_to_no_rank_at_all_is_absent_and_one_to_hardly_any_is_bounded() {
        let spread = |log_rank| Some(Spread { log_rank, entropy: 0.0, gap: 0.0 });
        let window = |log_rank| Sums { nll: 30.0, tokens: 10, spread: spread(log_rank), ..Sums::default() };
        assert_eq!(number(&pool(&[Tail::Lrr], &[window(0.0)], 1, 1), "p.lrr"), None);
        assert_eq!(number(&pool(&[Tail::Lrr], &[window(1e-9)], 1, 1), "p.lrr"), Some(3000.0));
    }
}
