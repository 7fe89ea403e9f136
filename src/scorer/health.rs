//! Owns the health check of a masked-LM head: ordinary sentences must score better than their own words shuffled.
//!
//! Exports whose head was lost or never trained (a known case: DeBERTa) load and run like any other, and talk nonsense.

use super::plan::{Plan, Window};
use super::score::surprisals;
use super::{Error, Model};
use serde::Serialize;

/// The mean surprisal must stay below this share of that of guessing blindly, ln V.
const SURPRISAL_SHARE_MAX: f64 = 0.8;
/// Of the sentences, at least this many in a hundred must score better than their shuffle.
const BETTER_PERCENT_MIN: usize = 95;
const STRIDE: usize = 7;

/// How a head does on ordinary English sentences and on their own words shuffled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Mean surprisal on the sentences, nats a token.
    pub nats_token: f64,
    /// The most that is expected of a sound head.
    pub limit_nats: f64,
    /// Sentences tried.
    pub sentences: usize,
    /// Those that score better than their words shuffled.
    pub better: usize,
}

impl Health {
    /// Whether the head makes sense.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.nats_token <= self.limit_nats && self.better * 100 >= self.sentences * BETTER_PERCENT_MIN
    }

    /// Refuses a model whose head makes none.
    pub(super) fn check(&self, model: &Model) -> Result<(), Error> {
        if self.is_sound() {
            return Ok(());
        }
        let why = format!(
            "{:.2} nats a token on plain English (at most {:.2} expected), and {} of {} sentences score better than their words \
             shuffled (at least {BETTER_PERCENT_MIN} % expected){}",
            self.nats_token,
            self.limit_nats,
            self.better,
            self.sentences,
            model.card().known_trouble()
        );
        Err(Error::Unhealthy { name: model.name().to_owned(), why })
    }
}

/// Tries `model` on English sentences, strided: about 300 rows.
pub(super) async fn measure(model: &Model) -> Result<Health, Error> {
    let (mut sum, mut tokens, mut better) = (0.0, 0_usize, 0_usize);
    for (number, sentence) in SENTENCES.iter().enumerate() {
        let shuffled = shuffle(sentence, number as u64);
        let (plain, shuffled) = tokio::try_join!(score(model, sentence), score(model, &shuffled))?;
        sum += plain.iter().sum::<f64>();
        tokens += plain.len();
        better += usize::from(mean(&plain) < mean(&shuffled));
    }
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let (nats_token, limit_nats) =
        (sum / tokens as f64, (model.tokenizer().vocab_size() as f64).ln() * SURPRISAL_SHARE_MAX);
    tracing::debug!(model = model.name(), nats_token, limit_nats, better, "checked the masked-lm head");
    Ok(Health { nats_token, limit_nats, sentences: SENTENCES.len(), better })
}

/// Surprisals of the tokens of the English sentences, one after the other.
pub(super) async fn surprisals_of_sentences(model: &Model) -> Result<Vec<f64>, Error> {
    let mut all = Vec::new();
    for sentence in SENTENCES {
        all.extend(score(model, sentence).await?);
    }
    Ok(all)
}

/// Surprisals of a text's tokens, in one window.
async fn score(model: &Model, text: &str) -> Result<Vec<f64>, Error> {
    let (before, after) = model.tokenizer().template();
    let room = model.tokenizer().max_positions().saturating_sub(before.len() + after.len());
    let mut ids = model.tokenizer().encode(text)?.ids;
    ids.truncate(room);
    let scores = surprisals(model, Plan::Strided { stride: STRIDE }, &Window { ids: &ids, words: &[] }).await?;
    Ok(scores.into_iter().flatten().collect())
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// The words of a sentence in an order that is always the same (Fisher and Yates, with Knuth's congruential generator).
fn shuffle(sentence: &str, seed: u64) -> String {
    let mut words: Vec<&str> = sentence.split(' ').collect();
    let mut state = seed;
    for last in (1..words.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = usize::try_from(state >> 33).unwrap_or(0) % (last + 1);
        words.swap(last, drawn);
    }
    words.join(" ")
}

const SENTENCES: [&str; 20] = [
    "The old man sat down by the fire and began to tell them about the long winter of his youth.",
    "She opened the letter with a knife, read it twice, and put it back into the drawer.",
    "In the morning the children walked to school along the river, because the road was closed.",
    "The company said that it would sell its offices in the city and move to a smaller town.",
    "Water boils at a lower temperature in the mountains than it does at the level of the sea.",
    "He had never been to the north of the country, and he did not know what to expect there.",
    "The book was written in the first half of the nineteenth century and is still read today.",
    "If you want to catch the early train, you should leave the house before six in the morning.",
    "They found a small dog under the bridge and took it home, where it slept for two days.",
    "The city was founded by the Romans and became an important place of trade in later years.",
    "Most of the students said that they would like to have more time to read before the test.",
    "The doctor told him to stay in bed for a week and to drink as much water as he could.",
    "After the war many people left the village and went to look for work in other parts of the country.",
    "The new law will come into force at the end of the year, unless the court decides against it.",
    "There was a large tree in front of the house, and in the summer we used to sit under it.",
    "The team won the first game of the season but lost the next three in front of its own fans.",
    "I do not think that he is right, but I can see why he would say such a thing.",
    "The road to the coast runs through a dark forest and over two high bridges made of stone.",
    "She worked for many years as a teacher in a small school before she wrote her first novel.",
    "The ship left the harbour at night, and by the time the sun rose there was no land in sight.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_the_words_and_moves_them() {
        for (number, sentence) in SENTENCES.iter().enumerate() {
            let shuffled = shuffle(sentence, number as u64);
            let sorted = |text: &str| {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                words.sort();
                words
            };
            assert_eq!(sorted(sentence), sorted(&shuffled));
            let moved = sentence.split(' ').zip(shuffled.split(' ')).filter(|(a, b)| a != b).count();
            assert!(moved * 2 > sentence.split(' ').count(), "{shuffled}");
        }
    }
}
