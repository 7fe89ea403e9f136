//! Owns the tests of the composition: facts in, findings out.
