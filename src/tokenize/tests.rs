//! Proofs on the tiny fixtures: text is text, spans are honest, time is linear, windows tile.

use super::{Encoding, Tokenizer, windows::cut, words::segments};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use unicode_segmentation::UnicodeSegmentation;

const NAMES: [&str; 3] = ["tiny-bert-wordpiece", "tiny-unigram-mask-piece", "tiny-bpe"];

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

static ALL: LazyLock<Vec<Tokenizer>> =
    LazyLock::new(|| NAMES.iter().map(|name| Tokenizer::load(&dir(name)).unwrap()).collect());

/// Content ids that are special and not the unknown one, and spans outside the text.
fn check(tokenizer: &Tokenizer, text: &str) -> Encoding {
    let encoding = tokenizer.encode(text).unwrap();
    assert_eq!(encoding.ids.len(), encoding.spans.len());
    assert_eq!(encoding.ids.len(), encoding.word_ids.len());
    assert!(encoding.word_ids.is_sorted(), "words go back in {text:?}");
    let mut floor = 0;
    for (id, &(from, to)) in encoding.ids.iter().zip(&encoding.spans) {
        let special = tokenizer.special_ids().contains(id) && tokenizer.unk_id() != Some(*id);
        assert!(!special, "special id {id} from {text:?}");
        assert!(text.get(from as usize..to as usize).is_some(), "span {from}..{to} of {text:?}");
        assert!(from >= floor, "spans go back in {text:?}");
        floor = from;
    }
    encoding
}

#[test]
fn the_files_tell_ids_template_and_positions() {
    let [bert, unigram, bpe] = ALL.as_slice() else { panic!("three fixtures") };
    assert_eq!((bert.mask_id(), bert.pad_id(), bert.unk_id()), (4, 0, Some(1)));
    assert_eq!(bert.template(), (&[2][..], &[3][..]));
    assert_eq!(bert.max_positions(), 512);
    assert_eq!((unigram.mask_id(), unigram.pad_id(), unigram.unk_id()), (4, 1, Some(3)));
    assert_eq!(unigram.template(), (&[0][..], &[2][..]));
    assert_eq!(unigram.max_positions(), 512, "514 positions less the padding id's offset of 2");
    assert_eq!(bpe.unk_id(), None);
    assert_eq!(bpe.vocab_size(), bpe.config_vocab_size().unwrap());
    assert_ne!(bert.fingerprint(), unigram.fingerprint());
    assert_eq!(bert.fingerprint(), Tokenizer::load(&dir(NAMES[0])).unwrap().fingerprint());
}

#[test]
fn a_literal_special_token_is_text() {
    for tokenizer in ALL.iter() {
        for text in ["[MASK]", "a [MASK] b", "[SEP]", "<mask>", "</s>", "<s>", "[CLS]x[PAD]", "▁[MASK]", "<pad>"] {
            assert!(!check(tokenizer, text).ids.is_empty());
        }
    }
    let unigram = &ALL[1];
    assert!(unigram.special_ids().len() >= 7, "special pieces are known: {:?}", unigram.special_ids());
    assert!(check(unigram, "[MASK]").ids.len() > 3, "spelled out, not unknown");
}

#[test]
fn an_added_token_that_is_not_special_keeps_its_id() {
    let bpe = &ALL[2];
    let encoding = check(bpe, "call |||PHONE||| now");
    assert!(encoding.ids.contains(&(u32::try_from(bpe.vocab_size()).unwrap() - 1)));
}

#[test]
fn a_tokenizer_with_dropout_encodes_a_text_in_one_way() {
    let (plain, changed) = (dir(NAMES[2]), tempfile::tempdir().unwrap());
    for name in ["config.json", "tokenizer_config.json"] {
        std::fs::copy(plain.join(name), changed.path().join(name)).unwrap();
    }
    let bytes = std::fs::read(plain.join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["model"]["type"], "BPE");
    for (key, value) in [("dropout", 0.5), ("alpha", 0.1), ("nbest_size", 64.0)] {
        json["model"][key] = value.into();
    }
    std::fs::write(changed.path().join("tokenizer.json"), json.to_string()).unwrap();
    let dropping = Tokenizer::load(changed.path()).unwrap();
    assert_eq!(dropping.template(), ALL[2].template());
    let text = "the work of the people was long, and they had to find water";
    let expected = ALL[2].encode(text).unwrap();
    for _ in 0..50 {
        assert_eq!(dropping.encode(text).unwrap(), expected);
    }
}

