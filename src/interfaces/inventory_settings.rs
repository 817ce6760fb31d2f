//! What an owner of a cluster tells about its accelerators that the cluster itself does not.

use serde::{Deserialize, Serialize};

/// Settings of the accelerator inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InventorySettings {
    /// Label of nodes whose value is their node group; asked before those of clouds and autoscalers.
    pub node_group_label: Option<String>,
    /// Keys of taints that inference pods tolerate, beside those named like an accelerator resource.
    pub tolerated_taints: Vec<String>,
    /// Accelerators that the built-in rules do not know, or name differently; asked first.
    pub rules: Vec<AcceleratorRule>,
    /// Node groups that a node autoscaler may grow.
    pub node_groups: Vec<NodeGroupLimit>,
    /// Most accelerators that namespaces, or the cluster, may use.
    pub quotas: Vec<ConfiguredQuota>,
}

/// How the accelerators behind one resource name are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceleratorRule {
    /// Extended resource, such as `example.com/npu`; a `*` at the end stands for any rest.
    pub resource: String,
    /// Name of the accelerator type; where unset, the value of `label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Node label whose value names the accelerator type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// How far a node autoscaler may grow a node group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeGroupLimit {
    /// The node group, as nodes' labels name it.
    pub name: String,
    /// Accelerator type of its nodes.
    pub accelerator: String,
    /// Accelerators of one node.
    pub accelerators_per_node: u32,
    /// Most nodes.
    pub max_nodes: u32,
}

/// Most accelerators that a namespace, or the cluster, may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfiguredQuota {
    /// Name, for messages.
    pub name: String,
    /// Namespace; the whole cluster where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Accelerator type; all together where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Most accelerators.
    pub hard: u32,
}
