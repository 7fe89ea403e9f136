//! Owns the arguments: which commands and flags there are, what their help says, and how a wrong line is refused.
//!
//! In: words. Out: [`Cli`]. Invariants: parsing reads no file and opens nothing; a wrong line ends with code 64, help and version with 0.
//! Must not know: what the keys of `--set` mean, or what a command does.

use super::compile::Compile;
use super::dlq::Dlq;
use super::exit::Exit;
use crate::engine::{Attention, Device};
use crate::telemetry::Format;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

const AFTER_HELP: &str = "\
Examples:
  tamis demo                                        the whole road with a broker inside the process
  tamis check my.toml                               everything that would stop it, and what it would do
  tamis score my.toml < documents.jsonl             one JSON line a document on standard output
  tamis run my.toml                                 the daemon; Ctrl-C or SIGTERM drains it
  tamis top                                         a running worker's numbers, live in the terminal
  tamis dlq list my.toml                            what could not be judged, and why
  tamis model inspect models/tamis-en               what a model is, how it runs here, and how fast
  tamis run my.toml --set admin.listen=127.0.0.1:0 --log-format json

Settings, from weak to strong:
  built-in defaults < the pipeline file < environment < --set
  Each key of the file has a variable: [admin] listen is TAMIS__ADMIN__LISTEN.
  Paths are relative to the current directory.

Environment:
  TAMIS__ROOM__KEY      one setting
  TAMIS_LOG, RUST_LOG   what is logged, such as info,tamis::kafka=debug (the first wins)
  TAMIS_LOG_FORMAT      text or json
  TAMIS_ORT_LIB         ONNX Runtime's shared library, where it is not found by itself

Exit codes:
  0   drained, or done
  64  the arguments or the settings are wrong; the message names the key
  65  the input can't be opened or decompressed
  69  broker, model, device or port unavailable; a later start may go well
  70  a bug
  75  the drain deadline passed; what was not committed will be done again

Data goes to standard output, everything else to standard error.";

/// Score a stream of documents with a masked language model and route each by its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "tamis", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Set one key over the pipeline file and the environment, such as judge.evaluate=all; may be repeated, the last wins
    #[arg(long = "set", value_name = "ROOM.KEY=VALUE", global = true)]
    pub overrides: Vec<Override>,

    /// How log lines look
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        env = "TAMIS_LOG_FORMAT",
        default_value = "text",
        hide_env_values = true
    )]
    pub log_format: LogFormat,

    /// What is logged to standard error, such as debug or info,tamis::kafka=debug [default: TAMIS_LOG, RUST_LOG, or info]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the daemon: read, score, judge and deliver until a signal drains it, or its files are read
    ///
    /// The first SIGTERM or Ctrl-C stops reading, finishes what was read, commits it and exits with 0; past the drain deadline it
    /// exits with 75, and what was not committed is done again by the next start. Watch it at the address printed on standard error.
    Run(Run),
    /// Look at everything that `run` needs, say every problem at once, and print the plan
    ///
    /// Settings, model files and checksums, tokenizer, windows against positions, device, the model's head; cache folder, slot, port;
    /// brokers, topics, permissions, limits, the group, transactions. The models are loaded, which takes seconds; a cluster may take 10 s to
    /// answer. Nothing is joined, written or created: transactions are tried under the id `<group>-<host>-check`, which no worker uses.
    ///
    /// What is a problem here, `run` refuses. Exit codes: 0 no problems (warnings and notes may remain), 64 settings are wrong, 65
    /// an input file can't be read, 69 something is unavailable; of several, the smallest.
    Check(Check),
    /// Score documents from a file or standard input, one JSON line each
    ///
    /// Lines keep the order of the input. A document that can't be decoded is an output line too, and the exit code stays 0. The
    /// pipeline's source, sink, routes, delivery and admin tables are ignored and may be absent. Where its records are values behind a schema's id
    /// (Avro, Protobuf, JSON), lines are plain JSON with the names that its pointers lead by, and no registry is asked.
    Score(Score),
    /// Look at the score cache, clear it, or erase what it knows of a text
    Cache(Cache),
    /// Look at a pipeline's dead letters, or send their records back to where they came from
    #[command(subcommand)]
    Dlq(Dlq),
    /// Show the whole road on this machine, with a broker inside the process and nothing to set up
    Demo(Demo),
    /// Watch a running worker in the terminal: the numbers of its live page, once a second; q ends it
    Top(Top),
    /// Look into a model's directory
    #[command(subcommand)]
    Model(Model),
    /// Print a shell's completions; the shell's own documentation says where they go
    #[command(hide = true)]
    Completions(Completions),
    /// Print the JSON schema of pipeline files, for editors that check and complete TOML
    #[command(hide = true)]
    Schema,
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(Man),
}

