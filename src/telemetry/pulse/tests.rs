//! What flowed, told by a clock that the tests turn.

use super::*;
use crate::corpus::{Bound, Lane, Origin, Signals, Status, Verdict};
use std::iter;

const MINUTE: Duration = Duration::from_secs(60);

fn judged(decision: Decision, language: &str, score: f64) -> Judged {
    let origin = Origin { lane: Lane { topic: "corpus.raw".into(), partition: 1 }, offset: 7 };
    let record = Record { origin, key: None, value: None, timestamp_ms: None, headers: Vec::new(), defect: None };
    let reason = Reason {
        rule: "fluent".into(),
        signal: "pll.nll_token".into(),
        value: Some(score),
        bound: Bound::Max(4.2),
        decision,
    };
    let mut signals = Signals::new();
    signals.number("pll.nll_token", score);
    Judged::Document {
        record,
        document: Document {
            id: Some("x".repeat(200)),
            text: "é".repeat(300),
            language: Some(language.to_owned()),
            source: None,
        },
        signals,
        verdict: Verdict {
            decision,
            status: Status::Scored,
            reasons: if decision == Decision::Pass { Vec::new() } else { vec![reason] },
            skipped: Vec::new(),
        },
    }
}

#[test]
fn a_rate_is_of_the_last_seconds_and_goes_back_to_nothing() {
    let mut pulse = Pulse::default();
    (0..20).for_each(|_| pulse.witness(iter::once(&judged(Decision::Pass, "en", 1.0)), Duration::from_secs(11), 0));
    let vitals = pulse.vitals(Duration::from_secs(14));
    assert!((vitals.now.per_second["pass"] - 20.0 / 14.0).abs() < 1e-9, "{vitals:?}");
    assert_eq!(vitals.history.documents["pass"], [0, 0, 20]);
    let later = pulse.vitals(MINUTE);
    assert_eq!((later.now.per_second["pass"], later.now.keep_rate), (0.0, Some(1.0)));
    assert_eq!(pulse.vitals(20 * MINUTE).now.keep_rate, None, "an old keep rate is none");
}

#[test]
fn keep_rates_are_told_by_language_and_minute_the_largest_first() {
    let mut pulse = Pulse::default();
    pulse.witness(iter::once(&judged(Decision::Pass, "en-GB", 1.0)), MINUTE, 0);
    pulse.witness(iter::once(&judged(Decision::Fail, "en", 9.0)), 2 * MINUTE, 0);
    pulse.witness(iter::once(&judged(Decision::Review, "de", 4.0)), 2 * MINUTE, 0);
    let languages = pulse.vitals(2 * MINUTE).languages;
    assert_eq!((languages[0].language, languages[1].language), ("en", "de"));
    assert_eq!((languages[0].kept.as_slice(), languages[0].judged.as_slice()), (&[0, 1, 0][..], &[0, 1, 1][..]));
    assert!(pulse.vitals(100 * MINUTE).languages.is_empty(), "an hour later nothing is left");
}

#[test]
fn a_reject_shows_its_reasons_and_its_text_only_on_request() {
    let mut pulse = Pulse::default();
    pulse.witness(iter::once(&judged(Decision::Pass, "en", 1.0)), MINUTE, 5);
    pulse.witness(iter::once(&judged(Decision::Fail, "en", 5.13)), MINUTE, 6);
    pulse.show_text = true;
    pulse.witness(iter::once(&judged(Decision::Fail, "en", 6.0)), MINUTE, 7);
    let rejects = pulse.vitals(MINUTE).rejects;
    assert_eq!(rejects.iter().map(|reject| reject.at_ms).collect::<Vec<_>>(), [7, 6], "the newest first");
    assert_eq!((rejects[1].source.as_str(), rejects[1].text.as_ref()), ("corpus.raw/1/7", None));
    assert_eq!(rejects[0].text.as_ref().map(|text| text.chars().count()), Some(TEXT_CHARS + 1));
    assert_eq!(rejects[0].id.as_ref().map(|id| id.chars().count()), Some(ID_CHARS + 1));
    let json = serde_json::to_string(&rejects[1]).unwrap();
    assert!(
        json.contains(r#""reasons":[{"rule":"fluent","signal":"pll.nll_token","value":5.13,"max":4.2}]"#),
        "{json}"
    );
}

#[test]
fn nothing_grows_with_what_flows() {
    let mut pulse = Pulse::default();
    pulse.set_dials(vec![Dial { rule: "r".into(), signal: "pll.nll_token".into(), max: Some(3.0), ..Dial::default() }]);
    for n in 0..5_000_u32 {
        let age = Duration::from_secs(u64::from(n) * 3);
        pulse.witness(iter::once(&judged(Decision::Fail, &format!("tag{n}"), f64::from(n))), age, 0);
        pulse.tick(age, Reading { busy_micros: u64::from(n), ..Reading::default() });
    }
    let vitals = pulse.vitals(Duration::from_secs(15_000));
    assert_eq!(vitals.rejects.len(), REJECTS);
    assert!(vitals.languages.len() == 1 && vitals.languages[0].judged.len() <= KEEP_MINUTES);
    assert!(vitals.history.device_busy.len() <= SLOTS && vitals.scores.len() == 1);
}

#[test]
fn the_device_s_share_is_what_was_done_between_two_readings() {
    let mut pulse = Pulse::default();
    let at = |busy_micros| Reading { busy_micros, ..Reading::default() };
    pulse.tick(Duration::from_secs(0), at(77_000_000));
    pulse.tick(Duration::from_secs(4), at(79_000_000));
    let now = pulse.vitals(Duration::from_secs(4)).now;
    assert!((now.device_busy - 0.5).abs() < 1e-9, "{now:?}");
}

#[test]
fn of_a_batch_the_newest_rejects_are_remembered_and_everything_is_counted() {
    let mut pulse = Pulse::default();
    let batch: Vec<Judged> = (0..3 * REJECTS)
        .map(|n| judged(if n % 2 == 0 { Decision::Fail } else { Decision::Pass }, &format!("tag{n}"), 1.0))
        .collect();
    pulse.witness(batch[..4].iter(), Duration::ZERO, 1);
    pulse.witness(batch.iter(), Duration::ZERO, 2);
    pulse.witness(batch[..2].iter(), Duration::ZERO, 3);
    let vitals = pulse.vitals(Duration::ZERO);
    let tags: Vec<&str> = vitals.rejects.iter().filter_map(|reject| reject.language.as_deref()).collect();
    let expected: Vec<String> = iter::once(0)
        .chain((0..3 * REJECTS).rev().filter(|n| n % 2 == 0))
        .take(REJECTS)
        .map(|n| format!("tag{n}"))
        .collect();
    assert_eq!(tags, expected);
    let counted: u32 = vitals.history.documents.values().flatten().sum();
    assert_eq!(counted as usize, 4 + 3 * REJECTS + 2);
}
