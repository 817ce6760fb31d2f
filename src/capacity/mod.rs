//! SLO capacity C(N): the highest Poisson rate at which the target share of requests meets its latency targets in a pool
//! of N replicas.
//!
//! By simulation ([`simulated`]): the engine model of [`crate::fleet`] under Poisson arrivals with the measured token
//! lengths, a bisection per pool size, the same random numbers for every rate. Means alone would need a headroom that
//! differs by workload, and pooling may double what one replica carries. It takes tenths of a second, so it runs outside
//! the cycle; [`approximated`] is the closed form of means that answers at once, and the first guess of the bisection.
//! Pure: no clock, no I/O; the same question and effort give the same answer.

mod approximation;
mod cache;
mod simulation;
mod workload;

pub use approximation::{approximated, drift_factor};
pub use cache::CurveCache;
pub use simulation::{Effort, simulated};

#[cfg(test)]
mod tests;
