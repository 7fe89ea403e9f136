//! Owns the status board: what this worker is doing, as a few shared atomics that the endpoints and the watchdog read.
//!
//! In: setters, called by whoever learns the fact. Out: [`Board::is_ready`], [`Board::is_live`], [`Snapshot`]. Invariants: a setter
//! never waits for long (a short lock at most) and never fails; readers see each fact whole, not all facts at one instant.
//! Must not know: who asks, or how it is shown.

use super::devices::{self, ModelFacts};
use super::lanes::{Backlog, Lag, Lanes, OpenLane};
use super::odometer::Reading;
use super::pulse::{Pulse, Vitals};
use super::spread::Dial;
use crate::corpus::{Judged, Lane, Route};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is known about a worker before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The pipeline's name.
    pub pipeline: String,
    /// Hash of the rules in force.
    pub policy: String,
    /// Identity of the scorer; empty until the model is loaded.
    pub scorer: String,
    /// The execution provider that is active, `cpu` or `cuda`, or both with a comma between; empty until the model is loaded.
    pub provider: String,
    /// What runs each model; empty until they are loaded.
    pub models: Vec<ModelFacts>,
    /// What is promised about delivery: `exactly-once` or `at-least-once`.
    pub guarantee: &'static str,
}

/// The shared board. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    facts: Mutex<Facts>,
    lanes: Mutex<Vec<String>>,
    lags: Lanes,
    pulse: Mutex<Pulse>,
    reload: Mutex<Option<Reload>>,
    stuck: Mutex<Option<&'static str>>,
    model_warm: AtomicBool,
    draining: AtomicBool,
    delivered: [AtomicU64; Route::ALL.len()],
    tombstones: AtomicU64,
    in_flight: AtomicUsize,
    /// Brokers that the consumer is connected to; `usize::MAX` stands for not known.
    brokers_up: AtomicUsize,
    /// Milliseconds since the Unix epoch; 0 stands for never.
    last_commit_ms: AtomicU64,
    /// Milliseconds after `born` at which something last moved.
    progress_ms: AtomicU64,
    born: Instant,
    started_at_ms: u64,
}

