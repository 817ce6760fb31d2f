//! The `Deployment`s and `StatefulSet`s: replica counts, and what the pod template says of accelerator and role.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1 as apps, core::v1::PodTemplateSpec};
use kube::{Api, Client};

use super::{ScaleTarget, Table, TargetKind, Watched, count, scoped};
use crate::{
    discovery::{Options, accelerator, index::Namespace, sync::WatchedResource},
    interfaces::Role,
};

/// The label of a pod template that says which part a variant plays.
const ROLE_LABEL: &str = "llm-d.ai/role";

/// The Deployment watch.
#[derive(Debug)]
pub(crate) struct Deployments;

/// The `StatefulSet` watch.
#[derive(Debug)]
pub(crate) struct StatefulSets;

/// What is kept of a Deployment or `StatefulSet`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// `spec.replicas`; 1 where unset.
    pub spec: u32,
    /// `status.replicas`.
    pub current: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// Accelerator that the pod template pins.
    pub accelerator: Option<Arc<str>>,
    /// Role that the pod template names.
    pub role: Role,
}

impl Watched for Deployments {
    type Object = apps::Deployment;
    type Slim = Workload;

    const RESOURCE: WatchedResource = WatchedResource::Deployments;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        scoped(client, options)
    }

    fn reduce(object: Self::Object) -> Option<Workload> {
        let spec = object.spec?;
        let status = object.status.unwrap_or_default();
        Some(workload(spec.replicas, status.replicas, status.ready_replicas, &spec.template))
    }

    fn table(namespace: &mut Namespace) -> &mut Table<Workload> {
        &mut namespace.deployments
    }

    fn matters(namespace: &Namespace, name: &Arc<str>, _workload: &Workload) -> bool {
        namespace.is_scaled(&ScaleTarget { kind: TargetKind::Deployment, name: name.clone() })
    }
}

impl Watched for StatefulSets {
    type Object = apps::StatefulSet;
    type Slim = Workload;

    const RESOURCE: WatchedResource = WatchedResource::StatefulSets;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        scoped(client, options)
    }

    fn reduce(object: Self::Object) -> Option<Workload> {
        let spec = object.spec?;
        let status = object.status.unwrap_or_default();
        Some(workload(spec.replicas, Some(status.replicas), status.ready_replicas, &spec.template))
    }

    fn table(namespace: &mut Namespace) -> &mut Table<Workload> {
        &mut namespace.stateful_sets
    }

    fn matters(namespace: &Namespace, name: &Arc<str>, _workload: &Workload) -> bool {
        namespace.is_scaled(&ScaleTarget { kind: TargetKind::StatefulSet, name: name.clone() })
    }
}

fn workload(spec: Option<i32>, current: Option<i32>, ready: Option<i32>, template: &PodTemplateSpec) -> Workload {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    Workload {
        spec: count(spec).unwrap_or(1),
        current: count(current).unwrap_or(0),
        ready: count(ready).unwrap_or(0),
        accelerator: template.spec.as_ref().and_then(accelerator::of_pod),
        role: match labels.and_then(|labels| labels.get(ROLE_LABEL)).map(String::as_str) {
            Some("prefill") => Role::Prefill,
            Some("decode") => Role::Decode,
            _ => Role::Both,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: &Value, status: &Value) -> Value {
        let mut object = json!({"metadata": {"name": "w", "namespace": "n"},
            "spec": {"selector": {}, "serviceName": "w", "template": {"spec": {"containers": []}}}, "status": status});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    }

    fn deployment(spec: &Value, status: &Value) -> Workload {
        Deployments::reduce(serde_json::from_value(object(spec, status)).unwrap()).unwrap()
    }

    #[test]
    fn counts_are_those_of_spec_and_status() {
        let both = (&json!({"replicas": 4}), &json!({"replicas": 3, "readyReplicas": 2}));
        let seen = deployment(both.0, both.1);
        assert_eq!((seen.spec, seen.current, seen.ready), (4, 3, 2));
        let stateful = StatefulSets::reduce(serde_json::from_value(object(both.0, both.1)).unwrap()).unwrap();
        assert_eq!(stateful, seen);
        let fresh = deployment(&json!({}), &Value::Null);
        assert_eq!((fresh.spec, fresh.current, fresh.ready), (1, 0, 0), "unset spec.replicas is 1");
    }

    #[test]
    fn the_pod_template_names_role_and_accelerator() {
        for (label, role) in [("prefill", Role::Prefill), ("decode", Role::Decode), ("router", Role::Both)] {
            let template = json!({"template": {"metadata": {"labels": {"llm-d.ai/role": label}},
                "spec": {"containers": [], "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}}});
            let seen = deployment(&template, &json!({}));
            assert_eq!((seen.role, seen.accelerator.as_deref()), (role, Some("L4")));
        }
        let plain = deployment(&json!({}), &json!({}));
        assert_eq!((plain.role, plain.accelerator), (Role::Both, None));
    }

    #[test]
    fn an_update_of_metadata_or_rollout_status_is_no_change() {
        let before = deployment(&json!({"replicas": 2}), &json!({"replicas": 2, "observedGeneration": 1}));
        let after = deployment(&json!({"replicas": 2}), &json!({"replicas": 2, "observedGeneration": 9}));
        assert_eq!(before, after);
    }
}
