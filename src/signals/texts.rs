//! Owns all text signals of a pipeline together: a long text is measured on the blocking pool, as it is tokenised there, so that the journeys beside it go on.

use super::TextSignals;
use crate::corpus::{Document, Signals};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Longer texts are measured on the blocking pool, shorter ones where they are: 16 KiB take less than a millisecond.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// The `kind = "text"` tables of a pipeline.
#[derive(Debug)]
pub struct Texts {
    tables: Arc<[TextSignals]>,
    /// Bounds the texts that are measured at once on the blocking pool.
    cores: Arc<Semaphore>,
}

impl Default for Texts {
    /// No table.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Texts {
    /// Signals of all of `tables`.
    #[must_use]
    pub fn new(tables: Vec<TextSignals>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { tables: tables.into(), cores: Arc::new(Semaphore::new(cores)) }
    }

    /// The text signals of `document`. Cancel safe.
    ///
    /// # Errors
    /// In words: a bug of ours ended the work.
    pub async fn measure(&self, document: &Document) -> Result<Signals, String> {
        if self.tables.is_empty() || document.text.len() <= INLINE_BYTES_MAX {
            return Ok(measure(&self.tables, &document.text));
        }
        // The semaphore is never closed.
        let permit = Arc::clone(&self.cores).acquire_owned().await.ok();
        let (tables, text) = (Arc::clone(&self.tables), document.text.clone());
        let work = move || {
            let _permit = permit;
            measure(&tables, &text)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| format!("text signals ended early: {error}"))
    }
}

fn measure(tables: &[TextSignals], text: &str) -> Signals {
    let mut signals = Signals::new();
    for table in tables {
        table.measure(text, &mut signals);
    }
    signals
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[tokio::test]
    async fn a_long_text_leaves_its_thread_and_a_short_one_does_not() {
        let texts = Texts::new(vec![TextSignals::new("a"), TextSignals::new("b")]);
        for (bytes, leaves) in [(INLINE_BYTES_MAX, false), (INLINE_BYTES_MAX + 1, true)] {
            let document = Document { id: None, text: "x".repeat(bytes), language: None, source: None };
            let mut measured = pin!(texts.measure(&document));
            let first = measured.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let signals = match first {
                Poll::Ready(signals) => {
                    assert!(!leaves, "{bytes} bytes were measured on the runtime's thread");
                    signals
                }
                Poll::Pending => {
                    assert!(leaves, "{bytes} bytes went to the blocking pool");
                    measured.await
                }
            };
            #[allow(clippy::cast_precision_loss, reason = "a small number")]
            let expected = Some(bytes as f64);
            for name in ["a.bytes", "b.bytes"] {
                assert_eq!(signals.as_ref().unwrap().get(name).and_then(|value| value.as_number()), expected);
            }
        }
    }
}
