//! The discovery as its readers see it, fed with objects as the API server sends them.

mod assembly;
mod changes;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ClusterState, objects::*};
use crate::interfaces::{ScaleObservation, TargetObservation, VariantObservation};

const NAMESPACE: &str = "chat";

/// An object of the API, addressed to the watch of its kind.
#[derive(Clone, Debug)]
enum Object {
    Variant(Value),
    Deployment(Value),
    StatefulSet(Value),
    ReplicaSet(Value),
    Pod(Value),
    Autoscaler(Value),
}

/// A state whose watches have all delivered an empty list.
fn synced() -> ClusterState {
    let state = ClusterState::new(None);
    list_nothing(&state);
    state
}

fn list_nothing(state: &ClusterState) {
    state.listed::<Variants>(Vec::new());
    state.listed::<Deployments>(Vec::new());
    state.listed::<StatefulSets>(Vec::new());
    state.listed::<ReplicaSets>(Vec::new());
    state.listed::<Pods>(Vec::new());
    state.listed::<Autoscalers>(Vec::new());
}

fn state_of(objects: impl IntoIterator<Item = Object>) -> ClusterState {
    let state = synced();
    for object in objects {
        apply(&state, object);
    }
    state
}

fn apply(state: &ClusterState, object: Object) {
    fn read<W: Watched>(value: Value) -> W::Object {
        serde_json::from_value(value).unwrap()
    }
    match object {
        Object::Variant(value) => state.applied::<Variants>(read::<Variants>(value)),
        Object::Deployment(value) => state.applied::<Deployments>(read::<Deployments>(value)),
        Object::StatefulSet(value) => state.applied::<StatefulSets>(read::<StatefulSets>(value)),
        Object::ReplicaSet(value) => state.applied::<ReplicaSets>(read::<ReplicaSets>(value)),
        Object::Pod(value) => state.applied::<Pods>(read::<Pods>(value)),
        Object::Autoscaler(value) => state.applied::<Autoscalers>(read::<Autoscalers>(value)),
    }
}

fn variant(name: &str, target: &str) -> Object {
    variant_with(name, &json!({"modelID": "meta/llama", "scaleTargetRef": {"name": target}}))
}

fn variant_with(name: &str, spec: &Value) -> Object {
    Object::Variant(json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}))
}

fn deployment(name: &str, spec: u32, current: u32, ready: u32) -> Object {
    Object::Deployment(workload(name, spec, current, ready))
}

fn workload(name: &str, spec: u32, current: u32, ready: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"replicas": spec, "selector": {},
        "serviceName": name, "template": {"spec": {"containers": []}}},
        "status": {"replicas": current, "readyReplicas": ready}})
}

fn replica_set(name: &str, deployment: &str) -> Object {
    Object::ReplicaSet(json!({"metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": "u", "controller": true}]}}))
}

/// A pod that a `ReplicaSet` or `StatefulSet` owns, created that many seconds after the epoch.
fn pod(name: &str, kind: &str, owner: &str, ready: bool, created: i64) -> Object {
    let ready = if ready { "True" } else { "False" };
    Object::Pod(json!({"metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": at(created).to_string(),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true}]},
        "spec": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
}

/// An HPA on the Deployment `target` that reads our metric with the selector given.
fn autoscaler(name: &str, target: &str, selector: &Value) -> Object {
    Object::Autoscaler(json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": 10,
        "metrics": [{"type": "External", "external": {
            "metric": {"name": "wva_desired_replicas", "selector": selector},
            "target": {"type": "AverageValue", "averageValue": "1"}}}]}}))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn named<'a>(observations: &'a [VariantObservation], name: &str) -> &'a VariantObservation {
    observations.iter().find(|observation| &*observation.variant.key.name == name).unwrap()
}

fn scale(observation: &VariantObservation) -> &ScaleObservation {
    match &observation.target {
        TargetObservation::Found(scale) => scale,
        TargetObservation::NotFound { message } => panic!("{message}"),
    }
}

fn message(observation: &VariantObservation) -> &str {
    match &observation.target {
        TargetObservation::Found(scale) => panic!("{scale:?}"),
        TargetObservation::NotFound { message } => message,
    }
}
