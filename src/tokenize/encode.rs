//! Owns the tokenizer: ids and spans of a text, and the special tokens that wrap a window of them.
//!
//! Long texts are encoded in slices of at most [`SLICE_BYTES`], so that time and memory grow linearly whatever the text holds.

use super::{Error, disarm, files::Files};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Texts up to this many bytes are encoded in one go; longer ones in slices of at most this many bytes. A slice ends before a
/// single space between two letters or digits (where every usual tokenizer starts a new word with the space), or, where its
/// second half has no such place, after any character. A text without spaces can so gain a token boundary each 64 KiB.
const SLICE_BYTES: usize = 64 * 1024;

/// A text's tokens: content only, no special tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// Token ids, in order.
    pub ids: Vec<u32>,
    /// For each token, its bytes `(start, end)` in the original text, on character boundaries; leading white space that a
    /// tokenizer glues to a word is not part of the span. Starts never decrease. Tokens that share a character share its span.
    pub spans: Vec<(u32, u32)>,
    /// For each token, the number of the piece of text that the tokenizer's own pre-tokenizer cut it from (what Hugging Face calls
    /// `word_ids`). Never decreases. [`super::words`] numbers words of the text instead.
    pub word_ids: Vec<u32>,
}

/// A model's tokenizer, disarmed: no text yields a special id.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    mask_id: u32,
    pad_id: u32,
    unk_id: Option<u32>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    special_texts: BTreeMap<u32, String>,
    specials: Vec<u32>,
    vocab_size: usize,
    config_vocab_size: Option<usize>,
    max_positions: usize,
    kind: String,
    fingerprint: [u8; 32],
}

impl Tokenizer {
    /// Loads the tokenizer of a model directory: `tokenizer.json`, `tokenizer_config.json`, `config.json` and, if there,
    /// `special_tokens_map.json`.
    ///
    /// # Errors
    /// A file is missing or malformed; there is no mask token; the special tokens around a text can't be made out.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        Self::open(dir, true)
    }

    /// As [`Tokenizer::load`], for models that mask nothing: where there is no mask token, [`Tokenizer::mask_id`] is the padding id.
    ///
    /// # Errors
    /// As [`Tokenizer::load`], but for the mask token.
    pub fn load_without_mask(dir: &Path) -> Result<Self, Error> {
        Self::open(dir, false)
    }

    fn open(dir: &Path, needs_mask: bool) -> Result<Self, Error> {
        let mut files = Files::read(dir)?;
        let malformed = |why: String| Error::Malformed { path: dir.join("tokenizer.json"), why };
        let original = original(&files.tokenizer).map_err(malformed)?;
        let (prefix, suffix) = template(&original).ok_or_else(|| Error::NoTemplate { dir: dir.to_owned() })?;
        for id in prefix.iter().chain(&suffix) {
            files.specials.extend(original.id_to_token(*id));
        }
        let id_of = |role, token: &Option<String>| match token {
            None => Ok(None),
            Some(token) => original.token_to_id(token).map(Some).ok_or_else(|| Error::UnknownSpecial {
                dir: dir.to_owned(),
                role,
                token: token.clone(),
            }),
        };
        let (mask_id, pad_id) = (id_of("mask", &files.mask)?, id_of("pad", &files.pad)?.or(files.config_pad_id));
        if needs_mask && mask_id.is_none() {
            return Err(Error::NoMaskToken { dir: dir.to_owned() });
        }
        let mask_id = mask_id.or(pad_id).unwrap_or_default();
        let pad_id = pad_id.unwrap_or(mask_id);
        let unk_id = match &files.unk {
            Some(token) => original.token_to_id(token),
            None => files.tokenizer["model"]["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        let vocab_size = original.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        let special_texts: BTreeMap<u32, String> =
            files.specials.iter().filter_map(|token| Some((original.token_to_id(token)?, token.clone()))).collect();
        let specials: Vec<u32> = special_texts.keys().copied().collect();
        disarm::disarm(&mut files.tokenizer, &files.specials);
        let inner = parse(&files.tokenizer).map_err(malformed)?;
        Ok(Self {
            inner,
            mask_id,
            pad_id,
            unk_id,
            prefix,
            suffix,
            special_texts,
            specials,
            vocab_size,
            config_vocab_size: files.config_vocab_size,
            max_positions: files.max_positions,
            kind: files.tokenizer["model"]["type"].as_str().unwrap_or("unknown").to_owned(),
            fingerprint: files.fingerprint,
        })
    }

    /// Tokenises `text`, all of it: no special tokens, no truncation, no padding. CPU-bound, about 1 to 10 MB/s, on the
    /// caller's thread. An empty result is possible for a text that is not empty (white space, for one).
    ///
    /// # Errors
    /// The tokenizer refuses the text (a character without a token where there is no unknown token, for one), or it is longer
    /// than 4 GiB.
    pub fn encode(&self, text: &str) -> Result<Encoding, Error> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error::TooLong { bytes: text.len() });
        }
        let mut encoding = Encoding::default();
        let mut start = 0;
        while start < text.len() {
            let end = slice_end(text, start);
            self.encode_slice(text, start, end, &mut encoding)?;
            start = end;
        }
        Ok(encoding)
    }

    fn encode_slice(&self, text: &str, start: usize, end: usize, into: &mut Encoding) -> Result<(), Error> {
        let slice = &text[start..end];
        let found = self.inner.encode(slice, false).map_err(|error| Error::Refused { why: error.to_string() })?;
        into.ids.extend_from_slice(found.get_ids());
        let first = into.word_ids.last().map_or(0, |last| last + 1);
        let mut word = first;
        for id in found.get_word_ids() {
            // A token of no word would be one that the post-processor put there, and there is none.
            word = id.map_or(word, |id| first + id).max(word);
            into.word_ids.push(word);
        }
        let mut floor = into.spans.last().map_or(0, |(start, _)| *start as usize);
        for &(from, to) in found.get_offsets() {
            let (from, to) = trim(slice, from, to);
            let (from, to) = ((start + from).max(floor), (start + to).max(floor));
            floor = from;
            #[allow(clippy::cast_possible_truncation, reason = "the text's length fits u32, checked by the caller")]
            into.spans.push((from as u32, to as u32));
        }
        Ok(())
    }

    /// Ids of a text encoded in one go, whatever its length.
    #[cfg(test)]
    pub(super) fn inner_for_tests(&self, text: &str) -> Vec<u32> {
        self.inner.encode(text, false).unwrap().get_ids().to_vec()
    }

    /// The id that stands for a masked position.
    #[must_use]
    pub fn mask_id(&self) -> u32 {
        self.mask_id
    }

    /// The id that fills rows up to the batch's length; the mask's where the model has none, as padding is never attended to.
    #[must_use]
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// The id of unknown pieces, if the vocabulary has one. The only special id that text can yield.
    #[must_use]
    pub fn unk_id(&self) -> Option<u32> {
        self.unk_id
    }

    /// Special ids before and after a window's content (`[CLS]` and `[SEP]`, say); either may be empty.
    #[must_use]
    pub fn template(&self) -> (&[u32], &[u32]) {
        (&self.prefix, &self.suffix)
    }

    /// Ids of all special tokens, sorted, the unknown one included.
    #[must_use]
    pub fn special_ids(&self) -> &[u32] {
        &self.specials
    }

    /// One more than the greatest id that this tokenizer knows. Models may have more (padding of the output layer).
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// `vocab_size` of `config.json`, where it is given: the model's.
    #[must_use]
    pub fn config_vocab_size(&self) -> Option<usize> {
        self.config_vocab_size
    }

    /// Tokens that a row may hold, special ones included; `usize::MAX` where the model sets no bound.
    #[must_use]
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// How pieces are found, as `tokenizer.json` calls it: `WordPiece`, `BPE`, `Unigram` or `WordLevel`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The text of a special token, as the files have it.
    #[must_use]
    pub fn special(&self, id: u32) -> Option<&str> {
        self.special_texts.get(&id).map(String::as_str)
    }

    /// blake3 of the files that define this tokenizer.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

