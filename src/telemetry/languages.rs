//! Owns the languages that have a label of their own, so that a tag, which is data, can't make series without bound.
//!
//! In: a document's language tag as it came (`en`, `en-GB`, `eng_Latn`). Out: a name of the closed list. Invariants: what is not on the
//! list is `other`, no tag is `none`.
//! Must not know: what the rules do with a tag (they match it exactly).

/// Label of a document without a tag.
const NONE: &str = "none";
/// Label of a tag that is not on the list.
const OTHER: &str = "other";

/// ISO 639-1 codes with the ISO 639-3 codes that mean the same: the languages that web corpora hold in quantity.
const KNOWN: [(&str, &[&str]); 64] = [
    ("ar", &["ara", "arb"]),
    ("az", &["aze", "azj"]),
    ("be", &["bel"]),
    ("bg", &["bul"]),
    ("bn", &["ben"]),
    ("bs", &["bos"]),
    ("ca", &["cat"]),
    ("cs", &["ces", "cze"]),
    ("cy", &["cym"]),
    ("da", &["dan"]),
    ("de", &["deu", "ger"]),
    ("el", &["ell"]),
    ("en", &["eng"]),
    ("eo", &["epo"]),
    ("es", &["spa"]),
    ("et", &["est", "ekk"]),
    ("eu", &["eus"]),
    ("fa", &["fas", "pes"]),
    ("fi", &["fin"]),
    ("fr", &["fra", "fre"]),
    ("ga", &["gle"]),
    ("gl", &["glg"]),
    ("gu", &["guj"]),
    ("he", &["heb"]),
    ("hi", &["hin"]),
    ("hr", &["hrv"]),
    ("hu", &["hun"]),
    ("hy", &["hye"]),
    ("id", &["ind"]),
    ("is", &["isl"]),
    ("it", &["ita"]),
    ("ja", &["jpn"]),
    ("ka", &["kat"]),
    ("kk", &["kaz"]),
    ("kn", &["kan"]),
    ("ko", &["kor"]),
    ("la", &["lat"]),
    ("lt", &["lit"]),
    ("lv", &["lav", "lvs"]),
    ("mk", &["mkd"]),
    ("ml", &["mal"]),
    ("mn", &["mon", "khk"]),
    ("mr", &["mar"]),
    ("ms", &["msa", "zsm"]),
    ("mt", &["mlt"]),
    ("ne", &["nep", "npi"]),
    ("nl", &["nld", "dut"]),
    ("no", &["nor", "nob", "nno", "nb", "nn"]),
    ("pa", &["pan"]),
    ("pl", &["pol"]),
    ("pt", &["por"]),
    ("ro", &["ron", "rum"]),
    ("ru", &["rus"]),
    ("sk", &["slk"]),
    ("sl", &["slv"]),
    ("sq", &["sqi", "als"]),
    ("sr", &["srp"]),
    ("sv", &["swe"]),
    ("sw", &["swa", "swh"]),
    ("th", &["tha"]),
    ("tr", &["tur"]),
    ("uk", &["ukr"]),
    ("vi", &["vie"]),
    ("zh", &["zho", "chi", "cmn"]),
];

/// Every label there is, in order.
pub fn labels() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(code, _)| *code).chain([OTHER, NONE])
}

/// The label for a document's tag: its primary subtag, if that is on the list.
pub(super) fn label(tag: Option<&str>) -> &'static str {
    let Some(tag) = tag.map(str::trim).filter(|tag| !tag.is_empty()) else { return NONE };
    let primary = tag.split(['-', '_']).next().unwrap_or(tag);
    let is = |code: &&str| primary.eq_ignore_ascii_case(code);
    KNOWN.iter().find(|(code, others)| is(code) || others.iter().any(is)).map_or(OTHER, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_language_share_a_label_and_strangers_share_another() {
        for tag in ["en", "EN", "en-GB", "en_US", "eng", "eng_Latn", " en "] {
            assert_eq!(label(Some(tag)), "en", "{tag}");
        }
        assert_eq!((label(Some("nb-NO")), label(Some("cmn_Hans"))), ("no", "zh"));
        for tag in ["xx", "english", "e", "-", "\"};"] {
            assert_eq!(label(Some(tag)), OTHER, "{tag}");
        }
        assert_eq!((label(None), label(Some("  "))), (NONE, NONE));
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<&str> = KNOWN.iter().flat_map(|(code, others)| [&[*code], *others].concat()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
