//! Names of all metrics, typed recorders, the status snapshot, logging.
//!
//! Owns: every series name, its help and its labels; how logs look. In: facts, by typed functions. Out: the Prometheus text.
//! Invariants: no metric macro is used elsewhere; labels come from closed sets or from names in the pipeline file.
//! Must not know: any room but `corpus/`.

pub mod metrics;