/// What to do with a model.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Model {
    /// Convert a model to half precision, for GPUs: a new directory with graph, tokenizer and manifest
    ///
    /// A GPU computes several times as fast in half precision, and the model takes half the room. On a CPU it gains nothing. What half
    /// precision would spoil stays in fp32: the product that makes the logits, the log-softmax, masks, positions, statistics. Before the directory gets
    /// its name, both models score the same plain English on the device: a difference beyond the precision's tolerance, an operator
    /// of which is not known what half precision does to it, or a device without kernels for it ends with 69, and nothing is left behind.
    ///
    /// A pipeline can convert as it loads, too: models.X.precision = "fp16".
    Compile(Compile),
    /// Load a model as a pipeline would, and tell what was found: its family, tokenizer, graph, head, checks, and its pace here
    ///
    /// Takes some seconds. Exits with 69 if the model can't be loaded, or if its masked-LM head makes no sense.
    Inspect(Inspect),
}

/// Arguments of `model inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Inspect {
    /// The directory with model.onnx, tokenizer.json, tokenizer_config.json and config.json
    pub directory: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Device,

    /// How attention is computed: auto (fused on a GPU), plain or fused
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub attention: Attention,

    /// Threads on the CPU; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Arguments of `top`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Top {
    /// Where the worker's endpoints are
    #[arg(value_name = "ADDRESS", default_value = "127.0.0.1:9600")]
    pub address: String,

    /// Print one frame as plain text and end
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Man {
    /// Where the pages go; created if absent
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// The pipeline file (TOML)
    pub pipeline: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// The pipeline file (TOML)
    pub pipeline: PathBuf,

    /// Ask no broker: settings, models and this machine only
    #[arg(long)]
    pub offline: bool,

    /// Print one JSON object instead: exit, findings (table, grade, key, what, next) and plan
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `score`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Score {
    /// The pipeline file (TOML)
    pub pipeline: PathBuf,

    /// Where documents come from, one a line, plain or compressed with zstd or gzip; - is standard input
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,

    /// Where the lines go; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// At the end, print counts by verdict and rule and the pseudo-perplexity of the whole input on standard error
    #[arg(long)]
    pub summary: bool,
}

impl Score {
    /// The input file; `None` is standard input.
    #[must_use]
    pub fn input_file(&self) -> Option<&PathBuf> {
        not_dash(&self.input)
    }

    /// The output file; `None` is standard output.
    #[must_use]
    pub fn output_file(&self) -> Option<&PathBuf> {
        not_dash(&self.output)
    }
}

fn not_dash(path: &PathBuf) -> Option<&PathBuf> {
    (path.as_os_str() != "-").then_some(path)
}

/// Arguments of `cache`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Cache {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// Show each instance's store: whether it is in use, its layout, generations, entries (about) and bytes, and what was set aside
    ///
    /// Reads only, and opens no store: it is safe beside running workers.
    Stats(CacheStats),
    /// Remove the stores of instances that are not in use, and what was set aside
    ///
    /// Scores are made again where they are needed; nothing else is lost. An instance that is in use is named and left, and the exit
    /// code is then 69.
    Clear(CacheClear),
    /// Erase what the cache knows of given documents, on request
    ///
    /// The cache keeps no texts: under a hash of a window's tokens it keeps sums of log-probabilities, by which one can tell whether a text that one has was
    /// scored. This erases both for the documents given, in the stores of all instances that are not in use: each store is written anew without them, the old
    /// files are removed, and stores that were set aside as damaged are removed whole. An instance that is in use is named and left, and the exit code is then
    /// 69. What other models, windows or maskings made of the text has other keys: do it with each pipeline file that scored it, or use `cache clear`.
    ///
    /// Stop the workers first. A store of gigabytes takes minutes and needs its room twice.
    #[command(after_help = ERASE_HELP)]
    Erase(CacheErase),
}

