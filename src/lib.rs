//! `wva` tells a stock Kubernetes HPA how many replicas each LLM inference variant should have.
//!
//! ```text
//!  sources            snapshot            engines            decisions
//!  Prometheus ─► collector ─► snapshot ─► engines::step ─► decision store ─► apiserver ─► HPA
//!  Kubernetes ─► discovery ─┘                                             └─► actuator ─► status, events, /metrics
//! ```

pub mod actuator;
pub mod analyzer;
pub mod apiserver;
pub mod app;
pub mod auth;
pub mod authority;
#[doc(hidden)]
pub mod bench;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod constants;
pub mod controller;
pub mod core;
pub mod crd;
pub mod decisions;
pub mod delegation;
pub mod demo;
pub mod discovery;
pub mod election;
pub mod engines;
pub mod estimation;
pub mod executor;
pub mod fleet;
pub mod forecast;
pub mod hpa;
pub mod interfaces;
pub mod keda;
pub mod manager;
pub mod modelanalyzer;
pub mod optimizer;
pub mod plan;
pub mod recording;
pub mod replication;
pub mod saturation;
pub mod serving;
pub mod simulate;
pub mod size;
pub mod snapshot;
pub mod solver;
pub mod telemetry;
