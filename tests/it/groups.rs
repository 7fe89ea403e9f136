//! Owns the proof that each way to share a group's partitions delivers exactly once: eager assignors, Kafka 4's own protocol, static members;
//! and that what can't work ends with a reason.

use crate::broker::is_long;
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline_of};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 4;
const WAVE: u64 = 700;
const SOON: &str = "[delivery]\ncommit_interval_ms = 50\nmax_batch_documents = 150\nmax_documents = 400\n";
/// What a worker says of partitions that it had before the group gave it up, and still has.
const READ_AGAIN: &str = "what it still has is read again";
const QUICK_SESSION: &str = r#""session.timeout.ms" = "6000", "heartbeat.interval.ms" = "500""#;

/// A group under test: its topics, and how many documents were produced.
struct Group {
    referee: Referee,
    topics: Topics,
    produced: u64,
}

impl Group {
    fn new(name: &str) -> Self {
        let mut referee = Referee::start();
        let topics = Topics::new(name);
        referee.create(&topics.all(), PARTITIONS);
        Self { referee, topics, produced: 0 }
    }

    /// A pipeline file of this group with these properties.
    fn file(&self, name: &str, group: &str, properties: &str) -> std::path::PathBuf {
        self.file_with(name, group, properties, SOON)
    }

    fn file_with(&self, name: &str, group: &str, properties: &str, delivery: &str) -> std::path::PathBuf {
        let reads = format!("topics = [{:?}]\ngroup = {group:?}", self.topics.input);
        pipeline_of(name, &reads, properties, &self.topics, delivery)
    }

    /// One more wave of documents: there is work at every change of the group.
    fn wave(&mut self) {
        self.wave_of(WAVE, 1);
    }

    /// So many documents, each of so many sentences.
    fn wave_of(&mut self, count: u64, times: u32) {
        let answer = self.referee.ask(
            "produce",
            json!({"topic": self.topics.input, "first": self.produced, "count": count, "times": times, "partitions": PARTITIONS, "seed": self.produced + 1}),
        );
        assert_eq!(answer["failed"], json!([]));
        self.produced += count;
    }

    fn wait_for(&mut self, wanted: u64, workers: &[&Worker]) {
        let outputs = self.topics.outputs();
        let outputs: Vec<&Value> = outputs.as_object().unwrap().values().collect();
        let deadline = Instant::now() + Duration::from_secs(240);
        loop {
            let seen = self.referee.ask("count", json!({ "topics": outputs }))["records"].as_u64().unwrap();
            if seen >= wanted {
                return;
            }
            let logs = || workers.iter().map(|worker| worker.log()).collect::<String>();
            assert!(Instant::now() < deadline, "{seen} of {wanted} records:\n{}", logs());
            sleep(Duration::from_millis(200));
        }
    }

    /// One more static worker comes; one of the others is stopped while it gives up a partition for it, and taken out of `workers`. `None` if it was not
    /// caught there, or not without a transaction open: the broker would give that up, and the worker end for it. Then the newcomer is gone again.
    fn stopped_while_it_revokes(&mut self, workers: &mut Vec<Worker>, file: &Path) -> Option<Worker> {
        let revoked = |worker: &Worker| worker.log().matches("partitions revoked").count();
        let before: Vec<usize> = workers.iter().map(revoked).collect();
        workers.push(Worker::run("newcomer", file, &[]));
        let deadline = Instant::now() + Duration::from_secs(60);
        let at = loop {
            // Each wave of another length, so that the cache knows none of it: something must be open when a partition goes.
            self.wave_of(150, 6 + u32::try_from(self.produced / 30 % 40).unwrap_or_default());
            if let Some(at) = (0..before.len()).find(|&at| revoked(&workers[at]) > before[at]) {
                break at;
            }
            assert!(Instant::now() < deadline, "nothing was revoked");
            sleep(Duration::from_millis(50));
        };
        // The library says "assigned" as soon as it has let go of what was revoked.
        let is_past =
            |worker: &Worker| worker.log().rfind("partitions assigned") > worker.log().rfind("partitions revoked");
        for attempt in 1..=40 {
            workers[at].signal("-STOP");
            if is_past(&workers[at]) {
                break;
            }
            // What is on its way arrives, and the others' transactions are decided by one of the looks.
            sleep(Duration::from_millis(100));
            let mut is_decided = |look: u64| {
                sleep(Duration::from_millis(100 * look));
                !self.is_undecided()
            };
            if (0..5).any(&mut is_decided) {
                return Some(workers.remove(at));
            }
            workers[at].signal("-CONT");
            sleep(Duration::from_millis(7 + attempt * 13 % 41));
        }
        workers[at].signal("-CONT");
        let mut newcomer = workers.pop()?;
        drain(&mut newcomer);
        wait_shared(&workers.iter().collect::<Vec<_>>());
        None
    }

