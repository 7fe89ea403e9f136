//! Owns what others see of a worker while it runs: the words to a service manager, and the series that must follow the truth.

use crate::broker;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline};
use serde_json::json;
use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 4;

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    path: String,
    heard: Vec<String>,
    /// How many of these count no more.
    forgotten: usize,
}

impl Manager {
    fn listen(name: &str) -> Self {
        let path = broker::folder(name).join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), heard: Vec::new(), forgotten: 0 }
    }

    /// Hears everything for `span`; the lines of it.
    fn hear(&mut self, span: Duration) -> Vec<String> {
        let until = Instant::now() + span;
        let mut lines = Vec::new();
        let mut buffer = [0_u8; 4096];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Ok(size) = self.socket.recv(&mut buffer) {
                lines.extend(String::from_utf8_lossy(&buffer[..size]).lines().map(str::to_owned));
            }
        }
        self.heard.extend(lines.iter().cloned());
        lines
    }

    /// Hears until a line begins with `wanted`; it may have come before, together with another that was waited for.
    fn wait_for(&mut self, wanted: &str, seconds: u64, worker: &Worker) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !self.heard[self.forgotten..].iter().any(|line| line.starts_with(wanted)) {
            assert!(Instant::now() < deadline, "no {wanted} in {:?}\n{}", self.heard, worker.log());
            self.hear(Duration::from_millis(50));
        }
    }

    /// From here on only what is heard later counts.
    fn forget(&mut self) {
        self.forgotten = self.heard.len();
    }
}

/// Waits until `met` says so.
fn eventually(what: &str, seconds: u64, worker: &Worker, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !met() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s\n{}", worker.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_service_manager_that_does_not_listen_holds_nothing_up() {
    let mut referee = Referee::start();
    let topics = Topics::new("deaf");
    referee.create(&topics.all(), PARTITIONS);
    let manager = Manager::listen("deaf");
    // A socket's queue holds ten words or so: it is full within a second, and whoever writes to it waits.
    let environment = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "60000")];
    let mut worker = Worker::run_in("unheard", &pipeline("deaf", &topics, ""), &[], &environment);
    worker.wait_ready();
    std::thread::sleep(Duration::from_secs(3));
    produce(&mut referee, &topics.input, 0, 300);
    eventually("300 delivered", 120, &worker, || worker.metric("tamis_documents_total") >= 300.0);
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

fn produce(referee: &mut Referee, topic: &str, first: u64, count: u64) {
    let request = json!({"topic": topic, "first": first, "count": count, "partitions": PARTITIONS, "seed": first + 3});
    assert_eq!(referee.ask("produce", request)["failed"], json!([]));
}

