//! A simulated fleet of vLLM-like engines: for the demo, the tests, the benchmarks and `wva simulate`.
//!
//! ```text
//!  load ─► gateway ─► router ─► replica: engine     pure, by simulated time
//!          └─────────── Pool ────────────┘          one model
//!          └───────────── Fleet ─────────┘          several models, each under its load
//!
//!  clock ─► LiveFleet ─► http: each replica's /metrics, control API
//!                     └► kubelet: pods of a real control plane become replicas
//! ```
//!
//! The upper part takes no clock and does no I/O but reading traces; the same seed gives the same bytes, and it does not
//! matter how often one looks. The lower part runs it in real time.

mod accounts;
mod command;
mod engine;
mod exposition;
pub mod http;
pub mod kubelet;
mod live;
mod load;
mod models;
mod plan;
mod pool;
mod profile;
mod replica;
mod request;
mod router;
mod time;

pub use accounts::{Attainment, VariantStatus};
pub use command::{FleetArgs, run};
pub use engine::{Engine, EngineMetrics, Histogram};
pub use exposition::{CONTENT_TYPE, EngineScrape, Exposition, GatewayScrape, NameGeneration};
pub use live::{FleetReport, LiveFleet, PoolReport, ReplicaReport};
pub use load::{GeneratedLoad, Load, LoadError, LoadSpec, Step, TokenLengths, TraceError, TraceRows, TraceSpec};
pub use models::Fleet;
pub use plan::{LoadPlan, ModelLoad, ObjectiveSpec, PlanError, PreparedPlan};
pub use pool::{Pool, PoolOptions, UnknownVariant, VariantSpec};
pub use profile::{BLOCK_SIZE, Profile};
pub use replica::{Replica, ReplicaId, ReplicaState};
pub use request::{Completion, Objective, Request};
pub use router::FlowControl;
pub use time::Picoseconds;
