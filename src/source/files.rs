//! Owns the files source: lines of many files, file after file in the order of their paths, going on where the checkpoint says.
//!
//! A file is a lane, a line's offset its number from 0. A blank line holds no document and is passed by.
//! Invariants: a file that was delivered whole and has not changed is not opened; of a file that has changed nothing is delivered unless it
//! still begins with what was; a file that can't be read to its end doesn't keep the others from being read, and ends the run with its reason;
//! the trail knows of a document before the pipeline does.

use super::Error;
use super::passing::Passing;
use crate::corpus::{Lane, Outlet};
use crate::files::{self, Checkpoint, Digest, Input, Line, LineReader, Mark, Trail};
use crate::telemetry::Progress;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Reasons that are told one by one at the end; of more only the number.
const REASONS: usize = 5;

/// Read lines of files, one record each; ends with 0 when everything is read and delivered, and goes on where an earlier run ended or was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilesSettings {
    /// Paths and patterns, as in `["in/*.jsonl.zst", "more/**/*.jsonl"]`: `*` and `?` within a folder, `**` over folders, `[ab]`, `{a,b}`. Sorted by path,
    /// each file read once; zstd and gzip are known by their first bytes. A pattern that matches nothing is an error (65).
    pub paths: Vec<String>,
    /// Where positions are kept unless the sink is files, which keep them beside the outputs. A directory for each pipeline is made in it.
    pub state: PathBuf,
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self { paths: Vec::new(), state: PathBuf::from("var/state") }
    }
}

impl FilesSettings {
    /// The directory of the positions of the pipeline called `name`.
    #[must_use]
    pub fn state_of(&self, name: &str) -> PathBuf {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
        self.state.join(name.bytes().map(escaped).collect::<String>())
    }
}

/// What is still to be read of one file.
#[derive(Debug, Clone)]
struct Task {
    input: Input,
    mark: Option<Mark>,
}

/// What is to be read, and how far it was delivered before.
#[derive(Debug)]
pub struct Plan {
    tasks: VecDeque<Task>,
    trail: Trail,
    checkpoint: PathBuf,
}

impl Plan {
    /// What the `checkpoint` leaves to be read of `inputs`. Reads what changed since, up to where it was delivered. Blocking.
    ///
    /// # Errors
    /// [`files::Error::Changed`], or what keeps a changed file from being read.
    pub fn new(inputs: Vec<Input>, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let (total, mut tasks) = (inputs.len(), VecDeque::new());
        for task in left(inputs, &checkpoint.marks(), &checkpoint.path()) {
            tasks.push_back(task?);
        }
        let begun = tasks.iter().filter(|task| task.mark.is_some()).count();
        let finished = total - tasks.len();
        tracing::info!(files = total, finished, begun, checkpoint = %checkpoint.path().display(), "files to read");
        if tasks.iter().all(|task| task.input.size == 0) {
            tracing::warn!(
                "every file was delivered by earlier runs, there is nothing to do; to begin anew, remove the checkpoint and the outputs"
            );
        }
        Ok(Self { tasks, trail: checkpoint.trail(), checkpoint: checkpoint.path() })
    }
}

/// What `marks` leave to be read of `inputs`: how many files, and how many bytes of disk these hold; and every input that `run` would refuse.
/// Reads what changed since, up to where it was delivered. Blocking.
#[must_use]
pub fn unread(inputs: Vec<Input>, marks: &BTreeMap<String, Mark>, checkpoint: &Path) -> (usize, u64, Vec<Error>) {
    let (mut count, mut bytes, mut errors) = (0, 0, Vec::new());
    for task in left(inputs, marks, checkpoint) {
        match task {
            Ok(task) => (count, bytes) = (count + 1, bytes + task.input.size),
            Err(error) => errors.push(error),
        }
    }
    (count, bytes, errors)
}

/// The inputs that are not delivered whole; each that changed is looked at.
fn left<'a>(
    inputs: Vec<Input>,
    marks: &'a BTreeMap<String, Mark>,
    checkpoint: &'a Path,
) -> impl Iterator<Item = Result<Task, Error>> + 'a {
    inputs.into_iter().filter_map(move |mut input| {
        // Whatever name a file was begun by, it goes on by: a link that was made since is no reason to deliver it again.
        if !marks.contains_key(&input.lane)
            && let Some(begun) = input.aliases.iter().find(|alias| marks.contains_key(*alias))
        {
            input.lane.clone_from(begun);
        }
        let mark = marks.get(&input.lane);
        if let Some(mark) = mark {
            let is_same = (input.size, input.modified_ns) == (mark.size, mark.modified_ns);
            if is_same && mark.done {
                return None;
            }
            if !is_same && let Err(error) = verify(&input.path, mark, checkpoint) {
                return Some(Err(error));
            }
        }
        Some(Ok(Task { mark: mark.cloned(), input }))
    })
}

