//! Owns the plan: what a run with these settings would do, in words and in numbers.
//!
//! In: settings. Out: a [`Plan`]. Invariants: it says what was asked for, whether or not it can be had; no secret is in it.

use crate::config::Settings;
use crate::corpus::Route;
use crate::judge::{Evaluate, Missing, Override, RuleSettings};
use crate::pipeline::Guarantee;
use serde::Serialize;

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Where records come from.
    pub read: String,
    /// What is measured with a model.
    pub scores: Vec<Score>,
    /// Text signals that need no model: the tables' names.
    pub text_signals: Vec<String>,
    /// The rules in words.
    pub rules: Vec<String>,
    /// Whether model signals that can't change the verdict any more are left out.
    pub until_decided: bool,
    /// Where each verdict goes: route and topic.
    pub routes: Vec<(&'static str, String)>,
    /// What delivery promises, and how often it happens.
    pub delivery: String,
}

/// One score by a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The table's name, which is its signals' prefix.
    pub signal: String,
    /// The model's name.
    pub model: String,
    /// How windows are masked; for a head, its kind.
    pub masking: &'static str,
    /// Whether it is a masked score; else a head, which masks nothing.
    #[serde(skip)]
    pub is_masked: bool,
    /// Content tokens of a window, at most.
    pub window_tokens: usize,
    /// Rows that the device runs for a full window.
    pub passes_per_window: usize,
    /// Rows that the device runs for 100 tokens of long documents, where none ends early; shorter ones differ.
    pub rows_per_100_tokens: f64,
    /// Whether passes end early, and what is promised then.
    pub stop: Option<String>,
}

impl Plan {
    /// The plan of `settings`.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut scores = Vec::new();
        let mut text_signals = Vec::new();
        for (name, signal) in &settings.signals {
            match signal.shape() {
                Some(shape) => scores.push(Score {
                    signal: name.clone(),
                    model: shape.model.to_owned(),
                    masking: shape.masking,
                    is_masked: signal.head().is_none(),
                    window_tokens: shape.window_tokens,
                    passes_per_window: shape.passes,
                    rows_per_100_tokens: rows(shape.passes, shape.window_tokens),
                    stop: signal.stop(),
                }),
                None => text_signals.push(name.clone()),
            }
        }
        Self {
            name: settings.name.clone(),
            read: read(settings),
            scores,
            text_signals,
            rules: settings.rules.iter().map(rule).collect(),
            until_decided: settings.judge.evaluate == Evaluate::UntilDecided,
            routes: routes(settings),
            delivery: delivery(settings),
        }
    }

    /// The plan for a person: what is done, and one thing each.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("read", self.read.clone())];
        for score in &self.scores {
            let Score { signal, model, masking, window_tokens, passes_per_window, rows_per_100_tokens, stop, .. } =
                score;
            // A masking is one word; a head's kind says itself what it is.
            let how = if score.is_masked { format!("{masking} masking") } else { (*masking).to_owned() };
            let stop = stop.as_ref().map_or_else(String::new, |stop| format!("; {stop}"));
            lines.push((
                "score",
                format!(
                    "{signal}: {how} by models.{model}, windows of {window_tokens} tokens, {passes_per_window} passes a full \
                     window, about {rows_per_100_tokens:.1} rows for 100 tokens{stop}"
                ),
            ));
        }
        lines.extend(
            self.text_signals
                .iter()
                .map(|name| ("measure", format!("{name}: counts and rates of the text, without a model"))),
        );
        lines.extend(self.rules.iter().map(|rule| ("judge", rule.clone())));
        if self.until_decided {
            lines.push((
                "judge",
                "until decided: scores that can't change the verdict any more are not made".to_owned(),
            ));
        }
        if self.rules.is_empty() {
            lines.push(("judge", "no rules: every document passes".to_owned()));
        }
        lines.extend(self.routes.iter().map(|(route, to)| ("route", format!("{route} → {to}"))));
        lines.push(("deliver", self.delivery.clone()));
        lines
    }
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn rows(passes: usize, window_tokens: usize) -> f64 {
    100.0 * passes as f64 / window_tokens.max(1) as f64
}

