//! Owns what `config.json` says of a model: its family, its size, and whether it fills masks at all.
//!
//! Keys that are absent are absent here: families name the same thing differently, or not at all.

use super::model::Task;
use super::{Activation, Error};
use crate::engine::{self, Needs, OnePass};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// A model as its `config.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Card {
    /// `model_type`: the family.
    pub family: Option<String>,
    /// `architectures`: which heads the checkpoint was saved with.
    pub architectures: Vec<String>,
    /// Layers.
    pub layers: Option<u64>,
    /// Width of a position.
    pub hidden: Option<u64>,
    /// Rows of the embedding.
    pub vocabulary: Option<u64>,
    /// Rows of the position table, or the most positions trained for.
    pub positions: Option<u64>,
    /// `id2label`: names of a classifier's labels, in the order of its logits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// `problem_type`: whether one of a classifier's labels is true, or each for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Ends of architectures that do something else, and what to take in their place.
const OTHERS: [(&str, &str); 5] = [
    (
        "ElectraForPreTraining",
        "it is a discriminator, which tells replaced tokens from original ones; take the generator of the same family, exported \
         as ElectraForMaskedLM",
    ),
    (
        "ForSequenceClassification",
        "it classifies texts; export the checkpoint that it was made from with the task fill-mask",
    ),
    (
        "ForTokenClassification",
        "it classifies tokens; export the checkpoint that it was made from with the task fill-mask",
    ),
    ("ForQuestionAnswering", "it finds answers; export the checkpoint that it was made from with the task fill-mask"),
    ("ForCausalLM", "it predicts the next token from those before; take a masked language model"),
];

/// Ends of architectures, and which kind of signal they are for.
const TASKS: [(&str, &str); 6] = [
    ("ForMaskedLM", "it fills masks; use kind = \"pll\", or export the classifier that was made from it"),
    ("ElectraForPreTraining", "it tells replaced tokens from original ones; use kind = \"token-classifier\""),
    ("ForTokenClassification", "it classifies tokens; use kind = \"token-classifier\""),
    ("ForSequenceClassification", "it classifies texts; use kind = \"sequence-classifier\""),
    ("ForQuestionAnswering", "it finds answers in texts; take a classifier"),
    ("ForCausalLM", "it predicts the next token; take a classifier"),
];

/// `id2label` in the order of its numbers; nothing if they have gaps.
fn labels(named: &Value) -> Vec<String> {
    let label = |at: usize| named[at.to_string().as_str()].as_str().map(str::to_owned);
    let count = named.as_object().map_or(0, serde_json::Map::len);
    (0..count).map(label).collect::<Option<_>>().unwrap_or_default()
}

