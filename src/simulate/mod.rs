//! `wva simulate`: scaling policies against a simulated fleet on a simulated clock, with request traces as load.
//!
//! ```text
//! trace ─► World (pools, scale targets, faults) ─► samples ─► Policy ─► asks ─► HPA arithmetic ─┐
//!             ▲                                                                                 │
//!             └───────────────────────────────── spec.replicas ◄────────────────────────────────┘
//! ```
//!
//! What `wva` sees is what a scrape would have shown, when it would have shown it. Same seed, same bytes.

mod allotment;
mod args;
mod backtest;
mod bench;
mod clairvoyant;
mod file;
mod initial;
mod lag;
mod outcome;
mod output;
mod plot;
mod policy;
mod report;
mod run;
mod scenario;
mod sizing;
mod sketch;
mod source;
mod timeline;
mod trace;
mod world;

pub use self::{
    args::{OutputForm, SimulateArgs, run},
    backtest::{BacktestRow, Usage, backtest},
    bench::{BenchDecisionsArgs, run as bench_decisions},
    lag::DecisionLag,
    outcome::{ModelOutcome, Outcome, Row},
    plot::PlotError,
    scenario::{Faults, ModelScenario, Scenario, Slow, Timing, VariantScenario, Window},
    source::{LoadSource, SourceError},
    timeline::{Point, Timeline},
    trace::{TraceSource, TraceSummary},
};

#[cfg(test)]
use self::bench::run_one as bench_run;
#[cfg(test)]
mod tests;
