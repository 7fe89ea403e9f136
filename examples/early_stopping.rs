//! What stopping early saves and what it gets wrong, on losses that `examples/losses.rs` recorded; and the table of boundaries made of them.
//!
//! ```sh
//! cargo run --release --example early_stopping -- table 0.001 0.95 < strided.jsonl > stop-table.json
//! cargo run --release --example early_stopping -- calibrated 0.001 0.95 < strided.jsonl
//! cargo run --release --example early_stopping -- boundary 3.5 < strided.jsonl
//! cargo run --release --example early_stopping -- certified 0.001 < single.jsonl
//! cargo run --release --example early_stopping -- compare single.jsonl strided-7.jsonl unmasked.jsonl …
//! ```
//!
//! `calibrated` makes its table of every second document and tries it on the others; `boundary` tries one boundary on all. With a share behind them,
//! as in `calibrated 0.001 0.95 0.4`, the first so many documents make the table or the thresholds, and those that follow are tried: windows of one
//! text lie next to each other, and then are on the same side but for one text. Passes are run in an order drawn as the program draws it; those of whole
//! documents in the very order, with `stop_key` empty, a pass of each window at a time.
//! `certified` runs the certificate over every document. Thresholds are percentiles of the documents' own means. `compare` holds the first file's documents against the same documents in the others.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use tamis::scorer::{Certificate, Losses, Record, Table, upper_bound};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where thresholds lie among the documents.
const PERCENTILES: [usize; 7] = [5, 10, 25, 50, 75, 90, 95];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["table", rate, confidence] => {
            let recording = Recording::read(std::io::stdin())?;
            let table = Table::calibrate(&recording.scorer, &recording.records(), rate.parse()?, confidence.parse()?);
            println!("{}", serde_json::to_string_pretty(&table)?);
        }
        ["calibrated", rate, confidence, share @ ..] if share.len() < 2 => {
            let (rate, confidence, share) = (rate.parse()?, confidence.parse()?, share.first().copied());
            let recording = Recording::read(std::io::stdin())?;
            let (seen, unseen) = match share {
                Some(share) => parted(recording.records(), share)?,
                None => halves(&recording.records()),
            };
            calibrated(&recording.scorer, &seen, &unseen, rate, confidence);
        }
        ["boundary", boundary, share @ ..] if share.len() < 2 => {
            let (documents, boundary) = (Recording::read(std::io::stdin())?.records(), boundary.parse()?);
            let (seen, unseen) = match share.first() {
                Some(share) => parted(documents, share)?,
                None => (documents.clone(), documents),
            };
            tried(&seen, &unseen, |_| boundary);
        }
        ["certified", delta] => certified(&Recording::read(std::io::stdin())?, delta.parse()?),
        ["compare", exact, others @ ..] => {
            let exact = Recording::read(std::fs::File::open(exact)?)?;
            for other in others {
                compare(other, &exact, &Recording::read(std::fs::File::open(other)?)?);
            }
        }
        _ => {
            return Err(
                "usage: early_stopping table RATE CONFIDENCE, calibrated RATE CONFIDENCE [SHARE], boundary ERRORS [SHARE], certified DELTA, \
                 compare EXACT OTHER…"
                    .into(),
            );
        }
    }
    Ok(())
}

/// What `losses` wrote.
struct Recording {
    scorer: String,
    masking: String,
    /// Of each document, its windows; empty where only means were recorded.
    documents: Vec<Vec<Losses>>,
    /// Of each document: the mean loss, and the corrected one.
    means: Vec<(f64, Option<f64>)>,
}

impl Recording {
    fn read(from: impl Read) -> Result<Self, Failure> {
        let mut recording =
            Self { scorer: String::new(), masking: String::new(), documents: Vec::new(), means: Vec::new() };
        for line in BufReader::new(from).lines() {
            let value: Value = serde_json::from_str(&line?)?;
            if let (Some(scorer), Some(masking)) = (value["scorer"].as_str(), value["masking"].as_str()) {
                (recording.scorer, recording.masking) = (scorer.to_owned(), masking.to_owned());
            } else if let Some(aul) = value["aul"].as_f64() {
                recording.means.push((aul, value["aul_b"].as_f64()));
            } else {
                let number = u32::try_from(recording.documents.len())?;
                let document = windows(value, number)?;
                recording.means.push((mean(&flat(&document)), None));
                recording.documents.push(document);
            }
        }
        Ok(recording)
    }

