//! Owns the check of the schema registry: whether it answers, and whether it knows schemas of the kind that records have.
//!
//! In: settings. Out: findings about `[document]`. Invariants: no schema is asked for, for nobody knows yet which one the next record needs.

use super::finding::{Finding, Findings, Table};
use crate::config::Settings;
#[cfg(feature = "registry")]
use crate::decode;

/// Asks the registry, where settings name one.
#[cfg(feature = "registry")]
pub(crate) async fn registry(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Document);
    let (Some(registry), Some(kind)) = (settings.document.registry.clone(), settings.document.format.schema_type())
    else {
        return findings.list;
    };
    let key = "document.registry.url";
    match tokio::task::spawn_blocking(move || decode::probe(&registry)).await {
        Ok(Ok((place, kinds))) if kinds.iter().any(|known| known == kind) => {
            findings.good(key, format!("the schema registry at {place} answers, and knows {}", kinds.join(", ")));
        }
        Ok(Ok((place, kinds))) => {
            let what = format!("the schema registry at {place} knows {}, and not {kind}", kinds.join(", "));
            findings.unavailable(key, what, "use one that does, or another document.format");
        }
        Ok(Err(why)) => {
            let next = "start it, or mend url, ca_file or the credentials in [document.registry]";
            findings.unavailable(key, format!("the schema registry can't be asked: {why}"), next);
        }
        Err(error) => findings.unavailable(key, format!("the check ended early: {error}"), "report it: this is a bug"),
    }
    findings.list
}

/// This build knows no registry, and settings that name one are refused before.
#[cfg(not(feature = "registry"))]
#[allow(clippy::unused_async, reason = "with the formats that have schemas it waits")]
pub(crate) async fn registry(_: &Settings) -> Vec<Finding> {
    Findings::about(Table::Document).list
}

/// That the registry was not asked.
pub(super) fn skipped(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::about(Table::Document);
    if settings.document.registry.is_some() {
        findings.note("document.registry.url", "the schema registry was not asked (--offline)");
    }
    findings.list
}
