//! Owns the guess at what a mistyped name meant.

/// Up to three of `known` that `asked` may be a slip for, nearest first: names within a third of its length in edits
/// (insertions, deletions, replacements, swaps of neighbours), or, after a dot, those whose last part is.
#[must_use]
pub fn nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let near = |a: &str, b: &str| {
        let edits = strsim::osa_distance(a, b);
        let allowed = (a.chars().count().max(b.chars().count()) / 3).max(1);
        (edits <= allowed).then_some(edits)
    };
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let whole = strsim::osa_distance(asked, name);
            near(&last(asked), &last(name)).or_else(|| near(asked, name)).map(|_| (whole, name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["pll.nll_token", "pll.nll_word", "pll.bpb", "pll.tokens"];
        assert_eq!(nearest("pll.nll_tokens", known)[0], "pll.nll_token");
        assert_eq!(nearest("pl.nll_word", known)[0], "pll.nll_word");
        assert_eq!(nearest("fluency.bpb", known)[0], "pll.bpb");
        assert_eq!(nearest("perplexity", known), Vec::<&str>::new());
    }
}
