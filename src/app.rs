//! Composition, drain order and exit codes.
