//! `ResourceClaim`s of dynamic resource allocation, which tell the devices that are taken, and their templates, which tell
//! how many each pod takes.

use std::sync::Arc;

use kube::{api::ApiResource, core::Object};
use serde::{Deserialize, de::IgnoredAny};

use super::{Address, Table, Watched, scoped};
use crate::discovery::{
    Options,
    index::{Effect, Namespace},
    inventory::Rules,
    sync::WatchedResource,
};

/// The `ResourceClaim` watch, in the version that is served.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    /// As served.
    pub resource: ApiResource,
    /// What counts as an accelerator.
    pub rules: Rules,
}

/// The devices that a claim holds: driver, pool and device of each.
pub(crate) type Claim = Vec<(Arc<str>, Arc<str>, Arc<str>)>;

/// The part of `status` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimStatus {
    allocation: Option<Allocation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Allocation {
    devices: AllocatedDevices,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AllocatedDevices {
    results: Vec<AllocatedDevice>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AllocatedDevice {
    driver: Arc<str>,
    pool: Arc<str>,
    device: Arc<str>,
    /// Looks at a device without taking it.
    admin_access: bool,
}

impl Watched for Claims {
    type Object = Object<IgnoredAny, ClaimStatus>;
    type Slim = Claim;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ResourceClaims
    }

    fn address(&self, options: &Options) -> Address {
        scoped(self.resource.clone(), options)
    }

    fn reduce(&self, object: Self::Object) -> Option<Claim> {
        let allocation = object.status.and_then(|status| status.allocation)?;
        let results = allocation.devices.results.into_iter();
        let taken = results.filter(|result| !result.admin_access && self.rules.is_driver(&result.driver));
        let devices: Claim = taken.map(|result| (result.driver, result.pool, result.device)).collect();
        (!devices.is_empty()).then_some(devices)
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Claim> {
        &mut namespace.claims
    }

    fn touch(&self, _namespace: &mut Namespace, _name: &Arc<str>, _claim: &Claim) -> Effect {
        Effect::INVENTORY
    }
}

/// The `ResourceClaimTemplate` watch, in the version that is served. What is kept of one is its number of devices.
#[derive(Clone, Debug)]
pub(crate) struct ClaimTemplates {
    /// As served.
    pub resource: ApiResource,
    /// What counts as an accelerator.
    pub rules: Rules,
}

/// Accelerators that a pod takes through a claim; `None` where it depends on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedDevices(pub Option<u32>);

/// The part of `spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateSpec {
    spec: ClaimSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ClaimSpec {
    devices: RequestedDevices,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RequestedDevices {
    requests: Vec<DeviceRequest>,
}

/// A request; before `v1` and `v1beta2` what is now in `exactly` stood in the request itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DeviceRequest {
    exactly: Option<ExactRequest>,
    #[serde(rename = "firstAvailable")]
    first_available: Vec<IgnoredAny>,
    #[serde(flatten)]
    inline: ExactRequest,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExactRequest {
    device_class_name: String,
    allocation_mode: String,
    count: Option<u32>,
    admin_access: bool,
}

impl DeviceRequest {
    /// Accelerators asked for; `None` where it depends on what there is.
    fn accelerators(&self, rules: &Rules) -> Option<u32> {
        if !self.first_available.is_empty() {
            return None;
        }
        let exactly = self.exactly.as_ref().unwrap_or(&self.inline);
        if exactly.admin_access || !rules.is_driver(&exactly.device_class_name) {
            return Some(0);
        }
        (exactly.allocation_mode != "All").then(|| exactly.count.unwrap_or(1))
    }
}

impl Watched for ClaimTemplates {
    type Object = Object<TemplateSpec, IgnoredAny>;
    type Slim = ClaimedDevices;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ResourceClaimTemplates
    }

    fn address(&self, options: &Options) -> Address {
        scoped(self.resource.clone(), options)
    }

    fn reduce(&self, object: Self::Object) -> Option<ClaimedDevices> {
        let requests = object.spec.spec.devices.requests;
        Some(ClaimedDevices(requests.iter().map(|request| request.accelerators(&self.rules)).sum()))
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<ClaimedDevices> {
        &mut namespace.claim_templates
    }

    fn touch(&self, namespace: &mut Namespace, _name: &Arc<str>, _devices: &ClaimedDevices) -> Effect {
        namespace.touch_all()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(kind: &str, plural: &str) -> ApiResource {
        ApiResource {
            group: "resource.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "resource.k8s.io/v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    #[test]
    fn a_claim_holds_the_devices_it_was_allocated() {
        let device = |driver: &str, admin: bool| json!({"driver": driver, "pool": "n1", "device": "gpu-0", "adminAccess": admin});
        let claims = Claims { resource: resource("ResourceClaim", "resourceclaims"), rules: Rules::default() };
        let reduced = |status: Value| {
            let object = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {}, "status": status});
            claims.reduce(serde_json::from_value(object).unwrap())
        };
        let results =
            json!([device("gpu.nvidia.com", false), device("gpu.nvidia.com", true), device("dra.net", false)]);
        let held = reduced(json!({"allocation": {"devices": {"results": results}}})).unwrap();
        assert_eq!(held, [("gpu.nvidia.com".into(), "n1".into(), "gpu-0".into())]);
        assert_eq!(reduced(json!({})), None);
    }

    #[test]
    fn a_template_tells_how_many_devices_a_pod_takes() {
        let templates = ClaimTemplates {
            resource: resource("ResourceClaimTemplate", "resourceclaimtemplates"),
            rules: Rules::default(),
        };
        let devices = |requests: Value| {
            let object = json!({"metadata": {"name": "t", "namespace": "n"},
                "spec": {"spec": {"devices": {"requests": requests}}}});
            templates.reduce(serde_json::from_value(object).unwrap()).unwrap().0
        };
        let gpu = "gpu.nvidia.com";
        for (requests, expected, why) in [
            (json!([{"name": "r", "exactly": {"deviceClassName": gpu, "count": 4}}]), Some(4), "a count"),
            (json!([{"name": "r", "exactly": {"deviceClassName": gpu}}]), Some(1), "one, unless it says more"),
            (json!([{"name": "r", "deviceClassName": gpu, "count": 2}]), Some(2), "of an older version"),
            (
                json!([{"name": "r", "exactly": {"deviceClassName": gpu, "count": 2}},
                    {"name": "nic", "exactly": {"deviceClassName": "dra.net"}}]),
                Some(2),
                "beside a network device",
            ),
            (
                json!([{"name": "r", "exactly": {"deviceClassName": gpu, "allocationMode": "All"}}]),
                None,
                "all of a node",
            ),
            (json!([{"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": gpu}]}]), None, "alternatives"),
        ] {
            assert_eq!(devices(requests), expected, "{why}");
        }
    }
}
