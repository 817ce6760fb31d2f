//! What a pod's annotations ask the fleet to be.

use std::{sync::Arc, time::Duration};

use jiff::fmt::friendly::SpanParser;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use thiserror::Error;

use super::GPU_RESOURCE;
use crate::{fleet::profile::Profile, interfaces::ModelKey};

/// Annotation: name of the profile; makes a pod the fleet's.
pub const PROFILE: &str = "wva.llmd.ai/fleet-profile";
/// Annotation: name of the model it serves.
pub const MODEL: &str = "wva.llmd.ai/fleet-model";
/// Annotation: time from placement to ready, such as `5s`; two minutes without.
pub const COLD_START: &str = "wva.llmd.ai/fleet-cold-start";
/// Annotation: port of its `/metrics`, as the usual scrape configuration reads it; 8000 without.
pub const PORT: &str = "prometheus.io/port";

const DEFAULT_COLD_START: Duration = Duration::from_mins(2);
const DEFAULT_PORT: u16 = 8000;

/// A pod that the fleet runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FleetPod {
    pub(super) model: ModelKey,
    /// Name of the workload that owns it.
    pub(super) variant: String,
    pub(super) profile: Profile,
    pub(super) cold_start: Duration,
    pub(super) port: u16,
    /// Accelerators it takes from its node.
    pub(super) accelerators: u32,
}

/// Why a pod that asks for the fleet cannot have it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum PodError {
    #[error("annotation {PROFILE} is {name:?}, which is no profile; the profiles are {}", known.join(", "))]
    UnknownProfile { name: String, known: Vec<&'static str> },
    #[error("annotation {MODEL} is missing: set it to the name of the model beside {PROFILE}")]
    NoModel,
    #[error("annotation {COLD_START} is {value:?}, expected a duration such as 5s or 2m")]
    ColdStart { value: String },
    #[error("annotation {PORT} is {value:?}, expected a port from 1 to 65535")]
    Port { value: String },
    #[error("container {container:?} asks for {value:?} of {GPU_RESOURCE}, expected a whole number")]
    Accelerators { container: String, value: String },
}

impl FleetPod {
    /// What `pod` asks for; `None` when it is not the fleet's.
    pub(super) fn of(pod: &Pod) -> Result<Option<Self>, PodError> {
        let annotation = |name: &str| pod.annotations().get(name).map(String::as_str);
        let Some(name) = annotation(PROFILE) else { return Ok(None) };
        let profile = Profile::built_in(name).ok_or_else(|| PodError::UnknownProfile {
            name: name.to_owned(),
            known: Profile::built_in_names().collect(),
        })?;
        let model = annotation(MODEL).filter(|model| !model.is_empty()).ok_or(PodError::NoModel)?;
        let cold_start = annotation(COLD_START).map_or(Ok(DEFAULT_COLD_START), parse_cold_start)?;
        let port = annotation(PORT).map_or(Ok(DEFAULT_PORT), parse_port)?;
        let accelerators = requested_accelerators(pod)?.unwrap_or(profile.accelerators);
        let namespace: Arc<str> = pod.namespace().unwrap_or_default().into();
        let model = ModelKey::new(namespace, model);
        Ok(Some(Self { model, variant: owner_name(pod), profile, cold_start, port, accelerators }))
    }
}

fn parse_cold_start(value: &str) -> Result<Duration, PodError> {
    let parsed = SpanParser::new().parse_unsigned_duration(value);
    parsed.map_err(|_| PodError::ColdStart { value: value.to_owned() })
}

fn parse_port(value: &str) -> Result<u16, PodError> {
    let parsed = value.parse().ok().filter(|&port| port > 0);
    parsed.ok_or_else(|| PodError::Port { value: value.to_owned() })
}

/// Accelerators its containers ask for; `None` when none does.
fn requested_accelerators(pod: &Pod) -> Result<Option<u32>, PodError> {
    let mut total: Option<u32> = None;
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let Some(resources) = &container.resources else { continue };
        // An extended resource may stand in either place; with a limit alone the request equals it.
        let asked = [&resources.requests, &resources.limits];
        let Some(quantity) = asked.into_iter().flatten().find_map(|resources| resources.get(GPU_RESOURCE)) else {
            continue;
        };
        let count: u32 = quantity
            .0
            .parse()
            .map_err(|_| PodError::Accelerators { container: container.name.clone(), value: quantity.0.clone() })?;
        total = Some(total.unwrap_or(0).saturating_add(count));
    }
    Ok(total)
}

/// The workload: a Deployment's name is its `ReplicaSet`'s without the hash.
fn owner_name(pod: &Pod) -> String {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let name = owner.map_or_else(|| pod.name_any(), |owner| owner.name.clone());
    let hash = pod.labels().get("pod-template-hash");
    let stripped = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    stripped.map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: &Value, resources: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "llama-h100-7d9c-x2x4z",
                "namespace": "serving",
                "labels": { "pod-template-hash": "7d9c" },
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llama-h100-7d9c", "uid": "1", "controller": true
                }],
            },
            "spec": { "containers": [{ "name": "vllm", "resources": resources }, { "name": "sidecar" }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_read_with_its_defaults() {
        let pod = pod(&json!({ PROFILE: "llama-3.1-70b-4xh100", MODEL: "meta/llama" }), &json!({}));
        let fleet_pod = FleetPod::of(&pod).unwrap().unwrap();
        assert_eq!(fleet_pod.model, ModelKey::new("serving", "meta/llama"));
        assert_eq!(fleet_pod.variant, "llama-h100");
        assert_eq!((fleet_pod.cold_start, fleet_pod.port), (Duration::from_mins(2), 8000));
        assert_eq!(fleet_pod.accelerators, 4, "the profile's, if no container asks for any");
    }

    #[test]
    fn annotations_and_requests_win_over_the_defaults() {
        let annotations = json!({ PROFILE: "llama-3.1-8b-h100", MODEL: "m", COLD_START: "1m 30s", PORT: "9001" });
        let pod = pod(&annotations, &json!({ "limits": { GPU_RESOURCE: "2" } }));
        let fleet_pod = FleetPod::of(&pod).unwrap().unwrap();
        assert_eq!((fleet_pod.cold_start, fleet_pod.port, fleet_pod.accelerators), (Duration::from_secs(90), 9001, 2));
    }

    #[test]
    fn a_pod_without_the_annotation_is_left_alone() {
        assert_eq!(FleetPod::of(&pod(&json!({ MODEL: "m" }), &json!({}))), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_annotation() {
        let good = "llama-3.1-8b-h100";
        for (annotations, resources, message) in [
            (
                json!({ PROFILE: "gpt" }),
                json!({}),
                r#"fleet-profile is "gpt", which is no profile; the profiles are llama"#,
            ),
            (json!({ PROFILE: good }), json!({}), "fleet-model is missing"),
            (json!({ PROFILE: good, MODEL: "m", COLD_START: "soon" }), json!({}), r#"fleet-cold-start is "soon""#),
            (json!({ PROFILE: good, MODEL: "m", PORT: "0" }), json!({}), r#"prometheus.io/port is "0""#),
            (json!({ PROFILE: good, MODEL: "m" }), json!({ "requests": { GPU_RESOURCE: "0.5" } }), r#"asks for "0.5""#),
        ] {
            let error = FleetPod::of(&pod(&annotations, &resources)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nshould contain {message}");
        }
    }
}
