//! model signals.