    /// Documents as the program would see them.
    fn records(&self) -> Vec<Record> {
        let stride: usize = self.masking.split_once(':').and_then(|(_, stride)| stride.parse().ok()).unwrap_or(1);
        self.documents.iter().map(|document| Record::drawn(document, stride)).collect()
    }
}

/// The windows in a line: those of a whole document with their ids, or the one that is a document, whose number stands for its ids.
fn windows(mut line: Value, number: u32) -> Result<Vec<Losses>, Failure> {
    let (nll, ids) = (line["nll"].take(), line["ids"].take());
    if ids.is_null() {
        return Ok(vec![Losses { ids: vec![number], nll: serde_json::from_value(nll)? }]);
    }
    let (nll, ids): (Vec<Vec<f64>>, Vec<Vec<u32>>) = (serde_json::from_value(nll)?, serde_json::from_value(ids)?);
    Ok(ids.into_iter().zip(nll).map(|(ids, nll)| Losses { ids, nll }).collect())
}

/// The losses of all windows.
fn flat(document: &[Losses]) -> Vec<f64> {
    document.iter().flat_map(|window| window.nll.iter().copied()).collect()
}

/// Percentiles of `values`.
fn thresholds(mut values: Vec<f64>) -> Vec<(usize, f64)> {
    values.sort_by(f64::total_cmp);
    PERCENTILES.iter().filter_map(|percent| Some((*percent, *values.get(values.len() * percent / 100)?))).collect()
}

