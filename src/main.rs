//! The thin binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    tamis::cli::main(std::env::args_os()).into()
}
