//! Owns the frame: the numbers as lines of text, block characters and, where wanted, colours.
//!
//! Invariants: it draws into any size, leaving out from the bottom what has no room; colour says nothing that words or shapes don't say as well.

use super::View;
use super::status::{Language, Scores, Status};
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use std::time::Duration;

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ROUTES: [(&str, Color); 4] =
    [("pass", Color::Blue), ("review", Color::Yellow), ("fail", Color::Red), ("dead-letter", Color::Gray)];
/// How old a status may be before that is said.
const STALE: Duration = Duration::from_secs(3);

/// Draws everything that is known.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    let mut lines = Vec::new();
    if let Some(trouble) = &view.trouble {
        let age = view.status.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let old = if age > STALE { format!(", these numbers are {} s old", age.as_secs()) } else { String::new() };
        lines.push(view.line(&format!(" {} does not answer: {trouble}{old} ", view.address), Color::Red));
    }
    if let Some((status, _)) = &view.status {
        head(view, status, &mut lines);
        rates(view, status, usize::from(area.width), &mut lines);
        for scores in &status.scores {
            histogram(view, scores, usize::from(area.width), &mut lines);
        }
        languages(view, &status.languages, &mut lines);
        rejects(view, status, &mut lines);
    }
    lines.truncate(usize::from(area.height));
    for (line, row) in lines.iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

impl View {
    fn paint(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn soft(&self) -> Style {
        if self.colours { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
    }

    fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn line(&self, text: &str, colour: Color) -> Line<'static> {
        Line::styled(text.to_owned(), self.paint(colour))
    }

    fn title(&self, text: &str) -> Line<'static> {
        Line::styled(text.to_owned(), self.strong())
    }
}

fn head(view: &View, status: &Status, lines: &mut Vec<Line<'static>>) {
    let (state, is_well) = status.state();
    lines.push(Line::from(vec![
        Span::styled(status.pipeline.clone(), view.strong()),
        Span::raw("  "),
        Span::styled(format!("● {state}"), view.paint(if is_well { Color::Green } else { Color::Red })),
        Span::styled(format!("  tamis {}, up {}", status.version, duration(status.uptime_ms / 1000)), view.soft()),
    ]));
    let cache = match (status.now.cache_bypassed, status.now.cache_hit_rate) {
        (true, _) => "cache bypassed".to_owned(),
        (false, Some(rate)) => format!("cache {} hits", percent(rate)),
        (false, None) => "cache idle".to_owned(),
    };
    let brokers = status.brokers_up.map_or(String::new(), |up| format!(" · {}", counted(up, "broker")));
    let partitions = counted(status.partitions.count as u64, "partition");
    let tokens = format!("{:.0} tokens/s", status.now.tokens_per_second);
    let facts = [&status.guarantee, &format!("{partitions}{brokers}"), &status.provider, &tokens, &cache];
    let facts: Vec<&str> = facts.into_iter().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
    lines.push(Line::styled(format!("{} · policy {}", facts.join(" · "), status.policy), view.soft()));
    if let Some(reload) = &status.reload {
        let ago = duration(status.now_ms().saturating_sub(reload.at_ms) / 1000);
        let why = reload.why.as_ref().map_or(String::new(), |why| format!(": {}", plain(why)));
        let colour = if reload.outcome == "refused" { Color::Red } else { Color::Reset };
        lines.push(view.line(&format!("reload {}, {ago} ago{why}", reload.outcome), colour));
    }
    lines.push(Line::default());
    let total: f64 = status.now.per_second.values().sum();
    let behind = match status.lag.records {
        Some(records) => format!("{records} behind ({:.1} s)", status.lag.seconds),
        None => "lag not known".to_owned(),
    };
    let open = format!("{} in flight ({:.1} s)", status.in_flight, millis(status.oldest_open_ms));
    // A pass counts when it ends, so a second may hold a little more than itself.
    let busy = (status.now.device_busy / f64::from(status.devices.max(1))).min(1.0);
    let device = match status.devices {
        0 | 1 => format!("device {}", percent(busy)),
        several => format!("{several} devices {}", percent(busy)),
    };
    let kept = status.now.keep_rate.map_or("–".to_owned(), percent);
    lines.push(Line::styled(
        format!("{total:.1} documents/s   {kept} kept   {behind}   {open}   {device}"),
        view.strong(),
    ));
}

