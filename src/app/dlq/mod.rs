//! Owns the dead letters of a pipeline after the fact: looking at them, and sending their records back to where they came from.
//!
//! In: checked settings and what a person picks. Out: letters one by one, or how many went back and why the others stayed. Invariants: the daemon's group is
//! not touched; a batch of records goes back together with the position that says so, in one transaction, or not at all; everything blocks and is
//! bounded by the topic's end at the start.
//! Must not know: how it is shown.

mod memory;
mod selection;

pub use selection::{Selection, Span};

use super::failure::Failure;
use crate::cli::Exit;
use crate::config::Settings;
use crate::corpus::{Record, Route};
use crate::kafka::{DeliveryError, Output, Reader, Replay, SinkSettings, SourceSettings};
use crate::sink::DeadLetter;
use memory::Memory;
use selection::{Choice, Terms};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Bytes of outputs in one transaction, about.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// One replay.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Which letters.
    pub selection: Selection,
    /// Records that went back this often stay.
    pub max_replays: u32,
    /// At most so many records; `None` is all.
    pub limit: Option<u64>,
    /// At most so many records in a transaction, at least 1.
    pub batch: usize,
    /// Sends nothing and keeps no position.
    pub is_dry: bool,
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that went back, or would.
    pub sent: u64,
    /// Letters that went back by an earlier replay.
    pub already: u64,
    /// Letters that went back too often.
    pub too_often: u64,
    /// Letters of topics that the pipeline does not read.
    pub foreign: u64,
    /// Letters whose record's headers are lost.
    pub lacking: u64,
    /// Letters that were not picked.
    pub not_picked: u64,
    /// Records that are no dead letters.
    pub strange: u64,
    /// Whether it ended before the topic's end: by the limit or by a stop.
    pub has_more: bool,
}

/// How far a replay is.
#[derive(Debug)]
pub enum Step<'a> {
    /// So many offsets lie before it.
    Begun(u64),
    /// One more record was read; this letter goes back, if it does.
    Read(Option<&'a DeadLetter>),
}

/// Where the dead letters of a pipeline lie.
struct Place<'a> {
    topic: &'a str,
    sink: SinkSettings,
}

/// Gives every dead letter that `selection` picks to `each`, until that says no. Blocking. The number of records that are no dead letters.
///
/// # Errors
/// Dead letters that are not on a topic, a topic that can't be read, and what `each` says.
pub fn list(
    settings: &Settings,
    selection: &Selection,
    mut each: impl FnMut(&DeadLetter) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let place = place(settings)?;
    let group = settings.source.kafka.as_ref().map_or("tamis", |kafka| kafka.group.as_str());
    let mut reader = Reader::open(settings.source.kafka.as_ref(), &place.sink, &own_group(group), place.topic)?;
    reader.start(&BTreeMap::new())?;
    let mut strange = 0;
    while let Some(record) = reader.read()? {
        match DeadLetter::read(record) {
            Some(letter) if selection.fits(&letter) => {
                if !each(&letter)? {
                    break;
                }
            }
            Some(_) => {}
            None => strange += 1,
        }
    }
    Ok(strange)
}

/// Sends the records of the chosen dead letters back to where they came from. Blocking; a stop ends it after the batch in hand.
///
/// # Errors
/// Settings that allow no replay, brokers that can't be reached or refuse. What was sent until then is sent, and known to be.
pub fn replay(
    settings: &Settings,
    errand: &Errand,
    stop: &watch::Receiver<bool>,
    mut each: impl FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<Replayed, Failure> {
    let place = place(settings)?;
    let source = source(settings)?;
    let group = own_group(&source.group);
    let (selection, max_replays) = (errand.selection.clone(), errand.max_replays);
    let terms = Terms { selection, max_replays, topics: source.topics.clone() };
    let mut session = if errand.is_dry {
        Session::Dry(Reader::open(Some(source), &place.sink, &group, place.topic)?)
    } else {
        Session::Real(Replay::open(source, &place.sink, place.topic, &group, &group)?)
    };
    let reader = session.reader();
    let unreadable = |why: String| {
        let what = format!(
            "the notes of group {group} can't be read: {why}; use the program that wrote them, or delete the group to forget what was replayed"
        );
        Failure::new(Exit::Unavailable, what)
    };
    let memory = Memory::of(reader.kept()?, reader.spans()).map_err(unreadable)?;
    if !memory.fits(&terms, reader.spans()) {
        return Err(full(&group));
    }
    let beginnings = memory.beginnings(&terms);
    let begin = |(partition, span): (&i32, &crate::kafka::Span)| {
        span.end - beginnings.get(partition).copied().unwrap_or(span.begin).max(span.begin)
    };
    let total: i64 = reader.spans().iter().map(begin).sum();
    each(Step::Begun(u64::try_from(total).unwrap_or(0)))?;
    reader.start(&beginnings)?;
    let batch = Batch::default();
    Postman { session, group, terms, memory, errand, batch, done: Replayed::default() }.run(stop, each)
}

enum Session {
    Dry(Reader),
    Real(Replay),
}

impl Session {
    fn reader(&mut self) -> &mut Reader {
        match self {
            Self::Dry(reader) => reader,
            Self::Real(replay) => replay.reader(),
        }
    }
}

/// A replay under way.
struct Postman<'a> {
    session: Session,
    /// The group that remembers.
    group: String,
    terms: Terms,
    memory: Memory,
    errand: &'a Errand,
    batch: Batch,
    done: Replayed,
}

