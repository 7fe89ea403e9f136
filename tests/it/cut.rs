//! Owns the proof on logs that lose their ends under a group that has read them, as an unclean election of a leader or a lost disk cache leaves them.

use crate::broker::{Broker, folder};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline_at};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take here that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// Cuts a partition's log at the batch that begins at `offset`. The broker is down, and was not stopped in good order: when it comes back it takes what is
/// left for all there was.
fn cut(broker: &str, topic: &str, offset: u64) {
    let dir = folder(broker).join("data").join(format!("{topic}-0"));
    let mut logs: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(logs.len(), 1, "one segment: {logs:?}");
    let bytes = fs::read(&logs[0]).unwrap();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 12) {
        let base = u64::from_be_bytes(head[..8].try_into().unwrap());
        if base >= offset {
            assert_eq!(base, offset, "no batch of {topic} begins there");
            File::options().write(true).open(&logs[0]).unwrap().set_len(at as u64).unwrap();
            return;
        }
        at += 12 + u32::from_be_bytes(head[8..].try_into().unwrap()) as usize;
    }
    panic!("{topic} has nothing at {offset}");
}

/// One worker with topics of its own on a broker that others use, too.
struct Reader {
    name: &'static str,
    topics: Topics,
    file: std::path::PathBuf,
}

impl Reader {
    fn new(name: &'static str, broker: &Broker, referee: &mut Referee, delivery: &str) -> Self {
        let topics = Topics::new(name);
        referee.create(&topics.all(), 1);
        let reads = format!("topics = [{:?}]\ngroup = {name:?}", topics.input);
        let properties = r#""session.timeout.ms" = "60000", "heartbeat.interval.ms" = "500""#;
        let file =
            pipeline_at(&broker.address, name, &reads, properties, &topics, &format!("[delivery]\n{delivery}\n"));
        Self { name, topics, file }
    }

    fn run(&self) -> Worker {
        let mut worker = Worker::run(self.name, &self.file, &[]);
        worker.wait_ready();
        worker
    }

    fn produce(&self, referee: &mut Referee, first: u64, count: u64) {
        let deed = json!({"topic": self.topics.input, "first": first, "count": count, "partitions": 1});
        assert_eq!(referee.ask("produce", deed)["failed"], json!([]));
    }

    /// The numbers of the documents on the outputs; of each output in its order.
    fn numbers(&self, referee: &mut Referee) -> Vec<u64> {
        let outputs = self.topics.outputs();
        let mut numbers = Vec::new();
        for topic in outputs.as_object().unwrap().values() {
            let dump = referee.ask("dump", json!({ "topics": [topic] }));
            let own: Vec<u64> = dump["records"].as_array().unwrap().iter().map(number).collect();
            assert!(own.is_sorted(), "{}: out of order on {topic}: {own:?}", self.name);
            numbers.extend(own);
        }
        numbers
    }

    /// Waits until `wanted` are there, and says what is there once nothing more comes.
    fn settled(&self, referee: &mut Referee, worker: &Worker, wanted: &[u64]) -> Vec<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.numbers(referee);
        while !wanted.iter().all(|number| seen.contains(number)) {
            let missing: Vec<_> = wanted.iter().filter(|number| !seen.contains(number)).collect();
            assert!(Instant::now() < deadline, "{}: missing {missing:?}\n{}", self.name, worker.log());
            sleep(Duration::from_millis(300));
            seen = self.numbers(referee);
        }
        until("nothing is in flight", worker, || worker.metric("tamis_documents_in_flight") == 0.0);
        let mut seen = self.numbers(referee);
        seen.sort_unstable();
        seen
    }
}

/// What the header of this name says, digits in hexadecimal.
fn number(record: &Value) -> u64 {
    let headers = record["headers"].as_array().unwrap();
    let value = headers.iter().find(|header| header[0] == "number").unwrap()[1].as_str().unwrap();
    let digits = (0..value.len()).step_by(2).map(|at| u8::from_str_radix(&value[at..at + 2], 16).unwrap());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn until(what: &str, worker: &Worker, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}:\n{}", worker.log());
        sleep(Duration::from_millis(20));
    }
}

fn range(from: u64, to: u64) -> Vec<u64> {
    (from..to).collect()
}

#[test]
fn a_log_cut_below_what_was_read_loses_nothing_that_it_holds_and_repeats_nothing() {
    let mut broker = Broker::start("cut-broker", &[]);
    let mut referee = Referee::at(&broker.address);
    // What this one reads waits for its commit; that one works through what its client library has fetched long ago; the last one is stopped.
    let held = Reader::new("cut-held", &broker, &mut referee, "commit_interval_ms = 20000");
    let behind = Reader::new("cut-behind", &broker, &mut referee, "commit_interval_ms = 50\nmax_documents = 20");
    let away = Reader::new("cut-away", &broker, &mut referee, "commit_interval_ms = 50");
    for (first, count) in [(0, 80), (80, 10), (90, 10)] {
        away.produce(&mut referee, first, count);
    }
    let mut worker = away.run();
    assert_eq!(away.settled(&mut referee, &worker, &range(0, 100)), range(0, 100));
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());

    for (first, count) in [(0, 1_200), (1_200, 300)] {
        behind.produce(&mut referee, first, count);
    }
    held.produce(&mut referee, 0, 80);
    let holds = held.run();
    assert_eq!(held.settled(&mut referee, &holds, &range(0, 80)), range(0, 80));
    held.produce(&mut referee, 80, 10);
    held.produce(&mut referee, 90, 10);
    until("20 are held", &holds, || holds.metric("tamis_documents_in_flight") == 20.0);
    let lags = behind.run();
    until("some are read", &lags, || lags.metric("tamis_records_read_total") > 0.0);
    lags.signal("-STOP");

    broker.crash();
    cut("cut-broker", &held.topics.input, 90);
    cut("cut-broker", &behind.topics.input, 1_200);
    cut("cut-broker", &away.topics.input, 90);
    broker.up();
    for (reader, first) in [(&held, 1_000), (&behind, 2_000), (&away, 1_000)] {
        reader.produce(&mut referee, first, 30);
    }
    lags.signal("-CONT");
    let back = away.run();

    let [all, new] = [range(0, 100), range(1_000, 1_030)];
    let whole = [all, new].concat();
    assert_eq!(away.settled(&mut referee, &back, &whole), whole, "{}", back.log());
    assert!(back.metric("tamis_kafka_log_cuts_total") > 0.0, "{}", back.log());
    assert_eq!(held.settled(&mut referee, &holds, &whole), whole, "{}", holds.log());
    assert!(holds.metric("tamis_kafka_log_cuts_total") > 0.0, "{}", holds.log());
    let sure = [range(0, 1_200), range(2_000, 2_030)].concat();
    let mut seen = behind.settled(&mut referee, &lags, &sure);
    // What was cut off may have been read before, or not; not twice.
    let cut_off = seen.iter().filter(|number| (1_200..1_500).contains(*number)).count();
    seen.dedup();
    seen.retain(|number| !(1_200..1_500).contains(number));
    assert_eq!(seen, sure, "{cut_off} cut off\n{}", lags.log());
    assert_eq!(behind.numbers(&mut referee).len(), sure.len() + cut_off, "none twice");
}