#[test]
fn spans_leave_out_the_space_before_a_word() {
    let encoding = check(&ALL[2], "the of  and");
    assert_eq!(encoding.spans.first(), Some(&(0, 1)));
    let text = "the of  and";
    let words: Vec<&str> = encoding.spans.iter().map(|s| &text[s.0 as usize..s.1 as usize]).collect();
    assert!(words.contains(&"of") && words.contains(&"and"), "{words:?}");
}

#[test]
fn nothing_yields_nothing() {
    for tokenizer in ALL.iter() {
        assert_eq!(tokenizer.encode("").unwrap(), Encoding::default());
    }
    assert!(ALL[0].encode(" \n\t ").unwrap().ids.is_empty());
}

#[test]
fn two_megabytes_of_anything_take_linear_time() {
    for (name, tokenizer) in NAMES.iter().zip(ALL.iter()) {
        for text in ["x".repeat(2 << 20), "the of and ".repeat(190_000), "é".repeat(1 << 20), " ".repeat(1 << 20)] {
            let start = Instant::now();
            let encoding = tokenizer.encode(&text).unwrap();
            let took = start.elapsed();
            println!("{name}: {} bytes, {} tokens, {took:?}", text.len(), encoding.ids.len());
            assert!(took < Duration::from_secs(30), "{name} took {took:?}");
        }
    }
}

#[test]
fn slices_do_not_show_where_words_are() {
    let text = "The work of the people was long, and they had to find water. He said: no! ".repeat(4000);
    assert!(text.len() > 4 * 64 * 1024);
    for tokenizer in ALL.iter() {
        let whole = tokenizer.inner_for_tests(&text);
        assert_eq!(tokenizer.encode(&text).unwrap().ids, whole);
    }
}

fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "[MASK]",
            "[SEP]",
            "[CLS]",
            "[PAD]",
            "[UNK]",
            "<mask>",
            "<s>",
            "</s>",
            "<pad>",
            "<unk>",
            "▁",
            "##a",
            "|||PHONE|||",
            " ",
            "\n",
            "\u{200d}",
            "👩‍👩‍👧‍👦",
            "é",
            "e\u{301}",
            "的",
            "שלום",
            "the",
            ".",
            "'s",
            "\u{0}",
            "ﬃ",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "[a-zA-Z ]{0,12}",
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_yields_a_special_id(text in fragments()) {
        for tokenizer in ALL.iter() {
            check(tokenizer, &text);
        }
    }

    #[test]
    fn a_token_belongs_to_the_segment_it_starts_in(text in fragments()) {
        for tokenizer in ALL.iter() {
            let encoding = tokenizer.encode(&text).unwrap();
            let numbers = segments(&text, &encoding);
            let bounds: Vec<&str> = text.split_word_bounds().collect();
            for (number, &(start, _)) in numbers.iter().zip(&encoding.spans) {
                let from: usize = bounds[..*number as usize].iter().map(|segment| segment.len()).sum();
                let to = from + bounds[*number as usize].len();
                let start = (start as usize).min(text.len() - 1);
                prop_assert!((from..to).contains(&start), "{start} is not in {from}..{to} of {text:?}");
            }
            prop_assert_eq!(numbers.len(), encoding.ids.len());
        }
    }

    #[test]
    fn windows_tile(text in fragments(), max in 1_usize..20) {
        for tokenizer in ALL.iter() {
            let encoding = tokenizer.encode(&text).unwrap();
            let windows = cut(&text, &encoding, max);
            let mut next = 0;
            for window in &windows {
                prop_assert_eq!(window.start, next);
                prop_assert!(!window.is_empty() && window.len() <= max);
                next = window.end;
            }
            prop_assert_eq!(next, encoding.ids.len());
            prop_assert!(encoding.ids.len() > max || windows.len() <= 1);
        }
    }
}

