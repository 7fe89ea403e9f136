//! Owns values of Avro, Protobuf and JSON with a schema on a genuine broker, written by Confluent's serializers: verdicts, evolution, references, dead letters, and a
//! registry that goes away, lies, or asks who one is.

use crate::broker;
use crate::kafka_road::{header, hex, unhex};
use crate::referee::Referee;
use crate::scribe::Scribe;
use crate::worker::{Topics, Worker, pipeline, said};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const TEXT: &str = "The committee met on Tuesday to discuss the annual budget.";

fn document(format: &str, scribe: &Scribe, more: &str) -> String {
    format!("[document]\nformat = {format:?}\n[document.registry]\nurl = {:?}\n{more}", scribe.url)
}

fn put(referee: &mut Referee, topic: &str, values: &[String]) {
    let records: Vec<Value> = values.iter().map(|value| json!({"value": value, "partition": 0})).collect();
    referee.ask("put", json!({"topic": topic, "records": records}));
}

fn delivered(referee: &mut Referee, topics: &Topics) -> Vec<Value> {
    let outputs = [&topics.pass, &topics.review, &topics.fail, &topics.dead];
    referee.ask("dump", json!({ "topics": outputs }))["records"].as_array().unwrap().clone()
}

fn wait_for(referee: &mut Referee, topics: &Topics, wanted: usize, worker: &Worker) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let records = delivered(referee, topics);
        if records.len() >= wanted {
            assert_eq!(records.len(), wanted, "{records:#?}");
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} records:\n{}", records.len(), worker.log());
        sleep(Duration::from_millis(200));
    }
}

/// How many questions for a schema were answered so.
fn asked_for(worker: &Worker, answer: &str) -> f64 {
    let line = format!("tamis_schemas_asked_total{{answer=\"{answer}\"}} ");
    let (_, body) = worker.get("/metrics").unwrap();
    body.lines().find_map(|found| found.strip_prefix(&line)).map_or(0.0, |value| value.parse().unwrap())
}

fn stop(mut worker: Worker) {
    worker.signal("-TERM");
    assert_eq!(worker.wait(60).code(), Some(0), "{}", worker.log());
}

/// The one output with this value: where it went, what was measured, and why it is dead where it is.
fn outcome<'a>(out: &'a [Value], value: &str) -> (&'a str, Value, String) {
    let found: Vec<&Value> = out.iter().filter(|record| record["value"] == value).collect();
    assert_eq!(found.len(), 1, "{value}");
    let json = |name: &str| header(found[0], name).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    let class = json("tamis-error")["class"].as_str().unwrap_or_default().to_owned();
    (found[0]["topic"].as_str().unwrap(), json("tamis-signals"), class)
}

