//! record bytes to document.
