//! Owns the change: other rules and routes for a pipeline that runs.
//!
//! Invariant: a change is applied whole, while nothing is between reading and delivery: what was judged before it is delivered under the old policy's
//! name, what is read after it under the new one's, and no commit holds both.
//! Must not know: where settings come from, or who asked.

use crate::judge::Judge;
use crate::sink::{Imprint, RouteSettings};
use tokio::sync::{mpsc, oneshot};

/// What is to be in force from the next commit but those under way.
#[derive(Debug)]
pub struct Change {
    /// The rules.
    pub judge: Judge,
    /// What outputs say about them.
    pub imprint: Imprint,
    /// Where verdicts go.
    pub routes: RouteSettings,
    /// Told when it is in force; dropped when it never will be.
    pub done: oneshot::Sender<()>,
}

/// The next change; never one where none can be asked for. Cancel safe.
pub(super) async fn asked(changes: &mut Option<mpsc::Receiver<Change>>) -> Option<Change> {
    changes.as_mut()?.recv().await
}
