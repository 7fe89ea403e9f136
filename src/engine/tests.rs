//! Proofs on a scripted device: packing, blame, cancellation, backpressure, the end.

use super::batch::{Batch, Request};
use super::device::{Failure, Scored, Script};
use super::queue::{Budget, Queue};
use super::{Engine, Error, Passes, Reading, Vocabulary};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

mod several;

const MASK: u32 = 1;
/// A row that holds this id fails.
const POISON: i64 = 666;

fn vocabulary() -> Vocabulary {
    Vocabulary { mask_id: MASK, pad_id: 0, size: 1000, width: 1000, max_positions: 512 }
}

fn passes(ids: Vec<u32>, groups: Vec<Vec<u32>>) -> Passes {
    let mut passes = Passes::over(ids.into());
    groups.into_iter().for_each(|group| passes.mask(group));
    passes
}

/// One row for each token.
fn single(ids: Vec<u32>) -> Passes {
    let groups = (0..u32::try_from(ids.len()).unwrap()).map(|position| vec![position]).collect();
    passes(ids, groups)
}

/// What an honest device would say: each target's log p is minus its id.
fn honest(batch: &Batch) -> Scored {
    for target in &batch.targets {
        let at = target.row * batch.tokens + target.position;
        assert!(batch.ids[at] == i64::from(MASK) && batch.attention[at] == 1);
    }
    let readings = batch.targets.iter().map(|target| Reading::of(-(target.id as f64))).collect();
    Scored { readings, values: Vec::new(), spent: Duration::ZERO }
}

fn fails(why: &str) -> Failure {
    Failure { memory: why.contains("memory"), why: why.to_owned() }
}

fn engine(script: impl FnMut(&Batch) -> Result<Scored, Failure> + Send + 'static, budget: usize) -> Arc<Engine> {
    crew(vec![Box::new(script)], budget)
}

/// An engine with a device for each script.
fn crew(scripts: Vec<Script>, budget: usize) -> Arc<Engine> {
    Arc::new(Engine::scripted(scripts, vocabulary(), budget))
}

fn logprobs(readings: Vec<Reading>) -> Vec<f64> {
    readings.into_iter().map(|reading| reading.logprob).collect()
}

/// Scores many requests at once; outcomes by their index.
async fn all(engine: &Arc<Engine>, requests: Vec<Passes>) -> Vec<Result<Vec<f64>, Error>> {
    let mut running = JoinSet::new();
    for (at, request) in requests.into_iter().enumerate() {
        let engine = Arc::clone(engine);
        running.spawn(async move { (at, engine.score(request).await.map(logprobs)) });
    }
    let mut done: Vec<_> = running.join_all().await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test]
