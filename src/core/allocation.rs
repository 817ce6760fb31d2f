//! Who gets what, and what changes by it.

use serde::{Deserialize, Serialize};

/// Replicas of a server on one accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allocation {
    /// Name of the accelerator.
    pub accelerator: String,
    /// Replicas.
    pub replicas: u32,
    /// What they cost.
    #[serde(default)]
    pub cost: f64,
}

/// What changes for one server on one accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationDiff {
    /// Name of the server.
    pub server: String,
    /// Name of the accelerator.
    pub accelerator: String,
    /// Replicas before.
    pub old_replicas: u32,
    /// Replicas after.
    pub new_replicas: u32,
    /// Cost after less cost before.
    pub cost_difference: f64,
}

/// What all servers together take of one accelerator type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeAllocation {
    /// Accelerators.
    pub accelerators: u64,
    /// Their cost.
    pub cost: f64,
}