const ERASE_HELP: &str = "\
Examples:
  tamis cache erase my.toml --input requests.jsonl      documents in the form that the pipeline reads, one a line
  tamis cache erase my.toml --input - < requests.jsonl
  tamis cache erase my.toml --text \"Dear Sir, \u{2026}\"       a text; other users of this machine can see a command line

Exit codes: 0 erased, or nothing was there; 64 settings; 65 the input can't be read; 69 a model can't be loaded, or a store is in use or unreadable.";

/// Arguments of `cache erase`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("documents").required(true).args(["text", "input"]))]
pub struct CacheErase {
    /// The pipeline file (TOML), for its models, signals, document form and cache.path
    pub pipeline: PathBuf,

    /// The text itself, as it stands in the document
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,

    /// Documents in the form that the pipeline reads, one a line, plain or compressed; what has a schema as plain JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Only in this instance's store
    #[arg(long, value_name = "N")]
    pub instance: Option<u32>,
}

/// Arguments of `cache stats`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CacheStats {
    /// The pipeline file (TOML), for its cache.path
    pub pipeline: PathBuf,
}

/// Arguments of `cache clear`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CacheClear {
    /// The pipeline file (TOML), for its cache.path
    pub pipeline: PathBuf,

    /// Only this instance
    #[arg(long, value_name = "N")]
    pub instance: Option<u32>,

    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Demo {
    /// Port of the status page on 127.0.0.1; 0 takes a free one, printed on standard error
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
}

