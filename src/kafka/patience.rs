//! Owns how long the end of a transaction, a commit or an abort, is asked for.
//!
//! In: whether any broker answers, and the time. Out: whether to go on. While none answers, an outage is waited out: a fresh start would find none
//! either. Where brokers answer and the transaction's coordinator doesn't, they give the transaction up after its own time, and from then on
//! the partitions are better off with a worker whose transactions another node coordinates.
//! Must not know: the client library, why an end is not answered.

use std::time::{Duration, Instant};

/// While no broker answers. Below the patience with one batch, which ends the process in good order.
const OUTAGE: Duration = Duration::from_secs(150);

/// The patience with one end: 150 s, and `transaction.timeout.ms` from when brokers began to answer.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    transaction_timeout: Duration,
    /// Since when brokers have answered without a break.
    answering: Option<Instant>,
}

impl Patience {
    pub(super) fn begin(now: Instant, transaction_timeout: Duration) -> Self {
        Self { until: now + OUTAGE, transaction_timeout, answering: None }
    }

    /// Whether to try again, now that brokers answer or don't.
    pub(super) fn lasts(&mut self, answer: bool, now: Instant) -> bool {
        self.answering = answer.then(|| self.answering.unwrap_or(now));
        let answered = self.answering.map_or(Duration::ZERO, |since| now.duration_since(since));
        now < self.until && answered < self.transaction_timeout
    }

    /// What to do now that it has ended.
    pub(super) fn advice(&self) -> &'static str {
        match self.answering {
            Some(_) => "; brokers answer, but for this transaction none does: look after the node that coordinates it",
            None => "",
        }
    }
}

/// Goes on until `deadline`.
pub(super) fn before(deadline: Instant) -> impl FnMut() -> bool {
    move || Instant::now() < deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_waited_out_but_a_lost_coordinator_only_as_long_as_its_transaction_lasts() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Patience::begin(start, timeout);
        assert!((0..15).all(|tens| outage.lasts(false, at(tens * 10))));
        assert!(!outage.lasts(false, at(150)) && outage.advice().is_empty());
        let mut lost = Patience::begin(start, timeout);
        assert!(lost.lasts(false, at(10)) && lost.lasts(true, at(20)) && lost.lasts(true, at(49)));
        assert!(!lost.lasts(true, at(50)) && lost.advice().contains("coordinates"));
        let mut broken = Patience::begin(start, timeout);
        assert!(broken.lasts(true, at(0)) && broken.lasts(false, at(20)) && broken.lasts(true, at(40)));
        assert!(broken.lasts(true, at(69)) && !broken.lasts(true, at(70)), "a break counts from its end");
    }
}
