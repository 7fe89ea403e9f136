//! Owns what patterns match now: the metadata of all topics, which nobody asks for unless there is a pattern.
//!
//! In: patterns. Out: counts and names. Invariant: what a worker would read by its patterns, and nothing else, has a name here. Must not know: what none means.

use crate::kafka::groups::compile;
use rdkafka::client::{Client, ClientContext};
use rdkafka::metadata::MetadataTopic;
use std::collections::BTreeSet;
use std::time::Duration;

/// A pattern and how many topics it matches, or why that is not known.
type Count = (String, Result<usize, String>);

/// How many topics each of `patterns` matches now, and the names of all these.
pub(super) fn matches<C: ClientContext>(
    client: &Client<C>,
    patterns: &[&str],
    wait: Duration,
) -> (Vec<Count>, BTreeSet<String>) {
    let mut names = BTreeSet::new();
    if patterns.is_empty() {
        return (Vec::new(), names);
    }
    let all = client.fetch_metadata(None, wait).map_err(|error| error.to_string());
    let mut counted = |pattern: &str| {
        let (all, pattern) = (all.as_ref().map_err(Clone::clone)?, compile(pattern)?);
        let fits = all.topics().iter().map(MetadataTopic::name).filter(|name| pattern.is_match(name));
        let fits: BTreeSet<String> = fits.map(str::to_owned).collect();
        let count = fits.len();
        names.extend(fits);
        Ok(count)
    };
    let counts = patterns.iter().map(|pattern| ((*pattern).to_owned(), counted(pattern))).collect();
    (counts, names)
}
