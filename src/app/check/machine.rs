//! Owns the checks of this machine: the cache's folder, the worker's slot, the port of the endpoints.

use super::finding::{Finding, Findings, Table};
use crate::admin;
use crate::cache::{FileSystem, Survey};
use crate::config::Settings;

/// The cache's folder and the endpoints' port.
pub(super) fn machine(settings: &Settings) -> Vec<Finding> {
    let mut findings = cache(settings, &Survey::of(&settings.cache));
    let mut port = Findings::about(Table::Admin);
    match admin::probe(&settings.admin) {
        Ok(_) if settings.admin.listen.ends_with(":0") => port.good("admin.listen", "takes a free port at each start"),
        Ok(address) => port.good("admin.listen", format!("{address} is free")),
        Err(error) => port.unavailable("admin.listen", error, ""),
    }
    findings.extend(port.list);
    findings
}

/// What the facts about the cache's folder mean.
fn cache(settings: &Settings, facts: &Survey) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Cache);
    let path = settings.cache.path.display();
    match &facts.writable {
        Err(error) => {
            let what = format!("{path} can't be used: {}: {error}", facts.nearest.display());
            findings.unavailable("cache.path", what, "point it at a folder that this user may write");
        }
        Ok(()) if facts.exists => findings.good("cache.path", format!("{path} may be written")),
        Ok(()) => findings.good("cache.path", format!("{path} will be made in {}", facts.nearest.display())),
    }
    match facts.file_system {
        FileSystem::Local => {}
        FileSystem::Memory => findings.note("cache.path", "it lies in memory: scores don't outlive the machine"),
        FileSystem::Network(kind) => findings.warning(
            "cache.path",
            format!("it lies on a network file system ({kind}), where locks can't be relied on"),
            "point it at a local disk",
        ),
    }
    if !settings.cache.enabled {
        findings.note("cache.enabled", "scores are not kept; a document that is read again is scored again");
    } else if let Some(free) = facts.free_bytes {
        let wanted = settings.cache.max_bytes.saturating_sub(facts.used_bytes);
        let sizes = format!("{} wanted at most, {} free", bytes(wanted), bytes(free));
        if wanted > free {
            findings.warning(
                "cache.max_bytes",
                sizes,
                "lower it, or make room: when the disk is full the cache is bypassed",
            );
        } else {
            findings.good("cache.max_bytes", sizes);
        }
    }
    let held = facts.held.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match settings.delivery.instance {
        Some(number) if facts.held.contains(&number) => {
            let what = format!("instance {number} is taken by another process");
            findings.unavailable("delivery.instance", what, "stop it, or leave the key out");
        }
        _ if !held.is_empty() => {
            findings.note("delivery.instance", format!("other workers use this folder, as instance {held}"));
        }
        Some(_) | None => {}
    }
    findings.list
}

/// Bytes for a person.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut shown, mut unit) = (count, 0);
    while shown >= 10 * 1024 && unit + 1 < units.len() {
        (shown, unit) = (shown / 1024, unit + 1);
    }
    format!("{shown} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;
    use std::io;
    use std::path::PathBuf;

    fn facts() -> Survey {
        Survey {
            nearest: PathBuf::from("/var"),
            exists: true,
            writable: Ok(()),
            free_bytes: Some(1 << 40),
            used_bytes: 0,
            file_system: FileSystem::Local,
            held: Vec::new(),
        }
    }

    fn grades(settings: &Settings, facts: &Survey) -> Vec<(Grade, String)> {
        cache(settings, facts).into_iter().map(|finding| (finding.grade, finding.key)).collect()
    }

    #[test]
    fn a_folder_is_judged_by_its_rights_room_kind_and_users() {
        let mut settings = Settings::default();
        let good = |key: &str| (Grade::Good, key.to_owned());
        assert_eq!(grades(&settings, &facts()), [good("cache.path"), good("cache.max_bytes")]);
        settings.delivery.instance = Some(3);
        let bad = Survey {
            writable: Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            free_bytes: Some(1),
            file_system: FileSystem::Network("nfs"),
            held: vec![0, 3],
            ..facts()
        };
        let expected = [
            (Grade::Unavailable, "cache.path"),
            (Grade::Warning, "cache.path"),
            (Grade::Warning, "cache.max_bytes"),
            (Grade::Unavailable, "delivery.instance"),
        ];
        assert_eq!(grades(&settings, &bad), expected.map(|(grade, key)| (grade, key.to_owned())));
        settings.delivery.instance = None;
        let shared = Survey { held: vec![0], ..facts() };
        assert_eq!(grades(&settings, &shared).last().unwrap(), &(Grade::Note, "delivery.instance".to_owned()));
    }

    #[test]
    fn what_lies_in_the_folder_already_counts_as_room() {
        let settings = Settings::default();
        let full = Survey { free_bytes: Some(1 << 20), used_bytes: settings.cache.max_bytes, ..facts() };
        assert!(grades(&settings, &full).iter().all(|(grade, _)| *grade == Grade::Good));
    }

    #[test]
    fn sizes_are_shown_with_two_digits_at_least() {
        assert_eq!([0, 9_999, 10 * 1024, 4_294_967_296].map(bytes), ["0 B", "9999 B", "10 KiB", "4096 MiB"]);
    }
}
