//! Owns the legs of a document's journey: when each began and ended, noted on the way by whoever travels it.
//!
//! Invariants: noting costs a lock that nobody else holds, and nothing where nobody asked; at most [`LEGS_MAX`] legs of one document are kept; the times
//! of one journey never run backwards, whatever is done to the system's clock.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// The most legs that are kept: a document has some for each of its scores.
const LEGS_MAX: usize = 64;

/// A part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// Bytes to a document, waiting for its schema included.
    Decode,
    /// Text to token ids.
    Tokenize,
    /// Token ids to sums, waiting for the device included.
    Score,
    /// Signals to a verdict.
    Judge,
    /// The delivery step that the document was part of.
    Deliver,
}

impl Leg {
    /// The leg's name in traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Tokenize => "tokenize",
            Self::Score => "score",
            Self::Judge => "judge",
            Self::Deliver => "deliver",
        }
    }
}

/// The legs of one document. Clones are the same legs.
#[derive(Debug, Clone)]
pub struct Legs {
    /// When the document was taken up.
    pub began: SystemTime,
    /// The same moment on a clock that nobody sets. All other times are counted from it.
    clock: Instant,
    noted: Arc<Mutex<Vec<(Leg, SystemTime, SystemTime)>>>,
}

tokio::task_local! {
    static LEGS: Legs;
}

impl Legs {
    /// A document is taken up now.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: SystemTime::now(), clock: Instant::now(), noted: Arc::default() }
    }

    /// The present, as it would be told had nobody set the system's clock since the journey began.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.began.checked_add(self.clock.elapsed()).unwrap_or(self.began)
    }

    /// Runs `journey`, whose legs are noted here. Cancel safe.
    pub async fn of<F: Future>(self, journey: F) -> F::Output {
        LEGS.scope(self, journey).await
    }

    /// What was noted: each leg with its beginning and its end.
    #[must_use]
    pub fn noted(&self) -> Vec<(Leg, SystemTime, SystemTime)> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, leg: Leg, began: SystemTime) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // A score begins with the tokens that it is made of, which are a leg of their own.
        let began = match noted.last() {
            Some((Leg::Tokenize, from, to)) if leg == Leg::Score && *from >= began => *to,
            _ => began,
        };
        if noted.len() < LEGS_MAX {
            noted.push((leg, began, self.now()));
        }
    }
}

/// The beginning of a leg: now, if this is a journey whose legs somebody asked for.
#[must_use]
pub fn setting_out() -> Option<SystemTime> {
    LEGS.try_with(Legs::now).ok()
}

/// Notes a leg that began then and ends now, if this is such a journey.
pub fn leg(leg: Leg, began: Option<SystemTime>) {
    let _ = LEGS.try_with(|legs| began.map(|began| legs.note(leg, began)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn legs_are_noted_where_somebody_asked_and_nowhere_else() {
        assert_eq!(setting_out(), None);
        leg(Leg::Decode, Some(SystemTime::now()));
        let legs = Legs::begin();
        let (one, two) = (legs.clone(), Legs::begin());
        two.clone().of(async { leg(Leg::Judge, setting_out()) }).await;
        one.of(async {
            let began = setting_out();
            leg(Leg::Tokenize, began);
            leg(Leg::Score, began);
            (0..2 * LEGS_MAX).for_each(|_| leg(Leg::Score, began));
        })
        .await;
        let noted = legs.noted();
        assert_eq!((noted.len(), two.noted().len()), (LEGS_MAX, 1));
        assert_eq!((noted[0].0, noted[1].0), (Leg::Tokenize, Leg::Score));
        assert_eq!(noted[1].1, noted[0].2, "the score begins where its tokens end");
    }
}
