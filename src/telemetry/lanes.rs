//! Owns what is known of each lane that is ours: what waits on it, and for how long.
//!
//! In: assignments, what the source has not read yet, what the pipeline has open. Out: [`Lag`]s, computed when asked for, so that they
//! grow also while nobody reports. Invariants: a lane that is not assigned has no lag and no series; a lag in records is absent until
//! the source has said what is there.
//! Must not know: who reports, or who asks.

use super::series::{LAG_RECORDS, LAG_SECONDS};
use crate::corpus::Lane;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a pipeline has open on one lane: at least one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLane {
    /// The lane.
    pub lane: Lane,
    /// Records taken up and not yet committed.
    pub records: usize,
    /// When the oldest of them was taken up.
    pub since: Instant,
    /// The oldest one's own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

/// How far one lane is behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    /// The lane.
    pub lane: Lane,
    /// Records not yet committed; `None` until the source has said what is there.
    pub records: Option<u64>,
    /// Seconds since the oldest of them was written, or, where that is unknown, since it began to wait.
    pub seconds: f64,
}

#[derive(Debug, Default)]
struct Facts {
    unread: Option<u64>,
    /// Since when something is unread while nothing is open.
    waiting_since: Option<Instant>,
    open: Option<OpenLane>,
}

impl Facts {
    fn records(&self) -> Option<u64> {
        self.unread.map(|unread| unread + self.open.as_ref().map_or(0, |open| open.records as u64))
    }

    fn seconds(&self, now_ms: u64) -> f64 {
        match (&self.open, self.waiting_since) {
            (Some(OpenLane { timestamp_ms: Some(written), .. }), _) => {
                let age = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_sub(*written);
                Duration::from_millis(u64::try_from(age).unwrap_or(0)).as_secs_f64()
            }
            (Some(open), _) => open.since.elapsed().as_secs_f64(),
            (None, Some(since)) => since.elapsed().as_secs_f64(),
            (None, None) => 0.0,
        }
    }

    /// Keeps `waiting_since` true to what is known now.
    fn settle(&mut self) {
        let waits = self.open.is_none() && self.unread.is_some_and(|unread| unread > 0);
        self.waiting_since = waits.then(|| self.waiting_since.unwrap_or_else(Instant::now));
    }
}

/// The lanes that are ours.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<BTreeMap<Lane, Facts>>);

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lane, Facts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are ours now and no others. What is known of those that stay is kept.
    pub(super) fn assign<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        let mut known = self.lock();
        let mut before = std::mem::take(&mut *known);
        known.extend(lanes.into_iter().map(|lane| (lane.clone(), before.remove(lane).unwrap_or_default())));
    }

    /// The source has this many records of `lane` still to read.
    pub(super) fn unread(&self, lane: &Lane, records: u64) {
        if let Some(facts) = self.lock().get_mut(lane) {
            facts.unread = Some(records);
            facts.settle();
        }
    }

    /// What is open, and nothing else is.
    pub(super) fn open(&self, open: Vec<OpenLane>) {
        let mut known = self.lock();
        let mut open: BTreeMap<Lane, OpenLane> = open.into_iter().map(|open| (open.lane.clone(), open)).collect();
        for (lane, facts) in known.iter_mut() {
            facts.open = open.remove(lane);
            facts.settle();
        }
    }

    /// How long the oldest open record has been open; `None` when nothing is.
    pub(super) fn oldest_open(&self) -> Option<Duration> {
        self.lock().values().filter_map(|facts| facts.open.as_ref()).map(|open| open.since.elapsed()).max()
    }

    /// Every lane's lag, in the order of lanes. `now_ms`: milliseconds since the Unix epoch.
    pub(super) fn lags(&self, now_ms: u64) -> Vec<Lag> {
        let lag = |(lane, facts): (&Lane, &Facts)| Lag {
            lane: lane.clone(),
            records: facts.records(),
            seconds: facts.seconds(now_ms),
        };
        self.lock().iter().map(lag).collect()
    }
}

/// The lags in the Prometheus text format. They are written here and not recorded, because the recorder can't forget a series, and a
/// partition that went to another worker must not leave its last lag behind.
pub(super) fn text(lags: &[Lag]) -> String {
    let mut text = String::new();
    for series in [LAG_RECORDS, LAG_SECONDS] {
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", series.name, series.help);
        for Lag { lane, records, seconds } in lags {
            let value = if series.name == LAG_SECONDS.name {
                Some(seconds.to_string())
            } else {
                records.map(|n| n.to_string())
            };
            if let Some(value) = value {
                let topic = lane.topic.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                let _ = writeln!(text, "{}{{topic=\"{topic}\",partition=\"{}\"}} {value}", series.name, lane.partition);
            }
        }
        text.push('\n');
    }
    text
}