/// Whether a file that changed still begins with what was delivered of it.
fn verify(path: &Path, mark: &Mark, checkpoint: &Path) -> Result<(), Error> {
    let reader = files::open(path, &Progress::default())?.reader;
    let unreadable = |error: io::Error| files::Error::Kind { path: path.to_owned(), why: files::why(&error) };
    // Digests look at whole lines, so nothing of them needs to be kept.
    let begins_so = LineReader::new(reader, 0).catch_up(mark, &AtomicBool::new(false)).map_err(unreadable)?;
    if begins_so { Ok(()) } else { Err(changed(path, mark, checkpoint).into()) }
}

fn changed(path: &Path, mark: &Mark, checkpoint: &Path) -> files::Error {
    files::Error::Changed { path: path.to_owned(), lines: mark.next, checkpoint: checkpoint.to_owned() }
}

/// A source of files.
pub struct Files {
    reader: Option<Reader>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Files {
    /// A source that will read `plan`; reading begins with [`Files::start`].
    #[must_use]
    pub fn new(plan: Plan, outlet: Outlet, max_bytes: u64, progress: Progress) -> Self {
        progress.expect(plan.tasks.iter().map(|task| task.input.size).sum());
        let stop = Arc::new(AtomicBool::new(false));
        let passing = Passing { outlet, progress, stop: Arc::clone(&stop) };
        Self { reader: Some(Reader { plan, passing, max_bytes, blank: 0 }), stop, thread: None }
    }

    /// Starts the thread that reads. It ends with the last file, or soon after a stop.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(&mut self) -> Result<(), Error> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("files-reader".into()).spawn(move || reader.run());
        self.thread = Some(thread.map_err(Error::Thread)?);
        Ok(())
    }

    /// Takes no more lines.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Ends the thread within `budget`. Blocking. False if it would not end.
    pub fn close(self, budget: Duration) -> bool {
        self.stop();
        let deadline = Instant::now() + budget;
        let Some(thread) = self.thread else { return true };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().is_ok()
    }
}

/// The thread's own.
struct Reader {
    plan: Plan,
    passing: Passing,
    max_bytes: u64,
    blank: u64,
}

/// How the reading of one file went.
enum End {
    Whole,
    Stopped,
}

impl Reader {
    fn run(mut self) {
        let (mut broken, mut reasons) = (0_usize, Vec::new());
        while let Some(task) = self.plan.tasks.pop_front() {
            match self.read(&task) {
                Ok(End::Whole) => tracing::debug!(path = %task.input.path.display(), "file read"),
                Ok(End::Stopped) => return,
                Err(reason) => {
                    tracing::error!(reason, "a file could not be read to its end");
                    broken += 1;
                    if reasons.len() < REASONS {
                        reasons.push(reason);
                    }
                }
            }
        }
        if self.blank > 0 {
            tracing::info!(lines = self.blank, "blank lines passed by");
        }
        if broken > 0 {
            let more =
                if broken > reasons.len() { format!("\n  and {} more", broken - reasons.len()) } else { String::new() };
            self.passing.broken(format!(
                "{broken} of the files could not be read to the end; what could be read was delivered:\n  {}{more}",
                reasons.join("\n  ")
            ));
        }
    }

