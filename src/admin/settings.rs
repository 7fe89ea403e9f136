//! Owns the settings of the admin server: the table `[admin]` of a pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where the endpoints listen and when they call the worker stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port. Port 0 takes a free one. The endpoints have no authentication, hence loopback unless told otherwise.
    pub listen: String,
    /// Names with a dot by which the endpoints may be asked, besides addresses, `localhost` and names without a dot; `"*"` for any. Other names are answered
    /// with 421, so that no web page can read the endpoints through a name of its own that it points here.
    pub hosts: Vec<String>,
    /// `/livez` fails when documents are in flight and nothing has moved for this long, in milliseconds. At least 1.
    #[schemars(range(min = 1))]
    pub stall_after_ms: u64,
    /// Whether the page and `/status` show the first 200 characters of rejected texts to everybody who can reach them.
    pub show_text: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9600".to_owned(), hosts: Vec::new(), stall_after_ms: 300_000, show_text: false }
    }
}

impl Settings {
    /// The stall bound.
    #[must_use]
    pub fn stall_after(&self) -> Duration {
        Duration::from_millis(self.stall_after_ms.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default_and_an_unknown_key_is_refused() {
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        let error = serde_json::from_str::<Settings>(r#"{"lisen": "127.0.0.1:0"}"#).unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }
}
