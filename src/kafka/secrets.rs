//! Owns the properties whose values stand in files: passwords and keys that a secret store mounts.
//!
//! In: `properties_files`. Out: a client's properties. Invariants: a value read here goes into the client's own configuration and nowhere else, so
//! settings, print-outs and messages can't show it; a file is read anew at each opening, and no more of it than [`MAX_BYTES`].
//! Must not know: which property means what.

use super::error::Error;
use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest file that is taken for a value. A chain of certificates with its key is a tenth of it.
const MAX_BYTES: u64 = 64 * 1024;
/// What may come from a file: the properties that say who one is. Those of the source hold for the producer of the same cluster, too.
const FAMILIES: [&str; 3] = ["security.", "sasl.", "ssl."];

/// Sets each property of `files` that `wanted` takes to what its file holds, without the newline at its end.
///
/// # Errors
/// [`Error::Secret`] with the first file that can't be a value, and why. Never with what it holds.
pub(super) fn lay_over(
    config: &mut ClientConfig,
    room: &'static str,
    files: &BTreeMap<String, PathBuf>,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    for (name, path) in files.iter().filter(|(name, _)| wanted(name)) {
        let value =
            read(path).map_err(|why| Error::Secret { room, property: name.clone(), path: path.clone(), why })?;
        config.set(name, value);
    }
    Ok(())
}

/// What is wrong with a table's `properties_files`, without a look at the files.
pub(super) fn problems(properties: &BTreeMap<String, String>, files: &BTreeMap<String, PathBuf>) -> Vec<String> {
    let mut found = Vec::new();
    for name in files.keys() {
        if !FAMILIES.iter().any(|family| name.starts_with(family)) {
            found.push(format!(
                "{name:?} can't come from a file; only security.*, sasl.* and ssl.* can: write it in properties"
            ));
        } else if properties.contains_key(name) {
            found.push(format!("{name:?} stands in properties too; leave it out in one of the two"));
        }
    }
    found
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes, so it is no password or key"));
    }
    let mut value = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    // One line end, as an editor or `echo` leaves it; any other white space may belong to the secret.
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        return Err("it is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("it holds a NUL character".to_owned());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(content: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, content).unwrap();
        read(&path)
    }

    #[test]
    fn one_line_end_is_no_part_of_the_secret_and_everything_else_is() {
        assert_eq!(held(b"hunter2\n").unwrap(), "hunter2");
        assert_eq!(held(b"hunter2\r\n").unwrap(), "hunter2");
        assert_eq!(held(b" hunter2 \n\n").unwrap(), " hunter2 \n");
        assert_eq!(held(b"-----BEGIN\nx\n-----END\n").unwrap(), "-----BEGIN\nx\n-----END");
    }

    #[test]
    fn what_can_be_no_secret_is_refused_without_being_quoted() {
        for content in [&b""[..], b"\n", b"hunter2\xff", b"hunter2\0x", &vec![b'h'; 64 * 1024 + 1]] {
            let why = held(content).unwrap_err();
            assert!(!why.contains("hh") && !why.contains("hunter2"), "{why}");
        }
        assert!(read(Path::new("/nowhere/secret")).unwrap_err().contains("No such file"));
        // An endless file ends at the limit.
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("larger than"));
    }

    #[test]
    fn the_file_and_the_property_are_named_in_the_error() {
        let files = BTreeMap::from([("sasl.password".to_owned(), PathBuf::from("/nowhere/secret"))]);
        let error = lay_over(&mut ClientConfig::new(), "source.kafka", &files, |_| true).unwrap_err().to_string();
        for part in ["source.kafka.properties_files", "sasl.password", "/nowhere/secret", "No such file"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn only_what_reaches_the_cluster_may_come_from_a_file_and_only_once() {
        let files =
            |name: &str| BTreeMap::from([(name.to_owned(), PathBuf::from("f")), ("ssl.key.pem".into(), "k".into())]);
        let properties = BTreeMap::from([("sasl.password".to_owned(), "x".to_owned())]);
        assert!(problems(&properties, &files("sasl.username")).is_empty());
        assert!(problems(&properties, &files("sasl.password"))[0].contains("stands in properties too"));
        assert!(problems(&properties, &files("linger.ms"))[0].contains("can't come from a file"));
    }
}
