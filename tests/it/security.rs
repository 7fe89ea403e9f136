//! Owns the contract of guarded connections, on a genuine broker: TLS, passwords by PLAIN and SCRAM-SHA-512, client certificates; and what is said where
//! one of them is wrong.

use crate::broker::{self, Broker};
use crate::referee::Referee;
use crate::worker::{Topics, Worker, pipeline_at};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The one user's password, which nothing may ever show.
pub const SECRET: &str = "pl4nted-s3cret-9c1e77";
const USER: &str = "tamis";

/// A broker that nobody reaches unknown, but for its open listener, and the certificates for it.
pub struct Guarded {
    broker: Broker,
    /// Where the certificates are: ca.pem, other-ca.pem, client.pem with client.key.
    pub dir: PathBuf,
    /// Where one logs in with a password, over TLS.
    pub login: String,
    /// Where one shows a certificate.
    pub mutual: String,
}

impl Guarded {
    /// Where nobody is asked who they are.
    pub fn open(&self) -> &str {
        &self.broker.address
    }

    /// A file of this broker's folder.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
    let done = done.unwrap_or_else(|error| panic!("NO OPENSSL, so TLS can't be tested: {error}"));
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Two authorities, and certificates of the first for the broker at 127.0.0.1 and for one client.
fn certificates(dir: &Path) {
    let extensions = "[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN=tamis-test\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
                      [server]\nsubjectAltName=IP:127.0.0.1\n[client]\nextendedKeyUsage=clientAuth\n";
    fs::write(dir.join("openssl.cnf"), extensions).unwrap();
    let new = "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for ca in ["ca", "other-ca"] {
        openssl(dir, &format!("{new} -subj /CN={ca} -extensions ca -keyout {ca}.key -out {ca}.pem"));
    }
    for who in ["server", "client"] {
        openssl(
            dir,
            &format!(
                "{new} -subj /CN={who} -extensions {who} -CA ca.pem -CAkey ca.key -keyout {who}.key -out {who}.pem"
            ),
        );
    }
    let both = [fs::read(dir.join("server.key")).unwrap(), fs::read(dir.join("server.pem")).unwrap()].concat();
    fs::write(dir.join("keystore.pem"), both).unwrap();
}

/// The broker, starting it at the first call.
pub fn guarded() -> &'static Guarded {
    static BROKER: OnceLock<Guarded> = OnceLock::new();
    BROKER.get_or_init(|| {
        let dir = broker::folder("guarded-certificates");
        certificates(&dir);
        let security = "org.apache.kafka.common.security";
        let broker = Broker::start(
            "guarded",
            &[
                "--listener",
                "LOGIN:SASL_SSL",
                "--listener",
                "MUTUAL:SSL",
                "ssl.keystore.type=PEM",
                &format!("ssl.keystore.location={}", dir.join("keystore.pem").display()),
                "ssl.truststore.type=PEM",
                &format!("ssl.truststore.location={}", dir.join("ca.pem").display()),
                "listener.name.mutual.ssl.client.auth=required",
                "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
                &format!("listener.name.login.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_{USER}=\"{SECRET}\";"),
                &format!("listener.name.login.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;"),
            ],
        );
        let mut referee = Referee::at(&broker.address);
        referee.ask("scram", json!({"user": USER, "password": SECRET}));
        let (login, mutual) = (broker.listener("LOGIN"), broker.listener("MUTUAL"));
        Guarded { broker, dir, login, mutual }
    })
}

