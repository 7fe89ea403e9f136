//! Owns what every model signal can do, whatever its kind: be named, identified, ordered by cost, and scored.

use super::{HeadScorer, Scorer, cost};
use crate::cache::Key;
use crate::corpus::{Document, Edge, Fault, Signals};
use std::sync::Arc;

/// One thing that is measured with a model. Cheap to share by reference; scoring is `&self`.
pub enum Measure {
    /// A masked score: many passes a window, but for `unmasked`.
    Masked(Box<Scorer>),
    /// A head: one pass a window.
    Head(Box<HeadScorer>),
}

impl Measure {
    /// Takes over the signals of another of the same identity, so that passes are run once for both; gives back any other.
    pub fn absorb(&mut self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Masked(one), Self::Masked(two)) => one.absorb(*two).map(|two| Self::Masked(Box::new(two))),
            (Self::Masked(_) | Self::Head(_), other) => Some(other),
        }
    }

    /// Names of all signals that a document may get.
    #[must_use]
    pub fn signal_names(&self) -> &[Arc<str>] {
        match self {
            Self::Masked(scorer) => scorer.signal_names(),
            Self::Head(head) => head.signal_names(),
        }
    }

    /// Whether [`Self::score_until`] looks at its edges.
    #[must_use]
    pub fn stops(&self) -> bool {
        match self {
            Self::Masked(scorer) => scorer.stops(),
            Self::Head(_) => false,
        }
    }

    /// Hexadecimal hash of everything that a score depends on but the text. Thresholds belong to it.
    #[must_use]
    pub fn identity(&self) -> &str {
        match self {
            Self::Masked(scorer) => scorer.identity(),
            Self::Head(head) => head.identity(),
        }
    }

    /// Forward passes for a full window, at most: what a score costs, whatever the model.
    #[must_use]
    pub fn passes_a_window(&self) -> usize {
        match self {
            Self::Masked(scorer) => scorer.passes_a_window(),
            Self::Head(head) => head.passes_a_window(),
        }
    }

    /// The order of cost: what a document is expected to take of the device, learned from those before it, in powers of two.
    #[must_use]
    pub fn cost_class(&self) -> i32 {
        cost::class(match self {
            Self::Masked(scorer) => scorer.cost_seconds(),
            Self::Head(head) => head.cost_seconds(),
        })
    }

    /// The keys under which the cache holds what it knows of `text`.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub async fn keys(&self, text: &str) -> Result<Vec<Key>, Fault> {
        match self {
            Self::Masked(scorer) => scorer.keys(text).await,
            Self::Head(head) => head.keys(text).await,
        }
    }

    /// Scores a document; a masked score whose settings say so stops as soon as it is decided on which side of each of `edges` its signals lie.
    /// Cancel-safe: dropping the future takes waiting rows back.
    ///
    /// # Errors
    /// The tokenizer refuses the text, the device fails on it alone, or the engine is gone.
    pub async fn score_until(&self, document: &Document, edges: &[Edge]) -> Result<Signals, Fault> {
        match self {
            Self::Masked(scorer) => scorer.score_until(document, edges).await,
            Self::Head(head) => head.score(document).await,
        }
    }
}

impl From<Scorer> for Measure {
    fn from(scorer: Scorer) -> Self {
        Self::Masked(Box::new(scorer))
    }
}

impl From<HeadScorer> for Measure {
    fn from(head: HeadScorer) -> Self {
        Self::Head(Box::new(head))
    }
}
