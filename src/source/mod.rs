//! where records come from.
