//! The `wva` binary; everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Cycles over thousands of variants take less time than with the C library's, which goes through its lists for room.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    wva::cli::main()
}
