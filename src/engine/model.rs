//! Owns the model's files: their check against the manifest, and their fingerprint.

use super::Error;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The graph's file name in a model directory.
pub(super) const GRAPH: &str = "model.onnx";
/// The file with the sizes and checksums of the others.
const MANIFEST: &str = "manifest.json";
/// The largest manifest: ten thousand files.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Folders in one another below a pinned model, at most.
const FOLDERS_MAX: usize = 8;

#[derive(Default, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    sha256: Option<String>,
    bytes: Option<u64>,
}

/// Everything that is wrong with the files of a model's directory: the graph absent, or files that are not those that `manifest.json`
/// names. Without a manifest only the graph is looked for. Reads every file that the manifest has a checksum of.
///
/// Where `pin` is not empty, `manifest.json` must be there, have that sha256, and name every other file of the directory with a checksum: then nothing
/// of the model can change unseen.
#[must_use]
pub fn files(dir: &Path, pin: &str) -> Vec<Error> {
    let graph = dir.join(GRAPH);
    let absent = std::fs::metadata(&graph).err().map(|error| unreadable(&graph, &error));
    let mut found: Vec<Error> = absent.into_iter().collect();
    match manifest(dir, pin) {
        Ok(named) => {
            let named = named.unwrap_or_default();
            let wrong = named.files.iter().filter_map(|(name, entry)| compare(dir, name, entry).err());
            // A graph that is absent is in the manifest too; once is enough.
            found.extend(wrong.filter(|error| !found.contains(error)).collect::<Vec<_>>());
        }
        Err(error) => found.push(error),
    }
    found
}

/// Checks every file that `manifest.json` names, and tells how many; without a manifest there is nothing to check.
pub(super) fn verify(dir: &Path, pin: &str) -> Result<Option<usize>, Error> {
    let Some(named) = manifest(dir, pin)? else { return Ok(None) };
    named.files.iter().try_for_each(|(name, entry)| compare(dir, name, entry))?;
    Ok(Some(named.files.len()))
}

/// The manifest of `dir`, if there is one; with a `pin`, only the pinned one.
fn manifest(dir: &Path, pin: &str) -> Result<Option<Manifest>, Error> {
    let path = dir.join(MANIFEST);
    if pin.is_empty() && !path.exists() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&path, &error))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Error::Model { path, why: format!("it is larger than {MANIFEST_BYTES_MAX} bytes") });
    }
    let found = hex(&Sha256::digest(&bytes));
    if !pin.is_empty() && !found.eq_ignore_ascii_case(pin) {
        let why =
            format!("its sha256 is {found}, and manifest_sha256 asks for {pin}; fetch that model, or pin this one");
        return Err(Error::Model { path, why });
    }
    let named: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Model { path, why: format!("not a manifest: {error}") })?;
    if !pin.is_empty() {
        all_named(dir, dir, &named, FOLDERS_MAX)?;
    }
    Ok(Some(named))
}

/// Whether the manifest has a checksum of every file below `folder`.
fn all_named(dir: &Path, folder: &Path, named: &Manifest, folders: usize) -> Result<(), Error> {
    let refused = |path: &Path, why: &str| Err(Error::Model { path: path.to_owned(), why: why.to_owned() });
    if folders == 0 {
        return refused(folder, "folders lie too deep in one another for a pinned model");
    }
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.is_dir() {
            all_named(dir, &path, named, folders - 1)?;
            continue;
        }
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy();
        let has_sum = named.files.get(&*name).is_some_and(|entry| entry.sha256.is_some());
        if name != MANIFEST && !has_sum {
            return refused(
                &path,
                "the pinned manifest has no sha256 of it; remove the file, or pin a manifest that has",
            );
        }
    }
    Ok(())
}

/// Whether a file is the one that the manifest names.
fn compare(dir: &Path, name: &str, entry: &Entry) -> Result<(), Error> {
    let path = dir.join(name);
    let differs = |what, found: String, expected: String| {
        Err(Error::Manifest { path: path.clone(), manifest: dir.join(MANIFEST), what, found, expected })
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
    Ok(())
}

/// blake3 over the graph and its weights in files of their own, names included.
pub(super) fn fingerprint(dir: &Path, weights: &[String]) -> Result<[u8; 32], Error> {
    let names: BTreeSet<&str> = weights.iter().map(String::as_str).chain([GRAPH]).collect();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let path = dir.join(name);
        let file = open(&path)?;
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update_reader(file).map_err(|error| unreadable(&path, &error))?;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The sha256 of `model.onnx` in `dir`, in hexadecimal.
///
/// # Errors
/// The file can't be read.
pub fn graph_sha256(dir: &Path) -> Result<String, Error> {
    sha256(&dir.join(GRAPH))
}

/// The sha256 of `model.onnx` in `dir` followed by its weights in files of their own, in the order of their names, in hexadecimal: what a head
/// says that it was fitted on.
///
/// # Errors
/// A file can't be read.
pub fn encoder_sha256(dir: &Path, weights: &[String]) -> Result<String, Error> {
    let names: BTreeSet<&str> = weights.iter().map(String::as_str).filter(|name| *name != GRAPH).collect();
    let mut hasher = Sha256::new();
    for name in std::iter::once(GRAPH).chain(names) {
        feed(&mut hasher, &dir.join(name))?;
    }
    Ok(hex(&hasher.finalize()))
}

/// Writes `manifest.json` into `dir`, with size and checksum of every file in it, and what `made` says of how they came about.
///
/// # Errors
/// A file can't be read, or the manifest can't be written.
pub fn write_manifest<T: Serialize>(dir: &Path, made: &T) -> Result<(), Error> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))? {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        if name != MANIFEST {
            files.insert(name, Entry { sha256: Some(sha256(&path)?), bytes: Some(bytes) });
        }
    }
    let path = dir.join(MANIFEST);
    let refused = |why: String| Error::Model { path: path.clone(), why };
    let manifest = serde_json::json!({ "files": files, "made": made });
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| refused(error.to_string()))? + "\n";
    std::fs::write(&path, text).map_err(|error| refused(format!("can't be written ({error})")))
}

