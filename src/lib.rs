//! `wva` tells a stock Kubernetes HPA how many replicas each LLM inference variant should have.
//!
//! ```text
//!  sources            snapshot            engines            decisions
//!  Prometheus ─► collector ─► snapshot ─► engines::step ─► decision store ─► apiserver ─► HPA
//!  Kubernetes ─► discovery ─┘                                             └─► actuator ─► status, events, /metrics
//! ```

pub mod apiserver;
pub mod clock;
pub mod constants;
pub mod crd;
pub mod engines;
pub mod fleet;
pub mod interfaces;
