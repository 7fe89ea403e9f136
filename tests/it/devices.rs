//! A model on several devices: the same scores, every device at work, and devices that are not there.

use std::path::Path;
use std::sync::Arc;
use tamis::cache::Cache;
use tamis::corpus::{Document, SignalValue};
use tamis::engine::{self, HeadCheck, Needs};
use tamis::scorer::{Masking, Model, Scorer, Settings};
use tokio::task::JoinSet;

async fn model(device: &str, device_fallback: engine::Fallback) -> Result<Arc<Model>, tamis::scorer::Error> {
    let settings = engine::Settings {
        path: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-bert-wordpiece"),
        device: device.parse().unwrap(),
        device_fallback,
        head_check: HeadCheck::Warn,
        budget_tokens: 256,
        ..engine::Settings::default()
    };
    Model::load("tiny", &settings, Needs::default()).await.map(Arc::new)
}

/// The scores of sixty different texts, all asked for at once; in their order.
async fn scores(model: &Arc<Model>) -> Vec<f64> {
    let settings = Settings { masking: Masking::Single, window_tokens: 64, ..Settings::default() };
    let scorer = Arc::new(Scorer::build("pll", &settings, Arc::clone(model), Cache::disabled()).unwrap());
    let mut running = JoinSet::new();
    for number in 0..60 {
        let scorer = Arc::clone(&scorer);
        let text =
            format!("The {number} ships sailed to the north before the {} storms came.", number * 7 % 13).repeat(2);
        running.spawn(async move {
            let document = Document { id: None, text, language: None, source: None };
            let signals = scorer.score(&document).await.unwrap();
            (number, signals.get("pll.nll_token").and_then(SignalValue::as_number).unwrap())
        });
    }
    let mut found = running.join_all().await;
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, score)| score).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_devices_share_the_work_and_give_the_scores_of_one() {
    let (one, three) = (model("cpu", engine::Fallback::None), model("cpu,cpu,cpu", engine::Fallback::None));
    let (one, three) = (one.await.unwrap(), three.await.unwrap());
    // The check of the head at load has used the devices already.
    let before: Vec<u64> = three.engine().work().iter().map(|work| work.passes).collect();
    let (expected, found) = (scores(&one).await, scores(&three).await);
    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert!((expected - found).abs() < 1e-4, "text {number}: {found} on three devices, {expected} on one");
    }
    let work = three.engine().work();
    assert_eq!(work.iter().map(|one| one.device.as_str()).collect::<Vec<_>>(), ["cpu", "cpu#2", "cpu#3"]);
    for (work, before) in work.iter().zip(before) {
        assert!(work.passes > before && work.provider == "cpu" && !work.busy.is_zero(), "{work:?}");
    }
    assert_eq!(three.passes(), work.iter().map(|one| one.passes).sum::<u64>());
}

/// This machine has no such GPUs, or no library for them.
#[tokio::test]
async fn gpus_that_can_not_be_used_are_an_error_or_left_out_for_the_cpu() {
    let refused = model("cuda:4094,cuda:4095", engine::Fallback::None).await.err().unwrap().to_string();
    assert!(refused.contains("cuda:4094") && refused.contains("device_fallback"), "{refused}");
    let model = model("cuda:4094,cuda:4095", engine::Fallback::Cpu).await.unwrap();
    let work = model.engine().work();
    assert_eq!((work.len(), work[0].device.as_str(), work[0].provider), (1, "cpu", "cpu"));
    assert!(scores(&model).await.iter().all(|score| score.is_finite()));
}
