//! Owns which entries of the cache speak of given documents: the keys of their windows, for every score of the pipeline.
//!
//! Must not know: how a store is written.

use super::assemble::Scoring;
use super::failure::Failure;
use crate::cache::{Cache, Key};
use crate::cli::Exit;
use crate::config::Settings;
use crate::corpus::{Fault, Lane, Origin, Record};
use crate::decode::{Decoder, Format};
use crate::files::{self, LineReader};
use crate::telemetry::Progress;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

const CLOSE: Duration = Duration::from_secs(10);

/// Whose entries are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasure {
    /// One text, as a document's.
    Text(String),
    /// Documents in the pipeline's form, one a line.
    File(PathBuf),
    /// The same from standard input.
    Stdin,
}

/// The keys of `erasure`'s documents under the pipeline's models and settings, and how many lines hold no document. Loads the models, which takes
/// seconds; scores nothing.
///
/// # Errors
/// A model that can't be loaded, an input that can't be read, a text that the tokenizer refuses.
pub async fn keys_of(settings: &Settings, erasure: &Erasure) -> Result<(BTreeSet<Key>, u64), Failure> {
    let (texts, undecodable) = texts(settings, erasure).await?;
    let Scoring { scorers, models, .. } = Scoring::load(settings, &Cache::disabled()).await?;
    let mut keys = BTreeSet::new();
    for text in &texts {
        for scorer in &scorers {
            let refused = |fault: Fault| Failure::new(Exit::Input, format!("a text can't be tokenised: {fault}"));
            keys.extend(scorer.keys(text).await.map_err(refused)?);
        }
    }
    for (_, model) in &models {
        let _ = model.close(CLOSE).await;
    }
    Ok((keys, undecodable))
}

/// The texts that were scored, as decoding makes them.
async fn texts(settings: &Settings, erasure: &Erasure) -> Result<(Vec<String>, u64), Failure> {
    let mut document = settings.document.clone();
    if document.format.has_schemas() {
        // Such values are no lines; here they are JSON, to which the same pointers lead.
        document.format = Format::Json;
        document.registry = None;
    }
    let (reader, name): (Box<dyn BufRead>, String) = match erasure {
        Erasure::Text(text) => {
            document.format = Format::Text;
            let decoded = Decoder::new(&document)?.decode(&record(text.clone().into_bytes())).await;
            let decoded = decoded.map_err(|fault| Failure::new(Exit::Usage, format!("--text: {fault}")))?;
            return Ok((vec![decoded.text], 0));
        }
        Erasure::File(path) => (files::open(path, &Progress::default())?.reader, path.display().to_string()),
        Erasure::Stdin => (Box::new(BufReader::new(std::io::stdin())), "standard input".to_owned()),
    };
    let decoder = Decoder::new(&document)?;
    let mut lines = LineReader::new(reader, document.max_bytes);
    let (mut texts, mut undecodable) = (Vec::new(), 0);
    loop {
        let broken = |error| Failure::new(Exit::Input, format!("{name}: {}; nothing was erased", files::why(&error)));
        let Some(line) = lines.read().map_err(broken)? else { return Ok((texts, undecodable)) };
        if line.is_blank() {
            continue;
        }
        match decoder.decode(&record(line.bytes)).await {
            Ok(document) => texts.push(document.text),
            Err(_) => undecodable += 1,
        }
    }
}

fn record(value: Vec<u8>) -> Record {
    let origin = Origin { lane: Lane { topic: "erase".into(), partition: 0 }, offset: 0 };
    Record { origin, key: None, value: Some(value), timestamp_ms: None, headers: Vec::new(), defect: None }
}
