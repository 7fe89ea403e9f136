//! Owns the face of the `dlq` commands: a table or JSON lines, a bar while a replay is under way, and what it came to.
//!
//! Invariants: letters go to standard output, everything else to standard error; no text of a document is shown unless it is asked for.
//! Must not know: which letters are chosen, or how they travel.

mod args;
mod row;

pub use args::{Dlq, DlqList, DlqReplay};

use super::args::Override;
use super::main::{block_on, print, settings};
use crate::app::{self, Errand, Failure, Replayed, Step, Stop};
use crate::cli::Exit;
use crate::config::Purpose;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

const BAR: &str = "{bar:32.green/white.dim} {percent} %  {msg} records back  {eta} left";
/// How long a replay may take to finish its batch after a signal.
const DRAIN: Duration = Duration::from_secs(30);

pub(super) fn dlq(args: &Dlq, overrides: &[Override]) -> Result<(), Failure> {
    match args {
        Dlq::List(args) => list(args, overrides),
        Dlq::Replay(args) => replay(args, overrides),
    }
}

fn list(args: &DlqList, overrides: &[Override]) -> Result<(), Failure> {
    let settings = settings(&args.pipeline, overrides, Purpose::Run)?;
    let selection = args.filters.selection().map_err(|why| Failure::new(Exit::Usage, why))?;
    let width = row::width();
    let mut faults: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut shown = 0;
    let strange = app::list(&settings, &selection, |letter| {
        if args.limit == Some(0) {
            return Ok(false);
        }
        if args.json {
            print(row::json(letter, args.values).as_bytes())?;
        } else {
            if shown == 0 {
                print(row::head(width).as_bytes())?;
            }
            print(row::line(letter, width).as_bytes())?;
        }
        shown += 1;
        *faults.entry((letter.stage.clone(), letter.class.clone())).or_default() += 1;
        Ok(args.limit.is_none_or(|limit| shown < limit))
    })?;
    let mut said = format!("{shown} dead letters\n");
    for ((stage, class), count) in faults {
        said.push_str(&format!("{count:>8}  {class} at {stage}\n"));
    }
    if strange > 0 {
        said.push_str(&format!("{strange:>8}  records there are no dead letters of tamis\n"));
    }
    tell(&said);
    Ok(())
}

fn replay(args: &DlqReplay, overrides: &[Override]) -> Result<(), Failure> {
    let settings = settings(&args.pipeline, overrides, Purpose::Run)?;
    let selection = args.filters.selection().map_err(|why| Failure::new(Exit::Usage, why))?;
    let wrong = |what: &str| Err(Failure::new(Exit::Usage, what));
    match (selection.is_everything(), args.all) {
        (true, false) => {
            return wrong("no filter is given: --all sends every dead letter back; --dry-run --all shows what that is");
        }
        (false, true) => return wrong("--all and a filter are both given; leave one out"),
        (true, true) | (false, false) => {}
    }
    let errand = Errand {
        selection,
        max_replays: args.max_replays,
        limit: args.limit,
        batch: usize::try_from(args.batch).unwrap_or(1),
        is_dry: args.dry_run,
    };
    let done = block_on(async {
        let stop = Stop::listen(DRAIN).map_err(app::bug)?;
        let asked = stop.receiver();
        let is_dry = errand.is_dry;
        let done = tokio::task::spawn_blocking(move || {
            let mut show = Show::new(is_dry);
            let done = app::replay(&settings, &errand, &asked, |step| show.step(&step));
            show.bar.finish_and_clear();
            done
        });
        done.await?
    })?;
    tell(&summary(&done, args.dry_run));
    Ok(())
}

/// What is seen of a replay while it goes on: a bar, or the letters that it would send.
struct Show {
    bar: ProgressBar,
    is_dry: bool,
    sent: u64,
    width: Option<usize>,
}

impl Show {
    fn new(is_dry: bool) -> Self {
        let bar = if is_dry || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { bar, is_dry, sent: 0, width: row::width() }
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Failure> {
        match step {
            Step::Begun(offsets) => self.bar.set_length(*offsets),
            Step::Read(None) => self.bar.inc(1),
            Step::Read(Some(letter)) => {
                if self.is_dry {
                    if self.sent == 0 {
                        print(row::head(self.width).as_bytes())?;
                    }
                    print(row::line(letter, self.width).as_bytes())?;
                }
                self.sent += 1;
                self.bar.set_message(self.sent.to_string());
                self.bar.inc(1);
            }
        }
        Ok(())
    }
}

fn summary(done: &Replayed, is_dry: bool) -> String {
    let deed = if is_dry { "would go back" } else { "went back" };
    let mut said = format!("{} records {deed}\n", done.sent);
    for (count, why) in [
        (done.already, "stay: they went back by an earlier replay"),
        (done.too_often, "stay: they went back --max-replays times"),
        (done.foreign, "stay: they came from topics that this pipeline does not read"),
        (done.lacking, "stay: headers of their records are lost; --class header-name sends them without"),
        (done.strange, "records there are no dead letters of tamis"),
    ] {
        if count > 0 {
            said.push_str(&format!("{count:>8}  {why}\n"));
        }
    }
    if done.has_more {
        said.push_str("ended before the last letter; run it again to go on\n");
    }
    said
}

/// Standard error may be closed; that costs the summary.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