/// The first `share` of the documents, and the others.
fn parted(mut documents: Vec<Record>, share: &str) -> Result<(Vec<Record>, Vec<Record>), Failure> {
    let share: f64 = share.parse()?;
    if !(share > 0.0 && share < 1.0) {
        return Err(format!("{share} is no share of documents: give one above 0 and below 1, as in 0.4").into());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
    let unseen = documents.split_off((documents.len() as f64 * share) as usize);
    Ok((documents, unseen))
}

/// Every second document, and the others.
fn halves(documents: &[Record]) -> (Vec<Record>, Vec<Record>) {
    let half = |odd| documents.iter().skip(odd).step_by(2).cloned().collect();
    (half(0), half(1))
}

fn calibrated(scorer: &str, seen: &[Record], unseen: &[Record], rate: f64, confidence: f64) {
    let table = Table::calibrate(scorer, seen, rate, confidence);
    println!("{} documents to calibrate, {} to try; strata {:?}", seen.len(), unseen.len(), table.strata);
    tried(seen, unseen, |tokens| table.boundary(tokens).map_or(f64::INFINITY, |(_, boundary)| boundary));
}

/// Prints how `unseen` fare at thresholds that are percentiles of `seen`, with the boundary for their length.
fn tried(seen: &[Record], unseen: &[Record], boundary: impl Fn(usize) -> f64) {
    println!(
        "| threshold | passes a verdict | rows of exact PLL for one of ours | flips | at most (95%) |\n|---|--:|--:|--:|--:|"
    );
    let (mut passes_all, mut exact_all, mut flips_all, mut trials) = (0, 0, 0, 0);
    for (percent, threshold) in thresholds(seen.iter().map(Record::mean).collect()) {
        let (mut passes, mut exact, mut flips) = (0, 0, 0);
        for document in unseen {
            let tokens = document.tokens();
            let tried = document.trial(threshold, boundary(tokens));
            (passes, exact, flips) = (passes + tried.passes, exact + tokens, flips + usize::from(tried.flipped));
        }
        row(&format!("{percent}th percentile, {threshold:.2}"), unseen.len(), passes, exact, flips);
        (passes_all, exact_all) = (passes_all + passes, exact_all + exact);
        (flips_all, trials) = (flips_all + flips, trials + unseen.len());
    }
    row("all of these", trials, passes_all, exact_all, flips_all);
}

fn row(name: &str, documents: usize, passes: usize, exact: usize, flips: usize) {
    let bound = upper_bound(flips, documents, 0.975);
    println!(
        "| {name} | {:.2} | {:.1} | {flips} of {documents} | {:.3}% |",
        passes as f64 / documents as f64,
        exact as f64 / passes as f64,
        100.0 * bound
    );
}

fn certified(recording: &Recording, delta: f64) {
    println!("{} documents, delta {delta}", recording.documents.len());
    println!("| clip, nats | threshold | of the tokens looked at | decided early | flips |\n|---|---|--:|--:|--:|");
    for clip in [None, Some(8.0), Some(10.0), Some(12.0)] {
        let clipped = |document: &Vec<Losses>| -> Vec<f64> {
            flat(document).into_iter().map(|loss| clip.map_or(loss, |clip| loss.min(clip))).collect()
        };
        let documents: Vec<Vec<f64>> = recording.documents.iter().map(clipped).collect();
        for (percent, threshold) in thresholds(documents.iter().map(|losses| mean(losses)).collect()) {
            // Between two documents, so that none lies on it.
            let threshold = threshold + 1e-7;
            let (mut looked, mut tokens, mut early, mut flips) = (0, 0, 0, 0);
            for (number, losses) in documents.iter().enumerate() {
                let edge = threshold * losses.len() as f64;
                let (cell, seen) = run(losses, edge, clip, delta, number as u64);
                let above = losses.iter().sum::<f64>() > edge;
                (looked, tokens) = (looked + seen, tokens + losses.len());
                if seen < losses.len() {
                    early += 1;
                    flips += usize::from(cell != Some(above));
                }
            }
            println!(
                "| {} | {percent}th percentile, {threshold:.2} | {:.1}% | {:.1}% | {flips} |",
                clip.map_or("none".to_owned(), |clip| clip.to_string()),
                100.0 * looked as f64 / tokens as f64,
                100.0 * early as f64 / documents.len() as f64
            );
        }
    }
}

/// Whether the sum seems to be above the edge, and how many losses that took. The order is a Fisher–Yates shuffle by splitmix64.
fn run(losses: &[f64], edge: f64, clip: Option<f64>, delta: f64, seed: u64) -> (Option<bool>, usize) {
    let mut state = seed;
    let mut left = losses.to_vec();
    let mut certificate = Certificate::new(&[edge], losses.len(), clip, delta);
    while let Some(cell) = Some(certificate.cell()).filter(|_| !left.is_empty()) {
        if let Some(cell) = cell {
            return (Some(cell.above.is_some()), losses.len() - left.len());
        }
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = usize::try_from((mixed ^ (mixed >> 31)) % left.len() as u64).unwrap_or(0);
        certificate.reveal(left.swap_remove(drawn));
    }
    (certificate.cell().map(|cell| cell.above.is_some()), losses.len())
}

fn compare(name: &str, exact: &Recording, other: &Recording) {
    let count = exact.means.len().min(other.means.len());
    let one: Vec<f64> = exact.means[..count].iter().map(|(mean, _)| *mean).collect();
    for (what, pick) in [("", 0), (" corrected", 1)] {
        let value = |means: &(f64, Option<f64>)| if pick == 0 { Some(means.0) } else { means.1 };
        let Some(two) = other.means[..count].iter().map(value).collect::<Option<Vec<f64>>>() else { continue };
        let shifts: Vec<f64> = one.iter().zip(&two).map(|(one, two)| two - one).collect();
        let (cut, own) = (median(&one), median(&two));
        let other_side = |cut_two: f64| {
            let apart = one.iter().zip(&two).filter(|(one, two)| (**one > cut) != (**two > cut_two)).count();
            100.0 * apart as f64 / count as f64
        };
        println!(
            "| {name}{what} | {count} | {:.4} | {:.4} | {:+.3} ({:.3}) | {:.1}% | {:.1}% |",
            pearson(&one, &two),
            pearson(&ranks(&one), &ranks(&two)),
            mean(&shifts),
            (pearson_parts(&shifts, &shifts) / (count as f64 - 1.0)).sqrt(),
            other_side(cut),
            other_side(own)
        );
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn pearson_parts(one: &[f64], two: &[f64]) -> f64 {
    let (a, b) = (mean(one), mean(two));
    one.iter().zip(two).map(|(x, y)| (x - a) * (y - b)).sum()
}

fn pearson(one: &[f64], two: &[f64]) -> f64 {
    pearson_parts(one, two) / (pearson_parts(one, one) * pearson_parts(two, two)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    order.iter().enumerate().for_each(|(rank, at)| ranks[*at] = rank as f64);
    ranks
}
