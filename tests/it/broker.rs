//! Owns the genuine Apache Kafka broker of this test run: one for all tests and one that asks for passwords, taken down when this process is gone.

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
    BROKER.get_or_init(|| up(&folder("broker"), &[]))
}

/// A broker with an authorizer: whoever is not `admin` may do what permissions say, and nothing else.
pub struct Secured {
    /// Where no password is asked for; who comes here may do everything.
    pub open: String,
    /// Where users log in by SASL/PLAIN; each one's password is the name with `-secret` behind it.
    pub guarded: String,
}

/// The broker with an authorizer, starting it at the first call. It knows the users `alice` and `bob`.
pub fn secured() -> &'static Secured {
    static BROKER: OnceLock<Secured> = OnceLock::new();
    BROKER.get_or_init(|| {
        let dir = folder("secured");
        let users: String = ["alice", "bob"].iter().map(|user| format!(" user_{user}=\"{user}-secret\"")).collect();
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let open = up(
            &dir,
            &[
                "--listener",
                "GUARDED:SASL_PLAINTEXT",
                "sasl.enabled.mechanisms=PLAIN",
                &format!("listener.name.guarded.plain.sasl.jaas.config={login} required{users};"),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users=User:ANONYMOUS",
            ],
        );
        let guarded = std::fs::read_to_string(dir.join("bootstrap.GUARDED")).unwrap().trim().to_owned();
        Secured { open, guarded }
    })
}

/// Starts a broker in `dir` and gives its address.
fn up(dir: &Path, more: &[&str]) -> String {
    let script = root().join("tools/kafka/broker.sh");
    let up = Command::new(&script)
        .args(["up", "--dir"])
        .arg(dir)
        .args(["--watch-pid", &std::process::id().to_string()])
        .args(more)
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
