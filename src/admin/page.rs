//! Owns the page for people: its files, and the words that are put into them before they go out.
//!
//! In: a snapshot. Out: one document, its style, its script and its icon; the script listens to `/events` and draws. Invariants: nothing is fetched from
//! anywhere else, and the policy in the answer's head says so to the browser; every text that comes from outside is escaped; without a
//! script the page is a table.
//! Must not know: where the numbers come from.

use super::view::View;
use std::fmt::Write;

const PAGE: &str = include_str!("page/index.html");
/// How it looks.
pub(super) const STYLE: &str = include_str!("page/page.css");
/// What draws it.
pub(super) const SCRIPT: &str = include_str!("page/page.js");
/// The icon.
pub(super) const ICON: &str = include_str!("page/page.svg");

/// What a browser may do for this page: talk to this server, and nothing else.
pub(super) const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) fn render(view: &View, endpoints: &[(&'static str, &'static str)]) -> String {
    let (class, state) = state(view);
    let mut listed = String::new();
    for (path, purpose) in endpoints {
        // Relative, so that the page also works below a path of somebody's proxy. Writing to a String can't fail.
        let _ = write!(listed, "<li><a href=\"{}\">{path}</a> {}</li>", path.trim_start_matches('/'), escape(purpose));
    }
    let words = [
        ("name", escape(&view.snapshot.pipeline)),
        ("version", escape(view.snapshot.version)),
        ("class", class.to_owned()),
        ("state", escape(&state)),
        ("facts", facts(view)),
        ("endpoints", listed),
    ];
    filled(PAGE, &words)
}

/// `template` with each `{{name}}` replaced once through: what is put in is never looked at again.
fn filled(template: &str, words: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        if let Some((_, word)) = words.iter().find(|(known, _)| *known == name) {
            out.push_str(word);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn state(view: &View) -> (&'static str, String) {
    match (view.stuck_because, view.snapshot.waiting_for) {
        (Some(reason), _) => ("bad", format!("stuck: {reason}")),
        (None, Some("draining")) => ("wait", "draining".to_owned()),
        (None, Some(reason)) => ("wait", format!("not ready: {reason}")),
        (None, None) => ("good", "ready".to_owned()),
    }
}

/// Rows for who has no script.
fn facts(view: &View) -> String {
    let snapshot = &view.snapshot;
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
    let mut rows: Vec<(String, String)> = Vec::new();
    for (route, count) in snapshot.documents.0 {
        let rate = snapshot.vitals.now.per_second.get(route.as_str()).copied().unwrap_or_default();
        rows.push((format!("Delivered: {}", route.as_str()), format!("{}, {rate:.1} a second now", grouped(count))));
    }
    let lag = snapshot.lag.records.map_or("not known".to_owned(), |records| format!("{} records", grouped(records)));
    let more = [
        ("In flight", grouped(snapshot.in_flight as u64)),
        ("Behind", lag),
        ("Delivery", snapshot.guarantee.to_owned()),
        ("Model", model),
        ("Partitions", partitions),
        ("Last commit", since_commit.unwrap_or_else(|| "none yet".to_owned())),
        ("Last progress", format!("{} ago", duration(snapshot.since_progress_ms))),
        ("Running for", duration(snapshot.uptime_ms)),
        ("Deletions forwarded", grouped(snapshot.tombstones)),
        ("Policy", snapshot.policy.clone()),
        ("Scorer", snapshot.scorer.clone()),
    ];
    rows.extend(more.into_iter().map(|(label, value)| (label.to_owned(), value)));
    let mut out = String::new();
    for (label, value) in rows {
        let value = if value.is_empty() { "not known yet".to_owned() } else { value };
        let _ = write!(out, "<tr><th scope=\"row\">{label}</th><td>{}</td></tr>", escape(&value));
    }
    out
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
    use std::time::Duration;

    fn rendered(board: &Board, endpoints: &[(&'static str, &'static str)]) -> String {
        render(&View::of(board, Duration::from_secs(60)), endpoints)
    }

    #[test]
    fn without_a_script_the_page_shows_the_numbers_and_lists_the_endpoints() {
        let board = Board::new(Facts { pipeline: "english-web".into(), provider: "cpu".into(), ..Facts::default() });
        board.set_model_warm("bert:abc");
        board.set_partitions(&[Lane { topic: "corpus.raw".into(), partition: 3 }]);
        board.delivered(Route::Fail, 1);
        let page = rendered(&board, &[("/livez", "alive?")]);
        for part in [
            "english-web",
            ">ready<",
            "Delivered: fail</th><td>1,",
            "warm, on cpu",
            "1: corpus.raw/3",
            "href=\"livez\"",
            "none yet",
        ] {
            assert!(page.contains(part), "{part} is missing from\n{page}");
        }
        assert!(!page.contains("{{") && !page.contains("}}"));
    }

    #[test]
    fn nothing_of_the_page_names_another_place() {
        let namespace = "http://www.w3.org/2000/svg";
        for file in [PAGE, STYLE, SCRIPT, ICON] {
            let file = file.replace(namespace, "");
            assert!(!file.contains("http:") && !file.contains("https:") && !file.contains("//cdn"));
        }
        for word in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(word), "{word} could read a document's text as markup");
        }
    }

    #[test]
    fn a_name_from_the_pipeline_file_is_escaped_and_not_filled_in() {
        let board = Board::new(Facts { pipeline: "<script>alert('x')</script>{{facts}}".into(), ..Facts::default() });
        board.set_stuck("a thread is gone");
        let page = rendered(&board, &[]);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)") && !page.contains("<script>"));
        assert!(page.contains("&lt;/script&gt;{{facts}}") && page.contains("stuck: a thread is gone"));
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
