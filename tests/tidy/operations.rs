//! Owns what the operator's papers must agree on: the page of metrics with the table of series, and the alerts with the runbook.

use crate::tree::{File, Violation};
use std::fmt::Write as _;
use tamis::telemetry::{Kind, Label, SERIES, Series, Values, language_labels};

/// The page that is generated.
const PAGE: &str = "docs/metrics.md";
const RULES: &str = "deploy/prometheus/alerts.yml";
const RUNBOOK: &str = "deploy/RUNBOOK.md";

/// What people ask for that is made of several series. `deploy/prometheus/alerts.yml` records some of them.
const DERIVED: &str = "
| asked for | query |
|---|---|
| keep rate | `rate(tamis_documents_total{route=\"pass\"}[1h])` over that of `pass`, `review` and `fail` together |
| device busy share | `rate(tamis_device_run_seconds_sum[5m])` |
| batch fill | `rate(tamis_device_row_tokens_total[5m]) / rate(tamis_device_batches_total[5m]) / tamis_device_budget_tokens` |
| padding waste | `rate(tamis_device_padding_tokens_total[5m]) / rate(tamis_device_row_tokens_total[5m])` |
| cache hit rate | `rate(tamis_cache_hits_total[5m])` over that of hits and misses together |
| permits in use | `1 - tamis_permits_free / tamis_permits_limit` |
| speed against warm-up | `rate(tamis_device_row_tokens_total[15m]) / rate(tamis_device_run_seconds_sum[15m]) / tamis_device_baseline_tokens_per_second` |
";

/// The page of metrics, from the table of series.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nEvery series that `/metrics` serves, in the order of a document's road. This page is generated from \
         [telemetry/series.rs](../src/telemetry/series.rs):\nchange it there, then run `make metrics-page`.\n\n\
         Series whose labels are known beforehand exist from the start, at zero. No label comes from a document's text; a language tag \
         is\nmapped to a closed list first. A partition's series end when the partition goes to another worker.\n",
    );
    page.push_str(DERIVED);
    for series in SERIES {
        let _ = write!(page, "\n## `{}`\n\n{} {}\n", series.name, kind(series), series.help);
        for label in series.labels {
            let _ = writeln!(page, "\n* `{}`: {}", label.name, values(label));
        }
    }
    page
}

fn kind(series: &Series) -> String {
    match series.kind {
        Kind::Counter => "Counter.".to_owned(),
        Kind::Gauge => "Gauge.".to_owned(),
        Kind::Histogram(bounds) => {
            let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
            format!("Histogram with buckets up to {}.", bounds.join(", "))
        }
    }
}

fn values(label: &Label) -> String {
    let listed = |values: Vec<&str>| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    match label.values {
        Values::Closed(_) if label.name == "version" => "this program's version".to_owned(),
        Values::Closed(values) => listed(values.to_vec()),
        Values::Routes => listed(tamis::corpus::Route::ALL.map(|route| route.as_str()).to_vec()),
        Values::Faults => "of the fault; `src/corpus/fault.rs` lists them".to_owned(),
        Values::Pipeline => "a name from the pipeline file".to_owned(),
        Values::Lanes => "of a partition that is assigned to this worker".to_owned(),
        Values::Languages => listed(language_labels().collect()),
    }
}

/// The page in the repository is the one that the table makes.
pub(crate) fn metrics_page(files: &[File]) -> Vec<Violation> {
    let current = page();
    let found = files.iter().find(|file| file.path == PAGE).cloned().unwrap_or_else(|| File::new(PAGE, ""));
    let differs = found.text.lines().zip(current.lines()).position(|(a, b)| a != b).map_or(0, |at| at + 1);
    if found.text == current {
        return Vec::new();
    }
    vec![found.violation(differs, "metrics page", "not what telemetry/series.rs says: run `make metrics-page`")]
}

