//! Owns the proof that memory is bounded whatever piles up where: a long backlog, large documents, a sink that does not take, a device that
//! does not move; and that waiting does not fetch the same records over and over.
//!
//! The bound is the one stated in `docs/performance.md`. `TAMIS_LONG=1` measures it with tamis's defaults.

use crate::broker::{self, Broker, is_long};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline_of};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// What bounds a worker's memory, as its pipeline file says.
struct Bounds {
    documents: u64,
    bytes: u64,
    batch_bytes: u64,
}

impl Bounds {
    /// Small ones, so that a bound that doesn't hold shows with little data; or the defaults.
    fn chosen() -> Self {
        if is_long() {
            Self { documents: 16_384, bytes: 256 * MIB, batch_bytes: 32 * MIB }
        } else {
            Self { documents: 2_048, bytes: 64 * MIB, batch_bytes: 16 * MIB }
        }
    }

    fn toml(&self) -> String {
        format!(
            "[delivery]\ncommit_interval_ms = 100\nmax_documents = {}\nmax_in_flight_bytes = {}\nmax_batch_bytes = {}\n",
            self.documents, self.bytes, self.batch_bytes
        )
    }

    /// The most that a worker may take beyond what it took before it read anything: see "What bounds memory" in `docs/performance.md`.
    fn most(&self) -> u64 {
        let prefetched = (32 + 8) * MIB;
        let in_hand = 32 * MIB;
        let remembered = 32 * MIB;
        2 * self.bytes + 3 * self.batch_bytes + prefetched + in_hand + remembered + self.documents * 8 * 1024
    }
}

/// A number of `/proc/PID/status`, in bytes.
fn of_status(worker: &Worker, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn file(name: &str, topics: &Topics, more: &str) -> PathBuf {
    let reads = format!("topics = [{:?}]\ngroup = {name:?}", topics.input);
    let properties = r#""statistics.interval.ms" = "500""#;
    pipeline_of(name, &reads, properties, topics, more)
}

/// Waits until the documents in flight have stood at one number above zero for five seconds: nothing more comes in.
fn wait_full(worker: &Worker) -> f64 {
    let deadline = Instant::now() + Duration::from_secs(150);
    let (mut at, mut since) = (0.0, Instant::now());
    while at < 1.0 || since.elapsed() < Duration::from_secs(5) {
        assert!(
            Instant::now() < deadline,
            "{at} documents in flight, {} read\n{}",
            worker.metric("tamis_records_read_total"),
            worker.log()
        );
        sleep(Duration::from_millis(200));
        let now = worker.metric("tamis_documents_in_flight");
        if (now - at).abs() > 0.5 {
            (at, since) = (now, Instant::now());
        }
    }
    at
}

fn wait_delivered(worker: &Worker, wanted: f64) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while worker.metric("tamis_documents_total") < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted}\n{}", worker.metric("tamis_documents_total"), worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// A worker that reads from the common broker and writes to one of its own, which can be frozen: the sink then takes nothing.
struct Bench {
    referee: Referee,
    sink: Broker,
    topics: Topics,
    worker: Worker,
    bounds: Bounds,
    /// What the worker took before it read anything.
    base: u64,
    file: PathBuf,
}

impl Bench {
    fn new(name: &str, partitions: u32) -> Self {
        let bounds = Bounds::chosen();
        let sink = Broker::start(&format!("{name}-sink"), &[]);
        let topics = Topics::new(name);
        let config = json!({"max.message.bytes": "20971520"});
        let create = |names: &[&str]| {
            let wanted = |name: &&str| json!({"name": name, "partitions": partitions, "config": config});
            json!({"topics": names.iter().map(wanted).collect::<Vec<Value>>()})
        };
        Referee::at(&sink.address).ask("create", create(&topics.all()[1..]));
        let mut referee = Referee::start();
        referee.ask("create", create(&topics.all()[..1]));
        let file = file(name, &topics, &bounds.toml());
        let worker = Self::start(&file, &sink, &[]);
        let base = of_status(&worker, "VmRSS");
        Self { referee, sink, topics, worker, bounds, base, file }
    }

    fn start(file: &Path, sink: &Broker, sets: &[String]) -> Worker {
        let mut args = vec!["--set".to_owned(), format!("sink.kafka.brokers={}", sink.address)];
        args.extend(sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut worker = Worker::run("bench", file, &args);
        worker.wait_ready();
        worker
    }

    /// The next worker, after the first has ended, with more settings.
    fn again(&mut self, sets: &[String]) {
        self.worker = Self::start(&self.file, &self.sink, sets);
        self.base = of_status(&self.worker, "VmRSS");
    }

    /// Says what was measured, and holds it to the bound.
    fn hold(&self, what: &str) {
        let peak = of_status(&self.worker, "VmHWM");
        let (more, most) = (peak.saturating_sub(self.base), self.bounds.most());
        let (base, peak) = (self.base / MIB, peak / MIB);
        eprintln!(
            "memory, {what}: {base} MiB before reading, {peak} MiB at most, {} MiB more; bound {} MiB more",
            more / MIB,
            most / MIB
        );
        assert!(more <= most, "{what}: {} MiB more than before\n{}", more / MIB, self.worker.log());
    }
}

fn produce(referee: &mut Referee, topics: &Topics, first: u64, count: u64) {
    let deed = json!({"topic": topics.input, "first": first, "count": count, "partitions": 4, "seed": first + 6});
    assert_eq!(referee.ask("produce", deed)["failed"], json!([]));
}

/// Bytes and records fetched for each one read, once nothing more is to come.
fn refetched(worker: &Worker) -> f64 {
    // The client library reports every half second.
    sleep(Duration::from_millis(1_500));
    worker.metric("tamis_kafka_fetched_records_total") / worker.metric("tamis_records_read_total")
}

/// A debugger that holds one thread of a worker still, until it is dropped.
struct Hold(Child);

impl Hold {
    /// Holds the threads of this name. None where this machine does not let us.
    fn threads(worker: &Worker, name: &str) -> Option<Vec<Self>> {
        let tasks = format!("/proc/{}/task", worker.pid());
        let named = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let tasks = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path()).filter(|task| named(task));
        let held: Option<Vec<Self>> = tasks.map(|task| Self::thread(&task)).collect();
        assert!(held.as_ref().is_none_or(|held| !held.is_empty()), "no thread is called {name}");
        held
    }

