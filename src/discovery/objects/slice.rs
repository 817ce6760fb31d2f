//! `ResourceSlice`s of dynamic resource allocation (DRA): devices that a driver reports for a node.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    api::{ApiResource, ObjectMeta},
    core::Object,
};
use serde::{Deserialize, de::IgnoredAny};

use super::{Address, Table, Watched, cluster_identity, cluster_wide};
use crate::discovery::{
    Options,
    accelerator::short_name,
    index::{Cluster, Effect},
    inventory::Rules,
    sync::WatchedResource,
};

/// Attributes of a device that name the product, as the drivers of NVIDIA, AMD, Intel, Google and AWS call them.
const PRODUCT_ATTRIBUTES: [&str; 5] = ["productName", "model", "deviceName", "tpuGen", "instanceType"];

/// The `ResourceSlice` watch, in the version that is served.
#[derive(Clone, Debug)]
pub(crate) struct Slices {
    /// As served.
    pub resource: ApiResource,
    /// What counts as an accelerator.
    pub rules: Rules,
}

/// What is kept of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The node.
    pub node: Arc<str>,
    /// The driver.
    pub driver: Arc<str>,
    /// The pool, which with driver and device names a device cluster-wide.
    pub pool: Arc<str>,
    /// Of several generations of a pool, only the greatest counts.
    pub generation: i64,
    /// Name and canonical accelerator type of each device.
    pub devices: Vec<(Arc<str>, Arc<str>)>,
}

/// The part of `spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SliceSpec {
    node_name: Option<Arc<str>>,
    driver: Arc<str>,
    pool: Pool,
    devices: Vec<Device>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    name: Arc<str>,
    generation: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Device {
    name: Arc<str>,
    attributes: BTreeMap<String, Attribute>,
    consumes_counters: Vec<IgnoredAny>,
    /// Where `v1beta1` has the attributes.
    basic: Option<Basic>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Basic {
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Attribute {
    string: Option<String>,
}

impl Device {
    /// A text attribute, with or without the driver's domain before its name.
    fn text(&self, name: &str) -> Option<&str> {
        let attributes = self.basic.as_ref().map_or(&self.attributes, |basic| &basic.attributes);
        let is_named = |key: &str| key.rsplit_once('/').map_or(key, |(_, name)| name) == name;
        attributes.iter().find(|(key, _)| is_named(key))?.1.string.as_deref()
    }

    /// Canonical accelerator type. One that is cut from others (`consumesCounters`) is counted with the whole.
    fn accelerator(&self, driver: &str, rules: &Rules) -> Option<Arc<str>> {
        let is_part = !self.consumes_counters.is_empty() && self.text("type").is_some_and(|kind| kind != "gpu");
        if is_part {
            return None;
        }
        let product = PRODUCT_ATTRIBUTES.iter().find_map(|attribute| self.text(attribute)).map(short_name);
        let name = product.or_else(|| rules.accelerator(driver, &BTreeMap::new()).map(|name| name.to_string()))?;
        Some(match self.text("profile").filter(|_| !name.contains("-MIG-")) {
            Some(profile) => format!("{name}-MIG-{profile}").into(),
            None => name.into(),
        })
    }
}

impl Watched for Slices {
    type Object = Object<SliceSpec, IgnoredAny>;
    type Slim = Slice;
    type Home = Cluster;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ResourceSlices
    }

    fn address(&self, _options: &Options) -> Address {
        cluster_wide(self.resource.clone())
    }

    fn identity(&self, metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        cluster_identity(metadata)
    }

    /// Devices that belong to no single node, such as those of a network, are none that a pod's node has.
    fn reduce(&self, object: Self::Object) -> Option<Slice> {
        let SliceSpec { node_name, driver, pool, devices } = object.spec;
        if !self.rules.is_driver(&driver) {
            return None;
        }
        let devices =
            devices.iter().filter_map(|device| Some((device.name.clone(), device.accelerator(&driver, &self.rules)?)));
        let devices = devices.collect();
        Some(Slice { node: node_name?, driver, pool: pool.name, generation: pool.generation, devices })
    }

    fn table<'a>(&self, cluster: &'a mut Cluster) -> &'a mut Table<Slice> {
        &mut cluster.slices
    }

    fn touch(&self, _cluster: &mut Cluster, _name: &Arc<str>, _slice: &Slice) -> Effect {
        Effect::INVENTORY
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reduced(spec: &Value) -> Option<Slice> {
        let resource = ApiResource {
            group: "resource.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "resource.k8s.io/v1".to_owned(),
            kind: "ResourceSlice".to_owned(),
            plural: "resourceslices".to_owned(),
        };
        let object = json!({"metadata": {"name": "s"}, "spec": spec});
        Slices { resource, rules: Rules::default() }.reduce(serde_json::from_value(object).unwrap())
    }

    fn types(spec: &Value) -> Vec<String> {
        reduced(spec).unwrap().devices.iter().map(|(_, accelerator)| accelerator.to_string()).collect()
    }

    #[test]
    fn devices_of_every_version_and_driver_have_their_canonical_name() {
        let attributes = json!({"productName": {"string": "NVIDIA H100 80GB HBM3"}, "type": {"string": "gpu"}});
        let slice = |device: Value, driver: &str| {
            json!({"driver": driver, "nodeName": "n1", "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1},
                "devices": [device]})
        };
        for (device, driver, expected) in [
            (json!({"name": "gpu-0", "attributes": attributes}), "gpu.nvidia.com", vec!["H100"]),
            (json!({"name": "gpu-0", "basic": {"attributes": attributes}}), "gpu.nvidia.com", vec!["H100"]),
            (
                json!({"name": "m", "attributes": {"type": {"string": "mig"}, "profile": {"string": "1g.10gb"},
                    "productName": {"string": "NVIDIA H100 80GB HBM3"}}}),
                "gpu.nvidia.com",
                vec!["H100-MIG-1g.10gb"],
            ),
            (
                json!({"name": "m", "consumesCounters": [{}], "attributes": {"type": {"string": "mig"}}}),
                "gpu.nvidia.com",
                vec![],
            ),
            (
                json!({"name": "g", "attributes": {"gpu.amd.com/productName": {"string": "AMD_Instinct_MI300X_OAM"}}}),
                "gpu.amd.com",
                vec!["MI300X"],
            ),
            (json!({"name": "t"}), "tpu.google.com", vec!["Google"]),
        ] {
            assert_eq!(types(&slice(device.clone(), driver)), expected, "{driver} {device}");
        }
        assert_eq!(reduced(&slice(json!({"name": "eth0"}), "dra.net")), None, "no accelerator");
    }

    #[test]
    fn devices_of_no_single_node_are_left_out() {
        assert_eq!(reduced(&json!({"driver": "gpu.nvidia.com", "allNodes": true, "pool": {"name": "p"}})), None);
    }
}
