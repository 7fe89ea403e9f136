//! Owns the measurement of a model's two heads, hoisted or full: tokens a second, the memory's peak, and how long the device stood idle.
//!
//! `cargo run --release --example head -- models/tamis-en hoisted strided 2`: the model's directory, the head, the masking
//! (`single` or `strided`), threads, and the seconds to measure if not ten. One head a process, so that the peak is its own.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamis::engine::{Device, Engine, Export, Needs, Passes, Settings, Vocabulary};
use tamis::graph;
use tamis::tokenize::Tokenizer;
use tokio::task::JoinSet;

/// Tokens of every row, its two special ones included, as in windows of the default length.
const TOKENS: u32 = 130;
const STRIDE: usize = 7;
/// Rows are scored for about this long if nothing else is said, after a warm-up of a fifth of it.
const SECONDS: &str = "10";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, head, masking, threads, seconds) = match arguments.as_slice() {
        [path, head, masking, threads] => (path, head, masking, threads, SECONDS),
        [path, head, masking, threads, seconds] => (path, head, masking, threads, seconds.as_str()),
        _ => return Err("usage: head MODEL hoisted|full single|strided THREADS [SECONDS]".into()),
    };
    let time = Duration::from_secs(seconds.parse()?);
    let hoisted = head == "hoisted";
    let engine = Arc::new(load(Path::new(path), hoisted, threads.parse()?)?);
    let loaded = peak_mib()?;
    run(&engine, masking, time / 5).await?;
    let (before, busy_before) = (processor_seconds()?, busy(&engine));
    let (rows, spent) = run(&engine, masking, time).await?;
    let busy = (busy(&engine) - busy_before).as_secs_f64() / spent.as_secs_f64();
    let tokens = f64::from(rows * TOKENS);
    println!(
        "{} {masking}, {threads} threads: {:.0} row tokens/s, {:.0} a second of processor time, peak {} MiB ({loaded} loading), device idle {:.2} %",
        engine.head(),
        tokens / spent.as_secs_f64(),
        tokens / (processor_seconds()? - before),
        peak_mib()?,
        100.0 * (1.0 - busy)
    );
    Ok(())
}

fn load(path: &Path, hoisted: bool, threads: usize) -> Result<Engine, Failure> {
    let tokenizer = Tokenizer::load(path)?;
    let vocabulary = Vocabulary {
        mask_id: tokenizer.mask_id(),
        pad_id: tokenizer.pad_id(),
        size: tokenizer.vocab_size(),
        width: tokenizer.config_vocab_size().unwrap_or(0).max(tokenizer.vocab_size()),
        max_positions: tokenizer.max_positions(),
    };
    let settings = Settings { path: path.to_owned(), device: Device::Cpu.into(), threads, ..Settings::default() };
    let rewrite = move |bytes| match hoisted {
        true => graph::rewrite(bytes, graph::Outputs::default(), &graph::Weights::Within)
            .map(|rewritten| rewritten.bytes)
            .map_err(|error| error.to_string()),
        false => Err("full logits are wanted".to_owned()),
    };
    let (weights, fuse) = (Vec::new(), unfused);
    let export = Export { weights, tolerance_nats: 1e-4, leaps: false, converted_nats: None, rewrite, fuse };
    let engine = Engine::load(&settings, vocabulary, Needs::default(), export)?;
    match (engine.head() == "hoisted") == hoisted {
        true => Ok(engine),
        false => Err("the model's head can't be hoisted".into()),
    }
}

/// Scores windows, a few at once, until `time` is over. Rows, and the time that they really took.
async fn run(engine: &Arc<Engine>, masking: &str, time: Duration) -> Result<(u32, Duration), Failure> {
    let (start, mut rows, mut running) = (Instant::now(), 0, JoinSet::new());
    while start.elapsed() < time || !running.is_empty() {
        while running.len() < 8 && start.elapsed() < time {
            let (engine, passes) = (Arc::clone(engine), window(masking));
            running.spawn(async move { (passes.count(), engine.score(passes).await) });
        }
        if let Some(scored) = running.join_next().await {
            let (groups, scores) = scored?;
            scores?;
            rows += u32::try_from(groups)?;
        }
    }
    Ok((rows, start.elapsed()))
}

/// A window of arbitrary ids; which ones makes no difference to the time. `single` is cut to as many rows as `strided` has.
fn window(masking: &str) -> Passes {
    let ids: Vec<u32> = (0..TOKENS).map(|position| 5 + position * 7 % 300).collect();
    let content = 1..TOKENS - 1;
    let mut passes = Passes::over(ids.into());
    match masking {
        "single" => content.take(STRIDE).for_each(|position| passes.mask([position])),
        _ => (0..STRIDE).for_each(|group| passes.mask(content.clone().skip(group).step_by(STRIDE))),
    }
    passes
}

/// Time inside the device's run.
fn busy(engine: &Engine) -> Duration {
    engine.work().iter().map(|device| device.busy).sum()
}

/// Processor time that this process has taken: what it does not lose to its neighbours. In ticks of 10 ms.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// The most memory that this process has held, MiB.
fn peak_mib() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? / 1024)
}

/// Attention is plain on the CPU: nobody asks.
fn unfused(_: &[u8]) -> Result<(Vec<u8>, usize), String> {
    Err("it is not asked for".to_owned())
}
