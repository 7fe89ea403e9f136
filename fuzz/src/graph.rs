//! Any bytes as an ONNX file: described or refused, rewritten or refused, fused or refused, converted or refused; what was made of it is a model again, with what was asked for.

use super::root;
use std::path::{Component, Path};
use tamis::graph::{self, Facts, Half, Outputs, Weights};

/// Which outputs and where weights lie, then the file.
pub(super) fn run(data: &[u8]) {
    let [which, bytes @ ..] = data else { return };
    let facts = graph::describe(bytes.to_vec());
    if let Ok(facts) = &facts {
        inside(facts);
    }
    let outputs = Outputs { ranks: which & 1 != 0, odds: which & 2 != 0 };
    let in_file = which & 4 != 0;
    let weights =
        if in_file { Weights::InFile { name: "model.onnx".to_owned(), bytes_min: 16 } } else { Weights::Within };
    if let Ok(rewritten) = graph::rewrite(bytes.to_vec(), outputs, &weights) {
        // Whoever loads a model describes it first; one that is rewritten and can't be described is refused there.
        let made = graph::describe(rewritten.bytes.clone());
        match (&facts, &made) {
            (Ok(facts), Ok(made)) => rewritten_of(facts, made, outputs, in_file),
            (Ok(_), Err(error)) => panic!("what was rewritten can't be described: {error}"),
            (Err(_), _) => {}
        }
        if let Weights::Within = weights {
            // Nothing is multiplied; names of the rewriting's own take the place of shorter ones.
            let most = bytes.len().saturating_mul(40).saturating_add(1 << 14);
            assert!(rewritten.bytes.len() <= most, "{} bytes became {}", bytes.len(), rewritten.bytes.len());
        }
        if facts.is_ok() {
            fused_of(&rewritten.bytes);
        }
        assert!(graph::rewrite(rewritten.bytes, outputs, &Weights::Within).is_err(), "it was rewritten twice");
    }
    if let Ok(facts) = &facts {
        fused_of(bytes);
        converted_of(bytes, facts, if which & 8 != 0 { Half::Bfloat16 } else { Half::Float16 });
    }
    if let Ok(encoder) = graph::hidden(bytes.to_vec())
        && facts.is_ok()
    {
        let made = graph::describe(encoder).expect("what was cut is a model");
        assert_eq!(made.outputs, ["last_hidden_state"]);
    }
}

/// What is fused is the same model by its face, not much larger, and fused once.
fn fused_of(bytes: &[u8]) {
    let Ok(fused) = graph::fuse(bytes.to_vec()) else { return };
    let facts = graph::describe(bytes.to_vec()).expect("what is fused could be described before");
    let made = graph::describe(fused.bytes.clone()).expect("what was fused is a model");
    assert_eq!((&made.outputs, made.opset), (&facts.outputs, facts.opset));
    assert!(made.inputs.iter().all(|name| facts.inputs.contains(name)), "{:?} of {:?}", made.inputs, facts.inputs);
    assert!(made.external.iter().all(|file| facts.external.contains(file)));
    // Four nodes at least make an attention, and none is in two of them.
    assert!(fused.attentions > 0 && fused.attentions * 4 <= facts.nodes, "{} of {}", fused.attentions, facts.nodes);
    let most = bytes.len().saturating_mul(40).saturating_add(1 << 14);
    assert!(fused.bytes.len() <= most, "{} bytes became {}", bytes.len(), fused.bytes.len());
    assert!(graph::fuse(fused.bytes).is_err(), "it was fused twice");
}

/// What is converted is the same model by its face, needs no other files, makes no value twice, and is converted once.
fn converted_of(bytes: &[u8], facts: &Facts, half: Half) {
    let nowhere = |_: &graph::Place| Err("there are no files here".to_owned());
    let Ok(converted) = graph::convert(bytes.to_vec(), half, &Weights::Within, nowhere) else { return };
    let made = graph::describe(converted.bytes.clone()).expect("what was converted is a model");
    assert_eq!((&made.outputs, &made.inputs, made.opset), (&facts.outputs, &facts.inputs, facts.opset));
    assert!(made.external.is_empty(), "{:?}", made.external);
    let again = graph::convert(converted.bytes.clone(), half, &Weights::Within, nowhere);
    assert_eq!(again.expect("what was converted can be looked at again").bytes, converted.bytes);
}

/// Files of weights lie below the model's directory.
fn inside(facts: &Facts) {
    for location in &facts.external {
        let mut parts = Path::new(location).components();
        assert!(!location.is_empty() && parts.all(|part| matches!(part, Component::Normal(_))), "{location:?}");
    }
    assert!(facts.external.is_sorted());
}

