//! Every masking and the bound against an independent brute force (tools/reference/scores.py), and what holds of them by definition.
//! On tiny random models, through ONNX Runtime; on published models where a person has put them.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tamis::cache::Cache;
use tamis::corpus::{Document, SignalValue, Signals};
use tamis::engine::{self, HeadCheck, Needs, Passes};
use tamis::scorer::{Extra, Masking, Model, NelboSettings, Scorer, Settings, WordsBy};

/// Nats a token.
const TOLERANCE: f64 = 1e-4;
const ALL: Needs = Needs { ranks: true, odds: true };
const BERT: &str = "tiny-bert-wordpiece";
const EXTRA: [Extra; 4] = [Extra::LogRank, Extra::Lrr, Extra::Entropy, Extra::ArgmaxGap];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled model or a fixture, by name.
fn fixture(name: &str) -> PathBuf {
    let models = if name == "tamis-en" { "models" } else { "tests/fixtures/models" };
    root().join(models).join(name)
}

async fn load(path: PathBuf, needs: Needs) -> Arc<Model> {
    let settings = engine::Settings {
        path,
        device: engine::Device::Cpu.into(),
        head_check: HeadCheck::Warn,
        threads: 1,
        ..engine::Settings::default()
    };
    Arc::new(Model::load("tiny", &settings, needs).await.unwrap())
}

fn build(settings: &Settings, model: &Arc<Model>) -> Scorer {
    Scorer::build("s", settings, Arc::clone(model), Cache::disabled()).unwrap()
}

fn masked(masking: Masking) -> Settings {
    Settings { masking, window_tokens: 24, ..Settings::default() }
}

async fn signals(scorer: &Scorer, text: &str) -> Signals {
    let document = Document { id: None, text: text.to_owned(), language: None, source: None };
    scorer.score(&document).await.unwrap()
}

fn number(signals: &Signals, tail: &str) -> Option<f64> {
    signals.get(&format!("s.{tail}")).and_then(SignalValue::as_number)
}

/// One case of tools/reference/scores.py.
#[derive(serde::Deserialize)]
struct Golden {
    model: String,
    text: String,
    settings: Map<String, Value>,
    /// In token order, of a pseudo-log-likelihood; absent where no pass scores the token.
    nll: Vec<Option<f64>>,
    signals: BTreeMap<String, f64>,
}

impl Golden {
    /// The scorer that the case is about, with every signal that it can have.
    fn scorer(&self, model: &Arc<Model>) -> Scorer {
        let mut settings = self.settings.clone();
        if settings.remove("kind").is_some() {
            let settings: NelboSettings = serde_json::from_value(Value::Object(settings)).unwrap();
            return Scorer::nelbo("s", &settings, Arc::clone(model), Cache::disabled()).unwrap();
        }
        settings.insert("corrected".to_owned(), Value::Bool(settings["masking"] == "unmasked"));
        let settings: Settings = serde_json::from_value(Value::Object(settings)).unwrap();
        build(&Settings { extra: EXTRA.to_vec(), ..settings }, model)
    }

