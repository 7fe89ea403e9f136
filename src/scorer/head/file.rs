//! Owns heads in files: weights as JSON (a linear head, or a small ensemble of trees) or as an ONNX graph; whether they fit their encoder.
//!
//! The JSON is what `tools/heads/fit_head.py` writes; docs/bring-your-own-model.md describes it.

use super::settings::{Activation, EmbeddingSettings, Pooling};
use crate::engine::{self, SmallGraph};
use crate::graph;
use crate::scorer::{Error, model};
use serde::Deserialize;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The only format there is.
const FORMAT: &str = "tamis head 1";
/// The largest head: a thousand trees of a thousand nodes.
const BYTES_MAX: u64 = 64 << 20;

/// A head, ready to be applied to embeddings.
#[derive(Debug)]
pub(super) struct HeadFile {
    body: Body,
    activation: Activation,
    /// blake3 of the file.
    pub(super) fingerprint: [u8; 32],
}

#[derive(Debug)]
enum Body {
    /// z = W x + b.
    Linear { weights: Vec<Vec<f64>>, bias: Vec<f64> },
    /// z of a label = b + the sum of its trees' leaves.
    Trees { trees: Vec<Tree>, bias: Vec<f64> },
    /// Whatever the graph computes.
    Graph(SmallGraph),
}

/// `kind` of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Linear,
    Trees,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: String,
    kind: Kind,
    labels: Vec<String>,
    activation: Activation,
    features: usize,
    bias: Vec<f64>,
    #[serde(default)]
    weights: Vec<Vec<f64>>,
    #[serde(default)]
    trees: Vec<Tree>,
    /// What it was fitted on, where the file says so; other embeddings are refused.
    #[serde(default)]
    pooling: Option<Pooling>,
    #[serde(default)]
    window_tokens: Option<usize>,
    #[serde(default)]
    encoder_sha256: Option<String>,
    /// For people.
    #[serde(default, rename = "attribution")]
    _attribution: Option<String>,
}

/// A binary tree as parallel lists; node 0 is the root, children stand behind their parents, and a leaf has no left (-1). At an inner node,
/// features up to the threshold go left.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tree {
    label: usize,
    feature: Vec<usize>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    value: Vec<f64>,
}

impl HeadFile {
    /// Reads the head of `settings` for an encoder in `dir` whose embeddings have `width` numbers. Blocking.
    ///
    /// # Errors
    /// [`Error::Settings`] under `head` or `labels`, of the signal `name`.
    pub(super) fn load(name: &str, settings: &EmbeddingSettings, dir: &Path, width: usize) -> Result<Self, Error> {
        let wrong = |key, why: String| Error::Settings { name: name.to_owned(), key, why };
        let path = &settings.head;
        let told = |why: String| wrong("head", format!("{}: {why}", path.display()));
        let bytes = read(path).map_err(told)?;
        let fingerprint = *blake3::hash(&bytes).as_bytes();
        if path.extension().is_some_and(|kind| kind == "onnx") {
            let facts = graph::describe(bytes.clone()).map_err(|error| told(error.to_string()))?;
            if !facts.external.is_empty() {
                return Err(told("its weights lie in files of their own; save the head as one file".to_owned()));
            }
            let graph = SmallGraph::load(path, &bytes, width).map_err(|error| wrong("head", error.to_string()))?;
            if graph.width() != settings.labels.len() {
                let why = format!("{} labels are given, and the head has {}", settings.labels.len(), graph.width());
                return Err(wrong("labels", why));
            }
            return Ok(Self { body: Body::Graph(graph), activation: Activation::None, fingerprint });
        }
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| told(format!("not a head: {error}")))?;
        if let Some(why) = json.wrong() {
            return Err(told(why));
        }
        if json.features != width {
            let why =
                format!("it is for embeddings of {} numbers, and models.{} has {width}", json.features, settings.model);
            return Err(told(why));
        }
        if json.labels != settings.labels {
            return Err(wrong("labels", format!("the head's are {:?}; write them so", json.labels)));
        }
        if let Some(pooling) = json.pooling.filter(|pooling| *pooling != settings.pooling) {
            let why = format!("{} was fitted with pooling = {:?}", path.display(), pooling.as_str());
            return Err(wrong("pooling", why));
        }
        if let Some(tokens) = json.window_tokens.filter(|tokens| *tokens != settings.window_tokens) {
            let why = format!("{} was fitted with window_tokens = {tokens}", path.display());
            return Err(wrong("window_tokens", why));
        }
        if let Some(expected) = &json.encoder_sha256 {
            let found = engine::encoder_sha256(dir, &model::describe(dir)?.external)?;
            if !found.eq_ignore_ascii_case(expected) {
                let why = format!(
                    "it was fitted on another encoder: its model.onnx with its weights has sha256 {expected}, that of models.{} has {found}; fit it anew",
                    settings.model
                );
                return Err(told(why));
            }
        }
        let body = match json.kind {
            Kind::Linear => Body::Linear { weights: json.weights, bias: json.bias },
            Kind::Trees => Body::Trees { trees: json.trees, bias: json.bias },
        };
        Ok(Self { body, activation: json.activation, fingerprint })
    }

    /// A number for each label of an embedding.
    pub(super) fn apply(&self, embedding: &[f64]) -> Result<Vec<f64>, Error> {
        let logits = match &self.body {
            Body::Linear { weights, bias } => {
                let product = |row: &Vec<f64>| row.iter().zip(embedding).map(|(w, x)| w * x).sum::<f64>();
                weights.iter().zip(bias).map(|(row, bias)| product(row) + bias).collect()
            }
            Body::Trees { trees, bias } => {
                let mut logits = bias.clone();
                for tree in trees {
                    logits[tree.label] += tree.leaf(embedding);
                }
                logits
            }
            Body::Graph(graph) => {
                #[allow(clippy::cast_possible_truncation, reason = "embeddings come from single precision")]
                let features: Vec<f32> = embedding.iter().map(|x| *x as f32).collect();
                graph.run(&features)?
            }
        };
        Ok(self.activation.of(&logits))
    }
}

