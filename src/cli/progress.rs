//! Owns how progress looks: a bar on a terminal, a log line every so often elsewhere.
//!
//! Invariant: shows nothing where there is no end to come to. Must not know: what is counted, or where.

use crate::telemetry::{Progress, Standing};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

const STEPS: u64 = 10_000;
const REDRAW: Duration = Duration::from_millis(250);
const LOG_EVERY: Duration = Duration::from_secs(30);
const TEMPLATE: &str = "{bar:32.green/white.dim} {msg}";

/// Shows `progress` until `work` is done, and gives what that gives. `is_shown` says whether a bar may be drawn on standard error.
pub(super) async fn shown<T>(progress: &Progress, is_shown: bool, work: impl Future<Output = T>) -> T {
    let is_bar = is_shown && std::io::stderr().is_terminal();
    let mut bar = None;
    let mut tick = tokio::time::interval(if is_bar { REDRAW } else { LOG_EVERY });
    tick.tick().await;
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {}
        }
        let Some(standing) = progress.standing() else { continue };
        if is_bar {
            draw(bar.get_or_insert_with(new_bar), &standing);
        } else {
            log(&standing);
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(STEPS);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}

fn draw(bar: &ProgressBar, standing: &Standing) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
    bar.set_position((standing.share * STEPS as f64) as u64);
    bar.set_message(words(standing));
}

fn log(standing: &Standing) {
    tracing::info!(
        documents = standing.documents,
        documents_per_second = (standing.per_second * 10.0).round() / 10.0,
        percent = (standing.share * 1000.0).round() / 10.0,
        seconds_left = standing.left.map(|left| left.as_secs()),
        "progress"
    );
}

/// `12.3 %  4821 documents  210.4/s  6:05 left`
fn words(standing: &Standing) -> String {
    let left = standing.left.map_or(String::new(), |left| format!("  {} left", clock(left.as_secs())));
    let (percent, documents, rate) = (standing.share * 100.0, standing.documents, standing.per_second);
    format!("{percent:.1} %  {documents} documents  {rate:.1}/s{left}")
}

/// `0:07`, `6:05`, `27:00:59`
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_told_with_rate_and_time_left() {
        let mut standing = Standing { documents: 4821, per_second: 210.44, share: 0.1234, left: None };
        assert_eq!(words(&standing), "12.3 %  4821 documents  210.4/s");
        standing.left = Some(Duration::from_secs(365));
        assert!(words(&standing).ends_with("210.4/s  6:05 left"));
        assert_eq!((clock(7).as_str(), clock(97_259).as_str()), ("0:07", "27:00:59"));
    }
}
