//! Writes decisions back to the `VariantAutoscaling` objects: status, conditions and events.
//!
//! ```text
//! Publication ─► StatusWriter ─► Backlog ─► VariantAutoscalingsEngine ─► status (server-side apply)
//! (each cycle)   (one slot per    (pace,      validate, delegate to       └► events, on edges
//!                 object)          backoff)   status_for, compare
//! ```
//!
//! The core is pure: [`status_for`] and [`events_for`] compute from the previous status what to write and what to tell.
//! The previous status is the memory: a restarted process repeats neither a write nor an event. Nothing is written
//! while nothing changed, so that a write of ours, seen by the watch, causes no further write.

mod attribution;
mod backlog;
mod change;
mod conditions;
mod engine;
mod events;
#[cfg(test)]
mod fixtures;
mod status;
mod writer;

pub use attribution::{Patience, engine_warnings};
pub use change::Change;
pub use conditions::{AUTOSCALER_READY, ENGINES_ATTRIBUTED, METRICS_AVAILABLE, OPTIMIZATION_READY, TARGET_RESOLVED};
pub use engine::{Annotated, FIELD_MANAGER, Fault, Publication, ReconcileError, VariantAutoscalingsEngine, Written};
pub use events::events_for;
pub use status::{Findings, Warning, status_for, status_of_invalid};
pub use writer::{StatusWorker, StatusWriter};
