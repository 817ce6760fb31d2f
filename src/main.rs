//! The `wva` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    wva::cli::main()
}
