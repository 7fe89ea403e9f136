//! Owns the `top` command: the live page's numbers in a terminal.
//!
//! In: `/status` of a worker, asked once a second. Out: a screen until `q`, or with `--once` one frame as plain text. Invariants: the terminal is given back as
//! it was; a worker that doesn't answer is said so, and asked again; nothing but `/status` is asked for.
//! Must not know: how the worker comes by its numbers.

mod ask;
mod frame;
mod status;

use super::args::Top;
use crate::app::Failure;
use crate::cli::Exit;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use status::Status;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the worker is asked.
const BEAT: Duration = Duration::from_secs(1);
/// The size of the frame that `--once` prints, where that is no terminal.
const PLAIN: (u16, u16) = (120, 48);

/// What is known: the last status, and what went wrong since.
struct View {
    address: String,
    status: Option<(Status, Instant)>,
    trouble: Option<String>,
    colours: bool,
}

impl View {
    fn ask(&mut self) {
        match ask::status(&self.address).and_then(|body| Status::read(&body)) {
            Ok(status) => (self.status, self.trouble) = (Some((status, Instant::now())), None),
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }
}

pub(super) fn top(args: &Top) -> Result<(), Failure> {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut view = View { address: args.address.clone(), status: None, trouble: None, colours: colours && !args.once };
    view.ask();
    if let (None, Some(trouble)) = (&view.status, &view.trouble) {
        let next = "is the worker running there? its first line on standard error says where its endpoints are";
        return Err(Failure::new(Exit::Unavailable, format!("{}: {trouble}; {next}", view.address)));
    }
    if args.once {
        return once(&view);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::new(Exit::Usage, "standard output is no terminal; --once prints one frame as text"));
    }
    watch(view)
}

fn once(view: &View) -> Result<(), Failure> {
    let (width, height) = PLAIN;
    // Drawing into memory can't fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| frame::draw(frame, view));
    super::main::print(lines(terminal.backend().buffer()).as_bytes())
}

/// The buffer as text, without the blanks at the ends of lines and below the last.
fn lines(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(buffer.area.width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    format!("{}\n", text.trim_end())
}

fn watch(mut view: View) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Unavailable, format!("the terminal: {error}"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let ended = (|| {
        let mut asked = Instant::now();
        loop {
            terminal.draw(|frame| frame::draw(frame, &view))?;
            if event::poll(BEAT.saturating_sub(asked.elapsed()))? && is_end(&event::read()?) {
                return Ok(());
            }
            if asked.elapsed() >= BEAT {
                asked = Instant::now();
                view.ask();
            }
        }
    })();
    ratatui::restore();
    ended.map_err(failed)
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests;