/// Outputs of the next transaction, their bytes, and the letter that each comes from.
#[derive(Default)]
struct Batch {
    outputs: Vec<Output<'static>>,
    letters: Vec<String>,
    bytes: usize,
}

impl Postman<'_> {
    fn run(
        mut self,
        stop: &watch::Receiver<bool>,
        mut each: impl FnMut(Step<'_>) -> Result<(), Failure>,
    ) -> Result<Replayed, Failure> {
        loop {
            let is_enough = self.errand.limit.is_some_and(|limit| self.done.sent >= limit);
            if is_enough || *stop.borrow() {
                self.done.has_more = true;
                break;
            }
            let Some(record) = self.session.reader().read()? else { break };
            let sent = self.sort(record);
            each(Step::Read(sent.as_ref()))?;
            if self.batch.outputs.len() >= self.errand.batch.max(1) || self.batch.bytes >= BATCH_BYTES {
                self.deliver()?;
            }
        }
        self.deliver()?;
        Ok(self.done)
    }

    /// Takes the record into the batch if it is a letter that goes back, and counts it.
    fn sort(&mut self, record: Record) -> Option<DeadLetter> {
        let Some(letter) = DeadLetter::read(record) else {
            self.done.strange += 1;
            return None;
        };
        let choice = self.terms.choose(&letter);
        let goes = choice == Choice::Send && !self.memory.holds(&letter);
        let count = match choice {
            Choice::Send if goes => &mut self.done.sent,
            Choice::Send => &mut self.done.already,
            Choice::NotPicked => &mut self.done.not_picked,
            Choice::TooOften => &mut self.done.too_often,
            Choice::Foreign => &mut self.done.foreign,
            Choice::LacksHeaders => &mut self.done.lacking,
        };
        *count += 1;
        if goes && matches!(self.session, Session::Real(_)) {
            let output = letter.back(now_ms());
            self.batch.bytes += output.weight_bytes();
            self.batch.outputs.push(output);
            self.batch.letters.push(letter.record.origin.to_string());
        }
        goes.then_some(letter)
    }

    /// The batch and the positions behind it, in one transaction.
    fn deliver(&mut self) -> Result<(), Failure> {
        let Session::Real(replay) = &mut self.session else { return Ok(()) };
        let Batch { outputs, letters, .. } = std::mem::take(&mut self.batch);
        let positions = replay.reader().positions();
        let next = positions.iter().map(|position| (position.lane.partition, position.next)).collect();
        let Some(notes) = self.memory.notes(&self.terms, &next) else {
            return Err(full(&self.group));
        };
        let mut tries = 0;
        loop {
            let error = match replay.deliver(&outputs, notes.clone()) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = "what went back before is known; run it again to go on";
            let what = match error {
                DeliveryError::Refused(refusals) => {
                    let letter = refusals.first().and_then(|refusal| letters.get(refusal.index));
                    let why = refusals.first().map_or("", |refusal| refusal.message.as_str());
                    let letter = letter.map_or("a letter", String::as_str);
                    format!(
                        "the source topic refuses the record of {letter}: {why}; leave it out by a filter, or raise max.message.bytes of the topic; {again}"
                    )
                }
                DeliveryError::Aborted(_) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
                DeliveryError::Aborted(why) => format!("nothing of this batch went back: {why}; {again}"),
                DeliveryError::Fatal(why) => format!("the replay can't go on: {why}; {again}"),
            };
            return Err(Failure::new(Exit::Unavailable, what));
        }
    }
}

/// Nothing further can be remembered, so nothing further goes back.
fn full(group: &str) -> Failure {
    let what = format!(
        "group {group} remembers so many selections that no further one fits beside a position; delete the group when the letters that it remembers may go back again"
    );
    Failure::new(Exit::Unavailable, what)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The group that keeps how far a replay came, and the transactional id that only one replay at a time can use.
fn own_group(group: &str) -> String {
    format!("{group}-dlq-replay")
}

fn place(settings: &Settings) -> Result<Place<'_>, Failure> {
    let stem = settings.routes.place(Route::DeadLetter);
    if let Some(files) = &settings.sink.files {
        let file = files.dir.join(files.file_name(stem));
        let what = format!(
            "sink.files: the dead letters of this pipeline are the lines of {}, not records of a topic; read them with jq (`.tamis.error` says why, `.raw` or \
             `.raw_base64` is the record), and once the cause is mended score the records again: \
             zstdcat -f {} | jq -r '.raw_base64 // (.raw | @base64)' | \
             while read -r record; do base64 -d <<<\"$record\" | tr '\\n' ' '; echo; done | tamis score PIPELINE",
            file.display(),
            file.display()
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    if !settings.delivers_to_kafka() {
        let what = "sink: this pipeline writes to standard output and keeps no dead letters; they are the lines with \"verdict\":\"dead-letter\"";
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(Place { topic: stem, sink: settings.sink.kafka.clone().unwrap_or_default() })
}

fn source(settings: &Settings) -> Result<&SourceSettings, Failure> {
    let Some(source) = &settings.source.kafka else {
        let what = "source: these records came from files or standard input, which take nothing back; `tamis dlq list --json --values` gives \
                    the records, and `tamis score` scores them again";
        return Err(Failure::new(Exit::Usage, what));
    };
    if !settings.fits_a_transaction() {
        let what = "sink.kafka.brokers: the dead letters lie in another cluster than the source, and no transaction spans two; nothing is replayed, \
                    because a replay that is killed would send records twice";
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(source)
}