#[test]
fn avro_of_many_writers_is_judged_and_passes_byte_for_byte() {
    let (mut referee, mut scribe) = (Referee::start(), Scribe::start(json!({})));
    let topics = Topics::new("avro");
    referee.create(&topics.all(), 1);
    let input = topics.input.as_str();
    // Three writers: one of the first version, one of a later one whose fields lie elsewhere, one whose text is of a type of its own.
    let first = json!({"type": "record", "name": "D", "namespace": "c", "fields": [
        {"name": "id", "type": "string"}, {"name": "text", "type": ["null", "string"]}]});
    let second = json!({"type": "record", "name": "D", "namespace": "c", "fields": [
        {"name": "when", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 0},
        {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "string"}}, "default": {}},
        {"name": "text", "type": "string"}, {"name": "language", "type": "string", "default": "en"}]});
    let tongue = json!({"type": "enum", "name": "Tongue", "namespace": "shared", "symbols": ["en", "de"]});
    scribe.ask("register", json!({"subject": "shared/Tongue", "schema": tongue.to_string()}));
    let third = json!({"type": "record", "name": "E", "namespace": "c", "fields": [
        {"name": "text", "type": "string"}, {"name": "language", "type": "shared.Tongue"}]});
    let references = json!([{"name": "shared.Tongue", "subject": "shared/Tongue", "version": 1}]);
    let old = scribe.avro(input, &first, &json!([]), &json!([{"id": "a", "text": TEXT}, {"id": "b", "text": null}]));
    let new =
        scribe.avro(input, &second, &json!([]), &json!([{"text": TEXT, "tags": {"x": ["yz"]}, "language": "fr"}]));
    let referring = scribe.avro(input, &third, &references, &json!([{"text": TEXT, "language": "de"}]));
    let cut = old[0][..old[0].len() - 20].to_owned();
    let unknown = format!("0000000fff{}", &old[0][10..]);
    let not_avro = hex(br#"{"text": "json"}"#);
    let other = scribe.ask("register", json!({"subject": "other", "schemaType": "JSON", "schema": "{}"}))["id"]
        .as_u64()
        .unwrap();
    let of_json = format!("00{other:08x}{}", hex(b"{}"));
    let negative = format!("00ffffffff{}", hex(b"{}"));
    let bad = [cut, unknown, not_avro, of_json, negative];
    put(&mut referee, input, &[&old[..], &new, &referring, &bad].concat());
    let file = pipeline("avro", &topics, &document("avro", &scribe, ""));
    let checked = check(&file, &[]);
    assert_eq!(checked.0, Some(0), "{}", checked.1);
    assert!(
        checked.1.contains("the schema registry at http://127.0.0.1:")
            && checked.1.contains("knows JSON, PROTOBUF, AVRO"),
        "{}",
        checked.1
    );
    let mut worker = Worker::run("avro", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 9, &worker);
    for (value, language) in [(&old[0], Value::Null), (&new[0], json!("fr")), (&referring[0], json!("de"))] {
        let (topic, signals, _) = outcome(&out, value);
        assert!(topic != topics.dead && signals["pll.nll_token"].as_f64().unwrap() > 0.0, "{signals}");
        assert_eq!(signals["language"], language);
    }
    // One text, three encodings: one score.
    let score = |value: &str| outcome(&out, value).1["pll.nll_token"].clone();
    assert!(score(&old[0]) == score(&new[0]) && score(&old[0]) == score(&referring[0]));
    assert_eq!(outcome(&out, &old[1]).2, "missing-text");
    let classes = ["bad-avro", "unknown-schema", "bad-framing", "bad-schema", "unknown-schema"];
    for (value, class) in bad.iter().zip(classes) {
        assert_eq!((outcome(&out, value).0, outcome(&out, value).2.as_str()), (topics.dead.as_str(), class));
    }
    // Each schema was asked for once, but for the unknown one.
    let asked = scribe.ask("asked", json!({}))["paths"].as_array().unwrap().clone();
    let times = |path: &str| asked.iter().filter(|known| known.as_str().unwrap().starts_with(path)).count();
    let first = u32::from_str_radix(&old[0][2..10], 16).unwrap();
    assert_eq!((times(&format!("/schemas/ids/{first}")), times("/schemas/ids/4095")), (1, 3), "{asked:?}");
    assert_eq!(asked_for(&worker, "found"), 3.0);
    stop(worker);
}

