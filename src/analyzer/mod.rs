#![doc = include_str!("README.md")]

mod decode;
mod error;
mod first_token;
mod iterations;
mod latency;
mod lengths;
mod mg1;
mod mm1k;
mod preemption;
mod prefill;
mod queue;
mod queue_analyzer;
mod residence;
mod seats;
mod sizing;
mod state_dependent;
mod token_gaps;
pub mod upstream;
mod work;
mod workload;

pub use error::{QueueError, Target};
pub use lengths::{Lengths, Weighted};
pub use mg1::MG1Model;
pub use mm1k::MM1KModel;
pub use queue::QueueMetrics;
pub use queue_analyzer::{Analysis, LatencyStatistics, QueueAnalyzer, Saturation};
pub use sizing::{Sizing, Targets};
pub use state_dependent::MM1StateDependent;
pub use work::Bottleneck;
pub use workload::Workload;

#[cfg(test)]
mod tests;
