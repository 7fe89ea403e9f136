//! Owns the rewriting of `tokenizer.json` that makes text text.
//!
//! As shipped, a tokenizer turns a literal `[MASK]` in a document into the mask's id, either because it is an added token or
//! because the model's own vocabulary holds it (Unigram, WordPiece without punctuation splitting, BPE with `ignore_merges`).
//! Here every special piece is renamed, everywhere, to a long random text made anew in each process, so that no document can
//! hold it; ids stay as they are. Post-processor, truncation, padding and chance go too.

use serde_json::{Map, Value};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};

/// Renames every text of `specials` in `tokenizer` and drops post-processor, truncation, padding and chance. Returns new names by old.
pub(super) fn disarm(tokenizer: &mut Value, specials: &BTreeSet<String>) -> BTreeMap<String, String> {
    bare(tokenizer);
    let secret = secret();
    let names: BTreeMap<String, String> =
        specials.iter().enumerate().map(|(i, old)| (old.clone(), format!("{secret}{i}x"))).collect();
    for token in tokenizer["added_tokens"].as_array_mut().into_iter().flatten() {
        rename_added(token, &names);
    }
    let model = &mut tokenizer["model"];
    if let Some(name) = model["unk_token"].as_str().and_then(|old| names.get(old)) {
        model["unk_token"] = Value::String(name.clone());
    }
    match &mut model["vocab"] {
        Value::Object(vocab) => rename_keys(vocab, &names),
        Value::Array(pieces) => pieces.iter_mut().for_each(|piece| rename_piece(piece, &names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default().to_owned();
    if let Value::Array(merges) = &mut model["merges"] {
        merges.retain(|merge| !touches(merge, &prefix, &names));
    }
    names
}

/// Drops what wraps, cuts or pads, and chance.
fn bare(tokenizer: &mut Value) {
    settle(tokenizer);
    tokenizer["post_processor"] = Value::Null;
}

/// Drops what cuts or pads, and what makes a model cut the same text now so, now otherwise: BPE's dropout, and the sampling that some writers note for
/// Unigram. Those are for training; here a text has one encoding.
pub(super) fn settle(tokenizer: &mut Value) {
    for key in ["truncation", "padding"] {
        tokenizer[key] = Value::Null;
    }
    if let Value::Object(model) = &mut tokenizer["model"] {
        model.retain(|key, _| !["dropout", "alpha", "nbest_size"].contains(&key.as_str()));
    }
}

/// 64 hexadecimal digits that no document can know: the standard library seeds its hash maps from the system's entropy.
fn secret() -> String {
    (0..4)
        .map(|i| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u32(i);
            format!("{:016x}", hasher.finish())
        })
        .collect()
}

fn rename_added(token: &mut Value, names: &BTreeMap<String, String>) {
    let Some(name) = token["content"].as_str().and_then(|old| names.get(old)) else { return };
    token["content"] = Value::String(name.clone());
    for flag in ["normalized", "lstrip", "rstrip", "single_word"] {
        token[flag] = Value::Bool(false);
    }
}

fn rename_keys(vocab: &mut Map<String, Value>, names: &BTreeMap<String, String>) {
    let renamed = std::mem::take(vocab);
    vocab.extend(renamed.into_iter().map(|(piece, id)| (names.get(&piece).cloned().unwrap_or(piece), id)));
}

/// A Unigram piece is `[text, score]`.
fn rename_piece(piece: &mut Value, names: &BTreeMap<String, String>) {
    if let Some(name) = piece[0].as_str().and_then(|old| names.get(old)) {
        piece[0] = Value::String(name.clone());
    }
}

/// Whether a BPE merge (`"a b"` or `["a","b"]`) takes or makes a special piece.
fn touches(merge: &Value, prefix: &str, names: &BTreeMap<String, String>) -> bool {
    let pair = match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    pair.is_some_and(|(a, b)| {
        let made = format!("{a}{}", b.strip_prefix(prefix).unwrap_or(b));
        names.contains_key(a) || names.contains_key(b) || names.contains_key(&made)
    })
}
