//! Saturation by tokens: how many KV-cache tokens a model's requests hold and wait for, against what a replica can hold.
//!
//! ```text
//! usage, queue, lengths ─► TokenLoad (in use + waiting) ──────────────► demand
//! KV capacity ─► memory bound ─┐
//! saturated replicas ─► LearnedCapacities ─► compute bound ─┴─ least ─► capacity per replica
//! pod arguments ─► EngineArguments ─► estimate ─┘
//! ```
//!
//! The arithmetic is upstream's version 2; what differs is said where it does. [`LearnedCapacities`] replaces its rolling
//! mean, which a few low observations poison for good. Pure: no I/O, no clock.

mod arguments;
mod learned;
mod load;

pub use arguments::EngineArguments;
pub use learned::{CapacityKey, LearnedCapacities, Observation};
pub use load::{TokenLoad, WorkloadShape, memory_bound, waiting_tokens};
