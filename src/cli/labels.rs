//! Owns the labels of the demo's sample: what each line was labelled, by whoever made the sample.

use crate::corpus::Route;
use std::collections::HashMap;

/// The label of one line of the sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    /// The document's id; empty where the line has none.
    pub(super) id: String,
    /// Where it belongs.
    pub(super) expected: Route,
    /// What kind of text it is.
    pub(super) kind: String,
    /// The labeller's note.
    pub(super) note: String,
}

/// Labels by line number, from 1.
#[derive(Debug, Default)]
pub(super) struct Labels {
    by_line: HashMap<usize, Label>,
}

impl Labels {
    /// Reads tab-separated `line, id, expected, kind, note`; a first line that does not begin with a number is a heading.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut by_line = HashMap::new();
        for (index, row) in text.lines().enumerate() {
            let fields: Vec<&str> = row.split('\t').collect();
            let Some(line) = fields.first().and_then(|field| field.parse::<usize>().ok()) else {
                if index == 0 || row.trim().is_empty() {
                    continue;
                }
                return Err(format!("labels.tsv line {}: no line number", index + 1));
            };
            let field = |n: usize| fields.get(n).copied().unwrap_or_default().to_owned();
            let expected = Route::ALL
                .into_iter()
                .find(|route| route.as_str() == field(2))
                .ok_or_else(|| format!("labels.tsv line {}: unknown label {:?}", index + 1, field(2)))?;
            by_line.insert(line, Label { id: field(1), expected, kind: field(3), note: field(4) });
        }
        Ok(Self { by_line })
    }

    /// The label of a line, from 1.
    pub(super) fn get(&self, line: usize) -> Option<&Label> {
        self.by_line.get(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_labels_cover_the_bundled_sample() {
        let labels = Labels::read(include_str!("../../pipelines/demo/labels.tsv")).unwrap();
        let sample = include_bytes!("../../pipelines/demo/sample.jsonl");
        let lines = sample.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert!(lines >= 300, "the demo promises at least 300 documents, there are {lines}");
        assert!((1..=lines).all(|line| labels.get(line).is_some()), "every line has a label");
    }
}