impl Board {
    /// A board for a worker that starts now: not warm, nothing assigned, nothing delivered.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self {
            shared: Arc::new(Shared {
                facts: Mutex::new(facts),
                lanes: Mutex::default(),
                lags: Lanes::default(),
                pulse: Mutex::default(),
                reload: Mutex::default(),
                stuck: Mutex::default(),
                model_warm: AtomicBool::new(false),
                draining: AtomicBool::new(false),
                delivered: std::array::from_fn(|_| AtomicU64::new(0)),
                tombstones: AtomicU64::new(0),
                in_flight: AtomicUsize::new(0),
                brokers_up: AtomicUsize::new(usize::MAX),
                last_commit_ms: AtomicU64::new(0),
                progress_ms: AtomicU64::new(0),
                born: Instant::now(),
                started_at_ms: now_ms(),
            }),
        }
    }

    /// The models are loaded and every batch shape has run once; `scorer` is the identity of what scores.
    pub fn set_model_warm(&self, scorer: impl Into<String>) {
        self.edit_facts(|facts| facts.scorer = scorer.into());
        self.shared.model_warm.store(true, Relaxed);
        self.touch_progress();
    }

    /// What runs each model, and what it has done until now.
    pub fn set_models(&self, models: Vec<ModelFacts>) {
        devices::record(&models);
        self.edit_facts(|facts| (facts.provider, facts.models) = (devices::providers(&models), models));
    }

    /// Other rules are in force from now on.
    pub fn set_policy(&self, policy: impl Into<String>) {
        self.edit_facts(|facts| facts.policy = policy.into());
    }

    /// What the rules ask of their signals, from now on.
    pub fn set_dials(&self, dials: Vec<Dial>) {
        self.pulse_lock().set_dials(dials);
    }

    /// From now on the beginnings of rejected texts are remembered, for who may look at the endpoints.
    pub fn show_texts(&self) {
        self.pulse_lock().show_text = true;
    }

    /// Settings were read again, now.
    pub fn reloaded(&self, outcome: &'static str, why: Option<String>) {
        let reload = Reload { at_ms: now_ms(), outcome, why };
        *self.shared.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    /// These records, the oldest first, were delivered and committed, now.
    pub fn witness<'a>(&self, judged: impl DoubleEndedIterator<Item = &'a Judged> + Clone) {
        let (age, at_ms) = (self.shared.born.elapsed(), now_ms());
        self.pulse_lock().witness(judged, age, at_ms);
    }

    /// Keeps the pulse's clock going; see [`Board::witness`]. Call it every second or so.
    pub fn tick(&self) {
        let (age, reading) = (self.shared.born.elapsed(), Reading::now());
        self.pulse_lock().tick(age, reading);
    }

    /// These lanes (partitions) are ours now, and no others.
    pub fn set_partitions<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        let lanes: Vec<&Lane> = lanes.into_iter().collect();
        self.shared.lags.assign(lanes.iter().copied());
        let mut lanes: Vec<String> = lanes.into_iter().map(Lane::to_string).collect();
        lanes.sort_unstable();
        *self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
        self.touch_progress();
    }

    /// The source has this many records of `lane` still to read. Without effect on a lane that is not ours.
    pub fn set_unread(&self, lane: &Lane, records: u64) {
        self.shared.lags.unread(lane, records);
    }

    /// What is open on which lane; nothing is open on the others. Call it every second or so: ages grow by themselves.
    pub fn set_open(&self, open: Vec<OpenLane>) {
        self.shared.lags.open(open);
    }

    /// How far each lane that is ours is behind, in the order of lanes.
    #[must_use]
    pub fn lags(&self) -> Vec<Lag> {
        self.shared.lags.lags(now_ms())
    }

    /// How long the oldest document in flight has been so; zero when there is none.
    #[must_use]
    pub fn oldest_open(&self) -> Duration {
        self.shared.lags.oldest_open().unwrap_or_default()
    }

    /// How long nothing has moved while documents are in flight; zero while none are.
    #[must_use]
    pub fn no_progress(&self) -> Duration {
        if self.shared.in_flight.load(Relaxed) > 0 { self.since_progress() } else { Duration::ZERO }
    }

    /// Whether the worker is finishing what it has.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// The worker stops taking documents and finishes what it has. There is no way back.
    pub fn set_draining(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    /// Documents between reading and delivery, now. The first one after a quiet time counts as progress.
    pub fn set_in_flight(&self, documents: usize) {
        if self.shared.in_flight.swap(documents, Relaxed) == 0 && documents > 0 {
            self.touch_progress();
        }
    }

    /// The consumer is connected to `count` brokers.
    pub fn set_brokers_up(&self, count: usize) {
        self.shared.brokers_up.store(count, Relaxed);
    }

    /// A document was delivered on `route` and committed.
    pub fn delivered(&self, route: Route, count: u64) {
        self.count(route).fetch_add(count, Relaxed);
    }

    /// A deletion was forwarded and committed.
    pub fn tombstone_forwarded(&self) {
        self.shared.tombstones.fetch_add(1, Relaxed);
    }

    /// A commit ended well, now.
    pub fn committed(&self) {
        self.shared.last_commit_ms.store(now_ms(), Relaxed);
        self.touch_progress();
    }

    /// Something moved: a device batch ended, a verdict was reached, a commit ended.
    pub fn touch_progress(&self) {
        self.shared.progress_ms.store(millis(self.shared.born.elapsed()), Relaxed);
    }

    /// Documents in flight, and a mark that changes with all progress: for who must notice that nothing moves.
    #[must_use]
    pub fn pulse(&self) -> (usize, u64) {
        (self.shared.in_flight.load(Relaxed), self.shared.progress_ms.load(Relaxed))
    }

    /// The process knows that it can't go on (a thread that must live is gone). Liveness is false from now on; the first reason stays.
    pub fn set_stuck(&self, reason: &'static str) {
        self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// Whether work may be expected of this worker: the model is warm, partitions are assigned, no drain is under way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unready_because().is_none()
    }

    /// Why this worker is not ready; `None` when it is.
    #[must_use]
    pub fn unready_because(&self) -> Option<&'static str> {
        if self.shared.draining.load(Relaxed) {
            return Some("draining");
        }
        if !self.shared.model_warm.load(Relaxed) {
            return Some("the model is not warm yet");
        }
        let none_assigned = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        none_assigned.then_some("no partitions are assigned")
    }

    /// Whether this process can still do its work; false asks for a restart. It is false once the process [says](Self::set_stuck) that it is stuck, or when documents are
    /// in flight and nothing moved for longer than `stall`. A quiet topic is not a stall.
    #[must_use]
    pub fn is_live(&self, stall: Duration) -> bool {
        self.dead_because(stall).is_none()
    }

    /// Why this worker is not live; `None` when it is.
    #[must_use]
    pub fn dead_because(&self, stall: Duration) -> Option<&'static str> {
        if let Some(reason) = *self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner) {
            return Some(reason);
        }
        (self.no_progress() > stall).then_some("documents are in flight and nothing has moved for too long")
    }

    /// Every fact, as it stands now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = &*self.shared;
        let facts = shared.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let list = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_commit_ms = shared.last_commit_ms.load(Relaxed);
        let lags = self.lags();
        self.tick();
        Snapshot {
            pipeline: facts.pipeline,
            version: env!("CARGO_PKG_VERSION"),
            ready: self.is_ready(),
            waiting_for: self.unready_because(),
            model_warm: shared.model_warm.load(Relaxed),
            draining: shared.draining.load(Relaxed),
            provider: facts.provider,
            devices: devices::count(&facts.models),
            models: facts.models,
            scorer: facts.scorer,
            policy: facts.policy,
            partitions: Partitions { count: list.len(), list },
            documents: DocumentCounts(Route::ALL.map(|route| (route, self.count(route).load(Relaxed)))),
            tombstones: shared.tombstones.load(Relaxed),
            in_flight: shared.in_flight.load(Relaxed),
            brokers_up: Some(shared.brokers_up.load(Relaxed)).filter(|count| *count != usize::MAX),
            started_at_ms: shared.started_at_ms,
            uptime_ms: millis(shared.born.elapsed()),
            last_commit_at_ms: (last_commit_ms > 0).then_some(last_commit_ms),
            since_progress_ms: millis(self.since_progress()),
            guarantee: facts.guarantee,
            lag: Backlog::of(lags),
            oldest_open_ms: millis(self.oldest_open()),
            reload: shared.reload.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            vitals: self.pulse_lock().vitals(shared.born.elapsed()),
        }
    }

    fn since_progress(&self) -> Duration {
        let at = Duration::from_millis(self.shared.progress_ms.load(Relaxed));
        self.shared.born.elapsed().saturating_sub(at)
    }

    fn pulse_lock(&self) -> MutexGuard<'_, Pulse> {
        self.shared.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit_facts(&self, edit: impl FnOnce(&mut Facts)) {
        edit(&mut self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self, route: Route) -> &AtomicU64 {
        let [pass, review, fail, dead_letter] = &self.shared.delivered;
        match route {
            Route::Pass => pass,
            Route::Review => review,
            Route::Fail => fail,
            Route::DeadLetter => dead_letter,
        }
    }
}

