//! Owns the arguments of the `dlq` commands and how its filters are written.
//!
//! Must not know: what a filter matches.

use crate::app::{Selection, SourceSpan};
use crate::corpus::{Class, Stage};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The longest text of a filter: filters are kept beside a replay's positions, which hold 4096 bytes.
const FILTER_BYTES: usize = 500;
/// The most letters that can be picked one by one, for the same reason.
const LETTERS: usize = 64;

/// What to do with dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Dlq {
    /// Show what could not be judged and why: one line each
    ///
    /// Reads the topic routes.dead_letter from its beginning to its end as it is now. No group is joined and nothing is moved or written: it is safe beside
    /// running workers. LETTER is the dead letter's partition and offset on its own topic, SOURCE where the record came from, TIME the record's own
    /// timestamp (when it died, if the topic has message.timestamp.type=LogAppendTime).
    #[command(after_help = LIST_HELP)]
    List(DlqList),
    /// Send the records of dead letters back to where they came from, to be judged again
    ///
    /// Mend the cause first; else they come back. Key, value, timestamp and the headers that the record came with go back as they were, to the same topic and
    /// partition. The five headers that tamis added to the dead letter stay behind, and `tamis-replay` is added: {"count", "at_ms", "from"}. The letters
    /// themselves stay on their topic.
    ///
    /// Each batch of records goes back in one transaction with the position up to which letters were read, kept in the group `<group>-dlq-replay`
    /// under the transactional id of the same name. So a replay that is killed sends nothing twice and leaves nothing out: run the same command again. What one
    /// selection sent, another does not send again, as long as the brokers keep the group's positions (offsets.retention.minutes, 7 days by default,
    /// since the last replay); to forget them, delete that group.
    ///
    /// The user needs, beside reading the dead letters: Write on the source topic, Write and Describe on the transactional id, Read on the group.
    #[command(after_help = REPLAY_HELP)]
    Replay(DlqReplay),
}

const LIST_HELP: &str = "\
Examples:
  tamis dlq list my.toml                                  all of them
  tamis dlq list my.toml --class too-large --limit 20     the first 20 that were too large
  tamis dlq list my.toml --json | jq -r .class | sort | uniq -c
  tamis dlq list my.toml --json --values --letter 0/17 | jq -r .value   one record, as it came

Exit codes: 0 done, 64 no such topic of dead letters in the settings, 69 brokers unavailable.";

const REPLAY_HELP: &str = "\
Examples:
  tamis dlq replay my.toml --class device --dry-run       what would go back
  tamis dlq replay my.toml --class device                 send it
  tamis dlq replay my.toml --source corpus.raw/3/1000-1999
  tamis dlq replay my.toml --all --limit 100              a hundred of all; the next run takes the next hundred

What stays: letters that went back already, those whose record went back --max-replays times, those of topics that the pipeline does not read, and those
of class header-name (whose record lost a header) unless --class names it. Each is counted at the end.

Exit codes: 0 done (also when a signal ended it between two batches), 64 settings that allow no replay, 69 brokers unavailable or refusing.";

/// Which dead letters: each filter that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which dead letters (each filter that is given must fit)")]
pub struct Filters {
    /// Failed at this stage; may be repeated
    #[arg(long, value_name = "STAGE", value_parser = PossibleValuesParser::new(Stage::ALL.map(Stage::as_str)))]
    pub stage: Vec<String>,

    /// Failed with a fault of this class; may be repeated
    #[arg(long, value_name = "CLASS", value_parser = PossibleValuesParser::new(Class::ALL.map(Class::as_str)))]
    pub class: Vec<String>,

    /// Has this in its message, upper or lower case
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub reason: Option<String>,

    /// Came from here: TOPIC, TOPIC/PARTITION, TOPIC/PARTITION/OFFSET or TOPIC/PARTITION/FIRST-LAST
    #[arg(long, value_name = "WHERE")]
    pub source: Option<SourceSpan>,

    /// Record's timestamp is this or later, as in 2026-11-23T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<i64>,

    /// Record's timestamp is before this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<i64>,

    /// Record's key is exactly this text
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub key: Option<String>,

    /// This one, as PARTITION/OFFSET on the dead letters' topic; may be repeated
    #[arg(long, value_name = "LETTER", value_parser = place)]
    pub letter: Vec<(i32, i64)>,
}

impl Filters {
    /// The filters as a selection; an error is too many letters.
    pub(super) fn selection(&self) -> Result<Selection, String> {
        if self.letter.len() > LETTERS {
            return Err(format!("--letter is given {} times; at most {LETTERS} fit", self.letter.len()));
        }
        let filters = self.clone();
        Ok(Selection {
            stages: sorted(filters.stage),
            classes: sorted(filters.class),
            reason: filters.reason,
            source: filters.source,
            since_ms: filters.since,
            until_ms: filters.until,
            key: filters.key,
            letters: sorted(filters.letter),
        })
    }
}

/// Arguments of `dlq list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DlqList {
    /// The pipeline file (TOML)
    pub pipeline: PathBuf,

    /// One JSON object a line, with everything but the record's value
    #[arg(long)]
    pub json: bool,

    /// With --json: the record's value and headers, too; bytes that are no text as {"base64": …}
    #[arg(long, requires = "json")]
    pub values: bool,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Which.
    #[command(flatten)]
    pub filters: Filters,
}

/// Arguments of `dlq replay`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DlqReplay {
    /// The pipeline file (TOML)
    pub pipeline: PathBuf,

    /// Say what would go back, send nothing, keep no position
    #[arg(long)]
    pub dry_run: bool,

    /// Every dead letter: needed where no filter is given
    #[arg(long)]
    pub all: bool,

    /// At most so many records in this run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// Leave records that went back this often already, so that none goes round for ever
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_replays: u32,

    /// Records in one transaction
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,

    /// Which.
    #[command(flatten)]
    pub filters: Filters,
}

/// One selection has one spelling: what a replay remembers is compared.
fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values.dedup();
    values
}

fn text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("nothing is no filter; leave it out".to_owned()),
        1..=FILTER_BYTES => Ok(text.to_owned()),
        more => Err(format!("{more} bytes; at most {FILTER_BYTES} are kept beside a position")),
    }
}

fn moment(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time; write it like 2026-11-23T10:00:00Z");
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    i64::try_from(since.as_millis()).map_err(|_| wrong())
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let parsed = text.split_once('/').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?}: write PARTITION/OFFSET, as `tamis dlq list` shows it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused_with_how_to_write_them() {
        assert_eq!(moment("1970-01-01T00:00:01.5Z").unwrap(), 1_500);
        assert!(moment("yesterday").unwrap_err().contains("2026-11-23T10:00:00Z"));
        assert_eq!(place("3/17").unwrap(), (3, 17));
        assert!(place("17").unwrap_err().contains("PARTITION/OFFSET"));
        assert!(text("").is_err() && text(&"x".repeat(501)).is_err());
    }

    #[test]
    fn the_order_of_flags_makes_no_other_selection() {
        let filters = |classes: [&str; 2]| Filters { class: classes.map(str::to_owned).to_vec(), ..Filters::default() };
        assert_eq!(filters(["a", "b"]).selection(), filters(["b", "a"]).selection());
        let many = Filters { letter: vec![(0, 1); 65], ..Filters::default() };
        assert!(many.selection().is_err());
    }
}
