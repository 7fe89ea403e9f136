//! Owns the genuine Apache Kafka brokers of this test run: one for all tests, one that asks for passwords, and others for tests that stop
//! theirs. All are taken down when this process is gone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the long forms were asked for (`make test-long`).
pub fn is_long() -> bool {
    std::env::var_os("TAMIS_LONG").is_some()
}

/// The bootstrap address, starting the broker at the first call. A broker that can't be had fails the test: delivery is never tested on a mock.
pub fn bootstrap() -> &'static str {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    &BROKER.get_or_init(|| Broker::start("broker", &[])).address
}

/// A broker with an authorizer: whoever is not `admin` may do what permissions say, and nothing else.
pub struct Secured {
    /// Where no password is asked for; who comes here may do everything.
    pub open: String,
    /// Where users log in by SASL/PLAIN; each one's password is the name with `-secret` behind it.
    pub guarded: String,
    _broker: Broker,
}

/// The broker with an authorizer, starting it at the first call. It knows the users `alice` and `bob`.
pub fn secured() -> &'static Secured {
    static BROKER: OnceLock<Secured> = OnceLock::new();
    BROKER.get_or_init(|| {
        let users: String = ["alice", "bob"].iter().map(|user| format!(" user_{user}=\"{user}-secret\"")).collect();
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let broker = Broker::start(
            "secured",
            &[
                "--listener",
                "GUARDED:SASL_PLAINTEXT",
                "sasl.enabled.mechanisms=PLAIN",
                &format!("listener.name.guarded.plain.sasl.jaas.config={login} required{users};"),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users=User:ANONYMOUS",
            ],
        );
        let guarded = broker.listener("GUARDED");
        Secured { open: broker.address.clone(), guarded, _broker: broker }
    })
}

/// One broker, with its folder.
pub struct Broker {
    dir: PathBuf,
    more: Vec<String>,
    pub address: String,
}

impl Broker {
    /// Starts a broker of this name, with `more` arguments for the script.
    pub fn start(name: &str, more: &[&str]) -> Self {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        let mut broker = Self { dir: folder(name), more, address: String::new() };
        broker.up();
        broker
    }

    /// Where the listener of this name is, one of those that `--listener` made.
    pub fn listener(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("bootstrap.{name}"))).unwrap().trim().to_owned()
    }

    /// Starts it, or starts it again with its data and its port.
    pub fn up(&mut self) {
        let watched = std::process::id().to_string();
        let mut command = vec!["up", "--watch-pid", &watched];
        command.extend(self.more.iter().map(String::as_str));
        let said = self.script(&command);
        self.address = said.lines().last().unwrap().trim().to_owned();
        eprintln!("genuine Apache Kafka at {}", self.address);
    }

    /// Ends it as a crash would, its data kept.
    pub fn crash(&self) {
        self.script(&["stop", "--kill"]);
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success(), "kill {signal} {pid}");
    }

    fn script(&self, command: &[&str]) -> String {
        let script = root().join("tools/kafka/broker.sh");
        let (verb, rest) = command.split_first().unwrap();
        let done = Command::new(&script)
            .arg(verb)
            .arg("--dir")
            .arg(&self.dir)
            .args(rest)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(
            done.status.success(),
            "NO KAFKA BROKER ({command:?}), so delivery can't be tested. `make test` installs one. {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that was frozen could not hear that it is to end.
        let _ = std::fs::read_to_string(self.dir.join("pid"))
            .map(|pid| Command::new("kill").args(["-CONT", pid.trim()]).status());
        let _ = Command::new(root().join("tools/kafka/broker.sh")).args(["down", "--dir"]).arg(&self.dir).status();
    }
}

/// A fresh folder for this run under the system's temporary folder, removed with the machine's other temporary files.
pub fn folder(name: &str) -> PathBuf {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let run = RUN.get_or_init(|| tempfile::Builder::new().prefix("tamis-it-").tempdir().unwrap());
    let dir = run.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
