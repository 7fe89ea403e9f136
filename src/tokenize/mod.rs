//! tokenizer and windows.
