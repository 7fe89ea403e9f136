//! Owns the breaker: after a failure the store is bypassed for a while, then one operation may probe it.
//!
//! Invariants: at most one probe at a time; a probe that is dropped undecided counts as failed, so a cancelled caller can't leave the
//! breaker waiting for good.

use crate::telemetry::metrics;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant, cooldown: Duration },
    Probing { cooldown: Duration },
}

/// Bypasses the store after failures.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    first: Duration,
    longest: Duration,
}

impl Breaker {
    /// Closed. The first bypass lasts `first`; each failed probe doubles it, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        metrics::cache_breaker(false);
        Self { state: Mutex::new(State::Closed), first, longest }
    }

    /// Leave to use the store; `None` while it is bypassed.
    pub(super) fn admit(&self) -> Option<Leave<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Closed => Some(Leave { breaker: self, probe: false, decided: false }),
            State::Open { until, cooldown } if Instant::now() >= until => {
                *state = State::Probing { cooldown };
                Some(Leave { breaker: self, probe: true, decided: false })
            }
            State::Open { .. } | State::Probing { .. } => None,
        }
    }

    /// Whether the store is being bypassed.
    pub(super) fn open(&self) -> bool {
        !matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Closed)
    }

    fn succeed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Probing { .. }) {
            *state = State::Closed;
            metrics::cache_breaker(false);
            tracing::info!("cache answers again");
        }
    }

    fn fail(&self, probe: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let cooldown = match *state {
            State::Closed => self.first,
            State::Probing { cooldown } if probe => (cooldown * 2).min(self.longest),
            // A straggler from before the bypass began.
            State::Open { .. } | State::Probing { .. } => return,
        };
        *state = State::Open { until: Instant::now() + cooldown, cooldown };
        metrics::cache_breaker(true);
        tracing::warn!(bypass_ms = cooldown.as_millis(), "cache is bypassed");
    }
}

/// Leave to use the store once, to be decided by [`Leave::succeed`] or [`Leave::fail`].
#[derive(Debug)]
pub(super) struct Leave<'a> {
    breaker: &'a Breaker,
    probe: bool,
    decided: bool,
}

impl Leave<'_> {
    /// The store answered.
    pub(super) fn succeed(mut self) {
        self.decided = true;
        self.breaker.succeed();
    }

    /// The store failed.
    pub(super) fn fail(mut self) {
        self.decided = true;
        self.breaker.fail(self.probe);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.probe && !self.decided {
            self.breaker.fail(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(first_ms: u64) -> Breaker {
        Breaker::new(Duration::from_millis(first_ms), Duration::from_millis(first_ms * 3))
    }

    fn cooldown(breaker: &Breaker) -> Option<u128> {
        match *breaker.state.lock().unwrap() {
            State::Open { cooldown, .. } => Some(cooldown.as_millis()),
            State::Closed | State::Probing { .. } => None,
        }
    }

    #[test]
    fn one_failure_opens_it_and_one_probe_closes_it() {
        let breaker = breaker(20);
        breaker.admit().unwrap().succeed();
        breaker.admit().unwrap().fail();
        assert!(breaker.open() && breaker.admit().is_none());
        std::thread::sleep(Duration::from_millis(25));
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_none(), "only one probe");
        probe.succeed();
        assert!(!breaker.open());
    }

    #[test]
    fn each_failed_probe_doubles_the_bypass_up_to_the_longest() {
        let breaker = breaker(4);
        breaker.admit().unwrap().fail();
        for expected in [8, 12, 12] {
            std::thread::sleep(Duration::from_millis(15));
            breaker.admit().unwrap().fail();
            assert_eq!(cooldown(&breaker), Some(expected));
        }
    }

    #[test]
    fn stragglers_change_nothing_and_a_dropped_probe_fails() {
        let breaker = breaker(4);
        let (early, late) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        early.fail();
        late.succeed();
        assert!(breaker.open());
        std::thread::sleep(Duration::from_millis(6));
        drop(breaker.admit().unwrap());
        assert_eq!(cooldown(&breaker), Some(8));
    }
}