    /// Checks each signal that the reference has; numbers a token to the tolerance, others as far as that moves them.
    fn check(&self, found: &Signals) {
        let of = |tail: &str| number(found, tail);
        let per_token = self.signals.get("nll_token").or(self.signals.get("nelbo_token"));
        for (tail, expected) in self.signals.iter().filter(|(tail, _)| !tail.starts_with("log_rank")) {
            let ours = of(tail).unwrap_or_else(|| panic!("{} {:?}: no {tail}", self.model, self.text));
            let scale = match tail.as_str() {
                "nll_word" | "bpb" => expected / per_token.unwrap(),
                _ => 1.0,
            };
            let off = (ours - expected).abs();
            assert!(
                off <= TOLERANCE * scale,
                "{} {:?} {:?} {tail}: {ours}, not {expected}",
                self.model,
                self.text,
                self.settings
            );
        }
        if let (Some(low), Some(high)) = (self.signals.get("log_rank_low"), self.signals.get("log_rank_high")) {
            let ours = of("log_rank").unwrap();
            assert!(
                ours >= low - 1e-6 && ours <= high + 1e-6,
                "{} {:?}: {ours} is not in {low}..{high}",
                self.model,
                self.text
            );
            let ratio = of("nll_token").unwrap() / ours.max(1e-3);
            match of("lrr") {
                Some(lrr) => assert!((lrr - ratio).abs() <= 1e-9 * ratio.abs()),
                None => assert_eq!(ours, 0.0),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_masking_scores_as_the_brute_force_says() {
    let bytes = std::fs::read(root().join("tests/goldens/scores.json")).unwrap();
    let goldens: Vec<Golden> = serde_json::from_slice(&bytes).unwrap();
    let names: BTreeSet<&str> = goldens.iter().map(|golden| golden.model.as_str()).collect();
    assert!(names.len() >= 4 && goldens.len() > 1000, "{names:?}");
    let (mut tokens, mut worst) = (0, 0.0_f64);
    for name in names {
        let model = load(fixture(name), ALL).await;
        for golden in goldens.iter().filter(|golden| golden.model == name) {
            let scorer = golden.scorer(&model);
            golden.check(&signals(&scorer, &golden.text).await);
            if golden.settings.contains_key("kind") {
                continue;
            }
            let found = scorer.surprisals(&golden.text).await.unwrap();
            let expected: Vec<f64> = golden.nll.iter().flatten().copied().collect();
            assert_eq!(found.len(), expected.len(), "{name} {:?}", golden.text);
            for (token, nll) in found.iter().zip(&expected) {
                let off = (token.nll - nll).abs();
                assert!(off <= TOLERANCE, "{name} {:?} {:?}: {token:?} is not {nll}", golden.text, golden.settings);
                worst = worst.max(off);
            }
            tokens += found.len();
        }
    }
    println!("{tokens} tokens in {} cases; largest difference: {worst:.1e} nats", goldens.len());
}

#[tokio::test]
async fn a_sample_of_everything_is_the_exact_score() {
    let model = load(fixture(BERT), Needs::default()).await;
    let text = "the work of the people was long, and they had to find water";
    let all = Settings { sample_tokens: Some(24), ..masked(Masking::Sampled) };
    let (sampled, single) =
        (signals(&build(&all, &model), text).await, signals(&build(&masked(Masking::Single), &model), text).await);
    let (ours, exact) = (number(&sampled, "nll_token").unwrap(), number(&single, "nll_token").unwrap());
    assert!((ours - exact).abs() < TOLERANCE, "{ours} is not {exact}");
    assert_eq!(number(&sampled, "stderr"), Some(0.0));
    assert_eq!(number(&single, "stderr"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mean_of_the_bound_over_seeds_is_that_over_all_masks() {
    let model = load(fixture(BERT), Needs::default()).await;
    let tokenizer = model.tokenizer();
    let text = "they had water.";
    let content = tokenizer.encode(text).unwrap().ids;
    let count = u32::try_from(content.len()).unwrap();
    assert!((3..=8).contains(&count));
    let (before, after) = tokenizer.template();
    let mut passes = Passes::over([before, &content, after].concat().into());
    let sets: Vec<Vec<u32>> =
        (1..1_u32 << count).map(|set| (0..count).filter(|rank| set >> rank & 1 == 1).collect()).collect();
    for set in &sets {
        passes.mask(set.iter().map(|rank| rank + u32::try_from(before.len()).unwrap()));
    }
    let mut readings = model.engine().score(passes).await.unwrap().into_iter();
    let mut by_size = vec![(0.0, 0.0); content.len() + 1];
    for set in &sets {
        let sum: f64 = readings.by_ref().take(set.len()).map(|reading| -reading.logprob).sum();
        by_size[set.len()].0 += sum / set.len() as f64;
        by_size[set.len()].1 += 1.0;
    }
    let exact = by_size[1..].iter().map(|(sum, masks)| sum / masks).sum::<f64>() / f64::from(count);
    let mut estimates = Vec::new();
    for seed in 0..400 {
        let settings = NelboSettings { draws: 4, seed, ..NelboSettings::default() };
        let scorer = Scorer::nelbo("s", &settings, Arc::clone(&model), Cache::disabled()).unwrap();
        estimates.push(number(&signals(&scorer, text).await, "nelbo_token").unwrap());
    }
    let mean = estimates.iter().sum::<f64>() / 400.0;
    let variance = estimates.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 399.0;
    let error = (variance / 400.0).sqrt();
    println!("exact {exact:.4}, mean of 400 seeds {mean:.4} with a standard error of {error:.4}");
    assert!(error > 0.0 && (mean - exact).abs() < 5.0 * error, "{mean} with an error of {error} is not {exact}");
}

#[tokio::test]
async fn equal_ids_of_different_words_do_not_share_a_cached_score() {
    let model = load(fixture(BERT), Needs::default()).await;
    let cache = Cache::memory(100);
    let settings = masked(Masking::WholeWord);
    let cached = Scorer::build("s", &settings, Arc::clone(&model), cache).unwrap();
    let (one, two) = ("they don't find water", "they don ' t find water");
    assert_eq!(model.tokenizer().encode(one).unwrap().ids, model.tokenizer().encode(two).unwrap().ids);
    let mut seen = Vec::new();
    for text in [one, two] {
        let expected = number(&signals(&build(&settings, &model), text).await, "nll_token");
        assert_eq!(number(&signals(&cached, text).await, "nll_token"), expected);
        seen.push(expected);
    }
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn tables_that_ask_for_one_score_run_its_passes_once() {
    let model = load(fixture(BERT), ALL).await;
    let cache = Cache::memory(100);
    let named =
        |name: &str, settings: &Settings| Scorer::build(name, settings, Arc::clone(&model), cache.clone()).unwrap();
    let plain = masked(Masking::Strided);
    let more = Settings { extra: vec![Extra::Entropy], ..plain.clone() };
    let mut both = named("s", &plain);
    assert!(both.absorb(named("t", &more)).is_none());
    assert!(both.absorb(named("u", &masked(Masking::Single))).is_some(), "another score");
    let nelbo = Scorer::nelbo("v", &NelboSettings::default(), Arc::clone(&model), cache.clone()).unwrap();
    assert!(both.absorb(nelbo).is_some());
    let text = "the work of the people";
    let first = signals(&both, text).await;
    let name_of = |tail: &str| first.get(tail).and_then(SignalValue::as_number);
    assert_eq!(name_of("s.nll_token"), name_of("t.nll_token"));
    assert!(name_of("t.entropy").is_some() && name_of("s.entropy").is_none());
    model.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(signals(&both, text).await, first, "bit for bit, without a pass");
    let less = signals(&named("s", &plain), text).await;
    assert_eq!(number(&less, "nll_token"), name_of("s.nll_token"), "what holds more than is needed will do");
    let ranked = Settings { extra: vec![Extra::LogRank], ..masked(Masking::Single) };
    let document = Document { id: None, text: text.to_owned(), language: None, source: None };
    assert!(named("s", &ranked).score(&document).await.is_err(), "nothing was kept of this one");
}

#[tokio::test]
async fn every_parameter_of_a_score_is_part_of_its_identity_and_what_is_read_besides_is_not() {
    let model = load(fixture(BERT), ALL).await;
    let corrected = Settings { corrected: true, ..masked(Masking::Unmasked) };
    let different = [
        masked(Masking::Single),
        Settings { window_tokens: 25, ..masked(Masking::Single) },
        masked(Masking::Strided),
        Settings { stride: Some(5), ..masked(Masking::Strided) },
        masked(Masking::WordL2r),
        Settings { words: Some(WordsBy::Tokenizer), ..masked(Masking::WordL2r) },
        masked(Masking::WholeWord),
        masked(Masking::Sampled),
        Settings { sample_tokens: Some(5), ..masked(Masking::Sampled) },
        Settings { seed: Some(5), ..masked(Masking::Sampled) },
        masked(Masking::Unmasked),
        corrected.clone(),
        Settings { keep_rate: Some(0.2), ..corrected },
    ];
    let mut seen: BTreeSet<String> =
        different.iter().map(|settings| build(settings, &model).identity().to_owned()).collect();
    for settings in [NelboSettings::default(), NelboSettings { seed: 1, ..NelboSettings::default() }] {
        let scorer = Scorer::nelbo("s", &settings, Arc::clone(&model), Cache::disabled()).unwrap();
        seen.insert(scorer.identity().to_owned());
    }
    assert_eq!(seen.len(), different.len() + 2);
    let given = Settings { stride: Some(7), ..masked(Masking::Strided) };
    assert!(seen.contains(build(&given, &model).identity()), "the default, written out");
    let more = Settings { extra: EXTRA.to_vec(), ..masked(Masking::Single) };
    assert!(seen.contains(build(&more, &model).identity()));
}

#[tokio::test]
async fn a_document_gets_the_signals_that_were_announced() {
    let model = load(fixture(BERT), ALL).await;
    for masking in [Masking::WordL2r, Masking::Sampled, Masking::Unmasked] {
        let corrected = masking == Masking::Unmasked;
        let settings = Settings { extra: EXTRA.to_vec(), corrected, ..masked(masking) };
        let scorer = build(&settings, &model);
        let mut announced: Vec<String> = scorer.signal_names().iter().map(ToString::to_string).collect();
        let tails: Vec<String> = settings.signal_tails().iter().map(|tail| format!("s.{tail}")).collect();
        assert_eq!(announced, tails);
        announced.sort();
        let found = signals(&scorer, "the work of the people was long").await;
        assert_eq!(found.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), announced);
        let nothing = signals(&scorer, " ").await;
        assert_eq!(nothing.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["s.tokens", "s.windows"]);
    }
}

#[tokio::test]
async fn a_score_that_the_model_was_not_loaded_for_is_refused() {
    let model = load(fixture(BERT), Needs::default()).await;
    let ranked = Settings { extra: vec![Extra::Lrr], ..masked(Masking::Single) };
    let corrected = Settings { corrected: true, ..masked(Masking::Unmasked) };
    for (settings, key) in [(ranked, "extra"), (corrected, "corrected")] {
        let error = Scorer::build("s", &settings, Arc::clone(&model), Cache::disabled()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("signals.s.{key}: ")), "{error}");
    }
}

/// A published score: the model, the text, the masking, log-probabilities of its tokens or their sum.
struct Published(&'static str, &'static str, Masking, &'static [f64]);

/// Sources: README and tests/test_scorers.py of awslabs/mlm-scoring, README of minicons, the notebooks of better-mlm-scoring.
const PUBLISHED: [Published; 10] = [
    Published("bert-base-cased", "Hello world!", Masking::Single, &[-6.126_738_548, -5.501_765_728, -0.782_496_989]),
    Published("albert-base-v2", "Hello world!", Masking::Single, &[-16.480_087, -12.897_506, -4.277_406]),
    Published("distilbert-base-cased", "Hello world!", Masking::Single, &[-5.187_490, -6.390_862, -3.822_556]),
    Published("bert-base-uncased", "I am Sam.", Masking::Single, &[-13.306_594_7]),
    Published("bert-base-uncased", "The keys to the cabinet are on the table.", Masking::Single, &[-13.962_686]),
    Published("bert-base-uncased", "The traveler lost the souvenir.", Masking::Single, &[-18.014_726]),
    Published("bert-base-uncased", "The traveler lost the souvenir.", Masking::WordL2r, &[-32.779_836]),
    Published("bert-base-cased", "The raider caught the illness.", Masking::Single, &[-25.308_203]),
    Published("bert-base-cased", "The marauder contracted the disease.", Masking::Single, &[-6.191_896]),
    Published("bert-base-cased", "The illness caught the raider.", Masking::Single, &[-28.228_867]),
];

#[tokio::test]
async fn published_models_score_as_published() {
    let mut not_run = Vec::new();
    let dir = std::env::var_os("TAMIS_MODEL_DIR").map(PathBuf::from);
    let names: BTreeSet<&str> = PUBLISHED.iter().map(|published| published.0).collect();
    for name in names {
        let Some(path) = dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.join("model.onnx").exists()) else {
            not_run.push(name);
            continue;
        };
        let model = load(path, Needs::default()).await;
        for Published(_, text, masking, expected) in PUBLISHED.iter().filter(|published| published.0 == name) {
            let words = (*masking == Masking::WordL2r).then_some(WordsBy::Tokenizer);
            let scorer = build(&Settings { words, ..masked(*masking) }, &model);
            let tokens: Vec<f64> = scorer.surprisals(text).await.unwrap().iter().map(|token| -token.nll).collect();
            let found = if expected.len() == 1 { vec![tokens.iter().sum()] } else { tokens.clone() };
            println!("{name} {text:?} {masking:?}: {found:?}, published {expected:?}");
            assert_eq!(found.len(), expected.len());
            for (ours, theirs) in found.iter().zip(*expected) {
                let tolerance = 1e-3 * if expected.len() == 1 { tokens.len() as f64 } else { 1.0 };
                assert!((ours - theirs).abs() <= tolerance, "{name} {text:?}: {ours}, not {theirs}");
            }
        }
    }
    if !not_run.is_empty() {
        // Written past the test harness, which swallows what a passing test prints.
        let told = format!(
            "*** NOT RUN: the published scores of {} models of 4 ({}). Set TAMIS_MODEL_DIR to a folder that holds their exports, \
             each in a folder of its name.\n",
            not_run.len(),
            not_run.join(", ")
        );
        std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
    }
}
