//! Verdicts by table, and what no set of rules may do.

use super::*;
use crate::corpus::Bound;
use proptest::prelude::*;

fn rule(name: &str, change: impl FnOnce(&mut RuleSettings)) -> RuleSettings {
    let mut rule = RuleSettings {
        name: name.to_owned(),
        signal: "s.x".to_owned(),
        min: None,
        max: None,
        review_below: None,
        review_above: None,
        by_language: Default::default(),
        by_source: Default::default(),
        missing: Missing::Fail,
    };
    change(&mut rule);
    rule
}

fn known() -> BTreeSet<String> {
    ["s.x", "s.y", "s.nll_token"].map(str::to_owned).into()
}

fn document(language: Option<&str>, source: Option<&str>) -> Document {
    Document { id: None, text: String::new(), language: language.map(Into::into), source: source.map(Into::into) }
}

fn signals(value: f64) -> Signals {
    let mut signals = Signals::new();
    signals.number("s.x", value);
    signals
}

fn verdict(rules: &[RuleSettings], value: f64) -> Verdict {
    Judge::new(rules, &known()).unwrap().judge(&document(None, None), &signals(value))
}

fn problems(rules: &[RuleSettings]) -> Vec<String> {
    Judge::new(rules, &known()).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

#[test]
fn without_rules_everything_passes() {
    let verdict = verdict(&[], 1.0);
    assert_eq!((verdict.decision, verdict.status, verdict.reasons.len()), (Decision::Pass, Status::Scored, 0));
}

#[test]
fn bounds_are_inclusive_and_bands_lie_inside_them() {
    let both = rule("r", |r| {
        (r.min, r.review_below, r.review_above, r.max) = (Some(1.0), Some(2.0), Some(3.0), Some(4.0));
    });
    let golden = [
        (0.9, Decision::Fail, Some(Bound::Min(1.0))),
        (1.0, Decision::Review, Some(Bound::ReviewBelow(2.0))),
        (1.9, Decision::Review, Some(Bound::ReviewBelow(2.0))),
        (2.0, Decision::Pass, None),
        (3.0, Decision::Pass, None),
        (3.1, Decision::Review, Some(Bound::ReviewAbove(3.0))),
        (4.0, Decision::Review, Some(Bound::ReviewAbove(3.0))),
        (4.1, Decision::Fail, Some(Bound::Max(4.0))),
    ];
    for (value, decision, bound) in golden {
        let verdict = verdict(std::slice::from_ref(&both), value);
        assert_eq!(verdict.decision, decision, "{value}");
        assert_eq!(verdict.reasons.first().map(|reason| reason.bound), bound, "{value}");
    }
}

#[test]
fn the_worst_rule_wins_and_every_reason_is_told_in_order() {
    let rules = [
        rule("eye", |r| r.review_above = Some(1.0)),
        rule("fine", |r| r.max = Some(9.0)),
        rule("far", |r| r.max = Some(2.0)),
    ];
    let verdict = verdict(&rules, 3.0);
    assert_eq!(verdict.decision, Decision::Fail);
    let told: Vec<_> = verdict.reasons.iter().map(|r| (&*r.rule, r.decision, r.value)).collect();
    assert_eq!(told, [("eye", Decision::Review, Some(3.0)), ("far", Decision::Fail, Some(3.0))]);
}

#[test]
fn overrides_go_key_by_key_language_first_then_source() {
    let over = |max, review_above| Override { max, review_above, ..Override::default() };
    let rule = rule("r", |r| {
        (r.max, r.review_above) = (Some(4.0), Some(3.0));
        r.by_language.insert("de".to_owned(), over(Some(6.0), None));
        r.by_source.insert("web".to_owned(), over(None, Some(1.0)));
        r.by_source.insert("books".to_owned(), over(Some(3.5), None));
    });
    let judge = Judge::new(&[rule], &known()).unwrap();
    let bound = |language, source, value| {
        let verdict = judge.judge(&document(language, source), &signals(value));
        verdict.reasons.first().map(|reason| reason.bound)
    };
    assert_eq!(bound(None, None, 5.0), Some(Bound::Max(4.0)));
    assert_eq!(bound(Some("xx"), Some("xx"), 5.0), Some(Bound::Max(4.0)));
    assert_eq!(bound(Some("de"), None, 5.0), Some(Bound::ReviewAbove(3.0)));
    assert_eq!(bound(Some("de"), Some("web"), 2.0), Some(Bound::ReviewAbove(1.0)));
    assert_eq!(bound(Some("de"), Some("web"), 6.5), Some(Bound::Max(6.0)));
    assert_eq!(bound(Some("de"), Some("books"), 5.0), Some(Bound::Max(3.5)));
    assert_eq!(bound(Some("DE"), None, 5.0), Some(Bound::Max(4.0)));
}

#[test]
fn a_missing_number_decides_as_the_rule_says() {
    for (missing, decision, reasons) in
        [(Missing::Fail, Decision::Fail, 1), (Missing::Review, Decision::Review, 1), (Missing::Pass, Decision::Pass, 0)]
    {
        let rules = [rule("r", |r| (r.max, r.missing) = (Some(1.0), missing))];
        let judge = Judge::new(&rules, &known()).unwrap();
        let mut label = Signals::new();
        label.text("s.x", "not a number");
        for signals in [Signals::new(), label] {
            let verdict = judge.judge(&document(None, None), &signals);
            assert_eq!((verdict.decision, verdict.status), (decision, Status::Unscorable));
            assert_eq!(verdict.reasons.len(), reasons);
            assert!(verdict.reasons.iter().all(|r| r.bound == Bound::Missing && r.value.is_none()));
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let rules = [
        rule("", |r| r.max = Some(1.0)),
        rule("a", |_| ()),
        rule("a", |r| (r.signal, r.max) = ("s.nll_tokn".to_owned(), Some(f64::INFINITY))),
        rule("b", |r| (r.min, r.max) = (Some(2.0), Some(1.0))),
        rule("c", |r| (r.max, r.review_above) = (Some(1.0), Some(2.0))),
        rule("d", |r| (r.min, r.review_below) = (Some(1.0), Some(0.0))),
        rule("e", |r| (r.review_below, r.review_above) = (Some(2.0), Some(1.0))),
    ];
    let told = problems(&rules);
    let expected = [
        "needs a name",
        "no bound",
        "earlier rule has this name",
        "did you mean \"s.nll_token\"?",
        "max must be a finite number",
        "min = 2 must not be above max = 1",
        "review_above = 2 must not be above max = 1",
        "min = 1 must not be above review_below = 0",
        "review_below = 2 must not be above review_above = 1",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{told} lacks {expected}");
    }
}

#[test]
fn an_override_that_breaks_the_order_is_told_where_it_does() {
    let broken = rule("r", |r| {
        (r.max, r.review_above) = (Some(4.0), Some(3.0));
        r.by_language.insert("de".to_owned(), Override { max: Some(2.0), ..Override::default() });
        r.by_language.insert("fr".to_owned(), Override { max: Some(3.5), ..Override::default() });
        r.by_source.insert("web".to_owned(), Override { review_above: Some(3.8), ..Override::default() });
    });
    let told = problems(&[broken]);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("by_language.de: review_above = 3 "));
    assert!(told[1].contains("by_language.de with by_source.web"));
    assert!(told[2].contains("by_language.fr with by_source.web: review_above = 3.8"));
}

#[test]
fn a_rule_may_be_bounded_for_some_documents_only() {
    let only = rule("r", |r| {
        r.by_language.insert("de".to_owned(), Override { max: Some(2.0), ..Override::default() });
    });
    assert_eq!(verdict(&[only], 9.0).decision, Decision::Pass);
}

#[test]
fn the_policy_is_the_rules_and_nothing_else() {
    let policy = |rules: &[RuleSettings]| Judge::new(rules, &known()).unwrap().policy().to_owned();
    let a = rule("a", |r| r.max = Some(0.0));
    let b = rule("b", |r| r.min = Some(1.0));
    assert_eq!(policy(&[]).len(), 16);
    assert_eq!(policy(std::slice::from_ref(&a)), policy(&[rule("a", |r| r.max = Some(-0.0))]));
    let mut all = BTreeSet::new();
    all.insert(policy(&[]));
    all.insert(policy(std::slice::from_ref(&a)));
    all.insert(policy(&[a.clone(), b.clone()]));
    all.insert(policy(&[b.clone(), a.clone()]));
    all.insert(policy(&[rule("a", |r| r.max = Some(1.0))]));
    all.insert(policy(&[rule("a", |r| r.min = Some(0.0))]));
    all.insert(policy(&[rule("a", |r| (r.max, r.missing) = (Some(0.0), Missing::Pass))]));
    let over = Override { max: Some(0.0), ..Override::default() };
    all.insert(policy(&[rule("a", |r| {
        r.max = Some(0.0);
        r.by_language.insert("de".to_owned(), over.clone());
    })]));
    all.insert(policy(&[rule("a", |r| {
        r.max = Some(0.0);
        r.by_source.insert("de".to_owned(), over.clone());
    })]));
    assert_eq!(all.len(), 9);
}

#[test]
fn the_policy_does_not_change_between_builds() {
    // Headers and dashboards compare it across releases; a change here is a CHANGELOG line.
    let fixed = rule("fluent", |r| (r.max, r.review_above) = (Some(4.2), Some(3.9)));
    assert_eq!(Judge::new(&[fixed], &known()).unwrap().policy(), "906a69e63e1abb1d");
}

/// What a journey does: asks for one group of signals after the other, and measures those that are needed.
fn until_decided(judge: &Judge, document: &Document, cheap: &Signals, dear: &[(Vec<Arc<str>>, Signals)]) -> Verdict {
    let mut signals = cheap.clone();
    let mut unmeasured: Vec<Arc<str>> = dear.iter().flat_map(|(names, _)| names.clone()).collect();
    let mut skipped = Vec::new();
    for (names, measured) in dear {
        if judge.needs(document, &signals, names, &unmeasured) {
            signals.extend(measured.clone());
            unmeasured.retain(|name| !names.contains(name));
        } else {
            skipped.extend(names.iter().cloned());
        }
    }
    judge.judge_without(document, &signals, skipped)
}

#[test]
fn what_can_not_make_a_verdict_worse_is_not_needed() {
    let cheap = |change: fn(&mut RuleSettings)| {
        rule("cheap", |r| {
            r.signal = "s.y".into();
            change(r);
        })
    };
    let dear = |change: fn(&mut RuleSettings)| rule("dear", change);
    let asked = [Arc::from("s.x")];
    let mut signals = Signals::new();
    signals.number("s.y", 5.0);
    let needs = |rules: &[RuleSettings], signals: &Signals| {
        let judge = Judge::new(rules, &known()).unwrap().evaluating(Evaluate::UntilDecided);
        judge.needs(&document(None, None), signals, &asked, &asked)
    };
    let max = |r: &mut RuleSettings| r.max = Some(1.0);
    let far = |r: &mut RuleSettings| r.max = Some(9.0);
    let eye = |r: &mut RuleSettings| r.review_above = Some(1.0);
    let eye_only = |r: &mut RuleSettings| (r.review_above, r.missing) = (Some(1.0), Missing::Review);
    assert!(!needs(&[cheap(max), dear(max)], &signals), "a fail is the worst there is");
    assert!(needs(&[cheap(far), dear(max)], &signals));
    assert!(needs(&[cheap(eye), dear(max)], &signals), "review may yet become fail");
    assert!(needs(&[cheap(eye), dear(eye)], &signals), "a missing number would fail");
    assert!(!needs(&[cheap(eye), dear(eye_only)], &signals), "it can't get worse than review");
    assert!(needs(&[cheap(far), dear(eye_only)], &signals));
    assert!(!needs(&[cheap(far)], &signals), "no rule asks");
    assert!(!needs(&[cheap(far), dear(max)], &Signals::new()), "what is missing for good decides, too");
    let all = Judge::new(&[cheap(max)], &known()).unwrap();
    assert!(all.needs(&document(None, None), &signals, &asked, &asked), "all is all");
}

#[test]
fn a_skipped_signal_is_neither_missing_nor_a_reason() {
    let rules = [rule("cheap", |r| (r.signal, r.max) = ("s.y".into(), Some(1.0))), rule("dear", |r| r.max = Some(1.0))];
    let judge = Judge::new(&rules, &known()).unwrap().evaluating(Evaluate::UntilDecided);
    let mut signals = Signals::new();
    signals.number("s.y", 5.0);
    let verdict = judge.judge_without(&document(None, None), &signals, vec!["s.x".into()]);
    assert_eq!((verdict.decision, verdict.status), (Decision::Fail, Status::Scored));
    assert_eq!(verdict.reasons.iter().map(|reason| &*reason.rule).collect::<Vec<_>>(), ["cheap"]);
    assert_eq!(verdict.skipped, ["s.x".into()]);
    assert_eq!(judge.policy(), Judge::new(&rules, &known()).unwrap().policy(), "the policy is the rules");
}

/// Rules over the signals of one cheap and three dear groups, with every kind of threshold, override and `missing`.
fn any_rules() -> impl Strategy<Value = Vec<RuleSettings>> {
    let threshold = || prop::option::of(-3..4_i8).prop_map(|value| value.map(f64::from));
    let over = (threshold(), threshold());
    let missing = prop::sample::select(vec![Missing::Fail, Missing::Review, Missing::Pass]);
    let one = (0..8_usize, threshold(), threshold(), threshold(), threshold(), prop::option::of(over), missing);
    prop::collection::vec(one, 0..7).prop_map(|rules| {
        let mut made = Vec::new();
        for (at, (signal, a, b, c, d, over, missing)) in rules.into_iter().enumerate() {
            // Sorted, so that they are in an order that is allowed; a rule without any is left out.
            let mut values: Vec<f64> = [a, b, c, d].into_iter().flatten().collect();
            values.sort_by(f64::total_cmp);
            let mut values = values.into_iter();
            let mut next = |wanted: Option<f64>| wanted.and_then(|_| values.next());
            let settings = rule(&format!("r{at}"), |r| {
                (r.min, r.review_below, r.review_above, r.max) = (next(a), next(b), next(c), next(d));
                (r.signal, r.missing) = (format!("g{}.s{}", signal / 2, signal % 2), missing);
                if let Some((min, max)) = over {
                    r.by_language.insert("de".to_owned(), Override { min, ..Override::default() });
                    r.by_source.insert("web".to_owned(), Override { max, ..Override::default() });
                }
            });
            let names: BTreeSet<String> = [settings.signal.clone()].into();
            if Judge::new(std::slice::from_ref(&settings), &names).is_ok() {
                made.push(settings);
            }
        }
        made
    })
}

/// Two signals for each of four groups; some are absent.
fn any_signals() -> impl Strategy<Value = Vec<Signals>> {
    let value = prop::option::weighted(0.8, -4..5_i8);
    prop::collection::vec((value.clone(), value), 4..5).prop_map(|groups| {
        let measured = |(group, (first, second)): (usize, (Option<i8>, Option<i8>))| {
            let mut signals = Signals::new();
            for (at, value) in [first, second].into_iter().enumerate().filter_map(|(at, value)| Some((at, value?))) {
                signals.number(format!("g{group}.s{at}"), f64::from(value));
            }
            signals
        };
        groups.into_iter().enumerate().map(measured).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn deciding_early_never_changes_a_verdict(
        rules in any_rules(), groups in any_signals(), order in Just(vec![1, 2, 3]).prop_shuffle(), language in prop::option::of("de|fr"), source in prop::option::of("web"),
    ) {
        let names = |group: usize| -> Vec<Arc<str>> { (0..2).map(|at| format!("g{group}.s{at}").into()).collect() };
        let known: BTreeSet<String> = (0..4).flat_map(names).map(|name| name.to_string()).collect();
        let judge = Judge::new(&rules, &known).unwrap().evaluating(Evaluate::UntilDecided);
        let document = document(language.as_deref(), source.as_deref());
        let mut all = Signals::new();
        groups.iter().for_each(|group| all.extend(group.clone()));
        // Costs are learned, so the dear groups may be asked for in any order.
        let dear: Vec<_> = order.into_iter().map(|group| (names(group), groups[group].clone())).collect();
        let (whole, early) = (judge.judge(&document, &all), until_decided(&judge, &document, &groups[0], &dear));
        prop_assert_eq!(early.decision, whole.decision);
        // What was told early is part of the whole, and what is left out was skipped.
        prop_assert!(early.reasons.iter().all(|reason| whole.reasons.contains(reason)));
        prop_assert!(whole.reasons.iter().all(|reason| early.reasons.contains(reason) || early.skipped.contains(&reason.signal)));
        prop_assert_eq!(early.reasons.is_empty(), early.decision == Decision::Pass);
    }
}

proptest! {
    #[test]
    fn signals_on_the_same_side_of_every_edge_get_the_same_verdict(
        rules in any_rules(), groups in any_signals(), away in 0.0..1.0, language in prop::option::of("de|fr"), source in prop::option::of("web"),
    ) {
        let known: BTreeSet<String> = (0..4).flat_map(|group| (0..2).map(move |at| format!("g{group}.s{at}"))).collect();
        let judge = Judge::new(&rules, &known).unwrap();
        let document = document(language.as_deref(), source.as_deref());
        let names: Vec<Arc<str>> = known.iter().map(|name| name.as_str().into()).collect();
        let edges = judge.edges(&document, &names);
        let (mut exact, mut estimated) = (Signals::new(), Signals::new());
        for (name, value) in groups.iter().flat_map(Signals::iter) {
            // Between thresholds, which are whole numbers; the estimate lies elsewhere between the same two.
            let value = value.as_number().unwrap() + 0.5;
            let of = |edge: &&crate::corpus::Edge| edge.signal == *name;
            let low = edges.iter().filter(of).map(|edge| edge.at).filter(|at| *at < value).fold(value - 9.0, f64::max);
            let high = edges.iter().filter(of).map(|edge| edge.at).filter(|at| *at > value).fold(value + 9.0, f64::min);
            exact.number(Arc::clone(name), value);
            estimated.estimate(Arc::clone(name), low + (high - low) * (0.01 + 0.98 * away));
        }
        let (one, two) = (judge.judge(&document, &exact), judge.judge(&document, &estimated));
        prop_assert_eq!((one.decision, one.status), (two.decision, two.status));
        let said = |verdict: &Verdict| verdict.reasons.iter().map(|reason| (reason.rule.clone(), reason.bound)).collect::<Vec<_>>();
        prop_assert_eq!(said(&one), said(&two));
    }

    #[test]
    fn a_laxer_maximum_is_never_worse(value in -1e6..1e6, max in -1e6..1e6, more in 0.0..1e6) {
        let strict = verdict(&[rule("r", |r| r.max = Some(max))], value);
        let lax = verdict(&[rule("r", |r| r.max = Some(max + more))], value);
        prop_assert!(lax.decision <= strict.decision);
    }

    #[test]
    fn a_laxer_minimum_is_never_worse(value in -1e6..1e6, min in -1e6..1e6, less in 0.0..1e6) {
        let strict = verdict(&[rule("r", |r| r.min = Some(min))], value);
        let lax = verdict(&[rule("r", |r| r.min = Some(min - less))], value);
        prop_assert!(lax.decision <= strict.decision);
    }

    #[test]
    fn a_further_rule_is_never_better_and_reasons_match_the_decision(
        value in any::<f64>(), max in -1e6..1e6, review in -1e6..1e6,
    ) {
        let one = [rule("r", |r| r.max = Some(max))];
        let two = [one[0].clone(), rule("q", |r| r.review_above = Some(review))];
        let (one, two) = (verdict(&one, value), verdict(&two, value));
        prop_assert!(two.decision >= one.decision);
        prop_assert_eq!(two.reasons.is_empty(), two.decision == Decision::Pass);
        prop_assert_eq!(two.reasons.iter().map(|r| r.decision).max().unwrap_or(Decision::Pass), two.decision);
        // No reason ever carries a number that JSON can't hold.
        prop_assert!(two.reasons.iter().all(|r| r.value.is_none_or(f64::is_finite)));
        prop_assert_eq!(two.status == Status::Unscorable, !value.is_finite());
    }
}
