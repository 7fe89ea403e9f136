//! Owns the `score` command's face: progress on a terminal and the summary.

use super::args::{Override, Score};
use super::main::{block_on, settings};
use super::progress;
use crate::app::{self, Failure, Job, Stop};
use crate::config::{Purpose, Settings, SignalSettings};
use crate::corpus::{Judged, SignalValue, Signals};
use crate::source::Input;
use crate::telemetry::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;

const TAP: usize = 256;

pub(super) fn score(args: &Score, overrides: &[Override]) -> Result<(), Failure> {
    let settings = settings(&args.pipeline, overrides, Purpose::Score)?;
    let input = args.input_file().map_or(Input::Stdin, |path| Input::File(path.clone()));
    let output = args.output_file().cloned();
    let shows_progress = std::io::stderr().is_terminal() && !(output.is_none() && std::io::stdout().is_terminal());
    let drain = Duration::from_millis(settings.delivery.drain_ms);
    let mut tally = Tally::of(&settings);
    let tally = block_on(async {
        let stop = Stop::listen(drain).map_err(app::bug)?;
        let (tap, mut judged) = mpsc::channel(TAP);
        let told = Progress::default();
        // A file has an end, which the bar knows; of standard input only the count is known.
        let bar = spinner(shows_progress && input == Input::Stdin);
        let job = Job { input, output, progress: told.clone(), stop: stop.receiver(), tap };
        let watch = async move {
            while let Some(judged) = judged.recv().await {
                tally.add(&judged);
                bar.inc(1);
            }
            bar.finish_and_clear();
            tally
        };
        let (done, tally) = tokio::join!(progress::shown(&told, shows_progress, app::score(settings, job)), watch);
        done.map(|_| tally)
    })?;
    if args.summary {
        // A closed standard error only costs the summary.
        let _ = std::io::stderr().write_all(tally.to_string().as_bytes());
    }
    Ok(())
}

fn spinner(shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} documents  {per_sec}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Counts over a whole input.
#[derive(Debug, Default)]
struct Tally {
    verdicts: BTreeMap<&'static str, u64>,
    rules: BTreeMap<String, u64>,
    /// By signal: what its perplexity is called, and nats and tokens over all documents.
    sums: BTreeMap<String, Pool>,
    /// Documents of which some score was left out, because it could not change the verdict any more.
    partly: u64,
}

#[derive(Debug)]
struct Pool {
    title: String,
    tokens_name: String,
    nats: f64,
    tokens: f64,
    documents: u64,
}

impl Tally {
    /// No counts yet, with a sum for each score that is a log-likelihood of some kind; where nothing is masked, it is none.
    fn of(settings: &Settings) -> Self {
        let pool = |(table, signal): (&String, &SignalSettings)| {
            let (mean, what) = match signal {
                SignalSettings::Pll(pll) if pll.has_perplexity() => ("nll_token", "corpus pseudo-perplexity"),
                SignalSettings::Nelbo(_) => ("nelbo_token", "corpus perplexity, bound"),
                SignalSettings::Pll(_)
                | SignalSettings::SequenceClassifier(_)
                | SignalSettings::TokenClassifier(_)
                | SignalSettings::Embedding(_)
                | SignalSettings::Prompt(_)
                | SignalSettings::Text(_) => return None,
            };
            let (title, tokens_name) = (format!("{table}: {what}"), format!("{table}.tokens"));
            Some((format!("{table}.{mean}"), Pool { title, tokens_name, nats: 0.0, tokens: 0.0, documents: 0 }))
        };
        Self { sums: settings.signals.iter().filter_map(pool).collect(), ..Self::default() }
    }

