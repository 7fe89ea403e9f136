//! Owns the model's files: their check against the manifest, and their fingerprint.

use super::Error;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The graph's file name in a model directory. External weights sit beside it as `model.onnx*`.
pub(super) const GRAPH: &str = "model.onnx";

#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    sha256: Option<String>,
    bytes: Option<u64>,
}

/// Checks every file that `manifest.json` names; without a manifest there is nothing to check.
pub(super) fn verify(dir: &Path) -> Result<(), Error> {
    let manifest = dir.join("manifest.json");
    if !manifest.exists() {
        return Ok(());
    }
    let bytes = std::fs::read(&manifest).map_err(|error| unreadable(&manifest, &error))?;
    let named: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Model { path: manifest.clone(), why: format!("not a manifest: {error}") })?;
    for (name, entry) in &named.files {
        let path = dir.join(name);
        let differs = |what, found: String, expected: String| {
            Err(Error::Manifest { path: path.clone(), manifest: manifest.clone(), what, found, expected })
        };
        let bytes = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        if let Some(expected) = entry.bytes
            && expected != bytes
        {
            return differs("bytes", bytes.to_string(), expected.to_string());
        }
        if let Some(expected) = &entry.sha256 {
            let found = sha256(&path)?;
            if !found.eq_ignore_ascii_case(expected) {
                return differs("sha256", found, expected.clone());
            }
        }
    }
    Ok(())
}

/// blake3 over the graph and its external weights, names included.
pub(super) fn fingerprint(dir: &Path) -> Result<[u8; 32], Error> {
    let listing = std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    let mut names: Vec<String> = listing
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(GRAPH) && dir.join(name).is_file())
        .collect();
    names.sort();
    if names.first().map(String::as_str) != Some(GRAPH) {
        return Err(unreadable(&dir.join(GRAPH), &io::Error::from(io::ErrorKind::NotFound)));
    }
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let path = dir.join(&name);
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update_reader(file).map_err(|error| unreadable(&path, &error))?;
    }
    Ok(*hasher.finalize().as_bytes())
}

fn sha256(path: &PathBuf) -> Result<String, Error> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut chunk).map_err(|error| unreadable(path, &error))? {
            0 => break,
            count => hasher.update(&chunk[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Model { path: path.to_owned(), why: format!("can't be read ({error})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_the_manifests_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(GRAPH), b"abc").unwrap();
        let manifest = |text: &str| std::fs::write(dir.path().join("manifest.json"), text).unwrap();
        verify(dir.path()).unwrap();
        manifest(
            r#"{"files":{"model.onnx":{"sha256":"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD","bytes":3}}}"#,
        );
        verify(dir.path()).unwrap();
        manifest(r#"{"files":{"model.onnx":{"bytes":4}}}"#);
        assert!(verify(dir.path()).unwrap_err().to_string().contains("model.onnx: bytes is 3"));
        manifest(r#"{"files":{"model.onnx":{"sha256":"00","bytes":3}}}"#);
        assert!(verify(dir.path()).unwrap_err().to_string().contains("sha256 is ba78"));
        manifest(r#"{"files":{"gone.bin":{}}}"#);
        assert!(verify(dir.path()).unwrap_err().to_string().contains("gone.bin"));
    }

    #[test]
    fn the_fingerprint_covers_external_weights() {
        let dir = tempfile::tempdir().unwrap();
        assert!(fingerprint(dir.path()).is_err());
        std::fs::write(dir.path().join(GRAPH), b"abc").unwrap();
        let bare = fingerprint(dir.path()).unwrap();
        std::fs::write(dir.path().join("model.onnx.data"), b"w").unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), bare);
    }
}
