//! Owns the proof on a broker that freezes or crashes: a stalled worker ends by itself, a stop is heard, nothing is lost or repeated.

use crate::broker::Broker;
use crate::proxy::{Commits, Proxy};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline_at};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 2;
const WAVE: u64 = 1_500;

struct Outage {
    /// Of its broker and its folder: these tests run beside each other.
    name: &'static str,
    broker: Broker,
    referee: Referee,
    topics: Topics,
    produced: u64,
}

impl Outage {
    fn new() -> Self {
        Self::on("frail-broker", &[])
    }

    fn on(name: &'static str, more: &[&str]) -> Self {
        let broker = Broker::start(name, more);
        let mut referee = Referee::at(&broker.address);
        let topics = Topics::new("outage");
        referee.create(&topics.all(), PARTITIONS);
        Self { name, broker, referee, topics, produced: 0 }
    }

    fn file(&self, delivery: &str) -> PathBuf {
        let reads = format!("topics = [{:?}]\ngroup = \"outage\"", self.topics.input);
        let properties = r#""session.timeout.ms" = "6000", "heartbeat.interval.ms" = "500""#;
        let more = format!(
            "[delivery]\ncommit_interval_ms = 50\nmax_documents = 300\nmax_batch_documents = 100\n{delivery}\n"
        );
        let folder = format!("{}-outage", self.name);
        pipeline_at(&self.broker.address, &folder, &reads, properties, &self.topics, &more)
    }

    /// On a broker that clients come to by a proxy.
    fn by_proxy(name: &'static str) -> (Self, Proxy) {
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let proxy = Proxy::to(own.to_string());
        let advertised = format!("advertised.listeners=PLAINTEXT://{}", proxy.address);
        (Self::on(name, &["--port", &own.port().to_string(), &advertised]), proxy)
    }

    fn wave(&mut self) {
        self.wave_of(WAVE);
    }

    fn wave_of(&mut self, count: u64) {
        let deed = json!({"topic": self.topics.input, "first": self.produced, "count": count, "partitions": PARTITIONS, "seed": self.produced + 1});
        assert_eq!(self.referee.ask("produce", deed)["failed"], json!([]));
        self.produced += count;
    }

    /// The next commit meets with this.
    fn commits(&mut self, proxy: &Proxy, commits: Commits) {
        proxy.set(commits);
        self.wave_of(200);
        let deadline = Instant::now() + Duration::from_secs(60);
        while proxy.swallowed() == 0 {
            assert!(Instant::now() < deadline, "nothing was committed");
            sleep(Duration::from_millis(20));
        }
    }

    /// Nothing lost, nothing twice, each once in its order.
    fn verify_all(&mut self) {
        let verdict = self.referee.ask("verify", json!({"input": self.topics.input, "outputs": self.topics.outputs()}));
        eprintln!("verified at read_committed by confluent-kafka: {verdict}");
        assert_eq!((&verdict["lost"], &verdict["problems"]), (&json!(0), &json!(0)), "{verdict}");
        assert_eq!(
            (&verdict["input"], &verdict["output"]),
            (&json!(self.produced), &json!(self.produced)),
            "{verdict}"
        );
    }

    fn seen(&mut self) -> u64 {
        let outputs = self.topics.outputs();
        let outputs: Vec<&Value> = outputs.as_object().unwrap().values().collect();
        self.referee.ask("count", json!({ "topics": outputs }))["records"].as_u64().unwrap()
    }

    fn wait_for(&mut self, wanted: u64, worker: &Worker) {
        let deadline = Instant::now() + Duration::from_secs(150);
        loop {
            let seen = self.seen();
            if seen >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{seen} of {wanted} records:\n{}", worker.log());
            sleep(Duration::from_millis(100));
        }
    }

    /// Freezes the broker while `worker` has documents in flight.
    fn freeze(&mut self, worker: &Worker) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.broker.signal("-STOP");
            if worker.metric("tamis_documents_in_flight") > 0.0 {
                return;
            }
            self.broker.signal("-CONT");
            assert!(Instant::now() < deadline, "never anything in flight\n{}", worker.log());
            sleep(Duration::from_millis(30));
        }
    }
}

fn brokers_up(worker: &Worker) -> Option<u64> {
    let status: Value = serde_json::from_str(&worker.get("/status")?.1).unwrap();
    status["brokers_up"].as_u64()
}

