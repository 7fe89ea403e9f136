//! What a pipeline file means, what lies over it, what is refused, and in which words.

mod checks;
mod layers;
mod pipelines;

use super::*;
use std::ffi::OsString;

/// A whole pipeline from Kafka to Kafka.
const KAFKA: &str = r#"
name = "web"

[source.kafka]
topics = ["corpus.raw"]
group = "tamis-web"

[models.default]

[signals.pll]
kind = "pll"

[signals.text]
kind = "text"

[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 4.2
review_above = 3.9

[[rules]]
name = "long"
signal = "text.words"
min = 5

[routes]
pass = "corpus.pass"
fail = "corpus.fail"
dead_letter = "corpus.dead"
"#;

fn load_with(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Settings, Error> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    load_text(text, Path::new("my.toml"), variables.collect::<Vec<_>>(), &sets)
}

fn loaded(text: &str) -> Settings {
    load_with(text, &[], &[]).unwrap()
}

fn refused(text: &str) -> String {
    load_with(text, &[], &[]).unwrap_err().to_string()
}

/// `KAFKA` with each of `sets` over it.
fn with(sets: &[&str]) -> Settings {
    load_with(KAFKA, &[], sets).unwrap()
}
