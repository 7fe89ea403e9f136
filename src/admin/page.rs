//! Owns the page for people: the status board as plain HTML.
//!
//! In: a snapshot. Out: one self-contained document that asks for itself again every two seconds; no script, nothing fetched from
//! anywhere. Invariant: every text that comes from outside is escaped.
//! Must not know: where the numbers come from.

use crate::telemetry::Snapshot;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:light-dark(#1d2329,#e6e8ea);--soft:light-dark(#5b6670,#98a2ab);--line:light-dark(#dfe3e6,#2d343a);\
--card:light-dark(#fff,#1b2024);--ground:light-dark(#f5f6f4,#14181b);--good:light-dark(#1a7f4b,#5ec98f);--bad:light-dark(#b3372f,#f08a80)}\
*{box-sizing:border-box}\
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem}\
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline;margin-bottom:1.5rem}\
h1{font-size:1.6rem;font-weight:650;margin:0;overflow-wrap:anywhere}\
h2{font-size:.8rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);margin:2rem 0 .6rem}\
.state{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem}\
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}\
.card b{display:block;font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}\
.card span,.soft{color:var(--soft);font-size:.9rem}\
table{width:100%;border-collapse:collapse}\
td{padding:.4rem .5rem .4rem 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\
td:first-child{width:11rem;color:var(--soft)}\
code,a{font-family:ui-monospace,monospace;font-size:.92em}a{color:inherit}";

/// The page.
pub(super) fn render(
    snapshot: &Snapshot,
    dead_because: Option<&'static str>,
    endpoints: &[(&'static str, &'static str)],
) -> String {
    let mut page = String::with_capacity(6 * 1024);
    let name = escape(&snapshot.pipeline);
    // Writing to a String can't fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{name} · tamis</title>\
         <style>{STYLE}</style></head><body><main><header><h1>{name}</h1>{}<span class=\"soft\">tamis {}</span></header>",
        state(snapshot, dead_because),
        snapshot.version,
    );
    cards(&mut page, snapshot);
    facts(&mut page, snapshot);
    page.push_str("<h2>Endpoints</h2><table>");
    for (path, purpose) in endpoints {
        let _ = write!(page, "<tr><td><a href=\"{path}\">{path}</a></td><td>{}</td></tr>", escape(purpose));
    }
    page.push_str("</table></main></body></html>\n");
    page
}

fn state(snapshot: &Snapshot, dead_because: Option<&'static str>) -> String {
    let (class, words) = match (dead_because, snapshot.waiting_for) {
        (Some(reason), _) => ("bad", format!("stuck: {reason}")),
        (None, Some(reason)) => ("bad", format!("not ready: {reason}")),
        (None, None) => ("good", "ready".to_owned()),
    };
    format!("<span class=\"state {class}\">{}</span>", escape(&words))
}

fn cards(page: &mut String, snapshot: &Snapshot) {
    page.push_str("<h2>Documents delivered</h2><div class=\"cards\">");
    for (route, count) in snapshot.documents.0 {
        card(page, &grouped(count), route.as_str());
    }
    card(page, &grouped(snapshot.in_flight as u64), "in flight");
    page.push_str("</div>");
}

fn card(page: &mut String, number: &str, label: &str) {
    let _ = write!(page, "<div class=\"card\"><b>{number}</b><span>{label}</span></div>");
}

fn facts(page: &mut String, snapshot: &Snapshot) {
    let since_commit = snapshot.last_commit_at_ms.map(|at| {
        let now = snapshot.started_at_ms.saturating_add(snapshot.uptime_ms);
        format!("{} ago", duration(now.saturating_sub(at)))
    });
    let model = if snapshot.model_warm { "warm" } else { "loading" };
    let model =
        if snapshot.provider.is_empty() { model.to_owned() } else { format!("{model}, on {}", snapshot.provider) };
    let partitions = match snapshot.partitions.count {
        0 => "none".to_owned(),
        count => format!("{count}: {}", snapshot.partitions.list.join(", ")),
    };
    let rows = [
        ("Model", model),
        ("Partitions", partitions),
        ("Last commit", since_commit.unwrap_or_else(|| "none yet".to_owned())),
        ("Last progress", format!("{} ago", duration(snapshot.since_progress_ms))),
        ("Running for", duration(snapshot.uptime_ms)),
        ("Deletions forwarded", grouped(snapshot.tombstones)),
        ("Policy", snapshot.policy.clone()),
        ("Scorer", snapshot.scorer.clone()),
    ];
    page.push_str("<h2>Worker</h2><table>");
    for (label, value) in rows {
        let value = if value.is_empty() { "not known yet".to_owned() } else { value };
        let _ = write!(page, "<tr><td>{label}</td><td>{}</td></tr>", escape(&value));
    }
    page.push_str("</table>");
}

/// A count with its thousands apart: `12 345`, the spaces narrow and unbreakable.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Whole seconds up to a minute, then the two largest units.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Lane, Route};
    use crate::telemetry::{Board, Facts};

    #[test]
    fn a_page_shows_the_numbers_and_lists_the_endpoints() {
        let board = Board::new(Facts { pipeline: "english-web".into(), ..Facts::default() });
        board.set_model_warm("bert:abc", "cpu");
        board.set_partitions(&[Lane { topic: "corpus.raw".into(), partition: 3 }]);
        board.delivered(Route::Fail);
        let page = render(&board.snapshot(), None, &[("/livez", "alive?")]);
        for part in [
            "english-web",
            ">ready<",
            "<b>1</b><span>fail",
            "warm, on cpu",
            "1: corpus.raw/3",
            "href=\"/livez\"",
            "none yet",
        ] {
            assert!(page.contains(part), "{part} is missing from\n{page}");
        }
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    }

    #[test]
    fn a_name_from_the_pipeline_file_is_escaped() {
        let board = Board::new(Facts { pipeline: "<script>alert('x')</script>".into(), ..Facts::default() });
        let page = render(&board.snapshot(), Some("a thread is gone"), &[]);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)") && !page.contains("<script>"));
        assert!(page.contains("stuck: a thread is gone"));
    }

    #[test]
    fn numbers_and_durations_read_well() {
        assert_eq!((grouped(0), grouped(999)), ("0".to_owned(), "999".to_owned()));
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        let cases = [(999, "0 s"), (61_000, "1 min 1 s"), (3_600_000, "1 h 0 min"), (90_000_000, "1 d 1 h")];
        for (ms, words) in cases {
            assert_eq!(duration(ms), words);
        }
    }
}
