//! Pods: who owns them and whether they are ready.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::{Api, Client, api::ApiResource, core::Object, runtime::watcher};
use serde::{Deserialize, de::IgnoredAny};

use super::{Table, Watched, controller_of};
use crate::discovery::{Options, index::Namespace, sync::WatchedResource};

/// The Pod watch.
#[derive(Debug)]
pub(crate) struct Pods;

/// What is kept of a Pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    /// Its controller.
    pub owner: Owner,
    /// When it was created.
    pub created: Timestamp,
    /// Ready and not on its way out.
    pub ready: bool,
    /// On its way out.
    pub terminating: bool,
}

/// The controller of a Pod, in its namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owner {
    /// A `ReplicaSet` of this name.
    ReplicaSet(Arc<str>),
    /// A `StatefulSet` of this name.
    StatefulSet(Arc<str>),
}

/// The part of `Pod.status` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<PodCondition>,
}

#[derive(Clone, Debug, Deserialize)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Watched for Pods {
    /// Most bytes of a Pod are in its spec, of which nothing is used: it is skipped, not parsed.
    type Object = Object<IgnoredAny, PodStatus>;
    type Slim = Pod;

    const RESOURCE: WatchedResource = WatchedResource::Pods;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        let resource = ApiResource::erase::<core::Pod>(&());
        match &options.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// Finished Pods, such as those of Jobs, need not cross the network.
    fn selection(_options: &Options) -> watcher::Config {
        watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed")
    }

    /// Evicted Pods stay behind as `Failed` and not ready: they are no pending replicas.
    fn reduce(object: Self::Object) -> Option<Pod> {
        let status = object.status.unwrap_or_default();
        if matches!(status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let metadata = &object.metadata;
        let owner = controller_of(metadata, "ReplicaSet")
            .map(Owner::ReplicaSet)
            .or_else(|| controller_of(metadata, "StatefulSet").map(Owner::StatefulSet))?;
        let terminating = metadata.deletion_timestamp.is_some();
        let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let created = metadata.creation_timestamp.as_ref()?.0;
        Some(Pod { owner, created, ready: ready && !terminating, terminating })
    }

    fn table(namespace: &mut Namespace) -> &mut Table<Pod> {
        &mut namespace.pods
    }

    fn matters(namespace: &Namespace, _name: &Arc<str>, pod: &Pod) -> bool {
        namespace.target_of(pod).is_some_and(|target| namespace.is_scaled(&target))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reduced(metadata: &Value, status: &Value) -> Option<Pod> {
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "p", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "other", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "2", "controller": true}]},
            "spec": {"containers": [{"name": "engine"}], "nodeName": "node-1"}, "status": status});
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        Pods::reduce(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_is_ready_when_its_condition_says_so_and_it_is_not_terminating() {
        let ready = json!({"phase": "Running", "conditions": [
            {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]});
        let unready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        let deleted = json!({"deletionTimestamp": "2026-01-01T01:00:00Z"});
        for (metadata, status, expected) in [
            (&json!({}), &ready, (true, false)),
            (&json!({}), &unready, (false, false)),
            (&json!({}), &json!({"phase": "Pending"}), (false, false)),
            (&json!({}), &Value::Null, (false, false)),
            (&deleted, &ready, (false, true)),
        ] {
            let pod = reduced(metadata, status).unwrap();
            assert_eq!((pod.ready, pod.terminating), expected, "{metadata} {status}");
            assert_eq!(pod.owner, Owner::ReplicaSet("rs".into()));
        }
    }

    #[test]
    fn finished_pods_and_pods_of_other_owners_are_not_kept() {
        let of = |owner: Value| json!({"ownerReferences": [owner]});
        let running = json!({"phase": "Running"});
        for (metadata, status, why) in [
            (json!({}), json!({"phase": "Failed"}), "evicted"),
            (json!({}), json!({"phase": "Succeeded"}), "completed"),
            (json!({"ownerReferences": null}), running.clone(), "bare"),
            (
                of(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "1", "controller": true})),
                running.clone(),
                "daemon",
            ),
            (
                of(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1"})),
                running.clone(),
                "owner that is not the controller",
            ),
            (
                of(
                    json!({"apiVersion": "x.io/v1", "kind": "StatefulSet", "name": "s", "uid": "1", "controller": true}),
                ),
                running,
                "namesake of another group",
            ),
        ] {
            assert_eq!(reduced(&metadata, &status), None, "{why}");
        }
    }
}
