//! Hand-counted goldens for every text signal.

use super::*;
use proptest::prelude::*;

fn measure(text: &str) -> Signals {
    let mut signals = Signals::new();
    TextSignals::new("t").measure(text, &mut signals);
    signals
}

fn row(text: &str) -> [Option<f64>; 10] {
    let signals = measure(text);
    let texts = TextSignals::new("t");
    std::array::from_fn(|i| signals.get(&texts.signal_names()[i]).and_then(|value| value.as_number()))
}

#[test]
fn goldens() {
    let n = |x: f64| Some(x);
    // bytes, words, letters, digits, upper, word bytes, sentence words, distinct, function, dup lines
    let golden: [(&str, [Option<f64>; 10]); 9] = [
        ("", [n(0.), n(0.), None, None, None, None, None, None, None, None]),
        (" \n\t\r\n", [n(5.), n(0.), None, None, None, None, None, None, None, None]),
        ("?!…", [n(5.), n(0.), n(0.), n(0.), None, None, None, None, None, n(0.)]),
        (
            "The cat saw the dog. It ran.",
            // visible: 22 scalars, 20 letters, 2 capitals; words 7 with 20 bytes; the, the, it
            [n(28.), n(7.), n(20. / 22.), n(0.), n(0.1), n(20. / 7.), n(3.5), n(6. / 7.), n(3. / 7.), n(0.)],
        ),
        (
            "BUY NOW\nBUY NOW\n\n  BUY NOW  \nok 4 2",
            [n(35.), n(9.), n(20. / 22.), n(2. / 22.), n(0.9), n(22. / 9.), n(9. / 4.), n(5. / 9.), n(0.), n(0.5)],
        ),
        ("3.14 2,000", [n(10.), n(2.), n(0.), n(7. / 9.), None, n(4.5), n(2.), n(1.), n(0.), n(0.)]),
        ("Žluťoučký kůň", [n(19.), n(2.), n(1.), n(0.), n(1. / 12.), n(9.), n(2.), n(1.), n(0.), n(0.)]),
        ("你好世界。", [n(15.), n(4.), n(0.8), n(0.), n(0.), n(3.), n(4.), n(1.), n(0.), n(0.)]),
        ("İstanbul ISTANBUL", [n(18.), n(2.), n(1.), n(0.), n(9. / 16.), n(8.5), n(2.), n(1.), n(0.), n(0.)]),
    ];
    for (text, expected) in golden {
        let got = row(text);
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            let near = match (g, e) {
                (Some(g), Some(e)) => (g - e).abs() < 1e-12,
                (g, e) => *g == e,
            };
            assert!(near, "{text:?} .{}: got {g:?}, expected {e:?}", SUFFIXES[i]);
        }
    }
}

#[test]
fn names_carry_the_table_name() {
    let texts = TextSignals::new("cheap");
    assert_eq!(&*texts.signal_names()[0], "cheap.bytes");
    assert!(measure("a b").iter().all(|(name, _)| name.starts_with("t.")));
}

proptest! {
    #[test]
    fn rates_are_rates(text in any::<String>()) {
        for (name, value) in measure(&text).iter() {
            let value = value.as_number().unwrap();
            prop_assert!(value >= 0.0);
            if name.ends_with("_rate") {
                prop_assert!(value <= 1.0, "{} {}", name, value);
            }
        }
    }

    #[test]
    fn a_text_doubled_line_by_line_repeats_half_its_lines(lines in prop::collection::hash_set("[a-z]{1,8}", 1..20)) {
        let once: Vec<String> = lines.into_iter().collect();
        let text = format!("{0}\n{0}", once.join("\n"));
        prop_assert_eq!(measure(&text).get("t.dup_line_rate").and_then(|v| v.as_number()), Some(0.5));
    }
}