impl Card {
    /// Reads `config.json` of a model's directory; what can't be read there is absent.
    pub(super) fn read(dir: &Path) -> Self {
        let config: Value = std::fs::read(dir.join("config.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null);
        Self::of(&config)
    }

    fn of(config: &Value) -> Self {
        let number = |names: &[&str]| names.iter().find_map(|name| config[*name].as_u64());
        let texts = config["architectures"].as_array().into_iter().flatten();
        Self {
            family: config["model_type"].as_str().map(str::to_owned),
            architectures: texts.filter_map(Value::as_str).map(str::to_owned).collect(),
            layers: number(&["num_hidden_layers", "n_layers"]),
            hidden: number(&["hidden_size", "dim"]),
            vocabulary: number(&["vocab_size"]),
            positions: number(&["max_position_embeddings"]),
            labels: labels(&config["id2label"]),
            problem: config["problem_type"].as_str().map(str::to_owned),
        }
    }

    /// Refuses a model whose architectures are all known to do something else. What is not known may try.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let other = |architecture: &String| OTHERS.iter().find(|(end, _)| architecture.ends_with(end));
        let found: Vec<_> =
            self.architectures.iter().map_while(|text| other(text).map(|(_, why)| (text, *why))).collect();
        match found.first() {
            Some((architecture, why)) if found.len() == self.architectures.len() => {
                Err(Error::NotMasked { name: name.to_owned(), architecture: (*architecture).clone(), why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a model whose architectures are all known to do something else than what `pass` reads. An encoder may come from any checkpoint;
    /// its graph tells.
    pub(super) fn check_one_pass(&self, name: &str, pass: OnePass) -> Result<(), Error> {
        let (wanted, own): (_, &[&str]) = match pass {
            OnePass::Sequence => ("sequence classifier", &["ForSequenceClassification"]),
            OnePass::Tokens => ("token classifier", &["ForTokenClassification", "ElectraForPreTraining"]),
            OnePass::Mean | OnePass::First => return Ok(()),
        };
        let other = |architecture: &String| {
            let end = TASKS.iter().find(|(end, _)| architecture.ends_with(end));
            end.filter(|(end, _)| !own.contains(end)).map(|(_, why)| *why)
        };
        let found: Vec<_> = self.architectures.iter().map_while(|text| other(text).map(|why| (text, why))).collect();
        match found.first() {
            Some((architecture, why)) if found.len() == self.architectures.len() => {
                Err(Error::NotSuch { name: name.to_owned(), architecture: (*architecture).clone(), wanted, why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What makes probabilities of a text classifier's `width` logits: as `problem_type` says, else softmax over several labels and
    /// sigmoid of a single one.
    pub(super) fn activation(&self, width: usize) -> Activation {
        match self.problem.as_deref() {
            Some("multi_label_classification") => Activation::Sigmoid,
            Some("single_label_classification") => Activation::Softmax,
            Some("regression") => Activation::None,
            Some(_) | None if width == 1 => Activation::Sigmoid,
            Some(_) | None => Activation::Softmax,
        }
    }

    /// What the model is loaded for, as far as its architecture or the names of its graph's outputs tell.
    pub(super) fn task(&self, outputs: &[String]) -> Option<Task> {
        if outputs.iter().any(|output| engine::HIDDEN.contains(&output.as_str())) {
            return Some(Task::OnePass(OnePass::Mean));
        }
        let ends = |end: &str| self.architectures.iter().any(|text| text.ends_with(end));
        match () {
            () if ends("ForMaskedLM") => Some(Task::Masked(Needs::default())),
            () if ends("ForSequenceClassification") => Some(Task::OnePass(OnePass::Sequence)),
            () if ends("ForTokenClassification") || ends("ElectraForPreTraining") => {
                Some(Task::OnePass(OnePass::Tokens))
            }
            () => None,
        }
    }

    /// What is known to go wrong with the heads of this family, for a model whose head talks nonsense.
    pub(super) fn known_trouble(&self) -> &'static str {
        match self.family.as_deref() {
            Some(family) if family.starts_with("deberta") => {
                "; known of DeBERTa: its checkpoints keep the head under a name that transformers does not look for \
                 (lm_predictions), so that an export has a new head with random weights: load that head before exporting, or take \
                 another family"
            }
            Some(_) | None => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(architectures: &[&str]) -> Result<(), Error> {
        Card::of(&json!({ "architectures": architectures })).check("default")
    }

    #[test]
    fn a_model_that_does_something_else_is_refused_by_name_with_what_to_take() {
        for (architecture, advice) in [
            ("ElectraForPreTraining", "take the generator"),
            ("BertForSequenceClassification", "fill-mask"),
            ("GPT2ForCausalLM", "masked language model"),
        ] {
            let message = check(&[architecture]).unwrap_err().to_string();
            assert!(message.contains(architecture) && message.contains(advice), "{message}");
        }
    }

    #[test]
    fn a_model_that_fills_masks_or_says_nothing_may_try() {
        for architectures in [&["BertForMaskedLM"][..], &["BertForPreTraining"], &["Own"], &[]] {
            check(architectures).unwrap();
        }
        check(&["ElectraForPreTraining", "ElectraForMaskedLM"]).unwrap();
    }

    #[test]
    fn families_name_their_sizes_differently() {
        let bert = json!({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 9});
        let distilbert = json!({"model_type": "distilbert", "n_layers": 2, "dim": 16, "vocab_size": 9});
        let (bert, distilbert) = (Card::of(&bert), Card::of(&distilbert));
        assert_eq!((bert.layers, bert.hidden, bert.positions), (Some(2), Some(16), None));
        assert_eq!(Card { family: bert.family.clone(), ..distilbert }, bert);
        assert_eq!(bert.known_trouble(), "");
        assert!(Card::of(&json!({"model_type": "deberta-v2"})).known_trouble().contains("lm_predictions"));
    }
}
