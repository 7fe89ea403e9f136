//! text signals, pure CPU.
