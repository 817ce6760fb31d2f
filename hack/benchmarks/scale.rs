//! Prints how a decision cycle grows from 100 to 10,000 variants; `hack/bench-scale` runs it.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
// Takes the place of the system's.
use tikv_jemallocator as _;
use wva::bench::{Allocated, scale};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocated() -> Allocated {
    let stats = ALLOCATOR.stats();
    let count = stats.allocations + stats.reallocations;
    Allocated { count: count as u64, bytes: stats.bytes_allocated as u64 }
}

/// On one core, as the goal is.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let sizes: Result<Vec<usize>, _> = std::env::args().skip(1).map(|size| size.parse()).collect();
    let sizes = sizes?;
    let sizes = if sizes.is_empty() { vec![100, 1_000, 10_000] } else { sizes };
    scale(&sizes, &allocated).await
}