    fn read(&mut self, task: &Task) -> Result<End, String> {
        let path = &task.input.path;
        let before = self.passing.progress.bytes();
        let opened = files::open(path, &self.passing.progress).map_err(|error| error.to_string())?;
        let lane = Lane { topic: task.input.lane.as_str().into(), partition: 0 };
        self.plan.trail.begin(&lane.topic, opened.size, opened.modified_ns);
        let mut reader = LineReader::new(opened.reader, self.max_bytes);
        if let Some(mark) = &task.mark {
            let caught_up = reader.catch_up(mark, &self.passing.stop);
            self.passing.progress.skip(self.passing.progress.bytes().saturating_sub(before));
            match caught_up {
                Ok(true) => {}
                Ok(false) => return Err(changed(path, mark, &self.plan.checkpoint).to_string()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(End::Stopped),
                Err(error) => return Err(self.cut_off(path, reader.next_number(), &error)),
            }
        }
        self.pass_on(path, &lane, &mut reader)
    }

    /// Passes every document on. Each is held back until it is known whether another follows, so that with the last one's delivery the whole file
    /// counts as done.
    fn pass_on(
        &mut self,
        path: &Path,
        lane: &Lane,
        reader: &mut LineReader<Box<dyn BufRead + Send>>,
    ) -> Result<End, String> {
        let mut held: Option<(Line, Digest)> = None;
        loop {
            let read = self.document(reader);
            if let Some((line, digest)) = held.take() {
                let is_last = matches!(read, Ok(None));
                self.plan.trail.pass(&lane.topic, line.number + 1, digest, is_last);
                if !self.passing.pass_on(lane, line) {
                    return Ok(End::Stopped);
                }
            }
            match read {
                Ok(Some(line)) => held = Some((line, reader.digest())),
                Ok(None) => return Ok(End::Whole),
                Err(error) => return Err(self.cut_off(path, reader.next_number(), &error)),
            }
            if self.passing.is_stopped() {
                return Ok(End::Stopped);
            }
        }
    }

    /// The next line that is not blank.
    fn document(&mut self, reader: &mut LineReader<Box<dyn BufRead + Send>>) -> io::Result<Option<Line>> {
        while let Some(line) = reader.read()? {
            if !line.is_blank() {
                return Ok(Some(line));
            }
            self.blank += 1;
        }
        Ok(None)
    }

    fn cut_off(&self, path: &Path, lines: i64, error: &io::Error) -> String {
        format!("{}: reading stopped at line {}: {}", path.display(), lines + 1, files::why(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Allowance, Intake, Notice, Position, intake};
    use std::collections::BTreeMap;
    use std::fs;

    /// A folder of inputs, its checkpoint, and a reader that delivers some documents and stops.
    struct Bench {
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::create_dir_all(self.dir.path().join("in")).unwrap();
            fs::write(self.dir.path().join("in").join(name), bytes).unwrap();
        }

        /// Delivers at most `most` documents, committing each. What was delivered, as `name:offset:text`; and what can't be read.
        fn run(&self, most: usize) -> Result<(Vec<String>, Option<String>), String> {
            let mut checkpoint = Checkpoint::open(&self.dir.path().join("state")).unwrap();
            let pattern = format!("{}/in/*", self.dir.path().display());
            let inputs = files::expand(&[pattern], &[]).map_err(|error| error.to_string())?;
            let plan = Plan::new(inputs, &checkpoint).map_err(|error| error.to_string())?;
            let (outlet, mut intake) = intake(Allowance::new(100, 10_000), 100);
            let mut source = Files::new(plan, outlet, 20, Progress::default());
            source.start().unwrap();
            let mut seen = Vec::new();
            while seen.len() < most {
                let Some(parcel) = intake.records.blocking_recv() else { break };
                let origin = &parcel.body.origin;
                let name = origin.lane.topic.rsplit('/').next().unwrap();
                let text = String::from_utf8_lossy(parcel.body.value.as_ref().unwrap()).into_owned();
                seen.push(format!("{name}:{}:{text}", origin.offset));
                let position = Position { lane: origin.lane.clone(), epoch: 1, next: origin.offset + 1 };
                checkpoint.commit(&[position], &BTreeMap::new()).unwrap();
            }
            let broken = Self::broken(&mut intake, seen.len() < most);
            drop(intake);
            assert!(source.close(Duration::from_secs(60)));
            Ok((seen, broken))
        }

        fn broken(intake: &mut Intake, ended: bool) -> Option<String> {
            match intake.notices.try_recv() {
                Ok(Notice::Broken(reason)) if ended => Some(reason),
                _ => None,
            }
        }
    }

    #[test]
    fn documents_come_in_order_once_over_any_number_of_runs_and_blank_lines_are_none() {
        for stop_after in 1..8 {
            let bench = Bench::new();
            bench.write("b.jsonl", b"\xef\xbb\xbf1\r\n\n  \n2\n\n");
            bench.write("a.jsonl.zst", &zstd_frames(&["x\n", "y\nz"]));
            bench.write("empty", b"");
            let mut seen = Vec::new();
            for _ in 0..7 {
                seen.extend(bench.run(stop_after).unwrap().0);
            }
            assert_eq!(seen, ["a.jsonl.zst:0:x", "a.jsonl.zst:1:y", "a.jsonl.zst:2:z", "b.jsonl:0:1", "b.jsonl:3:2"]);
        }
    }

    #[test]
    fn a_file_that_was_delivered_does_not_come_again_by_another_name() {
        let bench = Bench::new();
        bench.write("m.jsonl", b"1\n2\n3\n");
        assert_eq!(bench.run(2).unwrap().0, ["m.jsonl:0:1", "m.jsonl:1:2"]);
        let within = |name: &str| bench.dir.path().join("in").join(name);
        std::os::unix::fs::symlink("m.jsonl", within("a.jsonl")).unwrap();
        fs::hard_link(within("m.jsonl"), within("z.jsonl")).unwrap();
        assert_eq!(bench.run(9).unwrap().0, ["m.jsonl:2:3"], "it goes on where it stood");
        assert_eq!(bench.run(9).unwrap().0, [""; 0]);
    }

    fn zstd_frames(texts: &[&str]) -> Vec<u8> {
        let frames = texts.iter().map(|text| {
            let dir = tempfile::tempdir().unwrap();
            let settings = files::OutputSettings {
                dir: dir.path().to_owned(),
                compression: files::Compression::Zstd,
                level: None,
            };
            let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
            let mut outputs = files::Outputs::open(&settings, &["x".to_owned()], &mut checkpoint).unwrap();
            outputs.append(BTreeMap::from([("x".to_owned(), text.as_bytes().to_vec())])).unwrap();
            fs::read(dir.path().join("x")).unwrap()
        });
        frames.collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_was_appended_is_read_and_what_was_changed_is_refused() {
        let bench = Bench::new();
        bench.write("a", b"1\n2\n3\n");
        assert_eq!(bench.run(2).unwrap().0, ["a:0:1", "a:1:2"]);
        bench.write("a", b"1\n2\nthree\nfour\n");
        assert_eq!(bench.run(9).unwrap().0, ["a:2:three", "a:3:four"], "nothing that was delivered has changed");
        bench.write("a", b"1\n2\nthree\nfour\nfive");
        assert_eq!(bench.run(9).unwrap().0, ["a:4:five"]);
        bench.write("b", b"new\n");
        for changed in [b"1\n2\nthree\nfour\nfive and more".as_slice(), b"1\n2\n", b"0\n2\nthree\nfour\nfive"] {
            bench.write("a", changed);
            let said = bench.run(9).unwrap_err();
            assert!(said.contains("the first 5 lines are not those") && said.contains("in/a"), "{said}");
        }
        bench.write("a", b"1\n2\nthree\nfour\nfive\n");
        assert_eq!(bench.run(9).unwrap().0, ["b:0:new"]);
    }

    #[test]
    fn a_file_that_was_cut_off_gives_what_it_has_and_goes_on_when_it_is_whole_again() {
        let bench = Bench::new();
        let whole = zstd_frames(&["1\n", "2\n3\n"]);
        bench.write("a.zst", &whole[..whole.len() - 3]);
        bench.write("b", b"other\n");
        let (seen, broken) = bench.run(9).unwrap();
        let broken = broken.unwrap();
        assert!(broken.contains("in/a.zst: reading stopped at line ") && broken.contains("cut off"), "{broken}");
        assert!(seen.contains(&"a.zst:0:1".to_owned()) && seen.contains(&"b:0:other".to_owned()), "{seen:?}");
        let (again, broken) = bench.run(9).unwrap();
        assert!(again.is_empty() && broken.is_some(), "what can't be read is told again");
        bench.write("a.zst", &whole);
        let (rest, broken) = bench.run(9).unwrap();
        assert_eq!(broken, None);
        assert_eq!([seen, rest].concat().iter().filter(|line| line.starts_with("a.zst")).count(), 3);
    }

    #[test]
    fn a_line_too_long_is_passed_on_without_being_kept_whole() {
        let bench = Bench::new();
        bench.write("a", &[vec![b'x'; 100_000], b"\nok\n".to_vec()].concat());
        let (seen, _) = bench.run(9).unwrap();
        assert!(seen[0].len() < 40 && seen[1] == "a:1:ok", "{seen:?}");
    }

    #[test]
    fn pipelines_keep_their_positions_apart() {
        let settings = FilesSettings::default();
        assert_eq!(settings.state_of("a/../b c"), Path::new("var/state/a%2f%2e%2e%2fb%20c"));
    }
}
