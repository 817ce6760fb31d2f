//! The `wva` binary.

fn main() {}
