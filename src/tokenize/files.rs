//! Owns the tokenizer's files: reads them once, finds out which tokens are special and how many positions the model has.
//!
//! Must not know: the `tokenizers` crate; here are only JSON values.

use super::Error;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The largest of these files: the tokenizers of the widest vocabularies take a sixth of it.
const JSON_BYTES_MAX: u64 = 256 << 20;

/// Model types whose position table starts behind the padding id, as RoBERTa's does.
const OFFSET_POSITIONS: [&str; 11] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "camembert",
    "mpnet",
    "data2vec-text",
    "ibert",
    "xmod",
    "longformer",
    "luke",
];

/// Keys of `tokenizer_config.json` and `special_tokens_map.json` that name a special token.
const ROLES: [&str; 7] = ["mask_token", "pad_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token"];

/// The files without which there is no tokenizer.
const REQUIRED: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "config.json"];

/// What the files of a model directory say about its tokenizer.
pub(super) struct Files {
    /// `tokenizer.json`, as it stands.
    pub(super) tokenizer: Value,
    /// Texts of all special tokens: added tokens flagged special, and those that the settings name.
    pub(super) specials: BTreeSet<String>,
    /// Text of the mask token.
    pub(super) mask: Option<String>,
    /// Text of the padding token.
    pub(super) pad: Option<String>,
    /// Text of the unknown token.
    pub(super) unk: Option<String>,
    /// `pad_token_id` of `config.json`.
    pub(super) config_pad_id: Option<u32>,
    /// `vocab_size` of `config.json`.
    pub(super) config_vocab_size: Option<usize>,
    /// Positions usable for tokens, special ones included; `usize::MAX` where the files set no bound.
    pub(super) max_positions: usize,
    /// blake3 over names and bytes of all files read.
    pub(super) fingerprint: [u8; 32],
}

impl Files {
    /// Reads the files of `dir`. `special_tokens_map.json` may be missing.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let mut hasher = blake3::Hasher::new();
        let tokenizer = read_json(dir, "tokenizer.json", &mut hasher)?;
        let settings = read_json(dir, "tokenizer_config.json", &mut hasher)?;
        let config = read_json(dir, "config.json", &mut hasher)?;
        let map = match dir.join("special_tokens_map.json").exists() {
            true => read_json(dir, "special_tokens_map.json", &mut hasher)?,
            false => Value::Null,
        };
        let role = |name: &str| content(&settings[name]).or_else(|| content(&map[name]));
        let config_pad_id = config["pad_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let mut files = Self {
            specials: BTreeSet::new(),
            mask: role("mask_token"),
            pad: role("pad_token"),
            unk: role("unk_token"),
            config_pad_id,
            config_vocab_size: config["vocab_size"].as_u64().and_then(|size| usize::try_from(size).ok()),
            max_positions: max_positions(&config, &settings, config_pad_id),
            fingerprint: *hasher.finalize().as_bytes(),
            tokenizer,
        };
        files.specials = ROLES.iter().filter_map(|name| role(name)).collect();
        for list in [&settings["additional_special_tokens"], &map["additional_special_tokens"]] {
            files.specials.extend(list.as_array().into_iter().flatten().filter_map(content));
        }
        for token in files.tokenizer["added_tokens"].as_array().into_iter().flatten() {
            if token["special"] == Value::Bool(true) {
                files.specials.extend(content(token));
            }
        }
        files.specials.remove("");
        if files.unk.is_none() {
            files.unk = content(&files.tokenizer["model"]["unk_token"]);
        }
        files.specials.extend(files.unk.clone());
        Ok(files)
    }
}

/// Everything that is wrong with the tokenizer's files as files: absent, unreadable, not JSON.
#[must_use]
pub fn files(dir: &Path) -> Vec<Error> {
    let mut hasher = blake3::Hasher::new();
    REQUIRED.iter().filter_map(|name| read_json(dir, name, &mut hasher).err()).collect()
}

/// The text of a token given as a string or as an object with `content`.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}

fn read_json(dir: &Path, name: &str, hasher: &mut blake3::Hasher) -> Result<Value, Error> {
    let path = dir.join(name);
    let mut bytes = Vec::new();
    if let Err(error) = File::open(&path).and_then(|file| file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        return Err(Error::Unreadable { path, why: error.to_string() });
    }
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(Error::Malformed { path, why: format!("it is larger than {JSON_BYTES_MAX} bytes") });
    }
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed { path, why: format!("not JSON: {error}") })
}

/// Positions that tokens can take: the config's, less the offset of RoBERTa's kin, capped by a sane `model_max_length`.
fn max_positions(config: &Value, settings: &Value, pad_id: Option<u32>) -> usize {
    let as_count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let kind = config["model_type"].as_str().unwrap_or_default();
    let offset = match OFFSET_POSITIONS.contains(&kind) {
        true => pad_id.map_or(2, |id| id as usize + 1),
        false => 0,
    };
    let table = as_count(&config["max_position_embeddings"]).map_or(usize::MAX, |n| n.saturating_sub(offset));
    // Hugging Face writes 1e30 where it knows no limit.
    let declared = as_count(&settings["model_max_length"]).filter(|n| *n < 1_000_000).unwrap_or(usize::MAX);
    table.min(declared)
}