/// The board at one moment; `/status` is this as JSON. Times are whole milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The pipeline's name.
    pub pipeline: String,
    /// This program's version.
    pub version: &'static str,
    /// Whether work may be expected of this worker.
    pub ready: bool,
    /// Why not, if not.
    pub waiting_for: Option<&'static str>,
    /// Whether the model is loaded and has run.
    pub model_warm: bool,
    /// Whether the worker is finishing what it has.
    pub draining: bool,
    /// Active execution provider, `cpu` or `cuda`, or both with a comma between; empty before the model is loaded.
    pub provider: String,
    /// Devices of all models, one that they share counted once; 0 before they are loaded.
    pub devices: usize,
    /// Every model, and what runs it; empty before they are loaded.
    pub models: Vec<ModelFacts>,
    /// Identity of the scorer; empty before the model is loaded.
    pub scorer: String,
    /// Hash of the rules in force.
    pub policy: String,
    /// The partitions that are ours.
    pub partitions: Partitions,
    /// Documents delivered and committed since the start, by route.
    pub documents: DocumentCounts,
    /// Deletions forwarded and committed since the start; not documents.
    pub tombstones: u64,
    /// Documents between reading and delivery.
    pub in_flight: usize,
    /// Brokers that the consumer is connected to; `null` before that is known, and without Kafka.
    pub brokers_up: Option<usize>,
    /// Start of the worker, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Milliseconds since the start, by a clock that can't jump.
    pub uptime_ms: u64,
    /// The last commit, milliseconds since the Unix epoch; `null` before the first.
    pub last_commit_at_ms: Option<u64>,
    /// Milliseconds since something last moved.
    pub since_progress_ms: u64,
    /// What is promised about delivery: `exactly-once` or `at-least-once`.
    pub guarantee: &'static str,
    /// What is still to do.
    pub lag: Backlog,
    /// How long the oldest document in flight has been so; 0 when there is none.
    pub oldest_open_ms: u64,
    /// The last time that settings were read again; `null` if they never were.
    pub reload: Option<Reload>,
    /// What flowed in the last minutes.
    #[serde(flatten)]
    pub vitals: Vitals,
}

