//! Owns the way to ONNX Runtime's shared library, and its one environment in this process.

use super::Error;
use ort::environment::Environment;
use ort::logging::LogLevel;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The library's file name beside the executable or under `lib/tamis`.
const NAME: &str = "libonnxruntime.so";

/// Loads the library once; every later call returns the first one's outcome.
pub(super) fn environment() -> Result<Environment, Error> {
    static ENVIRONMENT: OnceLock<Result<Environment, Error>> = OnceLock::new();
    ENVIRONMENT.get_or_init(load).clone()
}

/// Looks for ONNX Runtime's library and loads it, as loading a model does.
///
/// # Errors
/// It is nowhere, or does not load.
pub fn runtime() -> Result<(), Error> {
    environment().map(drop)
}

fn load() -> Result<Environment, Error> {
    let exe = std::env::current_exe().ok();
    // An empty variable is how a unit or a shell says "none".
    let given = std::env::var_os("TAMIS_ORT_LIB").filter(|path| !path.is_empty());
    let path = find(given.map(PathBuf::from), exe.as_deref(), Path::exists)?;
    let broken = |why: String| Error::LibraryBroken { path: path.clone(), why };
    let builder = ort::init_from(&path).map_err(|error| broken(error.to_string()))?;
    let environment = builder
        .with_name("tamis")
        .with_telemetry(false)
        .with_logger(Arc::new(|level, _, _, place, message| log(&level, place, message)))
        .build()
        .map_err(|error| broken(error.to_string()))?;
    tracing::debug!(path = %path.display(), "loaded onnx runtime");
    Ok(environment)
}

/// ONNX Runtime's own log, into ours. What fails is also returned as an error and told once there, so here it is detail.
fn log(level: &LogLevel, place: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error | LogLevel::Warning => tracing::debug!(place, message, "onnx runtime says"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(place, message, "onnx runtime says"),
    }
}

/// Where the library is: the override (and nowhere else) if set, else the first place that has it.
fn find(wanted: Option<PathBuf>, exe: Option<&Path>, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, Error> {
    let places = match wanted {
        Some(path) => vec![path],
        None => {
            let beside = exe.and_then(Path::parent);
            let installed = beside.and_then(Path::parent).map(|root| root.join("lib/tamis").join(NAME));
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("var/ort").join(NAME);
            beside.map(|dir| dir.join(NAME)).into_iter().chain(installed).chain([built]).collect()
        }
    };
    match places.iter().find(|path| exists(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(Error::LibraryAbsent { looked_at: places.iter().map(|path| path.display().to_string()).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_is_the_only_place_looked_at() {
        let error = find(Some("/nowhere/x.so".into()), Some(Path::new("/opt/bin/tamis")), |_| false).unwrap_err();
        assert!(error.to_string().contains("looked at /nowhere/x.so;"), "{error}");
    }

    #[test]
    fn the_error_names_every_place_and_the_remedy() {
        let message = find(None, Some(Path::new("/opt/bin/tamis")), |_| false).unwrap_err().to_string();
        for part in ["/opt/bin/libonnxruntime.so", "/opt/lib/tamis/libonnxruntime.so", "var/ort", "make build"] {
            assert!(message.contains(part), "{message}");
        }
        let found = find(None, Some(Path::new("/opt/bin/tamis")), |path| path.starts_with("/opt/lib")).unwrap();
        assert_eq!(found, Path::new("/opt/lib/tamis/libonnxruntime.so"));
    }
}
