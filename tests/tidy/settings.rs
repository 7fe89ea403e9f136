//! Owns the page of settings: every key of a pipeline file as the settings' types say it, and the check that the page is that.

use crate::tree::{File, Violation};
use serde_json::Value;
use std::fmt::Write as _;

const PAGE: &str = "docs/configuration.md";

const HEAD: &str = "# Configuration

Every key of a pipeline file: its type and range, its default, what it means. This page is generated from the settings' types; change it there, then run `make
settings-page`. [pipelines/reference.toml](../pipelines/reference.toml) is the same as a file to copy from, with examples; `tamis schema` prints it for editors.

An unknown key is an error. `tamis check FILE` says everything that is wrong with a file, and what it would do.

Each key can be set from outside, too; from weak to strong: built-in default < file < environment < `--set`.

| in the file | in the environment | as a flag |
|---|---|---|
| `[admin]` `listen` | `TAMIS__ADMIN__LISTEN=127.0.0.1:0` | `--set admin.listen=127.0.0.1:0` |
| `[models.default]` `device` | `TAMIS__MODELS__DEFAULT__DEVICE=cuda:0` | `--set models.default.device=cuda:0` |
| a rule, by its name | `TAMIS__RULES__FLUENT__MAX=4.0` | `--set rules.fluent.max=4.0` |
| a librdkafka property | `TAMIS__SOURCE__KAFKA__PROPERTIES__SASL_USERNAME=tamis` (underscores for dots) | `--set source.kafka.properties.sasl.username=tamis` |
| a list | `TAMIS__SOURCE__KAFKA__TOPICS=a,b` | `--set 'source.kafka.topics=[\"a\", \"b\"]'` |

Passwords don't belong on a command line, which every user of the machine can read: use `properties_files`, or the environment.
`X` below is a name of your choice. A default of \u{2014} is none: the key must be given, or stands for what its meaning says when it is left out.
";

/// The page, from the schema of the settings.
pub(crate) fn page() -> String {
    let schema = tamis::config::schema();
    let mut page = Page { root: &schema, text: HEAD.to_owned() };
    page.table("", &schema, None);
    page.text
}

struct Page<'a> {
    root: &'a Value,
    text: String,
}

impl<'a> Page<'a> {
    /// What `schema` is, its reference followed and a null beside it left out.
    fn solid(&self, schema: &'a Value) -> &'a Value {
        if let Some(options) = schema["anyOf"].as_array() {
            let solid = options.iter().find(|option| option["type"] != "null").unwrap_or(schema);
            return self.solid(solid);
        }
        match schema["$ref"].as_str() {
            Some(path) => &self.root["$defs"][path.trim_start_matches("#/$defs/")],
            None => schema,
        }
    }

    /// The keys of one table, then the tables below it. `title` is the table's, as it is written in a file.
    fn table(&mut self, path: &str, schema: &'a Value, described: Option<&str>) {
        let (mut plain, mut below) = (Vec::new(), Vec::new());
        for (key, of) in schema["properties"].as_object().into_iter().flatten() {
            if self.is_table(of) { below.push((key, of)) } else { plain.push((key, of)) }
        }
        if !path.is_empty() {
            let brackets = if path == "rules" { "[[rules]]".to_owned() } else { format!("[{path}]") };
            let kind = schema["properties"]["kind"]["const"].as_str();
            let kind = kind.map_or(String::new(), |kind| format!(" with `kind = \"{kind}\"`"));
            let _ = write!(self.text, "\n## `{brackets}`{kind}\n\n");
            if let Some(described) = described.or_else(|| schema["description"].as_str()) {
                let _ = writeln!(self.text, "{}", plain_words(described));
            }
        }
        if path == "rules.by_language.X" || path == "rules.by_source.X" {
            // Inside a rule: by_language = { de = { max = 4.6 } }.
            self.text
                .push_str("Written inside a rule: `by_language = { de = { max = 4.6 } }`, and `by_source` likewise.\n");
        }
        if plain.is_empty() && below.is_empty() {
            self.text.push_str("It has no keys.\n");
        } else if !plain.is_empty() {
            self.text.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
        }
        for (key, of) in plain {
            let meaning = plain_words(of["description"].as_str().unwrap_or_default());
            let meaning = format!("{meaning}{}", self.choices(of));
            let _ = writeln!(self.text, "| `{key}` | {} | {} | {meaning} |", self.kind(of), default(of));
        }
        for (key, of) in below {
            let solid = self.solid(of);
            let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if let Some(item) = of.get("items") {
                self.table(&name, self.solid(item), None);
            } else if let Some(each) = solid.get("additionalProperties").filter(|each| each.is_object()) {
                let each = self.solid(each);
                let name = format!("{name}.X");
                match each["oneOf"].as_array() {
                    Some(kinds) => kinds.iter().for_each(|kind| self.table(&name, kind, None)),
                    None => self.table(&name, each, None),
                }
            } else {
                self.table(&name, solid, None);
            }
        }
    }

    /// Whether a key is a table of its own on the page.
    fn is_table(&self, of: &'a Value) -> bool {
        let solid = self.solid(of);
        let each = solid.get("additionalProperties").filter(|each| each.is_object());
        let holds_keys = |of: &'a Value| {
            of.get("properties").is_some() || of.get("oneOf").is_some_and(|kinds| kinds[0].get("properties").is_some())
        };
        // A stdin table has no keys; it is one all the same.
        solid["additionalProperties"] == Value::Bool(false)
            || solid.get("properties").is_some()
            || each.is_some_and(|each| holds_keys(self.solid(each)))
            || of.get("items").is_some_and(|item| holds_keys(self.solid(item)))
    }

    fn kind(&self, of: &'a Value) -> String {
        let several = of["anyOf"].as_array().into_iter().flatten().filter(|one| one["type"] != "null");
        let several: Vec<String> = several.map(|one| self.kind(one)).collect();
        if several.len() > 1 {
            return several.join(", or ");
        }
        let solid = self.solid(of);
        if let Some(value) = solid["const"].as_str() {
            return format!("`\"{value}\"`");
        }
        if let Some(item) = solid.get("items") {
            return format!("list of {}", self.kind(item));
        }
        if let Some(each) = solid.get("additionalProperties").filter(|each| each.is_object()) {
            return format!("table of {}", self.kind(each));
        }
        if !options(solid).is_empty() {
            return "word".to_owned();
        }
        let types = &solid["type"];
        let name =
            types.as_str().or_else(|| types.as_array()?.iter().filter_map(Value::as_str).find(|name| *name != "null"));
        let name = match name.unwrap_or("value") {
            "integer" => "integer",
            "number" => "number",
            "boolean" => "true or false",
            "string" => "text",
            "object" => "table",
            other => other,
        };
        match (of["minimum"].as_i64(), of["maximum"].as_i64().filter(|most| *most > 65_535 || of["format"] == "uint")) {
            (Some(least), Some(most)) => format!("{name}, {least} to {most}"),
            (Some(least), None) if least > 0 => format!("{name}, at least {least}"),
            _ => name.to_owned(),
        }
    }

    /// The words that a key may be, with what each means.
    fn choices(&self, of: &'a Value) -> String {
        let solid = self.solid(of);
        let solid = solid.get("items").map_or(solid, |item| self.solid(item));
        let told =
            options(solid).into_iter().map(|(word, meaning)| format!("<br>`\"{word}\"`: {}", plain_words(meaning)));
        told.collect()
    }
}

