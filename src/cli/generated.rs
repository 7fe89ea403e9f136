//! Owns what is made from the command line's definition: completions for shells, manual pages, and from the settings' types the schema.
//!
//! Invariant: nothing is written by hand, so neither can say other than `--help` does.

use super::args::{Cli, Completions, Man};
use super::main::print;
use crate::app::Failure;
use crate::cli::Exit;
use clap::CommandFactory;

pub(super) fn completions(args: &Completions) -> Result<(), Failure> {
    print(&completion(args.shell))
}

pub(super) fn man(args: &Man) -> Result<(), Failure> {
    let made = std::fs::create_dir_all(&args.out).and_then(|()| clap_mangen::generate_to(Cli::command(), &args.out));
    made.map_err(|error| Failure::new(Exit::Input, format!("{}: {error}; check --out", args.out.display())))
}

/// The schema, for `#:schema` at the top of a pipeline file, or an editor's settings.
pub(super) fn schema() -> Result<(), Failure> {
    print(format!("{:#}\n", crate::config::schema()).as_bytes())
}

fn completion(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tamis", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let text = String::from_utf8(completion(*shell)).unwrap();
            for word in ["tamis", "score", "cache", "clear", "--dry-run"] {
                let found = text.contains(word) || text.contains(&format!("-l {}", word.trim_start_matches('-')));
                assert!(found || text.contains(word.trim_start_matches('-')), "{shell}: {word} is missing");
            }
        }
    }

    #[test]
    fn every_command_that_is_shown_has_a_manual_page() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("man1");
        man(&Man { out: out.clone() }).unwrap();
        let page = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        for (name, part) in [
            ("tamis.1", "TAMIS_ORT_LIB"),
            ("tamis-run.1", "SIGTERM"),
            ("tamis-score.1", "summary"),
            ("tamis-cache-clear.1", "dry"),
            ("tamis-demo.1", "PORT"),
        ] {
            assert!(page(name).contains(part), "{name} lacks {part}");
        }
        let refused = man(&Man { out: out.join("tamis.1") }).unwrap_err();
        assert_eq!(refused.exit, Exit::Input);
    }
}