fn rates(view: &View, status: &Status, width: usize, lines: &mut Vec<Line<'static>>) {
    lines.push(Line::default());
    lines.push(view.title("Documents a second, ten minutes"));
    let room = width.saturating_sub(34).min(120);
    let highest = status.history.documents.values().flatten().copied().max().unwrap_or(0);
    for (route, colour) in ROUTES {
        let rate = status.now.per_second.get(route).copied().unwrap_or_default();
        let count = status.documents.get(route).copied().unwrap_or_default();
        let counts = status.history.documents.get(route).cloned().unwrap_or_default();
        let newest = counts.get(counts.len().saturating_sub(room)..).unwrap_or_default();
        lines.push(Line::from(vec![
            Span::raw(format!("{route:<12}{rate:>7.1}/s {count:>10}  ")),
            Span::styled(format!("{:>room$}", bars(newest, highest)), view.paint(colour)),
        ]));
    }
}

/// Bars, and below them a mark for each threshold: `│` for those that fail a document, `┆` for those that send it to review.
fn histogram(view: &View, scores: &Scores, width: usize, lines: &mut Vec<Line<'static>>) {
    lines.push(Line::default());
    let (Some(from), Some(to)) = (scores.from, scores.to) else {
        lines.push(view.title(&format!("{}: no values yet", plain(&scores.signal))));
        return;
    };
    let documents: u64 = scores.bins.iter().sum::<u64>() + scores.below + scores.above;
    let marks = scores.rules.iter().flat_map(|rule| {
        [
            ("min", rule.min, '│'),
            ("review", rule.review_below, '┆'),
            ("review", rule.review_above, '┆'),
            ("max", rule.max, '│'),
        ]
    });
    let marks: Vec<(&str, f64, char)> = marks.filter_map(|(name, at, mark)| Some((name, at?, mark))).collect();
    let named: Vec<String> = marks.iter().map(|(name, at, mark)| format!("{mark} {name} {at}")).collect();
    lines.push(Line::from(vec![
        Span::styled(plain(&scores.signal), view.strong()),
        Span::styled(format!("  {documents} documents  {}", named.join("  ")), view.soft()),
    ]));
    let beyond = format!("{from:>9.2} ▕");
    let bins: &[u64] = if width < 24 + scores.bins.len() { &[] } else { &scores.bins };
    let highest = bins.iter().copied().max().unwrap_or(0);
    let above = if scores.above > 0 { format!(" +{} above", scores.above) } else { String::new() };
    let below = if scores.below > 0 { format!(" +{} below", scores.below) } else { String::new() };
    lines.push(Line::from(vec![
        Span::raw(beyond.clone()),
        Span::styled(bars(bins, highest), view.paint(Color::Blue)),
        Span::raw(format!("▏{to:.2}{below}{above}")),
    ]));
    let mut ruler = vec![' '; bins.len()];
    for (_, at, mark) in &marks {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the bins")]
        let place = ((at - from) / (to - from) * bins.len() as f64) as usize;
        if let Some(cell) = ruler.get_mut(place) {
            *cell = *mark;
        }
    }
    let indent = " ".repeat(beyond.chars().count());
    lines.push(Line::raw(format!("{indent}{}", ruler.into_iter().collect::<String>())));
}

fn languages(view: &View, languages: &[Language], lines: &mut Vec<Line<'static>>) {
    if languages.is_empty() {
        return;
    }
    lines.push(Line::default());
    let mut spans = vec![Span::styled("Kept by language, one hour  ", view.strong())];
    for language in languages {
        let (kept, judged): (u64, u64) = (language.kept.iter().sum(), language.judged.iter().sum());
        #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let share = kept as f64 / judged.max(1) as f64;
        spans.push(Span::raw(format!(" {} {} of {judged} ", plain(&language.language), percent(share))));
    }
    lines.push(Line::from(spans));
}

fn rejects(view: &View, status: &Status, lines: &mut Vec<Line<'static>>) {
    lines.push(Line::default());
    lines.push(view.title("Newest that did not pass"));
    if status.rejects.is_empty() {
        lines.push(Line::raw("none so far"));
    }
    for reject in &status.rejects {
        let ago = duration(status.now_ms().saturating_sub(reject.at_ms) / 1000);
        let colour =
            ROUTES.iter().find(|(route, _)| *route == reject.route).map_or(Color::Reset, |(_, colour)| *colour);
        let name = reject.id.as_ref().unwrap_or(&reject.source);
        lines.push(Line::from(vec![
            Span::styled(format!("{ago:>8} "), view.soft()),
            Span::styled(format!("{:<12}", reject.route), view.paint(colour)),
            Span::raw(format!("{:<28} ", shortened(&plain(name), 28))),
            Span::raw(plain(&reject.why())),
        ]));
    }
}

/// One character a count, the highest a full block; what isn't zero is seen.
fn bars(counts: &[u64], highest: u64) -> String {
    let eighths = |count: u64| if count == 0 { 0 } else { (count * 8 / highest.max(1)).clamp(1, 8) };
    counts.iter().map(|count| BARS.get(eighths(*count) as usize).copied().unwrap_or(' ')).collect()
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

fn millis(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
