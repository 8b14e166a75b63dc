//! The `forebay` command. Everything it does is in [`forebay::cli`].

use std::process::ExitCode;

/// Rows are many small allocations on many threads: measured at half the CPU of the system's allocator for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    forebay::cli::main()
}
