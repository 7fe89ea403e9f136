//! Owns the files sink: a JSON line for each judged record, in the file of its route.
//!
//! Invariants: outputs are on disk before positions; with a files source both become true by one line of the checkpoint, so a kill neither repeats nor loses
//! a document; a Kafka source's offsets are committed after that, and a batch whose commit failed is not written twice.

use super::line::line;
use super::{Bookmark, Failure, Imprint, RouteSettings};
use crate::corpus::{Judged, Lane, Parcel, Position, Receipt, Route};
use crate::decode::Format;
use crate::files::{Checkpoint, Error, OutputSettings, Outputs};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// File names by route, in the order of [`Route::ALL`].
struct Names([String; Route::ALL.len()]);

impl Names {
    fn new(settings: &OutputSettings, routes: &RouteSettings) -> Self {
        Self(Route::ALL.map(|route| settings.file_name(routes.place(route))))
    }

    fn all(&self) -> BTreeSet<&String> {
        self.0.iter().collect()
    }

    /// Where a judged record goes; a deletion goes to several.
    fn of(&self, judged: &Judged) -> BTreeSet<&String> {
        let name = |route: Route| &self.0[route as usize];
        match judged {
            Judged::Document { verdict, .. } => BTreeSet::from([name(Route::from(verdict.decision))]),
            Judged::Tombstone { .. } => [Route::Pass, Route::Review, Route::Fail].map(name).into(),
            Judged::Dead { .. } => BTreeSet::from([name(Route::DeadLetter)]),
        }
    }
}

/// Writes JSON lines to the files of a directory.
pub struct FilesSink {
    names: Names,
    format: Format,
    imprint: Imprint,
    desk: Mutex<Desk>,
    /// What remembers the positions that the checkpoint doesn't: those of a consumer group.
    bookmark: Bookmark,
}

/// What one delivery at a time has in its hands.
struct Desk {
    checkpoint: Checkpoint,
    outputs: Outputs,
    written: Written,
}

/// Up to where lanes were written without their position's being committed, and in which epoch: what is tried again is not written again.
#[derive(Debug, Default)]
struct Written(HashMap<Lane, (u64, i64)>);

impl Written {
    /// Everything before these positions is written. More may be: of a batch that comes again, first half of it alone.
    fn note(&mut self, positions: &[Position]) {
        for Position { lane, epoch, next } in positions {
            let written = self.0.entry(lane.clone()).or_insert((*epoch, *next));
            *written = if written.0 == *epoch { (*epoch, written.1.max(*next)) } else { (*epoch, *next) };
        }
    }

    /// These were committed. What was written beyond them will come again.
    fn committed(&mut self, positions: &[Position]) {
        for Position { lane, next, .. } in positions {
            if self.0.get(lane).is_some_and(|(_, written)| written <= next) {
                self.0.remove(lane);
            }
        }
    }

    fn holds(&self, receipt: &Receipt) -> bool {
        let written = self.0.get(&receipt.origin.lane);
        written.is_some_and(|(epoch, next)| *epoch == receipt.epoch && receipt.origin.offset < *next)
    }
}

impl FilesSink {
    /// The files that a sink with these settings writes: no input may be among them.
    #[must_use]
    pub fn files(settings: &OutputSettings, routes: &RouteSettings) -> Vec<PathBuf> {
        let names = Names::new(settings, routes);
        let outputs = names.all().into_iter().map(|name| settings.dir.join(name)).collect::<Vec<_>>();
        outputs.into_iter().chain(Checkpoint::files(&settings.dir)).collect()
    }

    /// The names of those files in their directory, without the checkpoint's.
    #[must_use]
    pub fn names(settings: &OutputSettings, routes: &RouteSettings) -> Vec<String> {
        Names::new(settings, routes).all().into_iter().cloned().collect()
    }

    /// Opens the outputs beside their checkpoint and cuts off what was not committed. `format` is how records hold their documents.
    ///
    /// # Errors
    /// An output that was changed, or a file there that is not ours.
    pub fn open(
        settings: &OutputSettings,
        routes: &RouteSettings,
        format: Format,
        imprint: Imprint,
        mut checkpoint: Checkpoint,
        bookmark: Bookmark,
    ) -> Result<Self, Error> {
        let names = Names::new(settings, routes);
        let outputs = Outputs::open(settings, &Self::names(settings, routes), &mut checkpoint)?;
        let desk = Mutex::new(Desk { checkpoint, outputs, written: Written::default() });
        Ok(Self { names, format, imprint, desk, bookmark })
    }

    pub(super) fn change(&mut self, imprint: Imprint) {
        self.imprint = imprint;
    }