fn parse(json: &Value) -> Result<tokenizers::Tokenizer, String> {
    let bytes = serde_json::to_vec(json).map_err(|error| error.to_string())?;
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())
}

/// The tokenizer as shipped, but for truncation, padding and chance: its post-processor tells the template.
fn original(json: &Value) -> Result<tokenizers::Tokenizer, String> {
    let mut json = json.clone();
    disarm::settle(&mut json);
    parse(&json)
}

/// What the post-processor puts before and after a text, found by wrapping texts of several scripts.
fn template(original: &tokenizers::Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    for sample in ["a", "the", "e", "1", ".", "де", "的", "ا"] {
        let (Ok(bare), Ok(wrapped)) = (original.encode(sample, false), original.encode(sample, true)) else { continue };
        let (bare, wrapped) = (bare.get_ids(), wrapped.get_ids());
        if bare.is_empty() || wrapped.len() < bare.len() {
            continue;
        }
        let places: Vec<usize> =
            (0..=wrapped.len() - bare.len()).filter(|at| wrapped[*at..].starts_with(bare)).collect();
        if let [at] = places.as_slice() {
            return Some((wrapped[..*at].to_vec(), wrapped[at + bare.len()..].to_vec()));
        }
    }
    None
}

/// The end of the slice that starts at `start`.
fn slice_end(text: &str, start: usize) -> usize {
    if text.len() - start <= SLICE_BYTES {
        return text.len();
    }
    let hard = text.floor_char_boundary(start + SLICE_BYTES);
    let soft = text.floor_char_boundary(start + SLICE_BYTES / 2);
    let starts_word = |at: usize| {
        text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
            && text[at + 1..].chars().next().is_some_and(char::is_alphanumeric)
    };
    text[soft..hard].rmatch_indices(' ').map(|(at, _)| soft + at).find(|at| starts_word(*at)).unwrap_or(hard)
}

/// A span without its leading white space; a span of nothing else stays.
fn trim(slice: &str, from: usize, to: usize) -> (usize, usize) {
    match slice.get(from..to) {
        Some(piece) => {
            let trimmed = piece.trim_start();
            if trimmed.is_empty() { (from, to) } else { (to - trimmed.len(), to) }
        }
        None => (slice.floor_char_boundary(from.min(slice.len())), slice.floor_char_boundary(to.min(slice.len()))),
    }
}
