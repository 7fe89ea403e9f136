//! Owns a loaded model: its tokenizer and its engine, checked against each other.

use super::{Error, health};
use crate::engine::{self, Engine, HeadCheck, Vocabulary};
use crate::graph;
use crate::telemetry::metrics;
use crate::tokenize::{self, Encoding, Tokenizer, windows};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use unicode_segmentation::UnicodeSegmentation;

/// Longer texts are tokenised on the blocking pool, shorter ones where they are: 16 KiB take a few milliseconds.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// A model that several scorers may share.
pub struct Model {
    name: String,
    tokenizer: Arc<Tokenizer>,
    engine: Engine,
    /// Bounds the texts that are tokenised at once on the blocking pool.
    cores: Arc<Semaphore>,
}

/// A text, tokenised and cut.
pub(super) struct Prepared {
    pub(super) encoding: Encoding,
    pub(super) windows: Vec<Range<usize>>,
    /// UAX #29 segments that hold an alphanumeric.
    pub(super) words: usize,
}

impl Model {
    /// Loads tokenizer and engine, checks that they belong together and that the masked-LM head makes sense. `name` is that of
    /// the `[models.X]` table. Takes seconds; the blocking parts run on the blocking pool.
    ///
    /// # Errors
    /// A part can't be loaded, they don't fit each other, or the head fails its check and `head_check` is `refuse`.
    pub async fn load(name: &str, settings: &engine::Settings) -> Result<Self, Error> {
        let (owned_name, owned) = (name.to_owned(), settings.clone());
        let model = tokio::task::spawn_blocking(move || Self::load_parts(owned_name, &owned)).await??;
        match (health::check(&model).await, settings.head_check) {
            (Ok(()), _) => Ok(model),
            (Err(error @ Error::Unhealthy { .. }), HeadCheck::Warn) => {
                tracing::warn!(model = name, why = %error, "masked-lm head fails its health check");
                metrics::head_check_failed();
                Ok(model)
            }
            (Err(error), HeadCheck::Refuse | HeadCheck::Warn) => Err(error),
        }
    }

    fn load_parts(name: String, settings: &engine::Settings) -> Result<Self, Error> {
        let tokenizer = Tokenizer::load(&settings.path)?;
        if let Some(size) = tokenizer.config_vocab_size()
            && size < tokenizer.vocab_size()
        {
            let why = format!("the tokenizer has {} ids, config.json has vocab_size {size}", tokenizer.vocab_size());
            return Err(Error::Mismatch { name, why });
        }
        let vocabulary = Vocabulary {
            mask_id: tokenizer.mask_id(),
            pad_id: tokenizer.pad_id(),
            size: tokenizer.vocab_size(),
            max_positions: tokenizer.max_positions(),
        };
        let engine = Engine::load(settings, vocabulary, hoisted)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { name, tokenizer: Arc::new(tokenizer), engine, cores: Arc::new(Semaphore::new(cores)) })
    }

    /// Drains the engine and joins its thread within `deadline`.
    ///
    /// # Errors
    /// The deadline passed; what waited was dropped.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        Ok(self.engine.close(deadline).await?)
    }

    /// Name of the `[models.X]` table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Tokenises and cuts `text`, off the runtime's threads if it is long.
    pub(super) async fn prepare(&self, text: &str, window_tokens: usize) -> Result<Prepared, Error> {
        if text.len() <= INLINE_BYTES_MAX {
            return Ok(prepare(&self.tokenizer, text, window_tokens)?);
        }
        // The semaphore is never closed.
        let permit = Arc::clone(&self.cores).acquire_owned().await.ok();
        let (tokenizer, text) = (Arc::clone(&self.tokenizer), text.to_owned());
        let work = move || {
            let _permit = permit;
            prepare(&tokenizer, &text, window_tokens)
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}

/// The model of `bytes` with its head behind the masked positions, or why that can't be.
fn hoisted(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let rewritten = graph::rewrite(bytes).map_err(|error| error.to_string())?;
    let frontier = rewritten.frontier.join(", ");
    tracing::debug!(products = rewritten.products, frontier, "moved the head behind the masked positions");
    Ok(rewritten.bytes)
}

fn prepare(tokenizer: &Tokenizer, text: &str, window_tokens: usize) -> Result<Prepared, tokenize::Error> {
    let started = Instant::now();
    let encoding = tokenizer.encode(text)?;
    let windows = windows::cut(text, &encoding, window_tokens);
    metrics::tokenized(started.elapsed().as_secs_f64());
    Ok(Prepared { encoding, windows, words: text.unicode_words().count() })
}