async fn scores_come_back_group_by_group() {
    let engine = engine(|batch| Ok(honest(batch)), 64);
    let scores = engine.score(passes(vec![10, 11, 12, 13], vec![vec![2, 0], vec![3]])).await.unwrap();
    assert_eq!(logprobs(scores), [-12.0, -10.0, -13.0]);
    assert!(engine.score(passes(vec![10], vec![])).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_request_is_refused_before_it_reaches_the_device() {
    let engine = engine(|_| panic!("not to be called"), 64);
    for wrong in [passes(vec![1; 513], vec![vec![0]]), passes(vec![1], vec![vec![1]])] {
        assert!(matches!(engine.score(wrong).await, Err(Error::Request { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poisonous_row_takes_only_its_own_request_down() {
    let device = |batch: &Batch| match batch.ids.contains(&POISON) {
        true => Err(fails("out of memory")),
        false => Ok(honest(batch)),
    };
    let engine = engine(device, 512);
    let requests =
        (0..40_u32).map(|n| single(if n == 17 { vec![666, 5] } else { vec![n + 2, n + 3, n + 4] })).collect();
    for (n, outcome) in all(&engine, requests).await.into_iter().enumerate() {
        let n = n as f64;
        match outcome {
            Ok(scores) => assert_eq!(scores, [-(n + 2.0), -(n + 3.0), -(n + 4.0)]),
            Err(Error::Row { memory, .. }) => assert!(memory && n as usize == 17),
            Err(error) => panic!("{error}"),
        }
    }
    let fault = crate::corpus::Fault::from(engine.score(single(vec![666, 5])).await.unwrap_err());
    assert_eq!(fault.class.as_str(), "device-memory");
    assert!(engine.gone().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_fails_its_probe_too_is_gone_and_blames_no_document() {
    let mut left = 2;
    let device = move |batch: &Batch| {
        left -= 1;
        if left >= 0 { Ok(honest(batch)) } else { Err(fails("device was reset")) }
    };
    let engine = engine(device, 8);
    for outcome in all(&engine, (0..20).map(|n| single(vec![n + 2; 4])).collect()).await {
        match outcome {
            Ok(_) => {}
            Err(Error::Gone { why }) => assert!(why.contains("device was reset"), "{why}"),
            Err(error) => panic!("{error}"),
        }
    }
    let fault = crate::corpus::Fault::from(engine.score(single(vec![2])).await.unwrap_err());
    assert_eq!(fault.class.as_str(), "engine-gone");
}

#[tokio::test]
async fn a_panic_on_the_device_thread_is_gone_and_hangs_nobody() {
    let engine = engine(|_| panic!("boom"), 64);
    assert!(matches!(engine.score(single(vec![2, 3])).await, Err(Error::Gone { why }) if why.contains("panicked")));
    engine.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_score_that_is_not_finite_is_the_rows_fault() {
    let device = |batch: &Batch| {
        let mut scored = honest(batch);
        for (reading, target) in scored.readings.iter_mut().zip(&batch.targets) {
            if target.id == 666 {
                reading.logprob = f64::NAN;
            }
        }
        Ok(scored)
    };
    let engine = engine(device, 64);
    assert!(matches!(engine.score(single(vec![5, 666])).await, Err(Error::Row { memory: false, .. })));
    assert!(engine.score(single(vec![5, 6])).await.is_ok());
}

/// A device that runs a batch only when told to, and tells how many rows it got.
fn gated() -> (Arc<Engine>, SyncSender<()>, Receiver<usize>) {
    let (go, gate) = sync_channel::<()>(100);
    let (tell, seen) = sync_channel(100);
    let gate = Mutex::new(gate);
    let device = move |batch: &Batch| {
        tell.send(batch.rows).unwrap();
        gate.lock().unwrap().recv().map_err(|_| fails("gate gone"))?;
        Ok(honest(batch))
    };
    (engine(device, 40), go, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_takes_its_rows_back() {
    let (engine, go, seen) = gated();
    let held = tokio::time::timeout(Duration::from_millis(100), engine.score(single(vec![2; 4])));
    assert!(held.await.is_err(), "its batch runs and waits at the gate");
    assert_eq!(seen.recv().unwrap(), 4);
    let dropped = tokio::time::timeout(Duration::from_millis(50), engine.score(single(vec![3; 10])));
    assert!(dropped.await.is_err());
    let rest = {
        let engine = Arc::clone(&engine);
        async move { engine.score(single(vec![4, 5])).await }
    };
    let mut running = JoinSet::new();
    running.spawn(rest);
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(logprobs(running.join_next().await.unwrap().unwrap().unwrap()), [-4.0, -5.0]);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [2], "only the request that is still awaited ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_runs_what_waits_and_refuses_what_comes() {
    let (engine, go, _seen) = gated();
    let mut running = JoinSet::new();
    for n in 0..5 {
        let engine = Arc::clone(&engine);
        running.spawn(async move { engine.score(single(vec![n + 2; 10])).await });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closing = {
        let engine = Arc::clone(&engine);
        async move { engine.close(Duration::from_secs(10)).await }
    };
    let mut close = JoinSet::new();
    close.spawn(closing);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(engine.score(single(vec![2])).await, Err(Error::Gone { .. })));
    (0..20).for_each(|_| go.send(()).unwrap());
    assert!(running.join_all().await.iter().all(Result::is_ok));
    close.join_next().await.unwrap().unwrap().unwrap();
    engine.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_gives_up_at_its_deadline_and_tells_those_who_wait() {
    let (engine, go, seen) = gated();
    let mut running = JoinSet::new();
    for _ in 0..3 {
        let engine = Arc::clone(&engine);
        running.spawn(async move { engine.score(single(vec![2; 10])).await });
    }
    assert_eq!(seen.recv().unwrap(), 4);
    let late = engine.close(Duration::from_millis(50)).await;
    assert!(matches!(late, Err(Error::CloseDeadline { .. })));
    go.send(()).unwrap();
    assert!(running.join_all().await.iter().all(|outcome| matches!(outcome, Err(Error::Gone { .. }))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_pushes_back_and_everybody_is_served() {
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let device = |batch: &Batch| {
        MOST.fetch_max(batch.rows * batch.tokens, Ordering::Relaxed);
        Ok(honest(batch))
    };
    let engine = engine(device, 2048);
    let requests: Vec<Passes> = (0..200_u32).map(|n| single(vec![n + 2; 100 + n as usize])).collect();
    assert!(requests.iter().map(Passes::count).sum::<usize>() > 8192, "more than may wait");
    for (n, outcome) in all(&engine, requests).await.into_iter().enumerate() {
        assert_eq!(outcome.unwrap(), vec![-(n as f64 + 2.0); 100 + n]);
    }
    assert!(MOST.load(Ordering::Relaxed) <= 2048);
}

pub(super) fn request(tokens: usize, rows: usize) -> Arc<Request> {
    let (reply, answer) = oneshot::channel();
    std::mem::forget(answer);
    let permits = Arc::new(Semaphore::new(1)).try_acquire_many_owned(0).unwrap();
    Arc::new(Request::new(passes(vec![5; tokens], vec![vec![0]; rows]), reply, permits))
}

fn tokens(tokens: usize) -> Budget {
    Budget { tokens, positions: usize::MAX, batch_cost: 20 }
}

/// Everything that waits, as batches of rows' lengths.
fn batches(queue: &mut Queue, budget: Budget) -> Vec<Vec<usize>> {
    let lengths = |rows: Vec<super::batch::Row>| rows.iter().map(super::batch::Row::tokens).collect();
    std::iter::from_fn(|| queue.take(budget).map(lengths)).collect()
}

/// Padded tokens, and what each batch costs by itself.
fn cost(batches: &[Vec<usize>], batch_cost: usize) -> usize {
    batches.iter().map(|rows| rows.len() * rows.iter().max().unwrap() + batch_cost).sum()
}

proptest! {
    #[test]
    fn every_row_is_handed_out_once_within_the_budget_and_the_oldest_first(
        sizes in prop::collection::vec((1_usize..60, 1_usize..12), 1..40),
        budget in 1_usize..400,
        positions in 1_usize..40,
        batch_cost in 0_usize..60,
    ) {
        let mut queue = Queue::default();
        let mut left = HashMap::new();
        for (tokens, rows) in &sizes {
            left.insert(queue.push(request(*tokens, *rows)), (*tokens, *rows));
        }
        let total: usize = sizes.iter().map(|(_, rows)| rows).sum();
        prop_assert_eq!(queue.rows(), total);
        let (mut handed_out, mut oldest) = (0, 0);
        while let Some(rows) = queue.take(Budget { tokens: budget, positions, batch_cost }) {
            let longest = rows.iter().map(super::batch::Row::tokens).max().unwrap();
            prop_assert!(rows.len() == 1 || rows.len() * longest <= budget && rows.len() <= positions);
            while left.get(&oldest).is_some_and(|(_, rows)| *rows == 0) { oldest += 1; }
            prop_assert_eq!(rows[0].tokens(), left[&oldest].0, "anchored on the oldest");
            for row in &rows {
                let ticket = *left.iter().filter(|(_, (tokens, rows))| *tokens == row.tokens() && *rows > 0)
                    .map(|(ticket, _)| ticket).min().unwrap();
                left.get_mut(&ticket).unwrap().1 -= 1;
            }
            handed_out += rows.len();
            prop_assert_eq!(queue.rows(), total - handed_out);
        }
        prop_assert_eq!(handed_out, total);
    }

    #[test]
    fn lengths_that_share_batches_are_never_dearer_than_batches_of_one_length_each(
        sizes in prop::collection::vec((1_usize..60, 1_usize..30), 1..40),
        budget in 1_usize..2000,
        batch_cost in 0_usize..200,
    ) {
        let filled = |batch_cost| {
            let mut queue = Queue::default();
            for (tokens, rows) in &sizes {
                queue.push(request(*tokens, *rows));
            }
            batches(&mut queue, Budget { tokens: budget, positions: usize::MAX, batch_cost })
        };
        let (shared, alone) = (filled(batch_cost), filled(0));
        prop_assert!(alone.iter().all(|rows| rows.iter().all(|tokens| *tokens == rows[0])));
        prop_assert!(cost(&shared, batch_cost) <= cost(&alone, batch_cost), "{:?} for {:?}", shared, alone);
    }
}

/// Six short sentences, `single`: what six lengths cost more than ready rows hung on whether they arrived one by one or together,
/// when a fifth of every batch might be padding.
#[test]
fn sentences_cost_the_same_whether_they_come_one_by_one_or_together() {
    let sentences = [10, 24, 13, 19, 16, 22];
    let arrive = |queue: &mut Queue, some: &[usize]| {
        for tokens in some {
            queue.push(request(*tokens, tokens - 2));
        }
    };
    let ideal: usize = sentences.iter().map(|tokens| tokens * (tokens - 2) + 20).sum();
    for before in 1..=sentences.len() {
        // The device takes what there is, and what has arrived meanwhile after that.
        let mut queue = Queue::default();
        arrive(&mut queue, &sentences[..before]);
        let mut made = batches(&mut queue, tokens(2048));
        arrive(&mut queue, &sentences[before..]);
        made.extend(batches(&mut queue, tokens(2048)));
        let cost = cost(&made, 20);
        assert!(cost <= ideal, "{cost} tokens, where batches of one length take {ideal}");
    }
}

#[test]
fn a_short_row_does_not_ride_in_a_long_batch() {
    let mut queue = Queue::default();
    queue.push(request(20, 3));
    queue.push(request(400, 3));
    queue.push(request(19, 2));
    assert_eq!(batches(&mut queue, tokens(4096)), [vec![20, 20, 20, 19, 19], vec![400; 3]]);
}

#[test]
fn withdrawn_rows_are_gone() {
    let mut queue = Queue::default();
    let (first, second) = (queue.push(request(10, 5)), queue.push(request(10, 3)));
    assert_eq!(queue.take(tokens(20)).unwrap().len(), 2);
    queue.withdraw(first);
    assert_eq!(queue.rows(), 3);
    queue.withdraw(first);
    queue.withdraw(second);
    assert!(queue.rows() == 0 && queue.take(tokens(20)).is_none());
}