/// One token a word, without a tokenizer.
fn words(text: &str) -> Encoding {
    let mut encoding = Encoding::default();
    for word in text.split_whitespace() {
        let from = word.as_ptr() as usize - text.as_ptr() as usize;
        encoding.ids.push(7);
        encoding.spans.push((u32::try_from(from).unwrap(), u32::try_from(from + word.len()).unwrap()));
    }
    encoding
}

#[test]
fn a_window_ends_at_the_last_sentence_end_in_its_second_half() {
    let text = "One two three. Four five six seven. Eight nine ten eleven twelve thirteen fourteen fifteen.";
    assert_eq!(cut(text, &words(text), 10), vec![0..7, 7..15]);
    assert_eq!(cut(text, &words(text), 15), vec![std::ops::Range { start: 0, end: 15 }]);
    let first_half_only = "One two. Three four five six seven eight nine ten eleven twelve";
    assert_eq!(cut(first_half_only, &words(first_half_only), 8), vec![0..8, 8..12]);
}

#[test]
fn without_sentences_a_window_ends_between_words_and_failing_that_when_full() {
    let text = "aaaa bbbb";
    let spans = (0..9).filter(|at| *at != 4).map(|at| (at, at + 1)).collect();
    let letters = Encoding { ids: vec![1; 8], spans, ..Encoding::default() };
    assert_eq!(cut(text, &letters, 6), vec![0..4, 4..8]);
    assert_eq!(cut(text, &letters, 3), vec![0..3, 3..6, 6..8]);
}

#[test]
fn two_hundred_thousand_tokens_are_cut_in_linear_time() {
    for text in ["word word, word word. ".repeat(50_000), "a'".repeat(100_000) + &"\u{301}".repeat(200_000)] {
        let encoding = ALL[2].encode(&text).unwrap();
        assert!(encoding.ids.len() >= 200_000);
        let start = Instant::now();
        let windows = cut(&text, &encoding, 128);
        println!("{} windows in {:?}", windows.len(), start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn words_are_those_of_the_text_and_not_those_of_the_tokenizer() {
    let words_of = |tokenizer: &Tokenizer, text: &str| {
        let encoding = check(tokenizer, text);
        (segments(text, &encoding), encoding.word_ids)
    };
    // An apostrophe within a word does not end it; BERT's pre-tokenizer cuts there.
    let (by_text, by_tokenizer) = words_of(&ALL[0], "don't");
    assert!(by_text.iter().all(|number| *number == 0), "{by_text:?}");
    assert_eq!(by_tokenizer.last(), Some(&2), "{by_tokenizer:?}");
    // White space is all that divides for Metaspace; UAX #29 knows punctuation, and takes ideographs one by one.
    let (by_text, by_tokenizer) = words_of(&ALL[1], "的一是,ok");
    assert!(by_tokenizer.iter().all(|number| *number == 0), "{by_tokenizer:?}");
    assert_eq!(by_text.last(), Some(&4), "{by_text:?}");
    // Bytes of one character stay together; white space has a number of its own.
    let (by_text, _) = words_of(&ALL[2], "👩‍👩‍👧‍👦 ok");
    assert_eq!((by_text[0], by_text[10], by_text.last()), (0, 0, Some(&2)), "{by_text:?}");
}

#[test]
fn slices_go_on_counting_words() {
    let text = "the work of the people was long. ".repeat(6000);
    assert!(text.len() > 2 * 64 * 1024);
    for tokenizer in ALL.iter() {
        let encoding = check(tokenizer, &text);
        assert!(encoding.word_ids.last().is_some_and(|last| *last >= 6000 * 7 - 1), "{:?}", encoding.word_ids.last());
    }
}