/// Every alert says what it means in two sentences and where to read on, and the runbook has an entry for each and for no other.
pub(crate) fn runbook(files: &[File]) -> Vec<Violation> {
    let named =
        |path: &str| files.iter().find(|file| file.path == path).cloned().unwrap_or_else(|| File::new(path, ""));
    let (rules, book) = (named(RULES), named(RUNBOOK));
    let mut found = Vec::new();
    let mut alerts = Vec::new();
    let blocks: Vec<&str> = rules.text.split("- alert: ").skip(1).collect();
    for block in &blocks {
        let name = block.lines().next().unwrap_or_default().trim();
        alerts.push(name.to_owned());
        let link = format!("runbook_url: {RUNBOOK}#{}", name.to_lowercase());
        for (what, there) in [
            ("summary", block.contains("summary: \"")),
            ("description", block.contains("description: \"")),
            ("severity", block.contains("severity: ")),
            ("link to its entry", block.contains(&link)),
            ("entry in the runbook", book.text.lines().any(|line| line == format!("## {name}"))),
        ] {
            if !there {
                found.push(rules.violation(0, "runbook", format!("{name} has no {what}")));
            }
        }
    }
    for (i, line) in book.text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## Tamis")
            && !alerts.contains(&format!("Tamis{heading}"))
        {
            found.push(book.violation(i + 1, "runbook", format!("there is no alert Tamis{heading}")));
        }
    }
    if alerts.is_empty() {
        found.push(rules.violation(0, "runbook", "no alerts"));
    }
    found
}

/// The chart installs the program of its own commit: its versions are the package's.
pub(crate) fn chart_version(files: &[File]) -> Vec<Violation> {
    let path = "deploy/kubernetes/tamis/Chart.yaml";
    let chart = files.iter().find(|file| file.path == path).cloned().unwrap_or_else(|| File::new(path, ""));
    let version = env!("CARGO_PKG_VERSION");
    let wanted = [format!("version: {version}"), format!("appVersion: \"{version}\"")];
    let missing = wanted.iter().filter(|wanted| !chart.text.lines().any(|line| line == wanted.as_str()));
    missing.map(|wanted| chart.violation(0, "chart version", format!("lacks `{wanted}`"))).collect()
}

mod proofs {
    use super::*;

    fn says(found: Vec<Violation>) -> Vec<String> {
        found.into_iter().map(|v| format!("{}:{}: {}", v.path, v.line, v.what)).collect()
    }

    #[test]
    fn a_stale_page_is_found() {
        let stale = page().replacen("Gauge.", "Counter.", 1);
        assert_eq!(metrics_page(&[File::new(PAGE, &stale)]).len(), 1);
        assert_eq!(metrics_page(&[File::new(PAGE, &page())]).len(), 0);
        assert_eq!(metrics_page(&[]).len(), 1);
    }

    #[test]
    fn an_alert_without_an_entry_is_found_and_so_is_an_entry_without_an_alert() {
        let whole = "- alert: TamisA\n  severity: info\n  summary: \"a\"\n  description: \"a\"\n  runbook_url: deploy/RUNBOOK.md#tamisa\n";
        let files = [File::new(RULES, whole), File::new(RUNBOOK, "## TamisA\n")];
        assert_eq!(says(runbook(&files)), [""; 0]);
        let files =
            [File::new(RULES, &format!("{whole}- alert: TamisB\n")), File::new(RUNBOOK, "## TamisA\n## TamisC\n")];
        let expected = ["summary", "description", "severity", "link to its entry", "entry in the runbook"]
            .map(|what| format!("{RULES}:0: TamisB has no {what}"));
        assert_eq!(
            says(runbook(&files)),
            [&expected[..], &[format!("{RUNBOOK}:2: there is no alert TamisC")]].concat()
        );
        assert_eq!(says(runbook(&[])), [format!("{RULES}:0: no alerts")]);
    }

    #[test]
    fn a_chart_of_another_version_is_found() {
        let path = "deploy/kubernetes/tamis/Chart.yaml";
        let version = env!("CARGO_PKG_VERSION");
        let chart = format!("version: {version}\nappVersion: \"0.0.9\"\n");
        assert_eq!(
            says(chart_version(&[File::new(path, &chart)])),
            [format!("{path}:0: lacks `appVersion: \"{version}\"`")]
        );
        assert_eq!(chart_version(&[]).len(), 2);
    }
}
