//! The discovery as its readers see it, fed with objects as the API server sends them.

mod annotation;
mod assembly;
mod attribution;
mod changes;
mod supply;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ClusterState, Options, inventory::Rules, objects::*};
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
    OfKeda(Value),
    Namespace(Value),
    Node(Value),
    Quota(Value),
}

/// A state whose watches have all delivered an empty list.
fn synced() -> ClusterState {
    let state = ClusterState::new(&Options::default());
    list_nothing(&state);
    state
}

fn list_nothing(state: &ClusterState) {
    let rules = Rules::default;
    state.listed(&Variants, Vec::new());
    state.listed(&Deployments(rules()), Vec::new());
    state.listed(&StatefulSets(rules()), Vec::new());
    state.listed(&ReplicaSets, Vec::new());
    state.listed(&Pods(rules()), Vec::new());
    state.listed(&Autoscalers::default(), Vec::new());
    state.listed(&ScaledObjects::default(), Vec::new());
    state.listed(&Namespaces, Vec::new());
    state.listed(&Nodes(rules()), Vec::new());
    state.listed(&Quotas(rules()), Vec::new());
}

fn state_of(objects: impl IntoIterator<Item = Object>) -> ClusterState {
    let state = synced();
    for object in objects {
        apply(&state, object);
    }
    state
}

fn apply(state: &ClusterState, object: Object) {
    fn add<W: Watched>(state: &ClusterState, watched: &W, value: Value) {
        state.applied(watched, serde_json::from_value(value).unwrap());
    }
    let rules = Rules::default;
    match object {
        Object::Variant(value) => add(state, &Variants, value),
        Object::Deployment(value) => add(state, &Deployments(rules()), value),
        Object::StatefulSet(value) => add(state, &StatefulSets(rules()), value),
        Object::ReplicaSet(value) => add(state, &ReplicaSets, value),
        Object::Pod(value) => add(state, &Pods(rules()), value),
        Object::Autoscaler(value) => add(state, &Autoscalers::default(), value),
        Object::OfKeda(value) => add(state, &ScaledObjects::default(), value),
        Object::Namespace(value) => add(state, &Namespaces, value),
        Object::Node(value) => add(state, &Nodes(rules()), value),
        Object::Quota(value) => add(state, &Quotas(rules()), value),
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