/// What is still to do on the partitions that are ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backlog {
    /// Records not yet committed, over all partitions of which that is known; `null` if it is known of none.
    pub records: Option<u64>,
    /// The age of the oldest of them, in seconds.
    pub seconds: f64,
    /// The partitions that are furthest behind, at most [`Backlog::LISTED`].
    pub partitions: Vec<LanesLag>,
}

/// How far one partition is behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LanesLag {
    /// `topic/partition`.
    pub partition: String,
    /// Records not yet committed; `null` until the source has said what is there.
    pub records: Option<u64>,
    /// The age of the oldest of them, in seconds.
    pub seconds: f64,
}

impl Backlog {
    /// Partitions that are told of by name.
    pub const LISTED: usize = 64;

    pub(super) fn of(mut lags: Vec<Lag>) -> Self {
        let records = lags.iter().filter_map(|lag| lag.records).reduce(u64::saturating_add);
        let seconds = lags.iter().map(|lag| lag.seconds).fold(0.0, f64::max);
        lags.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| a.lane.cmp(&b.lane)));
        lags.truncate(Self::LISTED);
        let told = |lag: Lag| LanesLag { partition: lag.lane.to_string(), records: lag.records, seconds: lag.seconds };
        Self { records, seconds, partitions: lags.into_iter().map(told).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(partition: i32) -> Lane {
        Lane { topic: "corpus.raw".into(), partition }
    }

    fn open(partition: i32, records: usize, timestamp_ms: Option<i64>) -> OpenLane {
        OpenLane { lane: lane(partition), records, since: Instant::now(), timestamp_ms }
    }

    #[test]
    fn a_lag_counts_what_is_unread_and_what_is_open() {
        let lanes = Lanes::default();
        lanes.assign(&[lane(0), lane(1)]);
        assert_eq!(lanes.lags(0)[0].records, None, "nothing is known yet");
        lanes.unread(&lane(0), 7);
        lanes.open(vec![open(0, 3, Some(60_000))]);
        let lags = lanes.lags(65_500);
        assert_eq!((lags[0].records, lags[0].seconds), (Some(10), 5.5));
        assert_eq!((lags[1].records, lags[1].seconds), (None, 0.0));
        lanes.open(vec![open(0, 1, Some(70_000))]);
        assert_eq!(lanes.lags(65_500)[0].seconds, 0.0, "a timestamp of the future is no lag");
    }

    #[test]
    fn what_waits_unread_ages_and_a_caught_up_lane_does_not() {
        let lanes = Lanes::default();
        lanes.assign(&[lane(0)]);
        lanes.unread(&lane(0), 2);
        std::thread::sleep(Duration::from_millis(20));
        lanes.unread(&lane(0), 5);
        assert!(lanes.lags(0)[0].seconds >= 0.02, "the wait began with the first");
        lanes.unread(&lane(0), 0);
        assert_eq!((lanes.lags(0)[0].records, lanes.lags(0)[0].seconds), (Some(0), 0.0));
    }

    #[test]
    fn a_lane_that_goes_takes_its_series_with_it_and_one_that_stays_keeps_its_facts() {
        let lanes = Lanes::default();
        lanes.assign(&[lane(0), lane(1)]);
        lanes.unread(&lane(0), 7);
        lanes.open(vec![open(0, 1, None), open(9, 1, None)]);
        assert!(lanes.oldest_open().is_some());
        lanes.assign(&[lane(0)]);
        assert_eq!(lanes.lags(0).iter().map(|lag| lag.records).collect::<Vec<_>>(), [Some(8)]);
        lanes.assign(&[]);
        lanes.unread(&lane(0), 7);
        assert!(lanes.lags(0).is_empty() && lanes.oldest_open().is_none());
        assert!(!text(&lanes.lags(0)).contains("corpus.raw"));
    }

    #[test]
    fn a_name_with_quotes_can_not_break_the_text() {
        let odd = Lag { lane: Lane { topic: "a\"b\\c\nd".into(), partition: 2 }, records: Some(4), seconds: 1.5 };
        let text = text(&[odd]);
        assert!(text.contains("tamis_partition_lag_records{topic=\"a\\\"b\\\\c\\nd\",partition=\"2\"} 4\n"), "{text}");
        assert!(text.contains(",partition=\"2\"} 1.5\n"), "{text}");
    }
}
