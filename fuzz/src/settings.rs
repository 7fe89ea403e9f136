//! Any text as a pipeline file, and any lines as `--set`: refused in words, or settings that print, read back as themselves, and keep their secrets.

use super::{root, scratch};
use tamis::config::{self, Error, Purpose, Settings};

/// What must be in no print-out and in no error.
const PLANTED: &str = "planted-hunter2";

/// What stands before a line of dashes are overrides; the rest is the file.
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (sets, text) = text.split_once("\n---\n").unwrap_or(("", text));
    let sets: Vec<String> = sets.lines().map(str::to_owned).collect();
    match load(text, &sets) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(settings) => {
            sound(&settings);
            printed(&settings);
        }
    }
    if !data.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes()) {
        secret(text, sets);
    }
}

fn load(text: &str, sets: &[String]) -> Result<Settings, Error> {
    let path = scratch("pipeline.toml");
    std::fs::write(&path, text).expect("a file for the pipeline");
    let settings = config::load(&path, sets);
    let _ = std::fs::remove_file(path);
    settings
}

/// Whether they make sense is told, all in all, without a panic; and they are equal to themselves.
fn sound(settings: &Settings) {
    for purpose in [Purpose::Run, Purpose::Score] {
        if let Err(problems) = settings.validate(purpose) {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
    }
    assert_eq!(settings.differences(settings), Vec::<String>::new());
    let names = settings.signal_names();
    assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
    let _ = settings.guarantee();
}

/// What is printed is a pipeline file of the same settings, but for its secrets.
fn printed(settings: &Settings) {
    let text = settings.redacted();
    match load(&text, &[]) {
        Ok(again) => assert_eq!(again.redacted(), text),
        Err(error) => panic!("what was printed can't be read: {error}\n{text}"),
    }
}

/// Overrides that plant the secret under keys that hold secrets.
fn plants() -> impl Iterator<Item = String> {
    let keys = [
        "source.kafka.properties.sasl.password",
        "sink.kafka.properties.ssl.key.pem",
        "document.registry.password",
        "document.registry.token",
    ];
    keys.into_iter().map(|key| format!("{key}={PLANTED}"))
}

fn secret(text: &str, mut sets: Vec<String>) {
    sets.extend(plants());
    let told = match load(text, &sets) {
        Err(error) => format!("{error} {error:?}"),
        Ok(settings) => {
            let problems = settings.validate(Purpose::Run).err().unwrap_or_default();
            let problems: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            settings.redacted() + &problems
        }
    };
    assert!(!told.contains(PLANTED), "a secret is told: {told}");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        std::fs::read_dir(root().join("pipelines")).expect("pipelines/").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "toml"));
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).expect("a pipeline")).collect();
    seeds.push(
        b"delivery.max_documents=7\nrules.fluent.max=4\n---\nname = \"x\"\n[source.kafka]\ntopics = [\"in\"]\n"
            .to_vec(),
    );
    seeds.push(b"a=1\n---\n".to_vec());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_takes_root() {
        let settings = load("", &plants().collect::<Vec<_>>()).unwrap();
        assert_eq!(settings.redacted().matches("***").count(), 4);
    }
}