/// Opens a file that ends: a pipe or a device might never.
fn open(path: &Path) -> Result<File, Error> {
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !found.is_file() {
        return Err(Error::Model { path: path.to_owned(), why: "not a regular file".to_owned() });
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn sha256(path: &Path) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    feed(&mut hasher, path)?;
    Ok(hex(&hasher.finalize()))
}

/// Puts the bytes of a file into `hasher`.
fn feed(hasher: &mut Sha256, path: &Path) -> Result<(), Error> {
    let (mut file, mut chunk) = (open(path)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut chunk).map_err(|error| unreadable(path, &error))? {
            0 => return Ok(()),
            count => hasher.update(&chunk[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        assert_eq!(verify(dir.path(), "").unwrap(), None);
        manifest(
            r#"{"files":{"model.onnx":{"sha256":"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD","bytes":3}}}"#,
        );
        assert_eq!(verify(dir.path(), "").unwrap(), Some(1));
        manifest(r#"{"files":{"model.onnx":{"bytes":4}}}"#);
        assert!(verify(dir.path(), "").unwrap_err().to_string().contains("model.onnx: bytes is 3"));
        manifest(r#"{"files":{"model.onnx":{"sha256":"00","bytes":3}}}"#);
        assert!(verify(dir.path(), "").unwrap_err().to_string().contains("sha256 is ba78"));
        manifest(r#"{"files":{"gone.bin":{}}}"#);
        assert!(verify(dir.path(), "").unwrap_err().to_string().contains("gone.bin"));
    }

    #[test]
    fn every_file_that_is_wrong_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let told = || files(dir.path(), "").iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(told().len() == 1 && told()[0].contains("model.onnx"), "{:?}", told());
        let text = r#"{"files":{"a.bin":{"bytes":4},"b.bin":{"sha256":"00"},"gone.bin":{},"model.onnx":{}}}"#;
        std::fs::write(dir.path().join("manifest.json"), text).unwrap();
        for name in ["a.bin", "b.bin"] {
            std::fs::write(dir.path().join(name), b"abc").unwrap();
        }
        let told = told();
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, part) in told.iter().zip(["model.onnx", "a.bin: bytes is 3", "b.bin: sha256 is ba78", "gone.bin"]) {
            assert!(line.contains(part), "{line}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn weights_without_an_end_are_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(GRAPH), b"abc").unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.bin")).unwrap();
        let error = fingerprint(dir.path(), &["zero.bin".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("zero.bin: not a regular file"), "{error}");
        let manifest = r#"{"files":{"zero.bin":{"sha256":"00"}}}"#;
        std::fs::write(dir.path().join(MANIFEST), manifest).unwrap();
        assert!(verify(dir.path(), "").unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_pinned_model_can_not_change_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let sum = |text: &str| hex(&Sha256::digest(text));
        write(GRAPH, "abc");
        assert!(verify(dir.path(), &sum("x")).unwrap_err().to_string().contains("manifest.json"), "none is there");
        let text = format!(r#"{{"files":{{"model.onnx":{{"sha256":"{}"}}}}}}"#, sum("abc"));
        write("manifest.json", &text);
        let pin = sum(&text);
        assert_eq!(verify(dir.path(), &pin.to_uppercase()).unwrap(), Some(1));
        assert!(files(dir.path(), &pin).is_empty());
        // Another manifest, as one who may write the directory would lay it beside another model.
        let error = verify(dir.path(), &sum("x")).unwrap_err().to_string();
        assert!(error.contains(&pin) && error.contains(&sum("x")), "{error}");
        // A file more, at the top and below.
        for name in ["special_tokens_map.json", "more/weights.bin"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "{}").unwrap();
            let error = verify(dir.path(), &pin).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("no sha256"), "{error}");
            assert_eq!(verify(dir.path(), "").unwrap(), Some(1), "only a pinned manifest must be complete");
            std::fs::remove_file(path).unwrap();
        }
        write(GRAPH, "abd");
        assert!(verify(dir.path(), &pin).unwrap_err().to_string().contains("model.onnx: sha256"));
    }

    #[test]
    fn what_a_head_was_fitted_on_covers_external_weights_and_is_the_file_s_own_sha256_without() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(GRAPH), "graph").unwrap();
        std::fs::write(dir.path().join("a.bin"), "one").unwrap();
        let alone = encoder_sha256(dir.path(), &[]).unwrap();
        assert_eq!(alone, graph_sha256(dir.path()).unwrap());
        let with = || encoder_sha256(dir.path(), &["a.bin".to_owned()]).unwrap();
        let one = with();
        std::fs::write(dir.path().join("a.bin"), "two").unwrap();
        assert!(one != alone && with() != one);
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
