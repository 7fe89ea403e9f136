//! Owns the genuine Apache Kafka broker of this test run: one for all tests, taken down when this process is gone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bootstrap address, starting the broker at the first call. A broker that can't be had fails the test: delivery is never tested on a mock.
pub fn bootstrap() -> &'static str {
    static BROKER: OnceLock<String> = OnceLock::new();
    BROKER.get_or_init(|| up(&folder("broker")))
}

/// Starts a broker in `dir`, for as long as this process lives; its address.
pub fn up(dir: &Path) -> String {
    let script = root().join("tools/kafka/broker.sh");
    let up = Command::new(&script)
        .args(["up", "--dir"])
        .arg(dir)
        .args(["--watch-pid", &std::process::id().to_string()])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        up.status.success(),
        "NO KAFKA BROKER, so delivery can't be tested. `make test` installs one. {}",
        String::from_utf8_lossy(&up.stderr)
    );
    let address = String::from_utf8(up.stdout).unwrap().lines().last().unwrap().trim().to_owned();
    eprintln!("genuine Apache Kafka at {address}");
    address
}

/// A fresh folder for this run under the system's temporary folder, removed with the machine's other temporary files.
pub fn folder(name: &str) -> PathBuf {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let run = RUN.get_or_init(|| tempfile::Builder::new().prefix("tamis-it-").tempdir().unwrap());
    let dir = run.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
