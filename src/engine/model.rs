//! Owns the model's files: their check against the manifest, and their fingerprint.

use super::Error;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The graph's file name in a model directory.
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

/// Checks every file that `manifest.json` names, and tells how many; without a manifest there is nothing to check.
pub(super) fn verify(dir: &Path) -> Result<Option<usize>, Error> {
    let manifest = dir.join("manifest.json");
    if !manifest.exists() {
        return Ok(None);
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
    Ok(Some(named.files.len()))
}

/// blake3 over the graph and its weights in files of their own, names included.
pub(super) fn fingerprint(dir: &Path, weights: &[String]) -> Result<[u8; 32], Error> {
    let names: BTreeSet<&str> = weights.iter().map(String::as_str).chain([GRAPH]).collect();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let path = dir.join(name);
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
        assert_eq!(verify(dir.path()).unwrap(), None);
        manifest(
            r#"{"files":{"model.onnx":{"sha256":"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD","bytes":3}}}"#,
        );
        assert_eq!(verify(dir.path()).unwrap(), Some(1));
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
        let weights = ["a.bin".to_owned()];
        assert!(fingerprint(dir.path(), &[]).is_err());
        std::fs::write(dir.path().join(GRAPH), b"abc").unwrap();
        let bare = fingerprint(dir.path(), &[]).unwrap();
        let error = fingerprint(dir.path(), &weights).unwrap_err().to_string();
        assert!(error.contains("a.bin"), "{error}");
        std::fs::write(dir.path().join("a.bin"), b"w").unwrap();
        let whole = fingerprint(dir.path(), &weights).unwrap();
        std::fs::write(dir.path().join("a.bin"), b"v").unwrap();
        assert!(whole != bare && fingerprint(dir.path(), &weights).unwrap() != whole);
        assert_eq!(fingerprint(dir.path(), &[]).unwrap(), bare);
    }
}
