//! `wva simulate`: scaling policies against a simulated fleet on a simulated clock, with request traces as load.
//!
//! ```text
//! trace ─► World (pools, scale targets, faults) ─► samples ─► Policy ─► asks ─► HPA arithmetic ─┐
//!             ▲                                                                                 │
//!             └───────────────────────────────── spec.replicas ◄────────────────────────────────┘
//! ```
//!
//! What `wva` sees is what a scrape would have shown, when it would have shown it. Same seed, same bytes.

mod args;
mod initial;
mod lag;
mod outcome;
mod output;
mod policy;
mod run;
mod scenario;
mod sizing;
mod sketch;
mod timeline;
mod trace;
mod world;

pub use self::{
    args::{SimulateArgs, run},
    lag::DecisionLag,
    outcome::{ModelOutcome, Outcome, Row},
    scenario::{Faults, ModelScenario, Scenario, Slow, Timing, VariantScenario, Window},
    timeline::{Point, Timeline},
    trace::{Requests, TraceError, TraceSource, TraceSummary},
};