    /// Whether records of an open transaction are in the outputs.
    fn is_undecided(&mut self) -> bool {
        let outputs = self.topics.outputs();
        let outputs: Vec<&Value> = outputs.as_object().unwrap().values().collect();
        self.referee.ask("uncommitted", json!({ "topics": outputs }))["records"] != 0
    }

    /// Nothing lost, nothing repeated, order kept.
    fn check(&mut self) {
        let verdict = self.referee.ask("verify", json!({"input": self.topics.input, "outputs": self.topics.outputs()}));
        eprintln!("verified at read_committed by confluent-kafka: {verdict}");
        assert_eq!(verdict["input"], self.produced, "{verdict}");
        assert_eq!((&verdict["lost"], &verdict["problems"]), (&json!(0), &json!(0)), "{verdict}");
        assert_eq!(verdict["output"], self.produced, "{verdict}");
    }
}

/// Waits until all of them have partitions, all partitions between them.
fn wait_shared(workers: &[&Worker]) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let owned: Vec<usize> = workers.iter().map(|worker| worker.partitions().len()).collect();
        if owned.iter().all(|count| *count > 0) && owned.iter().sum::<usize>() == PARTITIONS as usize {
            return;
        }
        let logs = || workers.iter().map(|worker| worker.log()).collect::<String>();
        assert!(Instant::now() < deadline, "{owned:?}\n{}", logs());
        sleep(Duration::from_millis(100));
    }
}

