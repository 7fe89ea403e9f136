//! Any text through every kind of tokenizer: spans lie in the text, at characters, in order; windows hold every token once.

use super::root;
use std::sync::LazyLock;
use tamis::sentences::Sentences;
use tamis::tokenize::{Encoding, Tokenizer, windows, words};

/// WordPiece, byte-level BPE, Unigram, and the model that comes with tamis.
static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let folders = ["tiny-bert-wordpiece", "tiny-bpe", "tiny-unigram-mask-piece"]
        .map(|name| format!("tests/fixtures/models/{name}"));
    let folders = folders.into_iter().chain(["models/tamis-en".to_owned()]);
    folders.map(|folder| Tokenizer::load(&root().join(folder)).expect("a fixture")).collect()
});
const BYTE_LEVEL: usize = 1;
/// Texts above 64 KiB are encoded in slices; so long is one that was asked to be repeated.
const LONG: usize = (64 << 10) + 4_000;
/// The first of the bytes that ask for it.
const REPEATED: u8 = 0xfc;

/// Which tokenizer, the most tokens of a window, then the text. Few first bytes repeat it until it is long, for that takes long.
pub(super) fn run(data: &[u8]) {
    let [which, most, text @ ..] = data else { return };
    let mut text = String::from_utf8_lossy(text).into_owned();
    if *which >= REPEATED && (64..4096).contains(&text.len()) {
        text = text.repeat(LONG / text.len() + 1);
    }
    let which = usize::from(*which) % TOKENIZERS.len();
    let tokenizer = &TOKENIZERS[which];
    let Ok(encoding) = tokenizer.encode(&text) else { return };
    spans(tokenizer, &text, &encoding);
    if which == BYTE_LEVEL {
        covered(&text, &encoding);
    }
    tiled(&text, &encoding, usize::from(*most));
    let (sentences, mut next) = (Sentences::of(&text), 0);
    for (start, sentence) in sentences.starts().zip(sentences.iter()) {
        assert_eq!(start, next, "sentences of {text:?}");
        next += sentence.len();
    }
    assert_eq!(next, text.len(), "sentences of {text:?}");
    let segments = words::segments(&text, &encoding);
    assert_eq!(segments.len(), encoding.ids.len());
    assert!(segments.is_sorted(), "{segments:?}");
    assert_eq!(tokenizer.encode(&text).ok().as_ref(), Some(&encoding), "the same text, the same tokens");
}

fn spans(tokenizer: &Tokenizer, text: &str, encoding: &Encoding) {
    assert_eq!(encoding.ids.len(), encoding.spans.len());
    assert_eq!(encoding.ids.len(), encoding.word_ids.len());
    assert!(encoding.word_ids.is_sorted(), "{:?}", encoding.word_ids);
    let mut before = 0;
    for (id, (from, to)) in encoding.ids.iter().zip(&encoding.spans) {
        let (from, to) = (*from as usize, *to as usize);
        assert!(from <= to && text.get(from..to).is_some(), "{from}..{to} of {text:?}");
        assert!(from >= before, "{from} comes after {before} in {text:?}");
        assert!((*id as usize) < tokenizer.vocab_size(), "{id}");
        let special = tokenizer.special_ids().contains(id) && tokenizer.unk_id() != Some(*id);
        assert!(!special, "text became the special id {id} at {from}..{to} of {text:?}");
        before = from;
    }
}

/// A tokenizer of bytes leaves none out, white space aside, which belongs to no span.
fn covered(text: &str, encoding: &Encoding) {
    let mut end = 0;
    for (from, to) in &encoding.spans {
        let (from, to) = (*from as usize, *to as usize);
        if from > end {
            let gap = &text[end..from];
            assert!(gap.trim().is_empty(), "{gap:?} of {text:?} is in no token");
        }
        end = end.max(to);
    }
    assert!(text[end..].trim().is_empty(), "{:?} at the end of {text:?} is in no token", &text[end..]);
}

fn tiled(text: &str, encoding: &Encoding, most: usize) {
    let cut = windows::cut(text, encoding, most);
    let mut next = 0;
    for window in &cut {
        assert_eq!(window.start, next, "{cut:?}");
        assert!(!window.is_empty() && window.len() <= most.max(1), "{cut:?}");
        next = window.end;
    }
    assert_eq!(next, encoding.ids.len(), "{cut:?}");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "The river was high. After three days, the m\u{e9}t\u{e9}o \u{fb03} \u{5b57} \u{1f3f4}\u{e0067}\u{e0062} [MASK]!",
        "e\u{301}\u{200d}\u{202e}abc\u{0}def\t\r\n  <mask></s><s>[CLS] [SEP]\u{2028}x",
        "\u{fffd}\u{fdfa}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} 12,345.67 \u{645}\u{631}\u{62d}\u{628}\u{627} \u{e01}\u{e33}",
        // Full stops before what leaves open whether a sentence ends there.
        "a. ) . \u{3000}\u{bb}\u{301}.) )   1.\u{ff0e}                     ,.))))))))))))))))))))) a",
    ];
    let all = texts.iter().flat_map(|text| (0..4).map(move |which| (which, text)));
    all.chain([(REPEATED | 1, &texts[2]), (REPEATED | 1, &texts[3])])
        .map(|(which, text)| [&[which, 7], text.as_bytes()].concat())
        .collect()
}