    fn add(&mut self, judged: &Judged) {
        let verdict = match judged {
            Judged::Document { verdict, signals, .. } => {
                for reason in &verdict.reasons {
                    *self.rules.entry(format!("{} ({})", reason.rule, reason.decision.as_str())).or_default() += 1;
                }
                self.partly += u64::from(!verdict.skipped.is_empty() || signals.estimates().next().is_some());
                self.pool(signals);
                verdict.decision.as_str()
            }
            Judged::Tombstone { .. } => "tombstone",
            Judged::Dead { .. } => "dead-letter",
        };
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    /// Pooled by sums, never by averaging perplexities (Salazar et al. 2020, equation 3).
    fn pool(&mut self, signals: &Signals) {
        for (name, pool) in &mut self.sums {
            // An estimate is for rules, and no part of a sum.
            let exact = |name: &str| signals.get(name).filter(|_| !signals.is_estimate(name));
            let number = |name: &str| exact(name).and_then(SignalValue::as_number);
            if let (Some(mean), Some(tokens)) = (number(name), number(&pool.tokens_name)) {
                pool.nats += mean * tokens;
                pool.tokens += tokens;
                pool.documents += 1;
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<40} {:>10}", "documents", self.verdicts.values().sum::<u64>())?;
        for (verdict, count) in &self.verdicts {
            writeln!(f, "  {verdict:<38} {count:>10}")?;
        }
        for (rule, count) in &self.rules {
            writeln!(f, "rule {rule:<35} {count:>10}")?;
        }
        for pool in self.sums.values().filter(|pool| pool.tokens > 0.0) {
            write!(f, "{:<40} {:>10.4}", pool.title, (pool.nats / pool.tokens).exp())?;
            // The documents that were scored to the end are no fair sample: those that failed early are missing.
            match self.partly {
                0 => writeln!(f)?,
                _ => writeln!(f, "   of {} documents", pool.documents)?,
            }
        }
        if self.partly > 0 && !self.sums.is_empty() {
            writeln!(
                f,
                "{} documents were decided before every score was made in full (judge.evaluate, stop), so perplexities are not those of \
                 the corpus; for these: --set judge.evaluate=all, and stop = \"never\" in [signals]",
                self.partly
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::{Masking, NelboSettings, Settings as Pll};

    #[test]
    fn perplexities_are_pooled_by_sums_and_made_of_likelihoods_only() {
        let pll = |masking| SignalSettings::Pll(Pll { masking, ..Pll::default() });
        let signals = [
            ("exact", pll(Masking::Single)),
            ("quick", pll(Masking::Unmasked)),
            ("bound", SignalSettings::Nelbo(NelboSettings::default())),
            ("text", SignalSettings::Text(Default::default())),
        ];
        let signals = signals.map(|(name, settings)| (name.to_owned(), settings)).into_iter().collect();
        let mut tally = Tally::of(&Settings { signals, ..Settings::default() });
        for (mean, tokens) in [(1.0, 30), (3.0, 10)] {
            let mut signals = Signals::new();
            for (table, tail) in [("exact", "nll_token"), ("quick", "nll_token"), ("bound", "nelbo_token")] {
                signals.number(format!("{table}.{tail}"), mean);
                signals.count(format!("{table}.tokens"), tokens);
            }
            tally.pool(&signals);
        }
        tally.pool(&Signals::new());
        let told = tally.to_string();
        let line = |start: &str| told.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
        assert!(line("exact: corpus pseudo-perplexity").ends_with("4.4817"), "{told}");
        assert!(line("bound: corpus perplexity, bound").ends_with("4.4817"), "{told}");
        assert!(!told.contains("judge.evaluate"), "{told}");
        assert!(!told.contains("quick") && !told.contains("text"), "{told}");
    }

    #[test]
    fn perplexities_of_a_part_of_the_corpus_say_so() {
        let signals = [("pll".to_owned(), SignalSettings::Pll(Pll::default()))].into();
        let mut tally = Tally::of(&Settings { signals, ..Settings::default() });
        let mut signals = Signals::new();
        signals.number("pll.nll_token", 1.0);
        signals.count("pll.tokens", 3);
        tally.pool(&signals);
        tally.partly = 2;
        let told = tally.to_string();
        assert!(told.contains("2.7183   of 1 documents\n2 documents were decided before"), "{told}");
        assert!(told.contains("--set judge.evaluate=all"), "{told}");
    }
}
