//! The `wva` binary; everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Cycles over thousands of variants take a third less time than with the C library's, and memory that was freed goes back.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    wva::cli::main()
}
