//! Owns the conversion of a model's directory: which settings it is loaded with, and where the new one may lie.

use super::failure::Failure;
use crate::cli::Exit;
use crate::engine::{Precision, Settings};
use crate::scorer::{self, Compiled};
use std::path::Path;

/// Converts the model that `settings` name into the new directory `out`.
///
/// # Errors
/// There is no such model, `out` is there already or its parent is not, or no precision is asked for ([`Exit::Usage`]); the model can't be
/// converted, or what was made can't be proved on the device ([`Exit::Unavailable`]).
pub async fn compile(settings: &Settings, out: &Path) -> Result<Compiled, Failure> {
    let usage = |what: String| Err(Failure::new(Exit::Usage, what));
    if !settings.path.is_dir() {
        return usage(format!("{}: no such directory; give the one that holds model.onnx", settings.path.display()));
    }
    if out.symlink_metadata().is_ok() {
        return usage(format!("--out {}: is there already; name a directory that is not", out.display()));
    }
    if settings.precision == Precision::AsExported {
        return usage("--precision as-exported: that is what the model is already; take fp16 or bf16".to_owned());
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if parent.is_some_and(|parent| !parent.is_dir()) {
        return usage(format!("--out {}: its parent directory is not there; create it first", out.display()));
    }
    Ok(scorer::compile(settings, out).await?)
}
