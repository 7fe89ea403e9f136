//! The thin binary: arguments in, exit code out.

fn main() -> ! {
    tamis::cli::end(tamis::cli::main(std::env::args_os()))
}
