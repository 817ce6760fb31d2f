//! The domain as a library: accelerators, models, service classes, servers, and the system that they make. Plain data,
//! usable without Kubernetes; [`crate::solver`] allocates it and [`crate::manager`] does the whole round.
//!
//! ```
//! use wva::core::{Accelerator, Load, Model, ModelProfile, Server, System};
//! use wva::optimizer::CapacityCurve;
//!
//! let system = System::default()
//!     .with_accelerator(Accelerator::new("H100", 12.0))
//!     .with_model(Model::new("llama").with_profile("H100", ModelProfile::carrying(CapacityCurve::linear(6.0))))
//!     .with_server(Server::new("chat", "llama").with_load(Load::requests_per_second(10.0)));
//! assert!(system.validate().is_ok());
//! ```

mod allocation;
mod server;
mod system;
mod types;

pub use allocation::{Allocation, AllocationDiff, TypeAllocation};
pub use server::{Load, Server};
pub use system::{ProfiledCapacity, Sizing, System, SystemError};
pub use types::{Accelerator, DEFAULT_SERVICE_CLASS, Model, ModelProfile, ServiceClass, ServiceTarget};
