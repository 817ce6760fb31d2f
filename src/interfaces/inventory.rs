//! Accelerators of the cluster: what there is, what is taken, what could still be had.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The accelerators of the cluster. An absent inventory is unknown, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// One entry per node group and accelerator type, sorted.
    pub pools: Vec<AcceleratorPool>,
    /// Accelerators that namespaces may hold at most (`ResourceQuota` and configured quotas).
    pub quotas: Vec<AcceleratorQuota>,
    /// What is free by product, sorted: for people, not for decisions.
    pub products: Vec<AcceleratorProduct>,
}

/// Accelerators of one product, which several node groups may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorProduct {
    /// Who makes it, such as `NVIDIA`; `custom` where only a configured rule knows the resource.
    pub vendor: Arc<str>,
    /// Full name as the node carries it, such as `NVIDIA-H100-80GB-HBM3`; the type's where it carries none.
    pub product: Arc<str>,
    /// Canonical accelerator type, such as `H100`.
    pub accelerator: Arc<str>,
    /// Allocatable and not used.
    pub free: u32,
}

/// Accelerators of one type in one node group (`node group → GPU type → count` of the package reference).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorPool {
    /// Node group; empty where nodes carry no label of one.
    pub node_group: Arc<str>,
    /// Canonical accelerator type, such as `H100`.
    pub accelerator: Arc<str>,
    /// On all nodes (`status.capacity`).
    pub total: u32,
    /// On nodes that take pods now (`status.allocatable`; ready, not cordoned, no taint that keeps inference pods off).
    pub allocatable: u32,
    /// Requested by pods on these nodes, whoever owns them.
    pub used: u32,
    /// Allocatable and not used.
    pub free: u32,
    /// Most free accelerators on one node.
    pub largest_free_block: u32,
    /// Free accelerators per node, descending, zeros left out.
    #[serde(default)]
    pub free_blocks: Vec<u32>,
    /// What a node autoscaler can still add, beyond `total`; 0 where none is configured.
    pub provisionable: u32,
    /// Accelerators per node that would be added; `None` where none is configured.
    #[serde(default)]
    pub provisionable_block: Option<u32>,
}

impl AcceleratorPool {
    /// Free accelerators of one type and nothing else, in no node group and as though on one node.
    pub fn of_free(accelerator: impl Into<Arc<str>>, free: u32) -> Self {
        Self {
            node_group: "".into(),
            accelerator: accelerator.into(),
            total: free,
            allocatable: free,
            used: 0,
            free,
            largest_free_block: free,
            free_blocks: (free > 0).then_some(free).into_iter().collect(),
            provisionable: 0,
            provisionable_block: None,
        }
    }
}

/// Accelerators that one namespace may hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorQuota {
    /// Name of the quota, for messages.
    pub name: Arc<str>,
    /// Namespace; `None` is the whole cluster.
    pub namespace: Option<Arc<str>>,
    /// Canonical accelerator type; `None` counts all types together.
    pub accelerator: Option<Arc<str>>,
    /// Most accelerators.
    pub hard: u32,
    /// Of these, taken by pods that are not of our variants.
    #[serde(default)]
    pub used_by_others: u32,
}