    pub(super) fn deliver(&self, batch: &[Parcel<Judged>], positions: &[Position]) -> Result<(), Failure> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for parcel in batch.iter().filter(|parcel| !desk.written.holds(&parcel.receipt)) {
            let line = line(&parcel.body, self.format, &self.imprint);
            for name in self.names.of(&parcel.body) {
                texts.entry(name.clone()).or_default().extend_from_slice(&line);
            }
        }
        let stop = |error: Error| Failure::Stop(error.to_string());
        let lengths = desk.outputs.append(texts).map_err(stop)?;
        desk.checkpoint.commit(positions, &lengths).map_err(stop)?;
        desk.written.note(positions);
        self.bookmark.commit(positions)?;
        desk.written.committed(positions);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Class, Fault, Origin, Permits, Record, Stage};

    fn lane() -> Lane {
        Lane { topic: "t".into(), partition: 3 }
    }

    fn parcel(offset: i64, epoch: u64) -> Parcel<Judged> {
        let origin = Origin { lane: lane(), offset };
        let record = Record {
            origin: origin.clone(),
            key: None,
            value: Some(b"x".to_vec()),
            timestamp_ms: None,
            headers: Vec::new(),
            defect: None,
        };
        let fault = Fault::new(Stage::Decode, Class::BadJson, "no JSON");
        Parcel {
            body: Judged::Dead { record, fault, attempt: 1 },
            receipt: Receipt { origin, epoch, permits: Permits::default() },
        }
    }

    fn routes() -> RouteSettings {
        RouteSettings { pass: "p".into(), fail: "f".into(), dead_letter: "d".into(), ..Default::default() }
    }

    fn sink(dir: &std::path::Path) -> FilesSink {
        let settings = OutputSettings { dir: dir.to_owned(), ..OutputSettings::default() };
        let checkpoint = Checkpoint::open(dir).unwrap();
        FilesSink::open(&settings, &routes(), Format::Json, Imprint::default(), checkpoint, Bookmark::Nowhere).unwrap()
    }

    #[test]
    fn a_batch_whose_commit_failed_is_not_written_twice_and_another_assignment_s_is() {
        let dir = tempfile::tempdir().unwrap();
        let sink = sink(dir.path());
        let at = |epoch, next| [Position { lane: lane(), epoch, next }];
        let lines = || std::fs::read_to_string(dir.path().join("d.jsonl")).unwrap_or_default().lines().count();
        sink.deliver(&[parcel(0, 1), parcel(1, 1)], &at(1, 2)).unwrap();
        assert_eq!(lines(), 2);
        // As if the group had not answered to that.
        sink.desk.lock().unwrap().written.note(&at(1, 2));
        sink.deliver(&[parcel(0, 1), parcel(1, 1), parcel(2, 1)], &at(1, 3)).unwrap();
        assert_eq!(lines(), 3, "two were there already");
        sink.desk.lock().unwrap().written.note(&at(1, 3));
        sink.deliver(&[parcel(1, 2)], &at(2, 2)).unwrap();
        assert_eq!(lines(), 4, "whoever reads it again in another assignment delivers it again");
        sink.deliver(&[parcel(1, 2)], &at(2, 2)).unwrap();
        assert_eq!(lines(), 5, "nothing is remembered beyond a commit");
    }

    /// A batch whose commit failed twice is tried in halves: this once wrote the second half twice.
    #[test]
    fn a_batch_whose_commit_failed_is_not_written_twice_when_it_comes_again_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let sink = sink(dir.path());
        let at = |next| [Position { lane: lane(), epoch: 1, next }];
        let lines = || std::fs::read_to_string(dir.path().join("d.jsonl")).unwrap_or_default().lines().count();
        let batch: Vec<_> = (0..4).map(|offset| parcel(offset, 1)).collect();
        sink.deliver(&batch, &at(4)).unwrap();
        // As if the group had not answered to that.
        sink.desk.lock().unwrap().written.note(&at(4));
        sink.deliver(&batch[..2], &at(2)).unwrap();
        sink.deliver(&batch[2..], &at(4)).unwrap();
        assert_eq!(lines(), 4, "all of them were there already");
        assert!(sink.desk.lock().unwrap().written.0.is_empty(), "nothing is remembered beyond a commit");
        sink.deliver(&[parcel(4, 1)], &at(5)).unwrap();
        assert_eq!(lines(), 5);
    }

    #[test]
    fn without_a_stem_for_review_it_goes_where_fail_goes() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::new(&OutputSettings::default(), &routes());
        assert_eq!((names.0[Route::Review as usize].as_str(), names.all().len()), ("f.jsonl", 3));
        let tombstone = Judged::Tombstone { record: parcel(0, 1).body.record().clone() };
        assert_eq!(names.of(&tombstone).len(), 2, "a deletion is written once to each file");
        let settings = OutputSettings { dir: dir.path().to_owned(), ..OutputSettings::default() };
        assert_eq!(FilesSink::files(&settings, &routes()).len(), 5);
    }
}
