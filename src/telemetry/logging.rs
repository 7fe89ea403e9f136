//! Owns how log lines look and where they go: standard error, always, for standard output carries data.
//!
//! In: a format and a filter. Out: an installed subscriber. Invariants: set up once a process; a filter that can't be read is an error,
//! never quietly another filter. Messages are constant lowercase sentences and facts are fields, which is the callers' part.
//! Must not know: what is logged.

use std::str::FromStr;
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged when nobody asks for anything else.
/// The wrapper crate repeats what our own callbacks say, and complains when a client that was closed is dropped.
const DEFAULT_FILTER: &str = "info,rdkafka=off";

/// Crates that never log, whoever asks for it: the HTTP client tells its requests with their headers, and these hold passwords and tokens. A
/// directive of the filter could not say so, because one for a module of theirs would overrule it.
const SILENT: [&str; 2] = ["ureq", "ureq_proto"];

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is no log format; use `text` or `json`")),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("the log filter `{filter}` can't be read: {reason}; write it like `info` or `info,tamis::kafka=debug`")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something set up logging before.
    #[error("logging was already set up in this process")]
    Installed,
}

/// Sends log lines to standard error from now on. `filter` is, in this order, what the caller passes, `TAMIS_LOG`, `RUST_LOG`, or
/// `info`; its form is that of `RUST_LOG`: `info,tamis::kafka=debug`.
///
/// # Errors
/// [`LoggingError::Filter`] names the filter that can't be read (a settings fault); [`LoggingError::Installed`] on a second call.
pub fn init(format: Format, filter: Option<&str>) -> Result<(), LoggingError> {
    let chosen = choose(filter, |name| std::env::var(name).ok());
    let filter = EnvFilter::builder()
        .parse(&chosen)
        .map_err(|e| LoggingError::Filter { filter: chosen.clone(), reason: e.to_string() })?;
    let chosen = tracing_subscriber::registry().with(filter).with(filter_fn(may_speak));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let installed = match format {
        Format::Text => {
            use std::io::IsTerminal;
            chosen.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        Format::Json => {
            chosen.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
        }
    };
    installed.map_err(|_| LoggingError::Installed)
}

/// Whether what is told from there may be logged.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    metadata.target().split("::").next().is_none_or(|name| !SILENT.contains(&name))
}

/// The first of the filters that is given and not blank.
fn choose(given: Option<&str>, env: impl Fn(&str) -> Option<String>) -> String {
    let candidates = [given.map(str::to_owned), env("TAMIS_LOG"), env("RUST_LOG")];
    candidates
        .into_iter()
        .flatten()
        .find(|filter| !filter.trim().is_empty())
        .unwrap_or_else(|| DEFAULT_FILTER.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_our_variable_beats_the_common_one_beats_the_default() {
        let env = |name: &str| match name {
            "TAMIS_LOG" => Some("warn".to_owned()),
            "RUST_LOG" => Some("trace".to_owned()),
            _ => None,
        };
        let rust_only = |name: &str| (name == "RUST_LOG").then(|| "trace".to_owned());
        assert_eq!(choose(Some("debug"), env), "debug");
        assert_eq!(choose(None, env), "warn");
        assert_eq!(choose(None, rust_only), "trace");
        assert_eq!(choose(None, |_| None), DEFAULT_FILTER);
        assert_eq!(choose(Some(" "), |_| None), DEFAULT_FILTER);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_that_shows_it() {
        let error = init(Format::Text, Some("tamis=loud")).unwrap_err();
        assert!(matches!(&error, LoggingError::Filter { filter, .. } if filter == "tamis=loud"));
        assert!(error.to_string().contains("info,tamis::kafka=debug"), "{error}");
    }

    #[test]
    fn the_http_client_is_silent_whoever_asks() {
        let (said, log) = (tempfile::NamedTempFile::new().unwrap(), |told: &str| format!("told by {told}"));
        let lines = tracing_subscriber::fmt::layer().with_writer(said.reopen().unwrap());
        let filter = EnvFilter::builder().parse("info,ureq_proto::util=trace,ureq=trace").unwrap();
        let subscriber = tracing_subscriber::registry().with(filter).with(filter_fn(may_speak)).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "ureq_proto::util", "{}", log("a module"));
            tracing::warn!(target: "ureq", "{}", log("the crate"));
            tracing::info!(target: "ureq_like", "{}", log("another"));
        });
        let said = std::fs::read_to_string(said.path()).unwrap();
        assert!(said.contains("told by another") && said.lines().count() == 1, "{said}");
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("text".parse(), Ok(Format::Text));
        assert!("xml".parse::<Format>().unwrap_err().contains("`text` or `json`"));
    }
}