/// Partitions that a series of this worker names.
fn lag_partitions(worker: &Worker) -> BTreeSet<String> {
    let (_, text) = worker.get("/metrics").expect("metrics");
    let lines = text.lines().filter(|line| line.starts_with("tamis_partition_lag_records{"));
    lines.map(|line| line.split("partition=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_service_manager_hears_of_start_life_stall_and_stop() {
    // The controller must not take it for dead meanwhile: a lone broker that is given up and comes back is another story (docs/reliability.md).
    let own = broker::Broker::start("own-broker", &["broker.session.timeout.ms=60000"]);
    let address = own.address.clone();
    let mut referee = Referee::at(&address);
    let topics = Topics::new("notify");
    referee.create(&topics.all(), PARTITIONS);
    let file = pipeline("notify", &topics, "stall_after_ms = 2000\n[delivery]\nmax_documents = 64\n");
    // A broker of its own, which can be stopped, and timeouts that outlast the stop.
    let text = std::fs::read_to_string(&file).unwrap().replace(broker::bootstrap(), &address);
    let text = text.replace("\"12000\"", "\"300000\"").replace("\"6000\"", "\"120000\"");
    std::fs::write(&file, text).unwrap();

    let mut manager = Manager::listen("notify");
    let environment = [("NOTIFY_SOCKET", manager.path.clone()), ("WATCHDOG_USEC", "900000".to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut worker = Worker::run_in("notified", &file, &[], &environment);
    manager.wait_for("READY=1", 120, &worker);
    assert!(manager.heard.contains(&"STATUS=waiting: the model is not warm yet".to_owned()), "{:?}", manager.heard);
    manager.wait_for("STATUS=scoring, 4 partitions", 60, &worker);
    manager.forget();
    manager.wait_for("WATCHDOG=1", 30, &worker);
    produce(&mut referee, &topics.input, 0, 200);
    eventually("200 delivered", 120, &worker, || worker.metric("tamis_documents_total") >= 200.0);
    manager.forget();
    manager.wait_for("WATCHDOG=1", 30, &worker);

    // Documents in flight that can't be delivered: the broker stands still.
    produce(&mut referee, &topics.input, 200, 3_000);
    eventually("documents in flight", 60, &worker, || worker.metric("tamis_documents_in_flight") > 0.0);
    own.signal("-STOP");
    eventually("a stall", 90, &worker, || worker.get("/livez").is_some_and(|(status, _)| status == 503));
    manager.hear(Duration::from_millis(600));
    let silence = manager.hear(Duration::from_secs(2));
    assert!(!silence.contains(&"WATCHDOG=1".to_owned()), "a stalled worker feeds no watchdog: {silence:?}");
    assert!(worker.metric("tamis_no_progress_seconds") > 2.0 && worker.metric("tamis_oldest_open_seconds") > 2.0);
    // The referee's timestamps are years old.
    assert!(worker.metric("tamis_partition_lag_seconds") > 1e6 && worker.metric("tamis_partition_lag_records") > 0.0);
    assert!(manager.heard.iter().any(|line| line.starts_with("STATUS=stuck: ")), "{:?}", manager.heard);

    own.signal("-CONT");
    manager.forget();
    manager.wait_for("WATCHDOG=1", 120, &worker);
    worker.signal("-TERM");
    manager.wait_for("STOPPING=1", 60, &worker);
    assert!(manager.heard.contains(&"EXTEND_TIMEOUT_USEC=150000000".to_owned()), "{:?}", manager.heard);
    assert_eq!(worker.wait(120).code(), Some(0), "{}", worker.log());
}

#[test]
fn a_partitions_lag_is_told_falls_to_nothing_and_goes_with_the_partition() {
    let mut referee = Referee::start();
    let topics = Topics::new("lag");
    referee.create(&topics.all(), PARTITIONS);
    produce(&mut referee, &topics.input, 0, 600);
    let file = pipeline("lag", &topics, "");
    let mut first = Worker::run("lag-first", &file, &[]);
    first.wait_ready();
    eventually("600 delivered", 120, &first, || first.metric("tamis_documents_total") >= 600.0);
    eventually("no lag", 60, &first, || {
        first.metric("tamis_partition_lag_records") == 0.0 && first.metric("tamis_partition_lag_seconds") == 0.0
    });
    assert_eq!(lag_partitions(&first).len(), 4);
    assert!(
        first.metric("tamis_documents_by_language_total") > 0.0 && first.metric("tamis_tokenize_seconds_count") > 0.0
    );

    // The outputs were written in transactions: behind the last record stands a marker, which is nobody's lag.
    let mut tail = Topics::new("lag-tail");
    referee.create(&tail.all()[1..], PARTITIONS);
    tail.input = topics.fail.clone();
    let mut second = Worker::run("lag-tail", &pipeline("lag-tail", &tail, ""), &[]);
    second.wait_ready();
    eventually("something of the first's outputs", 60, &second, || second.metric("tamis_documents_total") > 0.0);
    eventually("no lag behind the markers", 60, &second, || {
        second.metric("tamis_documents_in_flight") == 0.0 && second.metric("tamis_partition_lag_records") == 0.0
    });
    drop(second);

    let mut joined = Worker::run("lag-joined", &file, &[]);
    joined.wait_ready();
    let own = |worker: &Worker| worker.partitions().into_iter().collect::<BTreeSet<String>>();
    eventually("the series follow the assignment", 60, &first, || {
        let (ours, theirs) = (lag_partitions(&first), lag_partitions(&joined));
        ours == own(&first) && theirs == own(&joined) && ours.len() + theirs.len() == 4
    });
}