#[test]
fn protobuf_with_imports_and_inner_types_is_judged_and_passes_byte_for_byte() {
    let (mut referee, mut scribe) = (Referee::start(), Scribe::start(json!({})));
    let topics = Topics::new("protobuf");
    referee.create(&topics.all(), 1);
    let input = topics.input.as_str();
    let main = r#"syntax = "proto3"; package c; import "shared/tongue.proto"; import "google/protobuf/wrappers.proto";
        message Unused { string nothing = 1; }
        message Outer { map<string, string> labels = 1; message Page {
            string text = 4; int64 page_id = 2; shared.Tongue language = 3; google.protobuf.StringValue source = 9; } }"#;
    let tongue = r#"syntax = "proto3"; package shared; enum Tongue { NONE = 0; en = 1; de = 2; }"#;
    let protos = json!({"main.proto": main, "shared/tongue.proto": tongue});
    let values = scribe.protobuf(
        input,
        &protos,
        "Outer.Page",
        &json!([{"text": TEXT, "pageId": "77", "language": "de", "source": "web"}, {"pageId": "78"}]),
    );
    let flat = json!({"flat.proto": r#"syntax = "proto3"; message Flat { string text = 1; }"#});
    let simple = scribe.protobuf("flat", &flat, "Flat", &json!([{"text": TEXT}]));
    assert_eq!(&simple[0][10..12], "00", "the short form of the first message");
    let cut = values[0][..values[0].len() - 30].to_owned();
    let no_such_type = format!("{}0408{}", &values[0][..10], &values[0][16..]);
    let bad = [cut, no_such_type];
    put(&mut referee, input, &[&values[..], &simple, &bad].concat());
    let file = pipeline("protobuf", &topics, &document("protobuf", &scribe, ""));
    let mut worker = Worker::run("protobuf", &file, &["--set", "document.id=/pageId"]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 5, &worker);
    let (topic, signals, _) = outcome(&out, &values[0]);
    assert!(topic != topics.dead && signals["language"] == "de", "{signals}");
    assert_eq!(signals["pll.nll_token"], outcome(&out, &simple[0]).1["pll.nll_token"]);
    assert_eq!(outcome(&out, &values[1]).0, topics.fail, "a text that is not there is empty, which is unscorable");
    for value in &bad {
        assert_eq!((outcome(&out, value).0, outcome(&out, value).2.as_str()), (topics.dead.as_str(), "bad-protobuf"));
    }
    stop(worker);
}

#[test]
fn json_behind_its_schemas_id_is_judged_with_a_registry_and_without() {
    let (mut referee, mut scribe) = (Referee::start(), Scribe::start(json!({})));
    let schema = |title: &str| {
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": title, "type": "object",
            "properties": {"text": {"type": ["string", "null"]}, "language": {"type": "string"}}})
    };
    let first = scribe.json("first", &schema("First"), &json!([{"text": TEXT, "language": "en"}, {"text": null}]));
    let second = scribe.json("second", &schema("Second"), &json!([{"text": TEXT, "pages": [1, {"text": "no"}]}]));
    assert_ne!(first[0][..10], second[0][..10], "two schemas");
    let avro = json!({"type": "record", "name": "A", "fields": [{"name": "text", "type": "string"}]});
    let of_avro =
        format!("{}{}", &scribe.avro("third", &avro, &json!([]), &json!([{"text": TEXT}]))[0][..10], &first[0][10..]);
    let unknown = format!("0000000fff{}", &first[0][10..]);
    let inner = |value: &[u8]| format!("{}{}", &first[0][..10], hex(value));
    let bad = [
        (inner(br#"{"text": "cut"#), "bad-json"),
        (inner(b"{\"text\": \"\xff\"}"), "bad-utf8"),
        (inner(b""), "bad-json"),
        (hex(br#"{"text": "no frame"}"#), "bad-framing"),
        ("0000000001"[..8].to_owned(), "bad-framing"),
        (first[1].clone(), "missing-text"),
    ];
    // Without a registry an id is any number; with one it must be that of a JSON Schema.
    let cases = [("", None), ("registry", Some(["bad-schema", "unknown-schema"]))];
    for (name, refused) in cases {
        let topics = Topics::new(&format!("json-schema{name}"));
        referee.create(&topics.all(), 1);
        let mut values = vec![first[0].clone(), second[0].clone(), of_avro.clone(), unknown.clone()];
        values.extend(bad.iter().map(|(value, _)| value.clone()));
        put(&mut referee, &topics.input, &values);
        let document = match refused {
            Some(_) => document("json-schema", &scribe, ""),
            None => "[document]\nformat = \"json-schema\"\n".to_owned(),
        };
        let file = pipeline(&format!("json-schema{name}"), &topics, &document);
        let (code, said) = check(&file, &[]);
        assert!(code == Some(0) && said.contains("knows JSON") == refused.is_some(), "{said}");
        let mut worker = Worker::run("json-schema", &file, &[]);
        worker.wait_ready();
        let out = wait_for(&mut referee, &topics, values.len(), &worker);
        let score = |value: &str| outcome(&out, value).1["pll.nll_token"].clone();
        assert!(score(&first[0]).as_f64().unwrap() > 0.0 && score(&first[0]) == score(&second[0]));
        assert_eq!(outcome(&out, &first[0]).1["language"], "en");
        for (value, class) in &bad {
            assert_eq!((outcome(&out, value).0, outcome(&out, value).2.as_str()), (topics.dead.as_str(), *class));
        }
        for (number, value) in [&of_avro, &unknown].into_iter().enumerate() {
            match refused {
                Some(classes) => assert_eq!(outcome(&out, value).2, classes[number]),
                None => assert_eq!(score(value), score(&first[0])),
            }
        }
        stop(worker);
    }
}

#[test]
fn a_registry_that_is_away_or_answers_nonsense_costs_no_record() {
    let (mut referee, mut scribe) = (Referee::start(), Scribe::start(json!({})));
    let topics = Topics::new("away");
    referee.create(&topics.all(), 1);
    let input = topics.input.as_str();
    let mut values = Vec::new();
    for name in ["A", "B", "C"] {
        let schema = json!({"type": "record", "name": name, "fields": [{"name": "text", "type": "string"}]});
        values.extend(scribe.avro(input, &schema, &json!([]), &json!([{"text": TEXT}])));
    }
    let quick = document("avro", &scribe, "timeout_ms = 1000\npatience_ms = 120000\n");
    let file = pipeline("away", &topics, &quick);
    put(&mut referee, input, &values[..1]);
    let mut worker = Worker::run("away", &file, &[]);
    worker.wait_ready();
    wait_for(&mut referee, &topics, 1, &worker);
    // It goes away. What needs no question goes on; what needs one waits, and what is behind it in its partition.
    scribe.ask("stop", json!({}));
    put(&mut referee, input, &[values[1].clone(), values[0].clone()]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while asked_for(&worker, "unavailable") < 2.0 {
        assert!(Instant::now() < deadline, "{}", worker.log());
        sleep(Duration::from_millis(100));
    }
    assert_eq!(delivered(&mut referee, &topics).len(), 1, "nothing is decided about what waits");
    scribe.ask("serve", json!({}));
    let out = wait_for(&mut referee, &topics, 3, &worker);
    assert!(out.iter().all(|record| record["topic"] != topics.dead.as_str()), "{out:#?}");
    stop(worker);
    // Nonsense of four kinds, and silence: each ends the worker with 69 once patience is over, its record unread.
    put(&mut referee, input, &values[2..]);
    for mode in ["broken", "proxy", "garbage", "endless", "hang"] {
        scribe.mode(mode);
        let mut worker = Worker::run("away", &file, &["--set", "document.registry.patience_ms=1500"]);
        assert_eq!(worker.wait(60).code(), Some(69), "{mode}: {}", worker.log());
        assert!(worker.log().contains("schema registry at http://127.0.0.1"), "{mode}: {}", worker.log());
        assert_eq!(delivered(&mut referee, &topics).len(), 3, "{mode}");
    }
    scribe.mode("well");
    let mut worker = Worker::run("away", &file, &[]);
    worker.wait_ready();
    let out = wait_for(&mut referee, &topics, 4, &worker);
    assert_ne!(outcome(&out, &values[2]).0, topics.dead);
    stop(worker);
}

/// What `check` ends with and says.
fn check(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .current_dir(broker::root())
        .arg("check")
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[test]
fn a_registry_may_ask_who_one_is_behind_a_certificate_of_its_own() {
    let folder = broker::folder("guarded-registry");
    let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut scribe = Scribe::start(json!({"cert": cert, "key": key}));
    scribe.ask("mode", json!({"mode": "well", "password": "tamis:hunter2-secret"}));
    let secret = folder.join("password");
    std::fs::write(&secret, "hunter2-secret\n").unwrap();
    let topics = Topics::new("guarded-registry");
    Referee::start().create(&topics.all(), 1);
    let trusting = format!("ca_file = {cert:?}\nusername = \"tamis\"\n");
    let with = |more: &str| pipeline("guarded-registry", &topics, &document("avro", &scribe, more));
    let file = with(&format!("{trusting}password_file = {secret:?}\n"));
    let (code, said) = check(&file, &["--log", "trace"]);
    // Nor as it stands in a header.
    assert!(!said.contains("dGFtaXM6"), "{said}");
    assert!(code == Some(0) && said.contains("https://127.0.0.1") && !said.contains("hunter2"), "{said}");
    let (code, said) = check(&with(&format!("{trusting}password = \"hunter2-wrong\"\n")), &["--log", "trace"]);
    assert!(code == Some(69) && said.contains("401: check the credentials") && !said.contains("hunter2"), "{said}");
    let (code, said) = check(&with("username = \"tamis\"\npassword = \"hunter2-secret\"\n"), &[]);
    assert!(
        code == Some(69) && said.contains("can't be asked") && !said.contains("hunter2"),
        "a certificate that nobody vouches for: {said}"
    );
    let (code, said) = check(&with("ca_file = \"/nowhere/ca.pem\"\n"), &[]);
    assert!(code == Some(69) && said.contains("/nowhere/ca.pem"), "{said}");
}

#[test]
fn settings_that_make_no_sense_are_told_before_anything_is_asked() {
    let topics = Topics::new("nonsense");
    let cases = [
        ("[document]\nformat = \"avro\"\n", "document.registry: this format needs its schemas"),
        ("[document.registry]\nurl = \"http://x\"\n", "document.registry: only the formats"),
        (
            "[document]\nformat = \"avro\"\n[document.registry]\nurl = \"https://u:hunter2@x\"\n",
            "document.registry.url: a name and a password",
        ),
        (
            "[document]\nformat = \"avro\"\n[document.registry]\nurl = \"x:8081\"\n",
            "document.registry.url: it must begin with",
        ),
        (
            "[document]\nformat = \"avro\"\n[document.registry]\nurl = \"http://x\"\npassword = \"hunter2\"\n",
            "document.registry.password: it needs a username",
        ),
    ];
    for (extra, told) in cases {
        let (code, said) = check(&pipeline("nonsense", &topics, extra), &["--offline"]);
        assert!(code == Some(64) && said.contains(told) && !said.contains("hunter2"), "{told}: {said}");
    }
    let file =
        pipeline("nonsense", &topics, "[document]\nformat = \"avro\"\n[document.registry]\nurl = \"http://x\"\n");
    // Lines can't hold such values: `run` refuses them, and `score` takes plain JSON with the same names.
    let (lines, sample) = ["lines.toml", "sample.jsonl"].map(|name| broker::folder("nonsense").join(name)).into();
    std::fs::write(&lines, "name = \"n\"\n[source.stdin]\n[sink.stdout]\n[document]\nformat = \"json-schema\"\n")
        .unwrap();
    let (code, said) = check(&lines, &["--offline"]);
    assert!(code == Some(64) && said.contains("document.format: values of this format are bytes"), "{said}");
    std::fs::write(&sample, json!({"id": "a", "text": TEXT}).to_string()).unwrap();
    let score = Command::new(env!("CARGO_BIN_EXE_tamis"))
        .current_dir(broker::root())
        .arg("score")
        .args([&file, Path::new("--input"), &sample])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&score.stderr).into_owned();
    assert_eq!(score.status.code(), Some(0), "{said}");
    let line: Value = serde_json::from_slice(&score.stdout).unwrap();
    assert!(line["id"] == "a" && line["signals"]["pll.nll_token"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn what_is_known_of_a_value_with_a_schema_is_erased_by_its_json_and_by_its_text() {
    const OTHER: &str = "Rain is expected in the north, with bright spells later in the day.";
    let (mut referee, mut scribe) = (Referee::start(), Scribe::start(json!({})));
    let inner = json!({"type": "record", "name": "B", "fields": [{"name": "plain", "type": ["null", "string"]}]});
    let avro = json!({"type": "record", "name": "D", "fields": [{"name": "body", "type": ["null", inner]}]});
    let proto = json!({"d.proto": r#"syntax = "proto3"; message D { message B { string plain = 1; } B body = 1; }"#});
    let values = json!([{"body": {"plain": TEXT}}, {"body": {"plain": OTHER}}]);
    for format in ["avro", "protobuf"] {
        let name = format!("erased-{format}");
        let topics = Topics::new(&name);
        referee.create(&topics.all(), 1);
        let input = topics.input.as_str();
        let values = match format {
            "avro" => scribe.avro(input, &avro, &json!([]), &values),
            _ => scribe.protobuf(input, &proto, "D", &values),
        };
        put(&mut referee, input, &values);
        let reads = format!(
            "[document]\nformat = {format:?}\ntext = \"/body/plain\"\n[document.registry]\nurl = {:?}\n",
            scribe.url
        );
        let file = pipeline(&name, &topics, &reads);
        let mut worker = Worker::run(&name, &file, &[]);
        worker.wait_ready();
        let out = wait_for(&mut referee, &topics, 2, &worker);
        assert!(values.iter().all(|value| outcome(&out, value).0 != topics.dead), "{out:#?}");
        stop(worker);

        let requests = file.with_file_name("requests");
        let erase = |how: [&str; 2]| said(&["cache", "erase", file.to_str().unwrap(), how[0], how[1]]);
        // The record's own bytes are no line; nothing is erased for them, and what to do instead is said.
        std::fs::write(&requests, unhex(&json!(values[0]))).unwrap();
        let raw = erase(["--input", requests.to_str().unwrap()]);
        assert!(raw.code == Some(65) && raw.err.contains("are given as plain JSON here"), "{raw:?}");
        assert_eq!(raw.out, "instance 0: 0 entries erased, 2 kept\n");
        std::fs::write(&requests, json!({"body": {"plain": TEXT}}).to_string()).unwrap();
        let by_json = erase(["--input", requests.to_str().unwrap()]);
        assert_eq!(
            (by_json.code, by_json.out.as_str()),
            (Some(0), "instance 0: 1 entries erased, 1 kept\n"),
            "{by_json:?}"
        );
        let by_text = erase(["--text", OTHER]);
        assert_eq!(
            (by_text.code, by_text.out.as_str()),
            (Some(0), "instance 0: 1 entries erased, 0 kept\n"),
            "{by_text:?}"
        );
    }
}
