//! Owns the flow: the one loop that reads, starts journeys, commits, answers revocations and drains.
//!
//! Invariants: the ledger belongs to this loop alone; at most one delivery step is under way, and the device goes on scoring meanwhile; a
//! revocation is answered when its lanes are drained or its deadline has come, whichever is first.

use super::batch::Batch;
use super::change::{Change, asked};
use super::delivered;
use super::departure::{Departures, Outcome};
use super::ending::{Ending, Stopped, Summary};
use super::journey::Road;
use super::ledger::{Ledger, Taken};
use super::settings::DeliverySettings;
use crate::corpus::{Intake, Judged, Lane, Notice, Parcel, Record};
use crate::sink::{Failure, Sink};
use crate::source::Source;
use crate::telemetry::{Board, Traces, metrics};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

/// How often what is open on each lane is told.
const TELL: Duration = Duration::from_millis(500);
/// How long a drain waits for a delivery step that delivers nothing but tails: in an outage that may take minutes, and nobody needs it.
const TAILS_PATIENCE: Duration = Duration::from_secs(3);

struct Revocation {
    lanes: Vec<(Lane, u64)>,
    /// A record that must have been read before they are drained.
    last: Option<i64>,
    deadline: Instant,
    answer: SyncSender<()>,
}

/// The parts of a running pipeline.
pub struct Flow {
    sink: Arc<Sink>,
    settings: DeliverySettings,
    board: Board,
    tap: Option<mpsc::Sender<Judged>>,
    traces: Traces,
    ledger: Ledger,
    journeys: Departures,
    commits: JoinSet<(Batch, Result<(), Failure>, Duration)>,
    waiting: Option<Batch>,
    /// The most documents of the next batch: fewer than the settings say after batches that failed as a whole.
    most: usize,
    revocations: Vec<Revocation>,
    last_commit: Instant,
    last_tails: Instant,
    /// Since when nothing but tails has been on its way.
    only_tails: Option<Instant>,
    /// Documents in the delivery step under way. Those whose lanes were lost meanwhile are no longer open, but on their way all the same.
    delivering: usize,
    last_told: Option<Instant>,
    summary: Summary,
    ended: bool,
    broken: Option<String>,
    drain_until: Option<Instant>,
    changes: Option<mpsc::Receiver<Change>>,
    change: Option<Change>,
    cores: usize,
}

impl Flow {
    /// A flow that has not started. `tap` receives every judged record after its delivery.
    #[must_use]
    pub fn new(
        road: Arc<Road>,
        sink: Sink,
        settings: DeliverySettings,
        board: Board,
        tap: Option<mpsc::Sender<Judged>>,
    ) -> Self {
        Self {
            sink: Arc::new(sink),
            most: settings.max_batch_documents,
            settings,
            board,
            tap,
            traces: Traces::default(),
            ledger: Ledger::default(),
            journeys: Departures::new(road),
            commits: JoinSet::new(),
            waiting: None,
            revocations: Vec::new(),
            last_commit: Instant::now(),
            last_tails: Instant::now(),
            only_tails: None,
            delivering: 0,
            last_told: None,
            summary: Summary::default(),
            ended: false,
            broken: None,
            drain_until: None,
            changes: None,
            change: None,
            cores: std::thread::available_parallelism().map_or(8, usize::from),
        }
    }

