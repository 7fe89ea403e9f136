//! where verdicts go.