fn wait_up(worker: &Worker, wanted: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !brokers_up(worker).is_some_and(&wanted) {
        assert!(Instant::now() < deadline, "{:?} brokers up\n{}", brokers_up(worker), worker.log());
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_frozen_or_crashed_broker_ends_no_worker_badly_and_loses_nothing() {
    let mut outage = Outage::new();
    outage.wave();

    // Nothing moves: the watchdog ends the worker, for its supervisor to start it afresh.
    let mut stalled = Worker::run("stalled", &outage.file("stall_exit_ms = 4000"), &[]);
    stalled.wait_ready();
    outage.wait_for(100, &stalled);
    outage.freeze(&stalled);
    assert_eq!(stalled.wait(60).code(), Some(69), "{}", stalled.log());
    assert!(stalled.log().contains("nothing has moved"), "{}", stalled.log());
    outage.broker.signal("-CONT");

    // A stop is heard while nothing answers: past the deadline, 75, within a bound.
    outage.wave();
    let seen = outage.seen();
    let mut stopped = Worker::run("stopped", &outage.file("drain_ms = 2000"), &[]);
    stopped.wait_ready();
    outage.wait_for(seen + 100, &stopped);
    outage.freeze(&stopped);
    let asked = Instant::now();
    stopped.signal("-TERM");
    assert_eq!(stopped.wait(120).code(), Some(75), "{}", stopped.log());
    eprintln!("under a frozen broker, drain_ms = 2000: ended {:.1} s after SIGTERM", asked.elapsed().as_secs_f64());
    outage.broker.signal("-CONT");

    // The broker crashes under an idle worker and comes back: shown, ready all the same, and nothing needs a hand.
    let mut last = Worker::run("last", &outage.file(""), &[]);
    outage.wait_for(outage.produced, &last);
    wait_up(&last, |up| up > 0);
    outage.broker.crash();
    wait_up(&last, |up| up == 0);
    assert_eq!(last.get("/readyz").map(|(status, _)| status), Some(200), "an outage is not this worker's fault");
    assert!(last.metric("tamis_kafka_brokers_up") == 0.0);
    outage.broker.up();
    wait_up(&last, |up| up > 0);
    outage.wave();
    let seen = outage.seen();
    outage.wait_for(seen + 100, &last);

    // And once more in the middle of work. A worker whose transaction the broker gave up meanwhile ends with 69, for a fresh start.
    outage.broker.crash();
    outage.broker.up();
    outage.wave();
    let deadline = Instant::now() + Duration::from_secs(200);
    while outage.seen() < outage.produced {
        if last.ended() {
            assert_eq!(last.wait(1).code(), Some(69), "{}", last.log());
            eprintln!("the worker ended with 69 and was started again");
            last = Worker::run("again", &outage.file(""), &[]);
        }
        assert!(Instant::now() < deadline, "{}", last.log());
        sleep(Duration::from_millis(300));
    }
    last.signal("-TERM");
    assert_eq!(last.wait(60).code(), Some(0), "{}", last.log());

    // It left the group in good order: the next one has its partitions.
    let started = Instant::now();
    let mut next = Worker::run("next", &outage.file(""), &[]);
    next.wait_ready();
    eprintln!("the next worker was ready {:.1} s after its start", started.elapsed().as_secs_f64());
    next.signal("-TERM");
    assert_eq!(next.wait(60).code(), Some(0), "{}", next.log());
    outage.verify_all();
}

/// The session ends while a delivery step is under way: its partitions are lost, and nothing is open any more, but for the step, which ends only when it gives up the
/// brokers. The worker once turned in circles until then, two minutes past the deadline.
#[test]
fn a_drain_ends_at_its_deadline_also_where_the_partitions_of_a_delivery_step_are_lost() {
    let mut outage = Outage::on("gone-broker", &[]);
    outage.wave_of(600);
    let mut worker = Worker::run("cut off", &outage.file("drain_ms = 12000"), &[]);
    worker.wait_ready();
    outage.wait_for(50, &worker);
    outage.freeze(&worker);
    worker.signal("-TERM");
    let asked = Instant::now();
    assert_eq!(worker.wait(40).code(), Some(75), "{}", worker.log());
    eprintln!("cut off from all brokers, drain_ms = 12000: ended {:.1} s after SIGTERM", asked.elapsed().as_secs_f64());
    assert!(worker.log().contains("lost=true"), "the session was to end first:\n{}", worker.log());
    outage.broker.signal("-CONT");
}

/// Brokers answer, but the node that coordinates the worker's transactions doesn't: the worker once stood still for 150 s.
#[test]
fn a_worker_that_has_lost_its_transactions_coordinator_makes_room_once_the_transaction_is_over() {
    let (mut outage, proxy) = Outage::by_proxy("deaf-broker");
    outage.wave_of(400);
    let file = outage.file("");
    let mut lost = Worker::run("lost", &file, &[]);
    lost.wait_ready();
    outage.wait_for(100, &lost);
    outage.commits(&proxy, Commits::Unheard);
    let since = Instant::now();
    assert_eq!(lost.wait(140).code(), Some(69), "{}", lost.log());
    // The transaction may last 12 s, and calls that are under way are waited for.
    eprintln!("without a coordinator: ended after {:.1} s", since.elapsed().as_secs_f64());
    assert!(since.elapsed() < Duration::from_secs(90), "{:?}\n{}", since.elapsed(), lost.log());
    assert!(lost.log().contains("look after the node that coordinates it"), "{}", lost.log());
    proxy.set(Commits::Pass);
    let next = Worker::run("next", &file, &[]);
    outage.wait_for(outage.produced, &next);
    outage.verify_all();
}

/// The broker has committed, and nobody tells the worker. It asks again for the same commit, and where that stays unanswered it ends: to take it for
/// aborted and try the step again would bring the same documents twice.
#[test]
fn a_commit_that_was_carried_out_and_not_answered_is_neither_lost_nor_repeated() {
    let (mut outage, proxy) = Outage::by_proxy("mute-broker");
    outage.wave_of(400);
    let file = outage.file("");
    let mut worker = Worker::run("unanswered", &file, &[]);
    worker.wait_ready();
    outage.wait_for(100, &worker);

    // Longer than one call and than half of the transaction's time, after which a step that is not yet to be committed is given up.
    outage.commits(&proxy, Commits::Unanswered);
    sleep(Duration::from_secs(12));
    assert!(!worker.ended(), "{}", worker.log());
    assert!(proxy.swallowed() > 1, "asked once only");
    proxy.set(Commits::Pass);
    outage.wait_for(outage.produced, &worker);
    assert!(!worker.ended(), "{}", worker.log());

    outage.commits(&proxy, Commits::Unanswered);
    assert_eq!(worker.wait(140).code(), Some(69), "{}", worker.log());
    assert!(worker.log().contains("a commit was asked for"), "{}", worker.log());
    proxy.set(Commits::Pass);
    let next = Worker::run("next", &file, &[]);
    outage.wait_for(outage.produced, &next);
    outage.verify_all();
}

/// What stands at the end of the partition is committed by a step of its own; nobody may wait minutes for that.
#[test]
fn a_stop_is_heard_while_only_the_end_of_a_partition_is_being_committed_to_a_frozen_broker() {
    let broker = Broker::start("tail-broker", &[]);
    let mut referee = Referee::at(&broker.address);
    let topics = Topics::new("tail");
    referee.create(&topics.all(), 1);
    let mut start = |guarantee: &str| {
        let reads = format!("topics = [{:?}]\ngroup = \"tail-{guarantee}\"", topics.input);
        let more = format!("[delivery]\ncommit_interval_ms = 7000\nguarantee = \"{guarantee}\"\n");
        let file = pipeline_at(&broker.address, &format!("tail-{guarantee}"), &reads, "", &topics, &more);
        let mut worker = Worker::run(guarantee, &file, &[]);
        worker.wait_ready();
        worker
    };
    let mut workers = ["exactly-once", "at-least-once"].map(&mut start);
    // Two transactions of eight, and an aborted one.
    let deed = json!({"topic": topics.input, "first": 0, "count": 24, "each": 8, "keys": 60});
    assert_eq!(referee.ask("transact", deed)["committed"], 16);
    let deadline = Instant::now() + Duration::from_secs(120);
    while workers.iter().any(|worker| worker.metric("tamis_documents_total") < 16.0) {
        assert!(Instant::now() < deadline, "{}\n{}", workers[0].log(), workers[1].log());
        sleep(Duration::from_millis(20));
    }
    broker.signal("-STOP");
    // The end is due 7 s after the documents were.
    sleep(Duration::from_secs(9));
    for worker in &workers {
        assert_eq!(worker.metric("tamis_documents_in_flight"), 0.0, "{}", worker.log());
        worker.signal("-TERM");
    }
    let asked = Instant::now();
    for worker in &mut workers {
        assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
        eprintln!("{}: ended {:.1} s after SIGTERM", worker.name(), asked.elapsed().as_secs_f64());
    }
    broker.signal("-CONT");
    assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
}
