//! Engine metrics by meaning: which engine a pod runs is seen from the names it exports, and never configured.
//!
//! `table` holds what each engine exports, `catalog` finds a family by name, `reader` turns a pod's answer into one
//! [`EngineReading`](crate::interfaces::EngineReading) per engine instance, `gateway` does so for endpoint pickers.

mod catalog;
mod draft;
mod gateway;
mod names;
mod reader;
mod table;

pub use catalog::EngineCatalog;
pub(super) use draft::adapters;
pub use gateway::gateway_readings;
pub(super) use names::{Fact, Selector};
pub(super) use table::{GATEWAY_QUEUE, GATEWAY_REQUESTS, LORA_INFO};

#[cfg(test)]
mod tests;