    fn thread(task: &Path) -> Option<Self> {
        let mut child = Command::new(broker::root().join("var/venv/bin/python"))
            .arg(broker::root().join("tests/it/hold.py"))
            .arg(task.file_name().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let hold = Self(child);
        if said.trim() != "held" {
            // Past the harness's capture, which print macros go through.
            let told = format!("\n*** NOT RUN: a stalled device; this machine lets nobody hold a thread: {said}\n");
            std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
            return None;
        }
        Some(hold)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_long_backlog_with_a_stalled_sink_and_a_stalled_device_stays_within_the_bound() {
    let count: u64 = if is_long() { 100_000 } else { 20_000 };
    let mut bench = Bench::new("backlog", 4);
    let frozen = Instant::now();
    bench.sink.signal("-STOP");
    produce(&mut bench.referee, &bench.topics, 0, count);
    let full = wait_full(&bench.worker);
    assert!((full - bench.bounds.documents as f64).abs() < 0.5, "{full} in flight");
    bench.hold(&format!("{count} documents of backlog, a sink that takes nothing"));
    // So long that the sink's only broker takes itself for dead when it wakes: the client library then forgot it for five minutes, and the worker gave up. Not
    // longer, however slow this machine is: after 150 s without an answer a worker rightly gives up.
    sleep(Duration::from_secs(100).saturating_sub(frozen.elapsed()));
    bench.sink.signal("-CONT");
    eprintln!("the sink was frozen for {} s", frozen.elapsed().as_secs());
    wait_delivered(&bench.worker, if is_long() { count as f64 } else { 4_000.0 });
    bench.hold("the same, flowing again");
    let (again, pauses) = (refetched(&bench.worker), bench.worker.metric("tamis_kafka_fetching_paused_total"));
    if is_long() {
        eprintln!("fetched for each record read: {again:.3}; pauses: {pauses}");
        assert!(again < 1.2, "{again} fetched for each record read");
    }

    bench.worker.signal("-TERM");
    assert_eq!(bench.worker.wait(60).code(), Some(0), "{}", bench.worker.log());

    // The device stands still under load (a cold cache, so that it is needed): bounded, and then the watchdog's.
    bench.again(&[
        "delivery.stall_exit_ms=15000".to_owned(),
        format!("cache.path={}", broker::folder("cold").display()),
    ]);
    let Some(_held) = Hold::threads(&bench.worker, "tamis-device") else { return };
    produce(&mut bench.referee, &bench.topics, count, count);
    wait_full(&bench.worker);
    bench.hold("a device that stands still");
    assert_eq!(bench.worker.wait(120).code(), Some(69), "{}", bench.worker.log());
    assert!(bench.worker.log().contains("nothing has moved"), "{}", bench.worker.log());
}

#[test]
fn documents_of_ten_mebibytes_stay_within_the_bound_and_are_fetched_once() {
    let count: u64 = if is_long() { 150 } else { 40 };
    let mut bench = Bench::new("huge", 2);
    bench.sink.signal("-STOP");
    let deed = json!({"topic": bench.topics.input, "count": count, "bytes": 10 * MIB - 1_000, "partitions": 2});
    bench.referee.ask("large", deed);
    wait_full(&bench.worker);
    bench.hold("10 MiB documents, a sink that takes nothing");
    bench.sink.signal("-CONT");
    wait_delivered(&bench.worker, count as f64);
    bench.hold("10 MiB documents, flowing");
    let (again, pauses) = (refetched(&bench.worker), bench.worker.metric("tamis_kafka_fetching_paused_total"));
    eprintln!("10 MiB documents: fetched for each record read: {again:.3}; pauses: {pauses}");
    assert_eq!(bench.worker.metric("tamis_dead_letters_total") as u64, 0, "{}", bench.worker.log());
    bench.worker.signal("-TERM");
    assert_eq!(bench.worker.wait(60).code(), Some(0), "{}", bench.worker.log());
}

#[test]
fn steady_backpressure_fetches_each_record_once() {
    const COUNT: u64 = 6_000;
    let mut referee = Referee::start();
    let topics = Topics::new("steady");
    referee.create(&topics.all(), 4);
    referee.ask("produce", json!({"topic": topics.input, "first": 0, "count": COUNT, "partitions": 4, "seed": 11}));
    let more = "[delivery]\ncommit_interval_ms = 700\nmax_documents = 250\n";
    let mut worker = Worker::run("steady", &file("steady", &topics, more), &[]);
    worker.wait_ready();
    wait_delivered(&worker, COUNT as f64);
    let (again, pauses) = (refetched(&worker), worker.metric("tamis_kafka_fetching_paused_total"));
    eprintln!("steady backpressure: fetched for each record read: {again:.3}; pauses: {pauses}");
    assert!((1.0..1.2).contains(&again), "{again} fetched for each record read, {pauses} pauses");
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}