    /// The same flow, which takes up these changes while it runs.
    #[must_use]
    pub fn heeding(self, changes: mpsc::Receiver<Change>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// The same flow, whose journeys are told to `traces`.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Runs until the source ends, a stop is asked for and everything open is delivered, or something stops it.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub async fn run(
        mut self,
        mut intake: Intake,
        source: &Source,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(Ending, Summary), Stopped> {
        let mut parcels = Vec::new();
        loop {
            self.advance();
            if self.is_finished() {
                return self.ending();
            }
            let wake_at = self.wake_at();
            let room = self.settings.max_journeys.saturating_sub(self.journeys.under_way()).min(self.together());
            let accepting = room > 0 && !self.ended && self.drain_until.is_none() && self.change.is_none();
            tokio::select! {
                biased;
                Some(notice) = intake.notices.recv() => self.heed(notice)?,
                Ok(_) = stop.wait_for(|stop| *stop), if self.drain_until.is_none() => {
                    source.stop();
                    self.board.set_draining();
                    self.change = None;
                    self.drain_until = Some(Instant::now() + Duration::from_millis(self.settings.drain_ms));
                }
                Some(change) = asked(&mut self.changes), if self.change.is_none() && self.drain_until.is_none() => {
                    self.change = Some(change);
                }
                Some(done) = self.commits.join_next(), if !self.commits.is_empty() => self.committed(done).await?,
                Some(outcomes) = self.journeys.next() => self.arrived(outcomes)?,
                read = intake.records.recv_many(&mut parcels, room), if accepting => match read {
                    0 => self.source_ended(&mut intake, source)?,
                    _ => self.depart(parcels.drain(..)),
                },
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            self.tell(&intake);
            let open = self.ledger.open_count().max(self.delivering);
            if self.drain_until.is_some_and(|deadline| Instant::now() >= deadline) && open > 0 {
                return Err(Stopped::DrainDeadline { open });
            }
        }
    }

    fn ending(self) -> Result<(Ending, Summary), Stopped> {
        match self.broken {
            Some(reason) => Err(Stopped::Input(reason)),
            None if self.drain_until.is_some() => Ok((Ending::Drained, self.summary)),
            None => Ok((Ending::Done, self.summary)),
        }
    }

    /// Tells how much is in flight, and now and then since when.
    fn tell(&mut self, intake: &Intake) {
        let in_flight = intake.allowance.in_flight();
        self.board.set_in_flight(in_flight);
        let now = Instant::now();
        if self.last_told.is_none_or(|told| now >= told + TELL) {
            self.last_told = Some(now);
            metrics::in_flight(in_flight);
            metrics::permits(intake.allowance.documents(), intake.allowance.bytes());
            self.board.set_open(self.ledger.open_lanes());
            self.board.tick();
        }
    }

    fn is_finished(&self) -> bool {
        (self.ended || self.drain_until.is_some())
            && self.ledger.open_count() == 0
            && self.waiting.is_none()
            && (self.commits.is_empty() || self.only_tails.is_some_and(|since| since.elapsed() >= TAILS_PATIENCE))
    }

    /// The channel of records closed. For lines that is the end, unless a notice says otherwise; for Kafka it never is.
    fn source_ended(&mut self, intake: &mut Intake, source: &Source) -> Result<(), Stopped> {
        while let Ok(notice) = intake.notices.try_recv() {
            self.heed(notice)?;
        }
        if source.is_endless() {
            return Err(Stopped::Unavailable("the consumer's thread ended by itself; start again".into()));
        }
        self.ended = true;
        Ok(())
    }

    /// How many journeys take their first step together: few enough that all cores have some.
    fn together(&self) -> usize {
        (self.settings.max_journeys / self.cores).clamp(1, 32)
    }

    /// Starts journeys, but for records whose lane went away on the way here.
    fn depart(&mut self, parcels: impl Iterator<Item = Parcel<Record>>) {
        let at = Instant::now();
        let (ledger, traces) = (&mut self.ledger, &self.traces);
        let ours = parcels.filter_map(|parcel| {
            let legs = traces.begin();
            let taken = Taken { at, timestamp_ms: parcel.body.timestamp_ms, legs: legs.clone() };
            ledger.open(&parcel.receipt, taken).then_some((parcel, legs))
        });
        self.journeys.start(ours.collect());
    }

    fn arrived(&mut self, outcomes: Result<Vec<Outcome>, JoinError>) -> Result<(), Stopped> {
        for outcome in outcomes.map_err(|error| Stopped::Panic(error.to_string()))? {
            self.ledger.finish(outcome.map_err(Stopped::Fault)?);
        }
        self.board.touch_progress();
        Ok(())
    }

    fn heed(&mut self, notice: Notice) -> Result<(), Stopped> {
        match notice {
            Notice::Failed(reason) => Err(Stopped::Unavailable(reason)),
            Notice::Broken(reason) => {
                self.broken = Some(reason);
                Ok(())
            }
            Notice::Tails(tails) => {
                tails.into_iter().for_each(|tail| self.ledger.note_tail(tail));
                Ok(())
            }
            Notice::Revoking { lanes, lost, deadline, answer } => {
                if lost {
                    self.ledger.close(&lanes);
                } else {
                    self.ledger.drain(&lanes);
                }
                self.revocations.push(Revocation { lanes, last: None, deadline, answer });
                Ok(())
            }
            Notice::Finish { lane, epoch, last, deadline, answer } => {
                self.revocations.push(Revocation { lanes: vec![(lane, epoch)], last: Some(last), deadline, answer });
                Ok(())
            }
        }
    }

    /// Answers what can be answered and starts a delivery step if one is due.
    fn advance(&mut self) {
        let now = Instant::now();
        if let Some(batch) = &mut self.waiting
            && !batch.keep_current(&self.ledger)
        {
            self.waiting = None;
        }
        let ledger = &mut self.ledger;
        self.revocations.retain(|revocation| {
            let is_read = revocation.last.is_none_or(|last| ledger.has_read(&revocation.lanes, last));
            if !(is_read && ledger.is_drained(&revocation.lanes)) && now < revocation.deadline {
                return true;
            }
            ledger.close(&revocation.lanes);
            // The source may have stopped waiting a moment ago; the lanes are closed all the same.
            let _ = revocation.answer.try_send(());
            false
        });
        if !self.commits.is_empty() {
            return;
        }
        self.apply();
        if self.waiting.is_none() && (self.is_due(now) || self.tails_due(now)) {
            let parcels = self.ledger.take_ready(self.most, self.settings.max_batch_bytes);
            self.last_tails = now;
            let tails = self.ledger.take_tails();
            self.waiting = (!parcels.is_empty() || !tails.is_empty()).then(|| Batch::new(parcels, tails));
        }
        if let Some(batch) = self.waiting.take_if(|batch| now >= batch.not_before) {
            self.start(batch);
        }
    }

    /// Puts a change in force once nothing is between reading and delivery. It waits for documents under way, and no new ones start meanwhile.
    fn apply(&mut self) {
        if self.journeys.under_way() > 0 || self.ledger.open_count() > 0 || self.waiting.is_some() {
            return;
        }
        // No delivery holds the sink now.
        let Some(sink) = Arc::get_mut(&mut self.sink) else { return };
        let Some(Change { judge, imprint, routes, done }) = self.change.take() else { return };
        self.board.set_policy(imprint.policy.clone());
        let dials = judge.dials();
        metrics::rules_known(dials.iter().map(|dial| &*dial.rule));
        self.board.set_dials(dials);
        self.journeys.road().set_judge(judge);
        sink.change(imprint, &routes);
        self.board.touch_progress();
        // Whoever asked may have gone.
        let _ = done.send(());
    }

    fn is_due(&self, now: Instant) -> bool {
        self.ledger.ready() > 0
            && (now >= self.last_commit + Duration::from_millis(self.settings.commit_interval_ms)
                || self.is_full()
                || !self.revocations.is_empty()
                || self.ended
                || self.change.is_some()
                || self.drain_until.is_some())
    }

    /// Whether what is ready makes a whole batch, or holds so many permits that reading would wait for them: no reason to wait for the interval.
    fn is_full(&self) -> bool {
        let DeliverySettings { max_batch_bytes, max_documents, max_in_flight_bytes, .. } = self.settings;
        self.ledger.ready() >= self.most.min(max_documents.div_ceil(2))
            || self.ledger.ready_bytes() >= max_batch_bytes.min(max_in_flight_bytes.div_ceil(2))
    }

    /// Whether to look for lanes that are read and delivered up to their ends, where nothing else calls for a delivery step.
    fn tails_due(&self, now: Instant) -> bool {
        self.ledger.has_tails()
            && self.drain_until.is_none()
            && now >= self.last_tails + Duration::from_millis(self.settings.commit_interval_ms)
    }

    fn start(&mut self, batch: Batch) {
        self.only_tails = batch.parcels.is_empty().then(Instant::now);
        self.delivering = batch.parcels.len();
        let sink = Arc::clone(&self.sink);
        self.commits.spawn_blocking(move || {
            let started = Instant::now();
            let result = sink.deliver(&batch.parcels, &batch.positions());
            (batch, result, started.elapsed())
        });
    }

    async fn committed(
        &mut self,
        done: Result<(Batch, Result<(), Failure>, Duration), JoinError>,
    ) -> Result<(), Stopped> {
        self.delivering = 0;
        let (mut batch, result, took) = done.map_err(|error| Stopped::Panic(error.to_string()))?;
        match result {
            Ok(()) => {
                batch.tails.iter().for_each(|tail| self.ledger.settle_tail(tail));
                // Tails alone are no progress: they must not hide that documents are stuck.
                if !batch.parcels.is_empty() {
                    self.most = self.most.saturating_mul(2).min(self.settings.max_batch_documents);
                    metrics::committed(batch.parcels.len(), took.as_secs_f64());
                    self.board.committed();
                    self.last_commit = Instant::now();
                }
                self.settle(batch.parcels, took).await;
            }
            Err(Failure::Refused(refused)) => {
                metrics::commit_aborted(true);
                for (index, fault) in &refused {
                    tracing::warn!(index, %fault, "an output was refused and becomes a dead letter");
                }
                batch.bury(refused).map_err(Stopped::Unavailable)?;
                self.waiting = Some(batch);
            }
            // Nobody waits for tails: an outage is no reason to end for them. The next one of the lane says as much.
            Err(Failure::Retry(reason)) if batch.parcels.is_empty() => {
                tracing::debug!(
                    reason,
                    lanes = batch.tails.len(),
                    "positions past the last records were not committed"
                );
                batch.tails.into_iter().for_each(|tail| self.ledger.put_back_tail(tail));
            }
            Err(Failure::Retry(reason)) => {
                let again = batch.put_off();
                metrics::commit_aborted(again);
                tracing::warn!(reason, documents = batch.parcels.len(), "a commit was aborted");
                if !again {
                    return Err(Stopped::Unavailable(format!("delivery failed for minutes: {reason}")));
                }
                let rest = batch.halve();
                if !rest.is_empty() {
                    self.most = batch.parcels.len();
                    self.ledger.put_back(rest);
                }
                self.waiting = Some(batch);
            }
            Err(Failure::Stop(reason)) => {
                metrics::commit_aborted(false);
                return Err(Stopped::Unavailable(reason));
            }
            Err(Failure::ReaderGone) => {
                metrics::commit_aborted(false);
                return Err(Stopped::ReaderGone);
            }
        }
        Ok(())
    }

    async fn settle(&mut self, parcels: Vec<Parcel<Judged>>, took: Duration) {
        let now = Instant::now();
        let (ledger, traces) = (&mut self.ledger, &self.traces);
        let spent = parcels.iter().filter_map(|parcel| {
            let taken = ledger.settle(&parcel.receipt)?;
            if let Some(legs) = &taken.legs {
                traces.tell(legs, &parcel.body, took);
            }
            Some(now.duration_since(taken.at).as_secs_f64())
        });
        metrics::settled(spent);
        parcels.iter().for_each(|parcel| self.summary.count(&parcel.body));
        delivered::tell(&parcels, &self.board);
        if let Some(tap) = &self.tap {
            for parcel in parcels {
                // A tap that was dropped has seen enough.
                let _ = tap.send(parcel.body).await;
            }
        }
    }

    /// When to look up though nothing has happened.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut at = now + Duration::from_secs(1);
        if self.commits.is_empty() {
            if let Some(batch) = &self.waiting {
                at = at.min(batch.not_before);
            } else if self.ledger.ready() > 0 {
                at = at.min(self.last_commit + Duration::from_millis(self.settings.commit_interval_ms));
            }
        }
        // One that has passed calls for nothing more, and would call at once, again and again.
        if let Some(deadline) = self.drain_until.filter(|deadline| *deadline > now) {
            at = at.min(deadline);
        }
        self.revocations.iter().map(|revocation| revocation.deadline).fold(at, Instant::min)
    }
}
