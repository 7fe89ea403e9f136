//! the score cache: raw sums by key.
