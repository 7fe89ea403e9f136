//! Owns labels: which names they may have, and whether those of the settings are the model's.

use crate::scorer::card::Card;

/// Signals that every head has besides its labels.
pub(super) const COUNTS: [&str; 3] = ["tokens", "windows", "unk_rate"];
/// Tokens of a document that a prompt does not read.
pub(super) const LEFT_OUT: &str = "tokens_left_out";
/// More labels than this are a mistake: a vocabulary, say.
const LABELS_MAX: usize = 1024;

/// A name as it stands in a signal: lower case, and one `_` for every run of anything but letters, digits and `-`.
pub(super) fn plain(name: &str) -> String {
    let mut made = String::new();
    for letter in name.trim().chars() {
        match letter {
            'a'..='z' | '0'..='9' | '-' => made.push(letter),
            'A'..='Z' => made.push(letter.to_ascii_lowercase()),
            _ if !made.ends_with('_') => made.push('_'),
            _ => {}
        }
    }
    made
}

/// What is wrong with labels as names of signals, if anything is.
pub(super) fn wrong<'a>(labels: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let labels: Vec<&str> = labels.into_iter().collect();
    if labels.len() > LABELS_MAX {
        return Some(format!("{} labels are more than {LABELS_MAX}", labels.len()));
    }
    for (at, label) in labels.iter().enumerate() {
        if label.is_empty() || plain(label) != **label {
            return Some(format!("{label:?} can't be part of a signal's name; write {:?}", plain(label)));
        }
        if COUNTS.contains(label) || *label == LEFT_OUT {
            return Some(format!(
                "{label:?} is the name of a signal that there is anyway; call the label something else"
            ));
        }
        if labels[..at].contains(label) {
            return Some(format!("{label:?} stands there twice"));
        }
    }
    None
}

/// Why `labels` are not those of a model that gives `width` numbers and whose `config.json` names its own; `None` if they are.
pub(super) fn mismatch(labels: &[String], width: usize, card: &Card) -> Option<String> {
    let theirs: Vec<String> = card.labels.iter().map(|label| plain(label)).collect();
    let known = if theirs.is_empty() { String::new() } else { format!(" (config.json names {})", theirs.join(", ")) };
    if labels.len() != width {
        return Some(format!("{} labels are given, and the model has {width}{known}", labels.len()));
    }
    // Names that say nothing are what a checkpoint has whose author gave none.
    let generic = theirs.iter().enumerate().all(|(at, label)| *label == format!("label_{at}"));
    // Nor do names in another script, of which nothing is left that tells them apart: there the order is the settings' word alone.
    let distinct = theirs.iter().enumerate().all(|(at, label)| !theirs[..at].contains(label));
    if generic || !distinct || theirs.len() != width || theirs == labels {
        return None;
    }
    let why = format!("the model's labels are, in this order, {}; write labels = {theirs:?}", theirs.join(", "));
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(labels: &[&str]) -> Card {
        Card { labels: labels.iter().map(|label| (*label).to_owned()).collect(), ..Card::default() }
    }

    #[test]
    fn names_become_parts_of_signals() {
        for (name, expected) in [
            ("toxic", "toxic"),
            ("Severe Toxic", "severe_toxic"),
            ("B-PER", "b-per"),
            (" a  b/c ", "a_b_c"),
            ("né", "n_"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn labels_that_can_not_be_signals_are_refused_with_what_to_write() {
        assert_eq!(wrong(["ham", "spam"]), None);
        assert!(wrong(["Not OK"]).unwrap().contains("\"not_ok\""));
        assert!(wrong(["a", "tokens"]).unwrap().contains("there is anyway"));
        assert!(wrong(["a", "b", "a"]).unwrap().contains("twice"));
        assert!(wrong([""]).is_some());
    }

    #[test]
    fn labels_must_be_the_models_in_its_order_where_it_names_them() {
        let labels = ["ham", "spam"].map(str::to_owned);
        assert_eq!(mismatch(&labels, 2, &card(&["HAM", "Spam"])), None);
        assert_eq!(mismatch(&labels, 2, &card(&["LABEL_0", "LABEL_1"])), None);
        assert_eq!(mismatch(&labels, 2, &card(&[])), None);
        assert_eq!(mismatch(&labels, 2, &card(&["正常", "垃圾"])), None);
        assert!(mismatch(&labels, 2, &card(&["spam", "ham"])).unwrap().contains("in this order, spam, ham"));
        assert!(
            mismatch(&labels, 3, &card(&["a", "b", "c"]))
                .unwrap()
                .contains("the model has 3 (config.json names a, b, c)")
        );
    }
}