fn drain(worker: &mut Worker) {
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

/// One worker, a second joins, the first leaves, a third joins, the second is killed; documents flow all the while.
fn survives_joining_leaving_and_killing(name: &str, properties: &str) {
    let mut group = Group::new(name);
    let file = group.file(name, name, properties);
    group.wave();
    let mut first = Worker::run("first", &file, &[]);
    first.wait_ready();
    group.wait_for(100, &[&first]);
    group.wave();
    let mut second = Worker::run("second", &file, &[]);
    second.wait_ready();
    wait_shared(&[&first, &second]);
    group.wave();
    drain(&mut first);
    let third = Worker::run("third", &file, &[]);
    group.wave();
    wait_shared(&[&second, &third]);
    group.wave();
    let wanted = group.produced - 2 * WAVE;
    group.wait_for(wanted, &[&second, &third]);
    second.signal("-KILL");
    group.wave();
    let mut last = third;
    let wanted = group.produced;
    group.wait_for(wanted, &[&last]);
    drain(&mut last);
    group.check();
}

#[test]
fn eager_assignors_deliver_exactly_once_through_joins_leaves_and_a_kill() {
    let eager = |list: &str| format!(r#"{QUICK_SESSION}, "partition.assignment.strategy" = "{list}""#);
    survives_joining_leaving_and_killing("range", &eager("range"));
    if is_long() {
        survives_joining_leaving_and_killing("roundrobin", &eager("roundrobin,range"));
        survives_joining_leaving_and_killing("cooperative", QUICK_SESSION);
    }
}

#[test]
fn the_consumer_protocol_of_kafka_4_delivers_exactly_once_through_joins_leaves_and_a_kill() {
    survives_joining_leaving_and_killing("kip848", r#""group.protocol" = "consumer""#);
}

fn ends_69_saying(worker: &mut Worker, said: &str) {
    assert_eq!(worker.wait(90).code(), Some(69), "{}", worker.log());
    assert!(worker.log().contains(said), "{said:?} is not in\n{}", worker.log());
}

#[test]
fn a_static_member_comes_back_undisturbed_and_a_second_of_its_name_is_told_so() {
    let mut group = Group::new("static");
    let properties =
        r#""session.timeout.ms" = "30000", "heartbeat.interval.ms" = "500", "group.instance.id" = "w-{instance}""#;
    let file = group.file("static", "static", properties);
    group.wave();
    let mut first = Worker::run("first", &file, &[]);
    first.wait_ready();
    let mut second = Worker::run("second", &file, &[]);
    second.wait_ready();
    wait_shared(&[&first, &second]);
    let (mine, rebalances) = (first.partitions(), second.metric("tamis_rebalances_total"));
    // A rolling restart: the same slot of the machine, hence the same name.
    for signal in ["-TERM", "-KILL"] {
        group.wave();
        first.signal(signal);
        first.wait(60);
        first = Worker::run("first again", &file, &[]);
        first.wait_ready();
        assert_eq!(first.partitions(), mine, "the same partitions after {signal}\n{}", first.log());
    }
    assert_eq!(second.metric("tamis_rebalances_total"), rebalances, "the other worker noticed nothing");
    group.wait_for(group.produced, &[&first, &second]);

    // Two workers that were given one name by hand: the newcomer takes over, the other says why it ends.
    let named = properties.replace("w-{instance}", "w-1");
    let twin_file = group.file("static-twin", "static", &named);
    let mut twin = Worker::run("twin", &twin_file, &["--set", "delivery.instance=7"]);
    twin.wait_ready();
    ends_69_saying(&mut second, "group.instance.id");
    group.wave();
    group.wait_for(group.produced, &[&first, &twin]);
    drain(&mut first);
    drain(&mut twin);
    group.check();
}

/// A static member gives up a partition, and is stopped while it finishes what is open there, for longer than its session: the group gives its other
/// partitions to others, too. It wakes inside the client library's callback, which then does not call them lost, and the group takes it back
/// unasked, with a generation of its own. What its log says from then on.
fn sleeps_through_a_rebalance(name: &str, wakes_alone: bool) -> String {
    let mut group = Group::new(name);
    let properties = format!(r#"{QUICK_SESSION}, "group.instance.id" = "w-{{instance}}""#);
    let delivery =
        "[delivery]\ncommit_interval_ms = 50\nmax_batch_documents = 50\nmax_documents = 120\nrevoke_ms = 12000\n";
    let file = group.file_with(name, name, &properties, delivery);
    // A transaction that holds no records yet can't be seen, and must outlast the sleep: else the worker ends for it.
    let text = fs::read_to_string(&file).unwrap();
    let lasting = text.replace(r#""transaction.timeout.ms" = "12000""#, r#""transaction.timeout.ms" = "120000""#);
    assert_ne!(text, lasting);
    fs::write(&file, lasting).unwrap();
    group.wave_of(200, 8);
    let mut workers = ["first", "second"].map(|name| Worker::run(name, &file, &[])).into_iter().collect::<Vec<_>>();
    workers.iter_mut().for_each(Worker::wait_ready);
    wait_shared(&workers.iter().collect::<Vec<_>>());

    let sleeper = (1..=8).find_map(|attempt| {
        eprintln!("{name}: attempt {attempt}");
        group.stopped_while_it_revokes(&mut workers, &file)
    });
    let sleeper = sleeper.expect("no worker was caught while it gave up a partition");
    let slept = sleeper.log().len();
    sleep(Duration::from_secs(10));
    let wanted = group.produced;
    group.wait_for(wanted, &workers.iter().collect::<Vec<_>>());
    if wakes_alone {
        workers.iter_mut().for_each(drain);
        workers.clear();
        // Static members do not leave: the group waits for their sessions.
        sleep(Duration::from_secs(8));
    }
    sleeper.signal("-CONT");
    workers.push(sleeper);
    group.wave_of(60, 8);
    wait_shared(&workers.iter().collect::<Vec<_>>());
    group.wave_of(60, 8);
    let wanted = group.produced;
    group.wait_for(wanted, &workers.iter().collect::<Vec<_>>());
    workers.iter_mut().for_each(drain);
    group.check();
    workers.pop().unwrap().log().split_off(slept)
}

/// It once committed its open documents a second time.
#[test]
fn a_static_member_that_the_group_gave_up_in_a_rebalance_repeats_nothing() {
    let woken = sleeps_through_a_rebalance("asleep", false);
    assert!(woken.contains("lost=true") || woken.contains(READ_AGAIN), "it was never given up:\n{woken}");
}

/// All others have gone when it wakes, so that the group lets it keep its partitions: it once read on where it had been, before what the others had
/// delivered meanwhile.
#[test]
fn a_partition_that_a_static_member_keeps_under_a_new_member_id_goes_on_where_the_group_stands() {
    let woken = sleeps_through_a_rebalance("kept", true);
    assert!(woken.contains(READ_AGAIN), "nothing was kept:\n{woken}");
}

/// A newcomer with these properties, in the group of a worker that runs by others, ends with a reason; the worker goes on.
fn is_refused(group: &mut Group, own: &str, name: &str, properties: &str, said: &str, running: &Worker) {
    let other = group.file(name, own, properties);
    // Another file, another cache: its slot must differ by hand, or the two would share a transactional id.
    let mut newcomer = Worker::run(name, &other, &["--set", "delivery.instance=7"]);
    ends_69_saying(&mut newcomer, said);
    group.wave();
    group.wait_for(group.produced, &[running]);
}

#[test]
fn a_worker_that_shares_in_another_way_than_its_group_ends_with_a_reason_and_the_group_goes_on() {
    let mut group = Group::new("mixed");
    let file = group.file("mixed", "mixed", QUICK_SESSION);
    let mut running = Worker::run("running", &file, &[]);
    running.wait_ready();
    let eager = format!(r#"{QUICK_SESSION}, "partition.assignment.strategy" = "range""#);
    is_refused(&mut group, "mixed", "mixed-eager", &eager, "the group would refuse it", &running);
    drain(&mut running);
    group.check();
}

#[test]
fn under_the_consumer_protocol_the_second_of_one_static_name_is_refused() {
    let mut group = Group::new("static848");
    let properties = r#""group.protocol" = "consumer", "group.instance.id" = "one""#;
    let file = group.file("static848", "static848", properties);
    let mut running = Worker::run("running", &file, &[]);
    running.wait_ready();
    is_refused(&mut group, "static848", "static848-twin", properties, "group.instance.id", &running);
    // A rolling restart of the one.
    drain(&mut running);
    group.wave();
    running = Worker::run("again", &file, &[]);
    group.wait_for(group.produced, &[&running]);
    drain(&mut running);
    group.check();
}

#[test]
fn a_group_moves_to_the_consumer_protocol_one_worker_at_a_time() {
    let mut group = Group::new("moving");
    let old = group.file("moving", "moving", QUICK_SESSION);
    group.wave();
    let mut first = Worker::run("first", &old, &[]);
    first.wait_ready();
    let new = group.file("moving-new", "moving", r#""group.protocol" = "consumer""#);
    let mut second = Worker::run("second", &new, &["--set", "delivery.instance=7"]);
    second.wait_ready();
    wait_shared(&[&first, &second]);
    group.wave();
    drain(&mut first);
    group.wave();
    group.wait_for(group.produced, &[&second]);
    drain(&mut second);
    group.check();
}