/// How log lines look, as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// One `--set room.key=value`, taken apart but not interpreted: settings know which keys there are and what a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The key's path with its dots: `signals.pll.window_tokens`. At least two parts, none of them empty.
    pub key: String,
    /// Everything behind the first `=`, as written. May be empty.
    pub value: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (key, value) = s.split_once('=').ok_or("there is no `=`; write it like judge.evaluate=all")?;
        let key = key.trim();
        if !key.contains('.') && key != "name" {
            return Err(format!("`{key}` names no room; write it like judge.evaluate=all"));
        }
        if key.split('.').any(str::is_empty) {
            return Err(format!("`{key}` has an empty part; write it like judge.evaluate=all"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl Cli {
    /// Reads the process's arguments, program name first. When there is nothing to do but to exit, says so where it belongs (help
    /// and version on standard output, complaints on standard error) and gives the code.
    ///
    /// # Errors
    /// [`Exit::Done`] after help or the version, [`Exit::Usage`] after a wrong line.
    pub fn read<I, T>(words: I) -> Result<Self, Exit>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        Self::try_parse_from(words).map_err(|error| {
            // A closed pipe behind `--help | head` is no failure of ours.
            let _ = error.print();
            exit_of(error.kind())
        })
    }
}

/// Only help and version that were asked for are success; clap's own code for the rest would be 2.
fn exit_of(kind: ErrorKind) -> Exit {
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) { Exit::Done } else { Exit::Usage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn refused(line: &str) -> (Exit, String) {
        let error = read(line).expect_err("must be refused");
        (exit_of(error.kind()), error.to_string())
    }

    #[test]
    fn clap_finds_no_fault_with_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_pipeline_and_global_flags_on_either_side() {
        let before = read("tamis --set a.b=1 --log-format json run p.toml").unwrap();
        let after = read("tamis run p.toml --log-format json --set a.b=1").unwrap();
        assert_eq!(before, after);
        assert_eq!(before.command, Command::Run(Run { pipeline: "p.toml".into() }));
        assert_eq!(Format::from(before.log_format), Format::Json);
        assert_eq!(before.overrides, [Override { key: "a.b".into(), value: "1".into() }]);
    }

    #[test]
    fn overrides_repeat_in_order_and_keep_their_values_whole() {
        let cli =
            read("tamis run p.toml --set source.kafka.brokers=a:1,b:2 --set rules.x.min=-1=2 --set name=").unwrap();
        let pairs: Vec<_> = cli.overrides.iter().map(|o| (o.key.as_str(), o.value.as_str())).collect();
        assert_eq!(pairs, [("source.kafka.brokers", "a:1,b:2"), ("rules.x.min", "-1=2"), ("name", "")]);
    }

    #[test]
    fn score_reads_standard_input_and_writes_standard_output_unless_told_otherwise() {
        let Command::Score(score) = read("tamis score p.toml").unwrap().command else { panic!("not score") };
        assert!(score.input_file().is_none() && score.output_file().is_none() && !score.summary);
        let line = "tamis score p.toml --input in.jsonl --output out.jsonl --summary";
        let Command::Score(score) = read(line).unwrap().command else { panic!("not score") };
        assert_eq!(score.input_file(), Some(&"in.jsonl".into()));
        assert_eq!(score.output_file(), Some(&"out.jsonl".into()));
        assert!(score.summary);
        let Command::Score(score) = read("tamis score p.toml --input -").unwrap().command else { panic!("not score") };
        assert!(score.input_file().is_none());
    }

    #[test]
    fn check_asks_brokers_and_speaks_to_people_unless_told_otherwise() {
        let Command::Check(check) = read("tamis check p.toml").unwrap().command else { panic!("not check") };
        assert_eq!(check, Check { pipeline: "p.toml".into(), offline: false, json: false });
        let Command::Check(check) = read("tamis check p.toml --offline --json").unwrap().command else {
            panic!("not check")
        };
        assert!(check.offline && check.json);
    }

    #[test]
    fn demo_needs_nothing() {
        assert_eq!(read("tamis demo").unwrap().command, Command::Demo(Demo { port: 0 }));
        assert_eq!(read("tamis demo --port 9600").unwrap().command, Command::Demo(Demo { port: 9600 }));
    }

    #[test]
    fn a_model_is_inspected_in_its_directory() {
        let (directory, device, attention) = ("m".into(), Device::Cuda(1), Attention::Plain);
        let inspect = Inspect { directory, json: true, device, attention, threads: 2 };
        let line = "tamis model inspect m --json --device cuda:1 --attention plain --threads 2";
        assert_eq!(read(line).unwrap().command, Command::Model(Model::Inspect(inspect)));
        assert!(refused("tamis model inspect").1.contains("<DIRECTORY>"));
        assert!(refused("tamis model inspect m --device tpu").1.contains("cuda:N"));
        assert!(refused("tamis model inspect m --attention flash").1.contains("fused"));
    }

    #[test]
    fn a_wrong_line_is_usage_and_says_what_is_wrong() {
        let cases = [
            ("tamis", "Usage"),
            ("tamis run", "<PIPELINE>"),
            ("tamis explode p.toml", "explode"),
            ("tamis run p.toml --set admin.listen", "no `=`"),
            ("tamis run p.toml --set listen=1", "names no room"),
            ("tamis run p.toml --set admin.=1", "empty part"),
            ("tamis run p.toml --log-format xml", "text, json"),
            ("tamis demo --port 70000", "70000"),
            ("tamis run p.toml --summary", "--summary"),
            ("tamis cache", "Usage"),
            ("tamis cache stats", "<PIPELINE>"),
            ("tamis cache clear p.toml --instance x", "--instance"),
        ];
        for (line, part) in cases {
            let (exit, message) = refused(line);
            assert_eq!(exit, Exit::Usage, "{line}");
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn help_and_version_are_success() {
        for line in [
            "tamis --help",
            "tamis -h",
            "tamis --version",
            "tamis run --help",
            "tamis score -h",
            "tamis demo --help",
            "tamis help",
            "tamis help run",
            "tamis help cache stats",
        ] {
            assert_eq!(refused(line).0, Exit::Done, "{line}");
        }
        assert!(refused("tamis --version").1.contains(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn help_teaches_every_exit_code_and_every_built_command() {
        let help = refused("tamis --help").1;
        for exit in Exit::ALL {
            assert!(
                help.lines().any(|l| l.trim_start().starts_with(&format!("{} ", exit.code()))),
                "{exit:?} is missing"
            );
        }
        for part in [
            "tamis run my.toml",
            "tamis check my.toml",
            "tamis score my.toml",
            "tamis demo",
            "TAMIS__ROOM__KEY",
            "TAMIS_ORT_LIB",
            "RUST_LOG",
        ] {
            assert!(help.contains(part), "{part} is missing from\n{help}");
        }
    }

    #[test]
    fn only_commands_that_are_built_exist() {
        let names: Vec<_> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert_eq!(
            names,
            ["run", "check", "score", "cache", "dlq", "demo", "top", "model", "completions", "schema", "man"]
        );
    }
}
