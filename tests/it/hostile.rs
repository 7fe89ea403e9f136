//! Owns the short form of the hostile stream (`make hostile` runs the long one): every record of bad bytes, bad JSON, odd characters, odd headers and
//! huge words ends on a route with a reason, in bounded memory; so do bombs in files. `tools/hostile` makes the records and counts them.

use crate::broker;
use serde_json::Value;
use std::process::Command;

#[test]
fn twenty_thousand_hostile_records_end_on_routes_in_bounded_memory() {
    let done = Command::new(broker::root().join("var/venv/bin/python"))
        .arg(broker::root().join("tools/hostile/stream.py"))
        .args(["--tamis", env!("CARGO_BIN_EXE_tamis"), "--brokers", broker::bootstrap()])
        .args(["--records", "20000", "--bomb-mib", "12", "--monster-mib", "1", "--seconds", "500"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    if let Some(line) = said.lines().find(|line| line.starts_with("NOT TESTED")) {
        eprintln!("*** {line}");
    }
    let figures: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    eprintln!("{figures}");
    assert_eq!(figures["records"], 20_000);
    let taken = figures["most_mib"].as_u64().unwrap() - figures["start_mib"].as_u64().unwrap();
    assert!(taken <= figures["bound_mib"].as_u64().unwrap(), "{taken} MiB were taken: {figures}");
    for class in ["bad-utf8", "bad-json", "text-not-string", "missing-text", "header-name", "tombstone-without-key"] {
        assert!(figures["dead_letters"][class].as_u64() > Some(0), "no {class}: {figures}");
    }
}