impl Json {
    /// What is wrong with the file in itself.
    fn wrong(&self) -> Option<String> {
        let labels = self.labels.len();
        let finite = |numbers: &[f64]| numbers.iter().all(|number| number.is_finite());
        let rows = self.weights.iter().all(|row| row.len() == self.features && finite(row));
        match self.kind {
            _ if self.format != FORMAT => Some(format!("its format is {:?}; known is {FORMAT:?}", self.format)),
            _ if labels == 0 || self.bias.len() != labels || !finite(&self.bias) => {
                Some("it needs at least one label, and a finite bias for each".to_owned())
            }
            _ if self.activation == Activation::Softmax && labels == 1 => {
                Some("softmax of a single label is always 1; use \"sigmoid\"".to_owned())
            }
            Kind::Linear if self.weights.len() != labels || !rows || !self.trees.is_empty() => {
                Some(format!("a linear head has a row of {} finite weights for each label, and no trees", self.features))
            }
            Kind::Trees if !self.weights.is_empty() || self.trees.is_empty() => {
                Some("a head of trees has trees, and no weights".to_owned())
            }
            Kind::Trees => self.trees.iter().enumerate().find_map(|(at, tree)| {
                let wrong = !tree.is_sound(self.features, labels);
                wrong.then(|| format!("tree {at} is not sound: equal lists, children behind their parents, features and labels that are there"))
            }),
            Kind::Linear => None,
        }
    }
}

impl Tree {
    fn is_sound(&self, features: usize, labels: usize) -> bool {
        let nodes = self.feature.len();
        let equal =
            [self.threshold.len(), self.left.len(), self.right.len(), self.value.len()].iter().all(|len| *len == nodes);
        // Children behind their parents: a walk ends.
        let behind = |child: i64, at: usize| usize::try_from(child).is_ok_and(|child| child > at && child < nodes);
        let node = |at: usize| match self.left[at] {
            -1 => self.value[at].is_finite(),
            left => {
                behind(left, at)
                    && behind(self.right[at], at)
                    && self.feature[at] < features
                    && self.threshold[at].is_finite()
            }
        };
        nodes > 0 && equal && self.label < labels && (0..nodes).all(node)
    }

    fn leaf(&self, embedding: &[f64]) -> f64 {
        let mut at = 0;
        while let Ok(left) = usize::try_from(self.left[at]) {
            let goes_left = embedding[self.feature[at]] <= self.threshold[at];
            at = if goes_left { left } else { usize::try_from(self.right[at]).unwrap_or(left) };
        }
        self.value[at]
    }
}

/// A file that ends, and is not too large.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read ({error})");
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > BYTES_MAX {
        true => Err(format!("it is larger than {BYTES_MAX} bytes, which no head is")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Json, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    const LINEAR: &str = r#"{"format":"tamis head 1","kind":"linear","labels":["spam"],"activation":"sigmoid","features":2,
        "weights":[[1.0,-2.0]],"bias":[0.5]}"#;
    const TREES: &str = r#"{"format":"tamis head 1","kind":"trees","labels":["spam"],"activation":"none","features":2,"bias":[1.0],
        "trees":[{"label":0,"feature":[1,0,0],"threshold":[0.5,0,0],"left":[1,-1,-1],"right":[2,-1,-1],"value":[0,10,20]}]}"#;

    #[test]
    fn heads_compute_what_they_say() {
        let linear = json(LINEAR).unwrap();
        assert_eq!(linear.wrong(), None);
        let head = |body, activation| HeadFile { body, activation, fingerprint: [0; 32] };
        let body = Body::Linear { weights: linear.weights, bias: linear.bias };
        let p = head(body, Activation::Sigmoid).apply(&[1.0, 1.0]).unwrap();
        assert!((p[0] - 1.0 / (1.0 + 0.5_f64.exp())).abs() < 1e-12);
        let trees = json(TREES).unwrap();
        assert_eq!(trees.wrong(), None);
        let head = head(Body::Trees { trees: trees.trees, bias: trees.bias }, Activation::None);
        assert_eq!((head.apply(&[9.0, 0.5]).unwrap(), head.apply(&[9.0, 0.6]).unwrap()), (vec![11.0], vec![21.0]));
    }

    #[test]
    fn heads_that_contradict_themselves_are_refused() {
        for (text, from, to, part) in [
            (LINEAR, "head 1", "head 9", "known is"),
            (LINEAR, "[1.0,-2.0]", "[1.0]", "a row of 2 finite weights"),
            (LINEAR, "[0.5]", "[]", "a finite bias"),
            (LINEAR, "sigmoid", "softmax", "always 1"),
            (TREES, "\"left\":[1", "\"left\":[0", "not sound"),
            (TREES, "\"right\":[2", "\"right\":[3", "not sound"),
            (TREES, "\"feature\":[1,0,0]", "\"feature\":[2,0,0]", "not sound"),
            (TREES, "\"label\":0", "\"label\":1", "not sound"),
        ] {
            let why = json(&text.replace(from, to)).unwrap().wrong().unwrap_or_default();
            assert!(why.contains(part), "{from} -> {to}: {why}");
        }
        assert!(json(&LINEAR.replace("\"kind\"", "\"more\":1,\"kind\"")).unwrap_err().contains("unknown field"));
    }
}
