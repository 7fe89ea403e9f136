//! Owns what `config.json` says of a model: its family, its size, and whether it fills masks at all.
//!
//! Keys that are absent are absent here: families name the same thing differently, or not at all.

use super::Error;
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
