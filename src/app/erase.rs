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
    // Before a model is loaded for nothing.
    let mut texts = Texts::open(settings, erasure)?;
    let Scoring { scorers, models, .. } = Scoring::load(settings, &Cache::disabled()).await?;
    let (mut keys, mut undecodable) = (BTreeSet::new(), 0);
    while let Some(text) = texts.next().await? {
        let Some(text) = text else {
            undecodable += 1;
            continue;
        };
        for scorer in &scorers {
            let refused = |fault: Fault| Failure::new(Exit::Input, format!("a text can't be tokenised: {fault}"));
            keys.extend(scorer.keys(&text).await.map_err(refused)?);
        }
    }
    for (_, model) in &models {
        let _ = model.close(CLOSE).await;
    }
    Ok((keys, undecodable))
}

/// The texts that were scored, as decoding makes them; one at a time, for a file may be larger than memory.
struct Texts {
    decoder: Decoder,
    /// What is left of a text that was given itself.
    given: Option<String>,
    lines: Option<(LineReader<Box<dyn BufRead>>, String)>,
}

impl Texts {
    fn open(settings: &Settings, erasure: &Erasure) -> Result<Self, Failure> {
        let mut document = settings.document.clone().of_lines();
        let (reader, name): (Box<dyn BufRead>, String) = match erasure {
            Erasure::Text(text) => {
                document.format = Format::Text;
                return Ok(Self { decoder: Decoder::new(&document)?, given: Some(text.clone()), lines: None });
            }
            Erasure::File(path) => (files::open(path, &Progress::default())?.reader, path.display().to_string()),
            Erasure::Stdin => (Box::new(BufReader::new(std::io::stdin())), "standard input".to_owned()),
        };
        let lines = LineReader::new(reader, document.max_bytes);
        Ok(Self { decoder: Decoder::new(&document)?, given: None, lines: Some((lines, name)) })
    }

    /// The next text, `Some(None)` for a line that holds none.
    async fn next(&mut self) -> Result<Option<Option<String>>, Failure> {
        if let Some(text) = self.given.take() {
            let decoded = self.decoder.decode(&record(text.into_bytes())).await;
            let decoded = decoded.map_err(|fault| Failure::new(Exit::Usage, format!("--text: {fault}")))?;
            return Ok(Some(Some(decoded.text)));
        }
        let Some((lines, name)) = &mut self.lines else { return Ok(None) };
        let broken = |error| Failure::new(Exit::Input, format!("{name}: {}; nothing was erased", files::why(&error)));
        loop {
            let Some(line) = lines.read().map_err(&broken)? else { return Ok(None) };
            if !line.is_blank() {
                let decoded = self.decoder.decode(&record(line.bytes)).await;
                return Ok(Some(decoded.ok().map(|document| document.text)));
            }
        }
    }
}

fn record(value: Vec<u8>) -> Record {
    let origin = Origin { lane: Lane { topic: "erase".into(), partition: 0 }, offset: 0 };
    Record { origin, key: None, value: Some(value), timestamp_ms: None, headers: Vec::new(), defect: None }
}
