//! Owns the short form of `make chaos`: half a minute of kills, freezes, drains, broken wires and a broker's crash, judged by the harness itself.

use crate::broker;
use std::process::Command;

#[test]
fn random_kills_drains_freezes_and_outages_lose_nothing_and_repeat_nothing() {
    let seed = std::env::var("TAMIS_SEED").unwrap_or_else(|_| "20261123".to_owned());
    let python = broker::root().join("var/venv/bin/python");
    let done = Command::new(&python)
        .arg(broker::root().join("tools/chaos/chaos.py"))
        .args(["--tamis", env!("CARGO_BIN_EXE_tamis"), "--seed", &seed])
        .args(["--minutes", "0.5", "--workers", "3", "--pace", "0.9", "--rate", "100"])
        .output()
        .unwrap_or_else(|error| panic!("NO PYTHON CLIENT at {}: `make test` installs it: {error}", python.display()));
    let said = String::from_utf8_lossy(&done.stdout);
    eprintln!("{said}");
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let figure = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
        line.trim().parse::<u64>().unwrap_or_default()
    };
    assert!(figure("kills ") >= 5 && figure("documents ") >= 1_000, "too little happened to prove anything: {said}");
    assert_eq!((figure("lost "), figure("duplicated "), figure("out_of_order ")), (0, 0, 0), "{said}");
}
