//! Owns the prompt: a template around a window's text with one mask in it, the words that stand for labels there, and what becomes of their
//! log-probabilities (Schick and Schütze 2021, patterns and verbalizers; Zhao et al. 2021, "Calibrate Before Use", equation 3, for the
//! content-free calibration).

use super::settings::{Activation, PromptSettings};
use crate::scorer::Error;
use crate::tokenize::Tokenizer;

const TEXT: &str = "{text}";
const MASK: &str = "{mask}";

/// A template and label words, as ids.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prompt {
    parts: Vec<Part>,
    mask_id: u32,
    /// For each label, the ids of its words.
    labels: Vec<Vec<u32>>,
    /// ln of each label's probability without content; zeros without calibration.
    pub(super) bias: Vec<f64>,
    /// Ids of the texts without content that say so.
    pub(super) content_free: Vec<Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Ids(Vec<u32>),
    Text,
    Mask,
}

/// What is wrong with a template, if anything is.
pub(super) fn template_wrong(template: &str) -> Option<String> {
    let once = |part: &str| template.matches(part).count() == 1;
    (!once(TEXT) || !once(MASK))
        .then(|| format!("must hold {TEXT} and {MASK}, each once, as in \"{TEXT} It is {MASK}.\""))
}

/// The pieces between the two places, in order: `Ok` is literal text, `Err` a place.
fn pieces(template: &str) -> Vec<Result<&str, &'static str>> {
    let mut found = [TEXT, MASK].map(|place| (template.find(place).unwrap_or(0), place));
    found.sort_unstable();
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (at, place) in found {
        pieces.extend([Ok(&template[start..at]), Err(place)]);
        start = at + place.len();
    }
    pieces.push(Ok(&template[start..]));
    pieces
}

impl Prompt {
    /// The prompt of `settings`, whose template was checked, for a model's tokenizer. Literal parts are tokenised each by itself, white space at their
    /// ends left out; a label's word with a space before it if the mask has one.
    ///
    /// # Errors
    /// [`Error::Settings`] of the signal `name` where a word is not exactly one known token, or stands for two labels.
    pub(super) fn new(name: &str, settings: &PromptSettings, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let wrong = |why: String| Error::Settings { name: name.to_owned(), key: "labels", why };
        let spaced = settings.template.split(MASK).next().is_some_and(|before| before.ends_with(char::is_whitespace));
        let mut labels: Vec<Vec<u32>> = Vec::new();
        for (label, words) in &settings.labels {
            let mut ids = Vec::new();
            for word in words {
                let found = tokenizer.encode(&if spaced { format!(" {word}") } else { word.clone() })?.ids;
                match found.as_slice() {
                    [id] if Some(*id) == tokenizer.unk_id() => {
                        return Err(wrong(format!("{label}: the model does not know {word:?}; choose another word")));
                    }
                    [id] if labels.iter().any(|known| known.contains(id)) || ids.contains(id) => {
                        return Err(wrong(format!(
                            "{label}: {word:?} is the token of another word; each may stand there once"
                        )));
                    }
                    [id] => ids.push(*id),
                    several => {
                        let why = format!(
                            "{label}: {word:?} is {} tokens of the model, and at the mask stands one: choose a shorter or more common word",
                            several.len()
                        );
                        return Err(wrong(why));
                    }
                }
            }
            labels.push(ids);
        }
        let (before, after) = tokenizer.template();
        let mut parts = vec![Part::Ids(before.to_vec())];
        for piece in pieces(&settings.template) {
            parts.push(match piece {
                Ok(literal) => Part::Ids(tokenizer.encode(literal.trim_end())?.ids),
                Err(TEXT) => Part::Text,
                Err(_) => Part::Mask,
            });
        }
        parts.push(Part::Ids(after.to_vec()));
        let bias = vec![0.0; labels.len()];
        Ok(Self { parts, mask_id: tokenizer.mask_id(), labels, bias, content_free: Vec::new() })
    }

    /// A window's ids in the template, special tokens included, and where the mask is.
    pub(super) fn row(&self, window: &[u32]) -> (Vec<u32>, u32) {
        let (mut row, mut mask) = (Vec::new(), 0);
        for part in &self.parts {
            match part {
                Part::Ids(ids) => row.extend_from_slice(ids),
                Part::Text => row.extend_from_slice(window),
                Part::Mask => {
                    mask = u32::try_from(row.len()).unwrap_or(u32::MAX);
                    row.push(self.mask_id);
                }
            }
        }
        (row, mask)
    }

    /// Ids of all words, label by label.
    pub(super) fn words(&self) -> Vec<u32> {
        self.labels.concat()
    }

    /// Everything that a window's log-probabilities depend on but the model and the window, which stands in the row.
    pub(super) fn describe_raw(&self) -> String {
        format!("prompt {:?} {:?}", self.row(&[]).1, self.words())
    }