fn rewritten_of(facts: &Facts, made: &Facts, outputs: Outputs, in_file: bool) {
    let mut expected = vec!["logprob"];
    if outputs.ranks {
        expected.extend(["rank", "entropy", "max_logprob"]);
    }
    if outputs.odds {
        expected.push("log_odds");
    }
    assert_eq!(made.outputs, expected);
    assert_eq!(made.opset, facts.opset);
    let new: Vec<&str> =
        made.inputs.iter().map(String::as_str).filter(|name| ["mask_index", "target_ids"].contains(name)).collect();
    assert_eq!(new, ["mask_index", "target_ids"]);
    let known = |name: &String| facts.inputs.contains(name) || new.contains(&name.as_str());
    assert!(made.inputs.iter().all(known), "{:?} of {:?}", made.inputs, facts.inputs);
    let known = |file: &String| facts.external.contains(file) || in_file && file == "model.onnx";
    assert!(made.external.iter().all(known), "{:?} of {:?}", made.external, facts.external);
}

/// Real exports, most without the numbers of their weights, which nothing here looks at: a fuzzer changes what is left all the sooner.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let fixtures = root().join("tests/fixtures");
    let mut files = Vec::new();
    for folder in ["families", "models", "heads"] {
        for entry in std::fs::read_dir(fixtures.join(folder)).expect("fixtures").flatten() {
            files.extend(std::fs::read_dir(entry.path()).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    files.retain(|path| path.extension().is_some_and(|kind| kind == "onnx"));
    files.sort();
    let exports = files.iter().map(|path| std::fs::read(path).expect("a fixture"));
    let mut seeds: Vec<Vec<u8>> = exports
        .enumerate()
        .map(|(number, export)| [vec![[0, 3, 4, 7][number % 4]], without_numbers(&export, MODEL)].concat())
        .collect();
    let whole = std::fs::read(fixtures.join("models/tiny-bert-wordpiece/model.onnx")).expect("a fixture");
    seeds.push([vec![3], whole].concat());
    seeds.sort_by_key(Vec::len);
    seeds
}

/// Fields of a message that hold messages to look into, with what these are; and those that are left out.
struct Kind {
    within: &'static [(u64, &'static Kind)],
    left_out: &'static [u64],
}
const TENSOR: &Kind = &Kind { within: &[], left_out: &[4, 9] };
const GRAPH: &Kind = &Kind { within: &[(5, TENSOR)], left_out: &[] };
const MODEL: &Kind = &Kind { within: &[(7, GRAPH)], left_out: &[] };

/// A message without the long numbers of its weights.
fn without_numbers(message: &[u8], kind: &Kind) -> Vec<u8> {
    let (mut rest, mut out) = (message, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let tag = varint(&mut rest);
        let content = match tag & 7 {
            0 => {
                varint(&mut rest);
                &[][..]
            }
            wire => {
                let length = [0, 8, usize::MAX, 0, 0, 4][usize::try_from(wire).expect("three bits")];
                let length =
                    if length == usize::MAX { usize::try_from(varint(&mut rest)).expect("a length") } else { length };
                let (content, after) = rest.split_at(length);
                rest = after;
                content
            }
        };
        let whole = &start[..start.len() - rest.len()];
        match kind.within.iter().find(|(field, _)| *field == tag >> 3) {
            Some((_, inner)) => {
                let inner = without_numbers(content, inner);
                out.extend(number(tag));
                out.extend(number(inner.len() as u64));
                out.extend(inner);
            }
            None if kind.left_out.contains(&(tag >> 3)) && content.len() > 64 => {}
            None => out.extend(whole),
        }
    }
    out
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut bits = 0;
    for place in 0..10 {
        let (byte, after) = rest.split_first().expect("a fixture that is whole");
        *rest = after;
        bits |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    bits
}

fn number(mut bits: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push(bits.to_le_bytes()[0] | 0x80);
        bits >>= 7;
    }
    bytes.push(bits.to_le_bytes()[0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_models_of_which_many_are_rewritten() {
        let seeds = seeds();
        let rewritten =
            |seed: &&Vec<u8>| graph::rewrite(seed[1..].to_vec(), Outputs::default(), &Weights::Within).is_ok();
        assert!(seeds.iter().all(|seed| graph::describe(seed[1..].to_vec()).is_ok()));
        assert!(seeds.iter().filter(rewritten).count() > seeds.len() / 2);
        let fused = seeds.iter().filter(|seed| graph::fuse(seed[1..].to_vec()).is_ok()).count();
        assert!(fused > seeds.len() / 3, "{fused} of {}", seeds.len());
    }
}
