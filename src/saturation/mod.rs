//! Saturation analysis by percentages: how full replicas are, whether more are needed, whether fewer would do.
//!
//! Two analyzers share one contract ([`SaturationAnalyzer`](crate::interfaces::SaturationAnalyzer)):
//! [`PercentageAnalyzer`] is ours; [`UpstreamV1Analyzer`] repeats the Go project's version 1, defects included, for
//! comparison and migration. [`tokens`] counts KV-cache tokens instead, and [`upstream_v2`] repeats the Go project's
//! version of that, [`upstream_throughput`] what it could add to it. Pure: no I/O, no clock.

mod percentage;
mod targets;
pub mod tokens;
pub mod upstream_throughput;
mod upstream_v1;
pub mod upstream_v2;

pub(crate) use percentage::joined;
pub use percentage::{PercentageAnalyzer, Replica, analyze_replicas, relative_spare, replicas_of};
pub(crate) use targets::by_cost;
pub use upstream_v1::UpstreamV1Analyzer;