    /// The template, and what becomes of them. The texts without content stand for the bias that the model makes of them, whose last bits differ from
    /// device to device.
    pub(super) fn describe(&self) -> String {
        let part = |part: &Part| match part {
            Part::Ids(ids) => format!("{ids:?}"),
            Part::Text => "text".to_owned(),
            Part::Mask => format!("mask {}", self.mask_id),
        };
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        let counts: Vec<usize> = self.labels.iter().map(Vec::len).collect();
        format!("{} {counts:?} {:?}", parts.join(" "), self.content_free)
    }

    /// A probability for each label, of the log-probabilities of all words: softmax over labels of the mean over a label's words, less the bias.
    #[allow(clippy::cast_precision_loss, reason = "a handful of words")]
    pub(super) fn probabilities(&self, logprobs: &[f64]) -> Vec<f64> {
        let mut left = logprobs;
        let mut scores = Vec::with_capacity(self.labels.len());
        for (ids, bias) in self.labels.iter().zip(&self.bias) {
            let (own, rest) = left.split_at(ids.len().min(left.len()));
            scores.push(own.iter().sum::<f64>() / own.len().max(1) as f64 - bias);
            left = rest;
        }
        Activation::Softmax.of(&scores)
    }

    /// Takes off what the model says without content: ln of the labels' mean probability over `free`, each the log-probabilities of all words.
    #[allow(clippy::cast_precision_loss, reason = "a handful of texts")]
    pub(super) fn calibrate(&mut self, free: &[Vec<f64>]) {
        if free.is_empty() {
            return;
        }
        let mut sums = vec![0.0; self.labels.len()];
        for logprobs in free {
            sums.iter_mut().zip(self.probabilities(logprobs)).for_each(|(sum, p)| *sum += p);
        }
        // A probability of nothing would make every score infinite.
        self.bias = sums.into_iter().map(|sum| f64::max(sum / free.len() as f64, f64::MIN_POSITIVE).ln()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_holds_both_places_once_in_any_order() {
        assert_eq!(template_wrong("{text} It is {mask}."), None);
        for template in ["", "{text}", "{mask}", "{text}{text}{mask}", "{mask} {mask} {text}"] {
            assert!(template_wrong(template).is_some(), "{template}");
        }
        assert_eq!(pieces("{text} It is {mask}."), [Ok(""), Err(TEXT), Ok(" It is "), Err(MASK), Ok(".")]);
        assert_eq!(pieces("A {mask}: {text}"), [Ok("A "), Err(MASK), Ok(": "), Err(TEXT), Ok("")]);
    }

    #[test]
    fn rows_hold_the_window_and_one_mask() {
        let parts = vec![Part::Ids(vec![1, 7]), Part::Text, Part::Ids(vec![8]), Part::Mask, Part::Ids(vec![2])];
        let labels = vec![vec![10], vec![11, 12]];
        let prompt = Prompt { parts, mask_id: 3, labels, bias: vec![0.0; 2], content_free: Vec::new() };
        assert_eq!(prompt.row(&[20, 21]), (vec![1, 7, 20, 21, 8, 3, 2], 5));
        assert_eq!(prompt.words(), [10, 11, 12]);
    }

    #[test]
    fn prompts_that_differ_in_words_places_or_calibration_are_described_differently() {
        let prompt = |parts: &[Part], content_free: &[&[u32]]| {
            let content_free = content_free.iter().map(|ids| ids.to_vec()).collect();
            let made =
                Prompt { parts: parts.to_vec(), mask_id: 3, labels: vec![vec![10]], bias: vec![0.0], content_free };
            made.describe()
        };
        let ids = |ids: &[u32]| Part::Ids(ids.to_vec());
        // "{text} It is {mask}." and "{text} All was {mask}!" put the mask at one place.
        let one = prompt(&[Part::Text, ids(&[7, 8]), Part::Mask, ids(&[9])], &[]);
        for other in [
            prompt(&[Part::Text, ids(&[5, 6]), Part::Mask, ids(&[4])], &[]),
            prompt(&[ids(&[7, 8]), Part::Mask, Part::Text, ids(&[9])], &[]),
            prompt(&[Part::Text, ids(&[7, 8]), Part::Mask, ids(&[9])], &[&[]]),
            prompt(&[Part::Text, ids(&[7, 8]), Part::Mask, ids(&[9])], &[&[1]]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn labels_are_means_over_words_and_calibration_makes_nothing_say_nothing() {
        let labels = vec![vec![10], vec![11, 12]];
        let mut prompt = Prompt { parts: Vec::new(), mask_id: 3, labels, bias: vec![0.0; 2], content_free: Vec::new() };
        let logprobs = [0.2_f64.ln(), 0.4_f64.ln(), 0.1_f64.ln()];
        let p = prompt.probabilities(&logprobs);
        assert!((p[0] - 0.5).abs() < 1e-12, "0.2 against the geometric mean of 0.4 and 0.1: {p:?}");
        let free = vec![vec![0.5_f64.ln(), 0.1_f64.ln(), 0.1_f64.ln()]];
        prompt.calibrate(&free);
        let p = prompt.probabilities(&free[0]);
        assert!((p[0] - 0.5).abs() < 1e-12, "{p:?}");
        let p = prompt.probabilities(&logprobs);
        assert!((p[1] - 5.0 / 6.0).abs() < 1e-12, "{p:?}");
    }
}
