//! Owns the promise that a secret is never shown: one is planted in each place that may hold one, and everything that tamis writes is searched for it.

use crate::referee::Referee;
use crate::security::{SECRET, ended, guarded, login, pipeline, secret_file};
use crate::worker::Worker;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// Everything is logged, by tamis and by the client library.
const LOUD: [&str; 4] = ["--log", "trace", "--set", "source.kafka.properties.debug=all"];
const VARIABLE: &str = "TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD";

#[track_caller]
fn hides(place: &str, text: &str) {
    if let Some(line) = text.lines().find(|line| line.contains(SECRET)) {
        panic!("{place} shows the secret: {line}");
    }
}

#[test]
fn a_worker_that_logs_everything_and_answers_everything_never_shows_its_password() {
    let guarded = guarded();
    let mut referee = Referee::at(guarded.open());
    let in_file = format!("source.kafka.properties_files.sasl.password={}", secret_file());
    let mut written = login("SCRAM-SHA-512");
    written.push(("sasl.password", SECRET.into()));
    let environment: &[(&str, &str)] = &[(VARIABLE, SECRET)];
    let set: &[&str] = &["--set", &in_file];
    let ways = [
        ("secret-in-environment", login("PLAIN"), &[][..], environment),
        ("secret-in-file", login("PLAIN"), set, &[]),
        ("secret-in-pipeline", written, &[], &[]),
    ];
    for (name, properties, more, environment) in ways {
        let (topics, file) = pipeline(name, &guarded.login, &properties, "");
        referee.create(&topics.all(), 1);
        referee.ask("produce", json!({"topic": topics.input, "partitions": 1, "first": 0, "count": 20}));
        let more = [more, &LOUD[..]].concat();
        let mut worker = Worker::run_in(name, &file, &more, environment);
        worker.wait_ready();
        let deadline = Instant::now() + Duration::from_secs(180);
        while referee.ask("committed", json!({"topic": topics.input, "group": name}))["lag"] != 0 {
            assert!(Instant::now() < deadline && !worker.ended(), "{name} does not come to an end");
            std::thread::sleep(Duration::from_millis(200));
        }
        for path in ["/", "/status", "/metrics", "/livez", "/readyz", "/nothing"] {
            let (_, body) = worker.get(path).unwrap();
            hides(&format!("{name}, {path}"), &body);
        }
        worker.signal("-TERM");
        assert_eq!(worker.wait(120).code(), Some(0), "{name}");
        let log = worker.log();
        // That the log is as loud as it can be: the client library told its properties, the password masked.
        assert!(log.contains("sasl.password = [redacted]"), "the client library's properties are not in the log");
        hides(name, &log);
        for (command, flags) in
            [("check", &["--json"][..]), ("check", &["--offline"]), ("score", &["--input", "/dev/null"])]
        {
            let (code, said) = ended(command, &file, &[&more[..], flags].concat(), environment);
            assert_eq!(code, Some(0), "{name}, {command} {flags:?}");
            hides(&format!("{name}, {command} {flags:?}"), &said);
        }
    }
}

/// A pipeline file that goes wrong at, or beside, the secret: its name, and the file's text.
fn spoilt() -> Vec<(&'static str, String)> {
    let (_, file) = pipeline("secret-spoilt", &guarded().login, &login("PLAIN"), "");
    let sound = fs::read_to_string(&file).unwrap();
    let with = |line: &str| sound.replace("[sink.kafka]", &format!("{line}\n[sink.kafka]"));
    let property = |pair: &str| {
        sound.replace("properties = { \"security.protocol\"", &format!("properties = {{ {pair}, \"security.protocol\""))
    };
    assert_ne!(property("x"), sound);
    vec![
        ("a password without quotes", property(&format!("\"sasl.password\" = {SECRET}"))),
        ("a password without its last quote", property(&format!("\"sasl.password\" = \"{SECRET}"))),
        ("a password with an escape that there is not", property(&format!("\"sasl.password\" = \"{SECRET}\\q\""))),
        ("a password twice", property(&format!("\"sasl.password\" = \"{SECRET}\", \"sasl.password\" = \"{SECRET}\""))),
        ("a password in a list", property(&format!("\"sasl.password\" = [\"{SECRET}\"]"))),
        ("a misspelt property", property(&format!("\"sasl.pasword\" = \"{SECRET}\""))),
        ("a password where a number belongs", property(&format!("\"socket.timeout.ms\" = \"{SECRET}\""))),
        ("a password where a word of few belongs", property(&format!("\"auto.offset.reset\" = \"{SECRET}\""))),
        ("a password where the protocol belongs", sound.replace("SASL_SSL", SECRET)),
        ("a password as a certificate", property(&format!("\"ssl.key.pem\" = \"{SECRET}\""))),
        (
            "a password as the whole table",
            sound.replace("[sink.kafka]\nproperties = {", &format!("[sink.kafka]\nproperties = \"{SECRET}\"\n#{{")),
        ),
        (
            "a password in both places",
            property(&format!("\"sasl.password\" = \"{SECRET}\""))
                .replace("[sink.kafka]", "properties_files = { \"sasl.password\" = \"/dev/null\" }\n[sink.kafka]"),
        ),
        ("an unknown key of that value", with(&format!("password = \"{SECRET}\""))),
        (
            "a broker that is not there",
            property(&format!("\"sasl.password\" = \"{SECRET}\"")).replace(&guarded().login, "127.0.0.1:1"),
        ),
    ]
}

#[test]
fn nothing_that_goes_wrong_shows_the_password() {
    for (what, text) in spoilt() {
        let file = guarded().dir.join("spoilt.toml");
        fs::write(&file, &text).unwrap();
        for (command, flags) in [("check", &["--log", "trace"][..]), ("run", &["--log", "trace"])] {
            let (code, said) = ended(command, &file, flags, &[]);
            assert!(matches!(code, Some(64 | 69)), "{what}: {command} ended with {code:?}:\n{said}");
            assert!(said.lines().count() > 0, "{what}: {command} says nothing");
            hides(&format!("{what}: {command}"), &said);
        }
        let (_, said) = ended("score", &file, &["--input", "/dev/null", "--log", "trace"], &[]);
        hides(&format!("{what}: score"), &said);
    }
}

#[test]
fn a_variable_or_a_flag_that_goes_wrong_shows_no_password() {
    let (_, file) = pipeline("secret-variables", &guarded().login, &login("PLAIN"), "");
    for name in [
        "TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_PASWORD",
        "TAMIS__SOURCE__KAFKA__PROPERTIES",
        "TAMIS__SOURCE__KAFKA__PASSWORD",
        "TAMIS__SOURCE__PASSWORD",
        "TAMIS__PASSWORD",
        "TAMIS__ADMIN__STALL_AFTER_MS",
        "TAMIS__CACHE__ENABLED",
    ] {
        let (code, said) = ended("check", &file, &["--offline", "--log", "trace"], &[(name, SECRET)]);
        assert_eq!(code, Some(64), "{name}:\n{said}");
        hides(name, &said);
    }
    for set in [
        format!("source.kafka.properties.sasl.pasword={SECRET}"),
        format!("source.kafka.password={SECRET}"),
        format!("source.kafka.properties={{ \"sasl.password\" = \"{SECRET}\""),
        format!("cache.max_bytes={SECRET}"),
    ] {
        let (code, said) = ended("check", &file, &["--offline", "--log", "trace", "--set", &set], &[]);
        assert_eq!(code, Some(64), "{set}:\n{said}");
        hides("a --set", &said);
    }
}