/// Properties of the connection, as pairs.
pub type Properties = Vec<(&'static str, String)>;

/// What it takes to log in with a password by `mechanism`, but for the password.
pub fn login(mechanism: &str) -> Properties {
    vec![
        ("security.protocol", "SASL_SSL".into()),
        ("sasl.mechanism", mechanism.into()),
        ("sasl.username", USER.into()),
        ("ssl.ca.location", guarded().file("ca.pem")),
    ]
}

fn certificate() -> Properties {
    let guarded = guarded();
    vec![
        ("security.protocol", "SSL".into()),
        ("ssl.ca.location", guarded.file("ca.pem")),
        ("ssl.certificate.location", guarded.file("client.pem")),
        ("ssl.key.location", guarded.file("client.key")),
    ]
}

/// These properties as the inside of a TOML table.
pub fn toml(properties: &Properties) -> String {
    let pairs: Vec<String> = properties.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    pairs.join(", ")
}

/// The pipeline of `name` at the broker of this address.
pub fn pipeline(name: &str, brokers: &str, properties: &Properties, extra: &str) -> (Topics, PathBuf) {
    let topics = Topics::new(name);
    let reads = format!("topics = [{:?}]\ngroup = {name:?}", topics.input);
    let file = pipeline_at(brokers, name, &reads, &toml(properties), &topics, extra);
    (topics, file)
}

/// Documents in and routes out over one listener, read back over the same one by a client that isn't ours.
fn flows(
    name: &str,
    brokers: &str,
    properties: &Properties,
    more: &[&str],
    environment: &[(&str, &str)],
    client: Properties,
) {
    let guarded = guarded();
    let (topics, file) = pipeline(name, brokers, properties, "");
    let mut referee = Referee::at(guarded.open());
    referee.create(&topics.all(), 2);
    referee.ask("produce", json!({"topic": topics.input, "partitions": 2, "first": 0, "count": 60}));
    let mut worker = Worker::run_in(name, &file, more, environment);
    worker.wait_ready();
    let deadline = Instant::now() + Duration::from_secs(180);
    while referee.ask("committed", json!({"topic": topics.input, "group": name}))["lag"] != 0 {
        assert!(Instant::now() < deadline && !worker.ended(), "{name} does not come to an end:\n{}", worker.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let client: Value = client.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let seen = referee.ask(
        "verify",
        json!({"brokers": brokers, "client": client, "input": topics.input, "outputs": topics.outputs()}),
    );
    assert_eq!(
        (&seen["input"], &seen["output"], &seen["lost"], &seen["problems"]),
        (&json!(60), &json!(60), &json!(0), &json!(0)),
        "{seen}"
    );
    worker.signal("-TERM");
    assert_eq!(worker.wait(120).code(), Some(0), "{}", worker.log());
    assert!(!worker.log().contains(SECRET), "{name} shows the password:\n{}", worker.log());
}

/// A file that holds the password as `echo` leaves it.
pub fn secret_file() -> String {
    let path = guarded().dir.join("password");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    path.display().to_string()
}

fn with_password(mut properties: Properties) -> Properties {
    properties.push(("sasl.password", SECRET.into()));
    properties
}

#[test]
fn documents_flow_with_a_password_by_plain_over_tls() {
    let plain = login("PLAIN");
    let environment = [("TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD", SECRET)];
    flows("tls-plain", &guarded().login, &plain, &[], &environment, with_password(plain.clone()));
}

#[test]
fn documents_flow_with_a_password_from_a_file_by_scram_over_tls() {
    let scram = login("SCRAM-SHA-512");
    let set = format!("source.kafka.properties_files.sasl.password={}", secret_file());
    flows("tls-scram", &guarded().login, &scram, &["--set", &set], &[], with_password(scram.clone()));
}

#[test]
fn documents_flow_with_a_client_certificate_whose_key_comes_from_a_file() {
    let mut own = certificate();
    own.retain(|(name, _)| !["ssl.key.location", "ssl.certificate.location"].contains(name));
    let files = [("SSL_KEY_PEM", guarded().file("client.key")), ("SSL_CERTIFICATE_PEM", guarded().file("client.pem"))];
    let environment: Vec<(String, String)> = files
        .into_iter()
        .map(|(name, path)| (format!("TAMIS__SOURCE__KAFKA__PROPERTIES_FILES__{name}"), path))
        .collect();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, path)| (&**name, &**path)).collect();
    flows("tls-mutual", &guarded().mutual, &own, &[], &environment, certificate());
}

/// A command that ended by itself: its exit code, and all that it wrote.
pub fn ended(command: &str, file: &Path, more: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .arg(command)
        .arg(file)
        .args(more)
        .envs(environment.iter().copied())
        .current_dir(broker::root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// `check` and `run` both end with 69 within the deadline, say all of `parts`, and don't show the password.
fn refuses(name: &str, brokers: &str, properties: &Properties, parts: &[&str]) {
    let (topics, file) = pipeline(name, brokers, properties, "");
    Referee::at(guarded().open()).create(&topics.all(), 1);
    for command in ["check", "run"] {
        let begun = Instant::now();
        let (code, said) = ended(command, &file, &[], &[]);
        // Ten seconds for a cluster to answer, and a loaded machine.
        assert!(begun.elapsed() < Duration::from_secs(150), "{command} took {:?}:\n{said}", begun.elapsed());
        assert_eq!(code, Some(69), "{name}, {command}:\n{said}");
        for part in parts {
            assert!(said.contains(part), "{name}: {command} does not say {part:?}:\n{said}");
        }
        assert!(!said.contains(SECRET), "{name}: {command} shows the password:\n{said}");
    }
}

fn changed(properties: Properties, name: &'static str, value: &str) -> Properties {
    let mut properties = properties;
    properties.retain(|(known, _)| *known != name);
    if !value.is_empty() {
        properties.push((name, value.to_owned()));
    }
    properties
}

#[test]
fn an_authority_that_did_not_sign_the_brokers_certificate_is_told() {
    let other = guarded().file("other-ca.pem");
    let wrong = changed(with_password(login("PLAIN")), "ssl.ca.location", &other);
    refuses(
        "tls-other-ca",
        &guarded().login,
        &wrong,
        &[&guarded().login, "certificate verify failed", "set ssl.ca.location to"],
    );
}

#[test]
fn a_wrong_password_is_told_for_both_mechanisms() {
    for (name, mechanism) in [("tls-wrong-plain", "PLAIN"), ("tls-wrong-scram", "SCRAM-SHA-512")] {
        let wrong = changed(login(mechanism), "sasl.password", &format!("not-{SECRET}"));
        refuses(name, &guarded().login, &wrong, &["uthentication failed", "check sasl.username, and sasl.password"]);
    }
}

#[test]
fn a_missing_client_certificate_is_told() {
    let bare = changed(changed(certificate(), "ssl.key.location", ""), "ssl.certificate.location", "");
    refuses("tls-no-certificate", &guarded().mutual, &bare, &["set ssl.certificate.location and ssl.key.location"]);
}

#[test]
fn a_client_that_speaks_without_tls_to_a_tls_port_is_told() {
    refuses("tls-none", &guarded().mutual, &Properties::new(), &["security.protocol"]);
}

#[test]
fn a_secret_file_that_holds_nothing_is_told_with_property_and_path() {
    let (topics, file) = pipeline("tls-no-file", &guarded().login, &login("PLAIN"), "");
    Referee::at(guarded().open()).create(&topics.all(), 1);
    for (path, why) in [("/nowhere/password", "No such file"), ("/dev/null", "it is empty")] {
        let set = format!("source.kafka.properties_files.sasl.password={path}");
        for more in [&["check"][..], &["check", "--offline"], &["run"]] {
            let (command, flags) = more.split_first().unwrap();
            let (code, said) = ended(command, &file, &[flags, &["--set", &set]].concat(), &[]);
            assert_eq!(code, Some(69), "{more:?}:\n{said}");
            for part in ["source.kafka.properties_files", "\"sasl.password\"", path, why] {
                assert!(said.contains(part), "{more:?} does not say {part:?}:\n{said}");
            }
        }
    }
}
