//! A simulated fleet of vLLM-like engines.

mod accounts;
mod engine;
mod load;
mod pool;
mod profile;
mod replica;
mod request;
mod router;
mod time;

pub use accounts::{Attainment, VariantStatus};
pub use engine::{Engine, EngineMetrics, Histogram};
pub use load::{GeneratedLoad, Load, LoadError, LoadSpec, Step, TokenLengths, TraceError, TraceSpec};
pub use pool::{Pool, PoolOptions, UnknownVariant, VariantSpec};
pub use profile::{BLOCK_SIZE, Profile};
pub use replica::{Replica, ReplicaId, ReplicaState};
pub use request::{Completion, Objective, Request};
pub use router::FlowControl;
pub use time::Picoseconds;
