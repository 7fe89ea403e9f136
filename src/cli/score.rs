//! Owns the `score` command's face: progress on a terminal and the summary.

use super::args::{Override, Score};
use super::main::{block_on, settings};
use super::progress;
use crate::app::{self, Failure, Job, Stop};
use crate::config::Purpose;
use crate::corpus::{Judged, Signals};
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
    let tally = block_on(async {
        let stop = Stop::listen(drain).map_err(app::bug)?;
        let (tap, mut judged) = mpsc::channel(TAP);
        let told = Progress::default();
        // A file has an end, which the bar knows; of standard input only the count is known.
        let bar = spinner(shows_progress && input == Input::Stdin);
        let job = Job { input, output, progress: told.clone(), stop: stop.receiver(), tap };
        let watch = async {
            let mut tally = Tally::default();
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
    /// By signal table: nats and tokens over all documents.
    sums: BTreeMap<String, (f64, f64)>,
}

impl Tally {
    fn add(&mut self, judged: &Judged) {
        let verdict = match judged {
            Judged::Document { verdict, signals, .. } => {
                for reason in &verdict.reasons {
                    *self.rules.entry(format!("{} ({})", reason.rule, reason.decision.as_str())).or_default() += 1;
                }
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
        for (name, value) in signals.iter() {
            let Some(table) = name.strip_suffix(".nll_token") else { continue };
            let tokens = signals.get(&format!("{table}.tokens")).and_then(crate::corpus::SignalValue::as_number);
            if let (Some(mean), Some(tokens)) = (value.as_number(), tokens) {
                let sum = self.sums.entry(table.to_owned()).or_default();
                sum.0 += mean * tokens;
                sum.1 += tokens;
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
        for (table, (nats, tokens)) in self.sums.iter().filter(|(_, (_, tokens))| *tokens > 0.0) {
            writeln!(f, "{:<40} {:>10.4}", format!("{table}: corpus pseudo-perplexity"), (nats / tokens).exp())?;
        }
        Ok(())
    }
}