fn read(settings: &Settings) -> String {
    match (&settings.source.kafka, &settings.source.files) {
        (Some(kafka), _) => format!("{} at {} as group {}", kafka.topics.join(", "), kafka.brokers, kafka.group),
        (None, Some(files)) => format!("the files {}", files.paths.join(", ")),
        (None, None) => "lines of standard input".to_owned(),
    }
}

fn routes(settings: &Settings) -> Vec<(&'static str, String)> {
    let place: &dyn Fn(&str) -> String = match &settings.sink.files {
        Some(files) => &|stem| files.dir.join(files.file_name(stem)).display().to_string(),
        None if settings.delivers_to_kafka() => &|topic| topic.to_owned(),
        None => return vec![("every verdict", "JSON lines on standard output".to_owned())],
    };
    let routes = &settings.routes;
    let told = |route: Route| match (route, &routes.review, &routes.annotate) {
        (Route::Review, None, None) => format!("{} (there is no route for review)", place(routes.place(route))),
        _ => place(routes.place(route)),
    };
    Route::ALL.map(|route| (route.as_str(), told(route))).to_vec()
}

fn delivery(settings: &Settings) -> String {
    let delivery = &settings.delivery;
    let guarantee = match settings.guarantee() {
        _ if settings.source.files.is_some() && settings.sink.files.is_some() => {
            "outputs and positions together (a kill repeats and loses nothing)"
        }
        Guarantee::ExactlyOnce => "exactly-once",
        Guarantee::AtLeastOnce => "at-least-once",
    };
    format!(
        "{guarantee}, at most {} documents or {} ms a commit, {} documents scored at once",
        delivery.max_batch_documents, delivery.commit_interval_ms, delivery.max_journeys
    )
}

/// A rule in words.
fn rule(rule: &RuleSettings) -> String {
    let own =
        Override { min: rule.min, max: rule.max, review_below: rule.review_below, review_above: rule.review_above };
    let missing = match rule.missing {
        Missing::Fail => "fails",
        Missing::Review => "is for review",
        Missing::Pass => "passes",
    };
    let mut words = format!("{}: {}{}; without one, {missing}", rule.name, rule.signal, bounds(&own));
    let languages = rule.by_language.iter().map(|(name, over)| ("language", name, over));
    for (what, name, over) in languages.chain(rule.by_source.iter().map(|(name, over)| ("source", name, over))) {
        words.push_str(&format!("; for {what} {name}{}", bounds(over)));
    }
    words
}

fn bounds(over: &Override) -> String {
    let fails = [(" above ", over.max), (" below ", over.min)];
    let reviewed = [(" above ", over.review_above), (" below ", over.review_below)];
    let told = |pairs: [(&str, Option<f64>); 2], then: &str| {
        let parts: Vec<String> =
            pairs.iter().filter_map(|(word, value)| Some(format!("{word}{}", (*value)?))).collect();
        if parts.is_empty() { String::new() } else { format!("{} {then}", parts.join(" or")) }
    };
    let parts: Vec<String> =
        [told(fails, "fails"), told(reviewed, "is for review")].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SignalSettings;

    #[test]
    fn a_rule_is_told_with_its_bands_and_overrides() {
        let text = r#"
            name = "fluent"
            signal = "pll.bpb"
            max = 2.2
            min = 0.1
            review_above = 2.05
            missing = "review"
            by_language = { de = { max = 3.0 } }
            by_source = { books = { review_below = 0.5 } }
        "#;
        let settings: RuleSettings = toml::from_str(text).unwrap();
        assert_eq!(
            rule(&settings),
            "fluent: pll.bpb above 2.2 or below 0.1 fails, above 2.05 is for review; without one, is for review; for language de above 3 fails; \
             for source books below 0.5 is for review"
        );
    }

    #[test]
    fn the_cost_of_a_masking_is_told_in_rows() {
        let settings = |text: &str| Settings {
            signals: [("pll".to_owned(), SignalSettings::Pll(toml::from_str(text).unwrap()))].into(),
            ..Settings::default()
        };
        let rows = |text: &str| {
            let score = Plan::of(&settings(text)).scores.remove(0);
            (score.passes_per_window, score.rows_per_100_tokens)
        };
        assert_eq!(rows("window_tokens = 90"), (90, 100.0));
        assert_eq!(rows("masking = \"strided\"\nstride = 4\nwindow_tokens = 100"), (4, 4.0));
    }
}