/// One reading of settings while the worker ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `applied`, `unchanged` or `refused`.
    pub outcome: &'static str,
    /// What was wrong, or what changed.
    pub why: Option<String>,
}

/// The partitions that are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partitions {
    /// How many.
    pub count: usize,
    /// Each as `topic/partition`, sorted as text.
    pub list: Vec<String>,
}

/// Documents by route; as JSON an object from each route's name to its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentCounts(pub [(Route, u64); Route::ALL.len()]);

impl Serialize for DocumentCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (route, count) in &self.0 {
            map.serialize_entry(route.as_str(), count)?;
        }
        map.end()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests {
    use super::super::devices::DeviceFacts;
    use super::*;
    use std::thread::sleep;

    fn board() -> Board {
        Board::new(Facts { pipeline: "english-web".into(), policy: "p1".into(), ..Facts::default() })
    }

    fn lane(partition: i32) -> Lane {
        Lane { topic: "corpus.raw".into(), partition }
    }

    #[test]
    fn ready_means_warm_and_assigned_and_not_draining() {
        let board = board();
        assert_eq!(board.unready_because(), Some("the model is not warm yet"));
        board.set_model_warm("s1");
        assert_eq!(board.unready_because(), Some("no partitions are assigned"));
        board.set_partitions(&[lane(0)]);
        assert!(board.is_ready());
        board.set_partitions(&[]);
        assert!(!board.is_ready());
        board.set_partitions(&[lane(0)]);
        board.set_draining();
        assert_eq!(board.unready_because(), Some("draining"));
    }

    #[test]
    fn a_stall_needs_documents_in_flight() {
        let (board, bound) = (board(), Duration::from_millis(300));
        sleep(Duration::from_millis(400));
        assert!(board.is_live(bound), "a quiet topic is not a stall");
        board.set_in_flight(3);
        assert!(board.is_live(bound), "the first document after a quiet time is progress");
        sleep(Duration::from_millis(400));
        assert!(!board.is_live(bound) && board.is_live(Duration::from_secs(60)));
        board.touch_progress();
        assert!(board.is_live(bound));
    }

    #[test]
    fn who_says_it_is_stuck_stays_stuck_for_the_first_reason() {
        let board = board();
        board.set_stuck("the device thread is gone");
        board.set_stuck("another");
        board.touch_progress();
        assert_eq!(board.dead_because(Duration::from_secs(60)), Some("the device thread is gone"));
    }

    #[test]
    fn the_snapshot_says_what_was_set_by_any_clone() {
        let (board, before) = (board(), now_ms());
        let clone = board.clone();
        clone.set_model_warm("s1");
        clone.set_partitions(&[lane(2), lane(0)]);
        clone.set_policy("p2");
        clone.delivered(Route::Pass, 1);
        clone.delivered(Route::Pass, 1);
        clone.delivered(Route::DeadLetter, 1);
        clone.tombstone_forwarded();
        clone.set_in_flight(5);
        assert_eq!(board.snapshot().last_commit_at_ms, None);
        clone.committed();
        let snapshot = board.snapshot();
        assert!(snapshot.last_commit_at_ms.is_some_and(|at| at >= before));
        let json = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(json["documents"].to_string(), r#"{"pass":2,"review":0,"fail":0,"dead-letter":1}"#);
        assert_eq!(json["partitions"].to_string(), r#"{"count":2,"list":["corpus.raw/0","corpus.raw/2"]}"#);
        let device = |device: &str| DeviceFacts { device: device.into(), provider: "cuda", passes: 7, busy_ms: 1500 };
        let devices = vec![device("cuda:0"), device("cuda:1")];
        clone.set_models(vec![ModelFacts { name: "en".into(), head: "hoisted", devices }]);
        let json_of_models = serde_json::to_value(board.snapshot()).unwrap();
        let one = r#"{"device":"cuda:1","provider":"cuda","passes":7,"busy_ms":1500}"#;
        assert_eq!(json_of_models["models"][0]["devices"][1], serde_json::from_str::<serde_json::Value>(one).unwrap());
        assert_eq!((&json_of_models["devices"], &json_of_models["provider"]), (&2.into(), &"cuda".into()));
        let expected = [("pipeline", "english-web"), ("scorer", "s1"), ("policy", "p2")];
        for (key, value) in expected {
            assert_eq!(json[key], value, "{key}");
        }
        assert!(json["ready"] == true && json["tombstones"] == 1 && json["in_flight"] == 5);
    }
}
