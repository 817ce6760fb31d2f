//! Nodes: which accelerators they have, and whether they take pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::{api::ObjectMeta, core::Object};
use serde::Deserialize;

use super::{Address, Table, Watched, built_in, cluster_identity, cluster_wide};
use crate::discovery::{
    Options,
    index::{Cluster, Effect},
    inventory::{Devices, Labels, NEURON, NEURON_CORE, NodeAccelerators, Rules, node_group},
    quantity,
    sync::WatchedResource,
};

/// The Node watch.
#[derive(Clone, Debug)]
pub(crate) struct Nodes(pub Rules);

/// The part of `Node.spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
    effect: String,
}

/// The part of `Node.status` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    capacity: Labels,
    allocatable: Labels,
    conditions: Vec<NodeCondition>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Watched for Nodes {
    type Object = Object<NodeSpec, NodeStatus>;
    type Slim = NodeAccelerators;
    type Home = Cluster;

    fn resource(&self) -> WatchedResource {
        WatchedResource::Nodes
    }

    fn address(&self, _options: &Options) -> Address {
        cluster_wide(built_in::<core::Node>())
    }

    fn identity(&self, metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        cluster_identity(metadata)
    }

    fn reduce(&self, object: Self::Object) -> Option<NodeAccelerators> {
        let none = Labels::new();
        let labels = object.metadata.labels.as_ref().unwrap_or(&none);
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let status = object.status.unwrap_or_default();
        let configured = self.0.settings().node_group_label.as_deref();
        Some(NodeAccelerators {
            group: node_group(configured, labels, annotations),
            open: is_open(&object.spec, &status, &self.0),
            devices: devices(labels, &status, &self.0),
        })
    }

    fn table<'a>(&self, cluster: &'a mut Cluster) -> &'a mut Table<NodeAccelerators> {
        &mut cluster.nodes
    }

    /// A node without accelerators bears on nothing, unless a driver reports some in a slice.
    fn touch(&self, cluster: &mut Cluster, name: &Arc<str>, node: &NodeAccelerators) -> Effect {
        Effect { decision: false, inventory: !node.devices.is_empty() || cluster.has_slices(name) }
    }
}

/// Whether inference pods may come: the node is ready, and neither cordoned nor tainted against them.
fn is_open(spec: &NodeSpec, status: &NodeStatus, rules: &Rules) -> bool {
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let keeps_off = |taint: &Taint| taint.effect != "PreferNoSchedule" && !rules.is_tolerated(&taint.key);
    ready && !spec.unschedulable && !spec.taints.iter().any(keeps_off)
}

fn devices(labels: &Labels, status: &NodeStatus, rules: &Rules) -> Vec<Devices> {
    let units = |amounts: &Labels, resource: &str| {
        amounts.get(resource).and_then(|amount| quantity::milli(amount)).map_or(0, |milli| (milli / 1000.0) as u32)
    };
    let of_resource = |resource: &String| {
        let capacity = units(&status.capacity, resource);
        let accelerator = rules.accelerator(resource, labels).filter(|_| capacity > 0)?;
        let cores = if resource == NEURON { units(&status.capacity, NEURON_CORE) } else { 0 };
        Some(Devices {
            resource: resource.as_str().into(),
            product: rules.product(resource, labels).map_or_else(|| accelerator.clone(), |name| name.as_str().into()),
            accelerator,
            capacity,
            allocatable: units(&status.allocatable, resource).min(capacity),
            parts: (cores / capacity).max(1),
        })
    };
    status.capacity.keys().filter_map(of_resource).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::interfaces::InventorySettings;

    fn reduced(settings: InventorySettings, changes: &Value) -> NodeAccelerators {
        let mut node = json!({"metadata": {"name": "n", "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "cloud.google.com/gke-nodepool": "h100-pool"}},
            "spec": {}, "status": {"capacity": {"cpu": "96", "nvidia.com/gpu": "8"},
                "allocatable": {"cpu": "95500m", "nvidia.com/gpu": "8"},
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (pointer, value) in changes.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('.').unwrap();
            let parent = parent.split('.').fold(&mut node, |node, key| &mut node[key]);
            parent[key.replace('~', "/").as_str()] = value.clone();
        }
        Nodes(Rules::new(settings)).reduce(serde_json::from_value(node).unwrap()).unwrap()
    }

    fn plain(changes: &Value) -> NodeAccelerators {
        reduced(InventorySettings::default(), changes)
    }

    #[test]
    fn a_node_is_kept_as_its_accelerators() {
        let node = plain(&json!({}));
        assert_eq!((&*node.group, node.open), ("h100-pool", true));
        let devices = &node.devices[0];
        assert_eq!((&*devices.resource, &*devices.accelerator), ("nvidia.com/gpu", "H100"));
        assert_eq!((devices.capacity, devices.allocatable, node.devices.len()), (8, 8, 1));
    }

    #[test]
    fn only_a_ready_node_that_keeps_no_inference_pod_off_is_open() {
        let taint = |key: &str, effect: &str| json!({"spec.taints": [{"key": key, "effect": effect}]});
        for (changes, expected, why) in [
            (json!({"status.conditions": [{"type": "Ready", "status": "Unknown"}]}), false, "not ready"),
            (json!({"status.conditions": []}), false, "never ready"),
            (json!({"spec.unschedulable": true}), false, "cordoned"),
            (taint("dedicated", "NoSchedule"), false, "tainted"),
            (taint("dedicated", "NoExecute"), false, "tainted, evicting"),
            (taint("dedicated", "PreferNoSchedule"), true, "a preference only"),
            (taint("nvidia.com/gpu", "NoSchedule"), true, "a taint that keeps all others off"),
        ] {
            assert_eq!(plain(&changes).open, expected, "{why}");
        }
        let settings =
            InventorySettings { tolerated_taints: vec!["dedicated".to_owned()], ..InventorySettings::default() };
        assert!(reduced(settings, &taint("dedicated", "NoSchedule")).open);
    }

    #[test]
    fn a_node_of_several_vendors_and_with_lost_devices_is_told_as_it_is() {
        let node = plain(&json!({"status.capacity": {"nvidia.com/gpu": "2", "nvidia.com/mig-1g.10gb": "7",
            "habana.ai/gaudi": "8", "ephemeral-storage": "1Ti", "gpu.intel.com/i915_monitoring": "1"},
            "status.allocatable": {"nvidia.com/gpu": "1", "nvidia.com/mig-1g.10gb": "7", "habana.ai/gaudi": "8"}}));
        let summary: Vec<_> =
            node.devices.iter().map(|devices| (&*devices.accelerator, devices.capacity, devices.allocatable)).collect();
        assert_eq!(summary, [("Habana", 8, 8), ("H100", 2, 1), ("H100-MIG-1g.10gb", 7, 7)]);
    }

    #[test]
    fn a_neuron_device_is_counted_once_however_often_it_is_advertised() {
        let node = plain(&json!({"metadata.labels": {"node.kubernetes.io/instance-type": "inf2.24xlarge"},
            "status.capacity": {"aws.amazon.com/neuron": "6", "aws.amazon.com/neurondevice": "6",
                "aws.amazon.com/neuroncore": "12"}, "status.allocatable": {"aws.amazon.com/neuron": "6"}}));
        let devices = &node.devices[0];
        assert_eq!(
            (node.devices.len(), &*devices.accelerator, devices.capacity, devices.parts),
            (1, "Inferentia2", 6, 2)
        );
    }
}
