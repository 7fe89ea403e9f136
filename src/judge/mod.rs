//! signals to verdict.