/// The words of a closed set, in order.
fn options(schema: &Value) -> Vec<(&str, &str)> {
    let documented = schema["oneOf"].as_array().into_iter().flatten();
    let documented =
        documented.filter_map(|one| Some((one["const"].as_str()?, one["description"].as_str().unwrap_or_default())));
    let bare = schema["enum"].as_array().into_iter().flatten().filter_map(|word| Some((word.as_str()?, "")));
    documented.chain(bare).collect()
}

fn default(of: &Value) -> String {
    let value = &of["default"];
    if value.is_null() { "\u{2014}".to_owned() } else { format!("`{value}`") }
}

/// A doc comment as a cell: one line, links of the code's documentation as their words.
fn plain_words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// The page in the repository is the one that the types make.
pub(crate) fn settings_page(files: &[File]) -> Vec<Violation> {
    let current = page();
    let found = files.iter().find(|file| file.path == PAGE).cloned().unwrap_or_else(|| File::new(PAGE, ""));
    let differs = found.text.lines().zip(current.lines()).position(|(a, b)| a != b).map_or(0, |at| at + 1);
    if found.text == current {
        return Vec::new();
    }
    vec![found.violation(differs, "settings page", "not what the settings' types say: run `make settings-page`")]
}

mod proofs {
    use super::*;

    #[test]
    fn a_stale_page_of_settings_is_found() {
        assert_eq!(settings_page(&[File::new(PAGE, &page().replacen("10485760", "1", 1))]).len(), 1);
        assert_eq!(settings_page(&[File::new(PAGE, &page())]).len(), 0);
        assert_eq!(settings_page(&[]).len(), 1);
    }

    #[test]
    fn every_key_of_the_reference_has_a_row_and_every_word_a_meaning() {
        let reference = include_str!("../../pipelines/reference.toml");
        let page = page();
        let mut keys = 0;
        for line in reference.lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let Some((key, _)) =
                line.split_once(" = ").filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            else {
                continue;
            };
            keys += 1;
            let is_told = page.contains(&format!("| `{key}` |")) || page.contains(&format!(".{key}.X]`"));
            assert!(is_told, "{key} has no row");
        }
        assert!(keys > 60, "{keys}");
        for row in page
            .lines()
            .filter(|line| line.starts_with("| `") && !line.starts_with("| `[") && !line.contains("TAMIS__"))
        {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 5, "{row}");
            assert!(
                row.rsplit('|').nth(1).is_some_and(|meaning| meaning.trim().len() > 3) || row.contains("| `kind` |"),
                "no meaning: {row}"
            );
        }
    }
}
