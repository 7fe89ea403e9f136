//! Owns the journeys under way, and how they are started: several at a time.
//!
//! A journey that needs neither device nor disk ends at its first step, and a task for each would cost more than the journey itself. So records that are
//! there together take their first step in one task; those that then have to wait go on in a task each.
//! Invariants: every journey that was started ends in exactly one outcome; no task outlives this. Cancel safe.

use super::journey::Road;
use crate::corpus::{Fault, Judged, Parcel, Record};
use crate::telemetry::{Legs, metrics};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};

/// What a journey ends with; a fault stops the process.
pub(super) type Outcome = Result<Parcel<Judged>, Fault>;
/// With how long it took.
type Ended = (Outcome, Duration);
type Journey = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What came of one task.
struct Steps {
    ended: Vec<Ended>,
    /// Those that wait for something.
    waiting: Vec<Journey>,
}

/// The journeys under way.
pub(super) struct Departures {
    road: Arc<Road>,
    tasks: JoinSet<Steps>,
    under_way: usize,
}

impl Departures {
    pub(super) fn new(road: Arc<Road>) -> Self {
        Self { road, tasks: JoinSet::new(), under_way: 0 }
    }

    /// The road that they all take.
    pub(super) fn road(&self) -> &Road {
        &self.road
    }

    /// Journeys that have not ended.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Starts a journey for each of `parcels`; its legs are noted where they come with it.
    pub(super) fn start(&mut self, mut parcels: Vec<(Parcel<Record>, Option<Legs>)>) {
        self.under_way += parcels.len();
        let road = Arc::clone(&self.road);
        match (parcels.pop(), parcels.is_empty()) {
            (None, _) => {}
            (Some(only), true) => {
                self.tasks.spawn(async move { Steps { ended: vec![travel(road, only).await], waiting: Vec::new() } });
            }
            (Some(last), false) => {
                parcels.push(last);
                self.tasks.spawn(first_steps(road, parcels));
            }
        }
    }

    /// The next outcomes, at least one; `None` when nothing is under way. An error is a panic. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Outcome>, JoinError>> {
        loop {
            let Steps { ended, waiting } = match self.tasks.join_next().await? {
                Ok(steps) => steps,
                Err(error) => return Some(Err(error)),
            };
            for journey in waiting {
                self.tasks.spawn(async move { Steps { ended: vec![journey.await], waiting: Vec::new() } });
            }
            self.under_way = self.under_way.saturating_sub(ended.len());
            if !ended.is_empty() {
                metrics::journeys(ended.iter().map(|(_, took)| took.as_secs_f64()));
                return Some(Ok(ended.into_iter().map(|(outcome, _)| outcome).collect()));
            }
        }
    }
}

/// One whole journey.
async fn travel(road: Arc<Road>, (parcel, legs): (Parcel<Record>, Option<Legs>)) -> Ended {
    let began = Instant::now();
    let outcome = match legs {
        Some(legs) => legs.of(road.travel(parcel)).await,
        None => road.travel(parcel).await,
    };
    (outcome, began.elapsed())
}

/// First steps are taken in one go for so long; then the runtime's thread is lent to others. One of a document of 10 MiB takes tens of milliseconds,
/// and 32 of them a second in which the thread would serve neither signals nor `/healthz`.
const GO: Duration = Duration::from_millis(2);

/// Lets each journey take its first step.
async fn first_steps(road: Arc<Road>, parcels: Vec<(Parcel<Record>, Option<Legs>)>) -> Steps {
    let mut steps = Steps { ended: Vec::with_capacity(parcels.len()), waiting: Vec::new() };
    // A journey that ends at its first step leaves its box, which is of several KiB, to the next one.
    let mut spare = None;
    let mut began = Instant::now();
    for parcel in parcels {
        if began.elapsed() >= GO {
            tokio::task::yield_now().await;
            began = Instant::now();
        }
        let journey = travel(Arc::clone(&road), parcel);
        let mut journey = match spare.take() {
            None => Box::pin(journey),
            Some(mut left) => {
                Pin::set(&mut left, journey);
                left
            }
        };
        match poll_fn(|context| Poll::Ready(journey.as_mut().poll(context))).await {
            Poll::Ready(outcome) => {
                steps.ended.push(outcome);
                spare = Some(journey);
            }
            Poll::Pending => steps.waiting.push(journey),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Lane, Origin, Permits, Receipt};
    use crate::decode::{self, Decoder};
    use crate::judge::Judge;
    use crate::signals::Texts;
    use std::collections::BTreeSet;
    use std::sync::RwLock;

    fn parcel(offset: i64) -> Parcel<Record> {
        let origin = Origin { lane: Lane { topic: "t".into(), partition: 0 }, offset };
        let value = if offset % 2 == 0 { br#"{"text": "a document"}"#.to_vec() } else { b"not JSON".to_vec() };
        let record = Record {
            origin: origin.clone(),
            key: None,
            value: Some(value),
            timestamp_ms: None,
            headers: Vec::new(),
            defect: None,
        };
        Parcel { body: record, receipt: Receipt { origin, epoch: 1, permits: Permits::default() } }
    }

    #[tokio::test]
    async fn every_journey_ends_once_however_many_start_together() {
        let decoder = Decoder::new(&decode::Settings::default()).unwrap();
        let judge = RwLock::new(Arc::new(Judge::new(&[], &BTreeSet::new()).unwrap()));
        let mut departures =
            Departures::new(Arc::new(Road { decoder, text: Texts::default(), scorers: Vec::new(), judge }));
        departures.start(Vec::new());
        assert!(departures.next().await.is_none(), "nobody set out");
        departures.start((0..7).map(|offset| (parcel(offset), None)).collect());
        departures.start(vec![(parcel(7), None)]);
        assert_eq!(departures.under_way(), 8);
        let mut seen = BTreeSet::new();
        while let Some(outcomes) = departures.next().await {
            for outcome in outcomes.unwrap() {
                let Parcel { body, receipt } = outcome.unwrap();
                assert!(seen.insert(receipt.origin.offset));
                assert_eq!(matches!(body, Judged::Dead { .. }), receipt.origin.offset % 2 == 1);
            }
        }
        assert_eq!((seen.len(), departures.under_way()), (8, 0));
    }
}
