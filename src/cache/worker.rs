//! Owns the one thread on which the store is used: a bounded queue in front, panics caught, the store reopened after it failed.
//!
//! Invariant: nothing that blocks on the store runs on a caller's thread; a stuck store costs one thread and a full queue.

use super::Key;
use super::failure::Failure;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::oneshot;

/// Operations that may lie in the queue; further ones wait in front of it, up to their deadline. Each holds at most [`super::store::CHUNK`] keys.
const QUEUE: usize = 64;

/// A store, used by the worker's thread alone. Every method may block, fail and panic.
pub(super) trait Backend {
    /// The value under `key`, verified.
    fn get(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Failure>;
    /// Keeps `value` under `key`.
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), Failure>;
    /// Writes everything to disk.
    fn flush(&mut self) -> Result<(), Failure>;
}

/// Opens a store, again after each failure. `condemned` says that what is there should be set aside first.
pub(super) trait Opener: Send + 'static {
    /// The store that is opened.
    type Backend: Backend;
    /// Opens it. May block, fail and panic.
    fn open(&mut self, condemned: bool) -> Result<Self::Backend, Failure>;
}

type Values = Vec<Option<Vec<u8>>>;

/// One operation and where its outcome is awaited.
enum Job {
    Get(Vec<Key>, oneshot::Sender<Result<Values, Failure>>),
    Put(Vec<(Key, Vec<u8>)>, oneshot::Sender<Result<(), Failure>>),
    Flush(oneshot::Sender<Result<(), Failure>>),
}

/// A handle on the thread. The thread ends, its store closed, after the handle is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread and waits until its store is open, for at most `deadline`.
    pub(super) fn start(mut opener: impl Opener, deadline: Duration) -> Result<Self, Failure> {
        let (jobs, mut queue) = mpsc::channel(QUEUE);
        let (ready, opened) = sync_channel(1);
        let run = move || {
            let mut store = None;
            let first = open(&mut opener, &mut store, &mut false);
            let failed = first.is_err();
            if ready.send(first).is_ok() && !failed {
                serve(&mut opener, store, &mut queue);
            }
        };
        std::thread::Builder::new().name("tamis-cache".to_owned()).spawn(run)?;
        opened.recv_timeout(deadline).map_err(|_| Failure::Deadline)??;
        Ok(Self { jobs })
    }

    /// The value of each key.
    pub(super) async fn get(&self, keys: Vec<Key>, deadline: Duration) -> Result<Values, Failure> {
        self.ask(|reply| Job::Get(keys, reply), deadline).await
    }

    /// Keeps `entries`.
    pub(super) async fn put(&self, entries: Vec<(Key, Vec<u8>)>, deadline: Duration) -> Result<(), Failure> {
        self.ask(|reply| Job::Put(entries, reply), deadline).await
    }

    /// Writes everything to disk.
    pub(super) async fn flush(&self, deadline: Duration) -> Result<(), Failure> {
        self.ask(Job::Flush, deadline).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Job,
        deadline: Duration,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        // Thousands of journeys may come at once; a store that works through them is healthy. One that is stuck lets them all wait
        // out the deadline once, and then the breaker spares those who follow.
        self.jobs.send_timeout(job(reply), deadline).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Failure::Busy,
            SendTimeoutError::Closed(_) => Failure::Gone,
        })?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::Gone),
            Err(_) => Err(Failure::Deadline),
        }
    }
}

fn serve<O: Opener>(opener: &mut O, mut store: Option<O::Backend>, queue: &mut Receiver<Job>) {
    let mut condemned = false;
    while let Some(job) = queue.blocking_recv() {
        // Nobody waits any more for an answer that is dropped here: its caller passed the deadline and took a miss.
        match job {
            Job::Get(keys, reply) if !reply.is_closed() => {
                let get = |store: &mut O::Backend| keys.iter().map(|key| store.get(key)).collect();
                let _ = reply.send(guarded(opener, &mut store, &mut condemned, get));
            }
            Job::Put(entries, reply) if !reply.is_closed() => {
                let put = |store: &mut O::Backend| entries.iter().try_for_each(|(key, value)| store.put(key, value));
                let _ = reply.send(guarded(opener, &mut store, &mut condemned, put));
            }
            Job::Flush(reply) => {
                let _ = reply.send(guarded(opener, &mut store, &mut condemned, O::Backend::flush));
            }
            Job::Get(..) | Job::Put(..) => (),
        }
    }
    close(store);
}

/// Runs `operation` on the store, opening it first if need be. A store that fails is closed: the next operation, which the breaker lets
/// through when its time has come, opens it again.
fn guarded<O: Opener, T>(
    opener: &mut O,
    store: &mut Option<O::Backend>,
    condemned: &mut bool,
    operation: impl FnOnce(&mut O::Backend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    open(opener, store, condemned)?;
    let Some(opened) = store.as_mut() else { return Err(Failure::Gone) };
    let outcome = catch_unwind(AssertUnwindSafe(|| operation(opened)))
        .unwrap_or_else(|payload| Err(Failure::from_panic(payload.as_ref())));
    if let Err(failure) = &outcome {
        *condemned |= failure.condemns();
        close(store.take());
    }
    outcome
}

fn open<O: Opener>(opener: &mut O, store: &mut Option<O::Backend>, condemned: &mut bool) -> Result<(), Failure> {
    if store.is_none() {
        let opened = catch_unwind(AssertUnwindSafe(|| opener.open(*condemned)))
            .unwrap_or_else(|payload| Err(Failure::from_panic(payload.as_ref())))?;
        *condemned = false;
        *store = Some(opened);
    }
    Ok(())
}

/// Closing a damaged store may panic as well.
fn close<B: Backend>(store: Option<B>) {
    if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
        tracing::warn!("cache store panicked while closing");
    }
}
