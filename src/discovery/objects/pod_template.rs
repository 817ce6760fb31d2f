//! What a pod, or the template of one, asks for: accelerators, and nodes that have them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Affinity;
use serde::Deserialize;

use crate::discovery::{
    accelerator,
    inventory::{Labels, NEURON_CORE, Rules},
    quantity,
};

/// The part of a pod template that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodTemplate {
    pub(crate) metadata: TemplateMetadata,
    pub(crate) spec: TemplateSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateMetadata {
    pub(crate) labels: Option<Labels>,
}

/// The part of a template's `spec` that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TemplateSpec {
    pub(crate) node_selector: Option<Labels>,
    pub(crate) affinity: Option<Affinity>,
    resource_claims: Vec<ClaimSource>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    resource_claim_template_name: Option<Arc<str>>,
}

/// A container of a pod, with what it requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    restart_policy: Option<String>,
    resources: Resources,
    pub(crate) ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) container_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

/// A quantity; templates inside custom resources may hold plain numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Quantity {
    Text(String),
    Number(f64),
}

impl Quantity {
    /// Whole units.
    fn units(&self) -> u32 {
        match self {
            Self::Text(text) => quantity::milli(text).map_or(0, |milli| (milli / 1000.0) as u32),
            Self::Number(number) => *number as u32,
        }
    }
}

/// Units by resource.
pub(crate) type Requests = BTreeMap<Arc<str>, u32>;

impl Container {
    /// Accelerators requested. Of an extended resource, limit and request are equal, and one of them may be left out.
    fn requests(&self, rules: &Rules) -> Requests {
        let Resources { requests, limits } = &self.resources;
        let limits = limits.iter().filter(|(name, _)| !requests.contains_key(*name));
        let all = requests.iter().chain(limits).filter(|(name, _)| rules.is_counted(name));
        all.map(|(name, quantity)| (Arc::from(name.as_str()), quantity.units()))
            .filter(|(_, units)| *units > 0)
            .collect()
    }

    /// An init container that goes on running beside the others.
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

/// Accelerators that a pod holds: as the scheduler counts them, the larger of what its containers hold together and what
/// an init container holds before them; sidecars are held all the time.
pub(crate) fn requests(init_containers: &[Container], containers: &[Container], rules: &Rules) -> Requests {
    let (mut sidecars, mut before) = (Requests::new(), Requests::new());
    for container in init_containers {
        let own = container.requests(rules);
        if container.is_sidecar() {
            add(&mut sidecars, &own);
            raise(&mut before, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own);
            raise(&mut before, &together);
        }
    }
    let mut total = sidecars;
    for container in containers {
        add(&mut total, &container.requests(rules));
    }
    raise(&mut total, &before);
    total
}

fn add(total: &mut Requests, more: &Requests) {
    for (resource, units) in more {
        *total.entry(resource.clone()).or_default() += units;
    }
}

fn raise(most: &mut Requests, other: &Requests) {
    for (resource, units) in other {
        let entry = most.entry(resource.clone()).or_default();
        *entry = (*entry).max(*units);
    }
}

/// Accelerators of a pod, as its template tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateAccelerators {
    /// Whole ones from device plugins; `None` where the template names none, or only parts of some.
    pub devices: Option<u32>,
    /// Names of the `ResourceClaimTemplate`s, one for each claim.
    pub claim_templates: Vec<Arc<str>>,
}

impl PodTemplate {
    /// The accelerator that the template pins.
    pub(crate) fn accelerator(&self) -> Option<Arc<str>> {
        accelerator::of_pod(self.spec.node_selector.as_ref(), self.spec.affinity.as_ref())
    }

    /// A label of the pods.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Accelerators that each pod holds.
    pub(crate) fn accelerators(&self, rules: &Rules) -> TemplateAccelerators {
        let requests = requests(&self.spec.init_containers, &self.spec.containers, rules);
        let whole = requests.iter().filter(|(resource, _)| &***resource != NEURON_CORE);
        let devices: u32 = whole.map(|(_, units)| units).sum();
        let claims = self.spec.resource_claims.iter();
        TemplateAccelerators {
            devices: (devices > 0).then_some(devices),
            claim_templates: claims.filter_map(|claim| claim.resource_claim_template_name.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn held(spec: Value) -> Vec<(String, u32)> {
        let TemplateSpec { init_containers, containers, .. } = serde_json::from_value(spec).unwrap();
        let requests = requests(&init_containers, &containers, &Rules::default());
        requests.into_iter().map(|(resource, units)| (resource.to_string(), units)).collect()
    }

    fn gpus(units: u32) -> Value {
        json!({"resources": {"requests": {"cpu": "4", "nvidia.com/gpu": units.to_string()}}})
    }

    fn sidecar(units: u32) -> Value {
        let mut container = gpus(units);
        container["restartPolicy"] = json!("Always");
        container
    }

    #[test]
    fn a_pod_holds_the_larger_of_init_and_main_containers_with_sidecars_on_top() {
        for (init, main, expected, why) in [
            (json!([]), json!([gpus(2), gpus(1)]), 3, "the sum of containers"),
            (json!([gpus(4)]), json!([gpus(2), gpus(1)]), 4, "an init container that needs more"),
            (json!([gpus(4), gpus(3)]), json!([gpus(1)]), 4, "init containers run one after the other"),
            (json!([sidecar(1)]), json!([gpus(2)]), 3, "a sidecar stays"),
            (json!([sidecar(1), gpus(4)]), json!([gpus(2)]), 5, "an init container beside a sidecar"),
            (json!([gpus(4), sidecar(1)]), json!([gpus(2)]), 4, "a sidecar that starts later"),
        ] {
            let held = held(json!({"initContainers": init, "containers": main}));
            assert_eq!(held, [("nvidia.com/gpu".to_owned(), expected)], "{why}");
        }
    }

    #[test]
    fn limits_stand_in_for_requests_and_numbers_for_text() {
        for resources in [
            json!({"limits": {"amd.com/gpu": "8"}}),
            json!({"requests": {"amd.com/gpu": 8}}),
            json!({"requests": {"amd.com/gpu": "8"}, "limits": {"amd.com/gpu": "8"}}),
        ] {
            let held = held(json!({"containers": [{"resources": resources}]}));
            assert_eq!(held, [("amd.com/gpu".to_owned(), 8)], "{resources}");
        }
    }

    #[test]
    fn what_is_no_accelerator_is_not_kept() {
        let resources = json!({"requests": {"cpu": "8", "memory": "1Gi", "rdma/hca": "1", "nvidia.com/gpu": "0"}});
        assert_eq!(held(json!({"containers": [{"resources": resources}]})), []);
    }

    #[test]
    fn a_template_tells_whole_devices_and_claims() {
        let accelerators = |spec: Value| {
            let template: PodTemplate = serde_json::from_value(json!({"spec": spec})).unwrap();
            template.accelerators(&Rules::default())
        };
        assert_eq!(accelerators(json!({"containers": [gpus(8)]})).devices, Some(8));
        assert_eq!(accelerators(json!({"containers": [{}]})).devices, None);
        let cores = json!({"resources": {"requests": {"aws.amazon.com/neuroncore": "2"}}});
        assert_eq!(
            accelerators(json!({"containers": [cores]})).devices,
            None,
            "of parts it is not known how many make one"
        );
        let claims = json!({"containers": [{}], "resourceClaims": [
            {"name": "a", "resourceClaimTemplateName": "gpu"}, {"name": "b", "resourceClaimName": "shared"}]});
        assert_eq!(accelerators(claims).claim_templates, ["gpu".into()]);
    }
}
