//! Proofs on several scripted devices: they share one queue, and a fault stays with its batch.

use super::*;
use std::sync::Barrier;
use std::time::Instant;

/// Requests of four rows of four tokens; 16 tokens fill a batch of the tests here.
fn requests(count: u32) -> Vec<Passes> {
    (0..count).map(|n| single(vec![n + 2; 4])).collect()
}

fn scores(n: usize) -> Vec<f64> {
    vec![-(n as f64 + 2.0); 4]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_run_at_the_same_time_and_every_row_comes_back_once() {
    // The first batch of each device waits for that of the other: this ends only if both run at once.
    let barrier = Arc::new(Barrier::new(2));
    let script = || {
        let barrier = Arc::clone(&barrier);
        let mut first = true;
        let script: Script = Box::new(move |batch: &Batch| {
            if std::mem::take(&mut first) {
                barrier.wait();
            }
            Ok(honest(batch))
        });
        script
    };
    let engine = crew(vec![script(), script()], 16);
    for (n, outcome) in all(&engine, requests(40)).await.into_iter().enumerate() {
        assert_eq!(outcome.unwrap(), scores(n));
    }
    assert!(engine.work().iter().all(|one| one.passes > 0), "{:?}", engine.work());
    assert_eq!(engine.passes(), 40, "all batches are full");
    engine.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_too_little_memory_halves_its_own_batches() {
    let small = |batch: &Batch| match batch.rows > 1 || batch.ids.contains(&POISON) {
        true => Err(fails("out of memory")),
        false => Ok(honest(batch)),
    };
    let poison_alone = |batch: &Batch| match batch.ids.contains(&POISON) {
        true => Err(fails("out of memory")),
        false => Ok(honest(batch)),
    };
    let engine = crew(vec![Box::new(small), Box::new(poison_alone)], 16);
    let mut asked = requests(60);
    asked[17] = single(vec![666; 4]);
    for (n, outcome) in all(&engine, asked).await.into_iter().enumerate() {
        match outcome {
            Ok(found) => assert_eq!(found, scores(n)),
            Err(error) => assert!(n == 17 && matches!(error, Error::Row { memory: true, .. }), "{n}: {error}"),
        }
    }
    assert!(engine.gone().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_device_that_is_gone_ends_the_engine_with_its_reason() {
    let lost = |_: &Batch| Err(fails("device was reset"));
    let engine = crew(vec![Box::new(|batch: &Batch| Ok(honest(batch))), Box::new(lost)], 16);
    for (n, outcome) in all(&engine, requests(200)).await.into_iter().enumerate() {
        match outcome {
            Ok(found) => assert_eq!(found, scores(n)),
            Err(Error::Gone { why }) => assert!(why.contains("device was reset"), "{why}"),
            Err(error) => panic!("{error}"),
        }
    }
    // The other device may have done all of it alone: this one is gone once it has drawn something.
    let deadline = Instant::now() + Duration::from_secs(10);
    let refused = loop {
        match engine.score(single(vec![2])).await {
            Ok(_) => assert!(Instant::now() < deadline, "the lost device never drew a batch"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, Error::Gone { why } if why.contains("device was reset")), "{refused}");
    engine.close(Duration::from_secs(10)).await.unwrap();
}
