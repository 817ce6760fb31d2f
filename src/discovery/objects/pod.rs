//! Pods: who owns them and whether they are ready.

use std::{num::NonZeroU64, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::{core::Object, runtime::watcher};
use serde::Deserialize;

use super::{
    Address, ObjectKey, Table, Watched, built_in,
    exposed::Exposed,
    pod_template::{Container, requests},
    scoped,
};
use crate::discovery::{
    Options,
    index::{Effect, Namespace},
    inventory::{Labels, Rules},
    sync::WatchedResource,
};

/// Pods of a `LeaderWorkerSet` carry their place in the group: 0 is the leader, the one that serves.
const WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";
/// KV-cache capacity of each engine of the pod in tokens, for engines that do not export it.
const KV_CACHE_TOKENS: &str = "wva.llmd.ai/kv-cache-tokens";

/// The Pod watch.
#[derive(Clone, Debug)]
pub(crate) struct Pods(pub Rules);

/// What is kept of a Pod: of one that belongs to something that can be scaled, or that holds accelerators.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    /// Its controller; `None` where it serves nobody: bare, of a kind that is never scaled, or worker of a group.
    pub owner: Option<ObjectKey>,
    /// When it was created.
    pub created: Timestamp,
    /// Ready and not on its way out.
    pub ready: bool,
    /// On its way out.
    pub terminating: bool,
    /// Node it is bound to.
    pub node: Option<Arc<str>>,
    /// Accelerators that it requests, by resource.
    pub requests: Box<[(Arc<str>, u32)]>,
    /// Where it exposes metrics, once it has an address.
    pub exposed: Option<Box<Exposed>>,
    /// KV-cache capacity in tokens it declares.
    pub kv_cache_tokens: Option<NonZeroU64>,
}

/// The part of `Pod.spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    node_name: Option<Arc<str>>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

/// The part of `Pod.status` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(default, rename = "podIP")]
    pod_ip: Option<String>,
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
    /// Most bytes of a Pod are in its spec, of which little is used: the rest is skipped, not parsed.
    type Object = Object<PodSpec, PodStatus>;
    type Slim = Pod;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::Pods
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<core::Pod>(), options)
    }

    /// Finished Pods, such as those of Jobs, need not cross the network.
    fn selection(&self, _options: &Options) -> watcher::Config {
        watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed")
    }

    /// Evicted Pods stay behind as `Failed` and not ready: they are no pending replicas, and hold nothing.
    fn reduce(&self, object: Self::Object) -> Option<Pod> {
        let status = object.status.unwrap_or_default();
        if matches!(status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let metadata = &object.metadata;
        let owner = ObjectKey::controller_of(metadata).filter(|_| metadata.labels.as_ref().is_none_or(is_leader));
        let requests = requests(&object.spec.init_containers, &object.spec.containers, &self.0);
        if owner.is_none() && requests.is_empty() {
            return None;
        }
        let terminating = metadata.deletion_timestamp.is_some();
        let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let (annotations, containers) = (metadata.annotations.as_ref(), &object.spec.containers);
        let serves = owner.is_some() && !terminating;
        let exposed = serves.then(|| Exposed::new(status.pod_ip.as_deref(), annotations, containers)).flatten();
        Some(Pod {
            owner,
            created: metadata.creation_timestamp.as_ref()?.0,
            ready: ready && !terminating,
            terminating,
            node: object.spec.node_name,
            requests: requests.into_iter().collect(),
            exposed: exposed.map(Box::new),
            kv_cache_tokens: annotations.and_then(|all| all.get(KV_CACHE_TOKENS)?.trim().parse().ok()),
        })
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Pod> {
        &mut namespace.pods
    }

    fn touch(&self, namespace: &mut Namespace, _name: &Arc<str>, pod: &Pod) -> Effect {
        pod.owner.as_ref().map_or(Effect::NONE, |owner| namespace.touch_object(owner))
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&Pod>) -> Effect {
        namespace.relink_pod(name, old)
    }
}

/// Only leaders of groups serve; pods of other workloads have no place in a group.
fn is_leader(labels: &Labels) -> bool {
    labels.get(WORKER_INDEX).is_none_or(|index| index == "0")
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
        Pods(Rules::default()).reduce(serde_json::from_value(object).unwrap())
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
            assert_eq!(pod.owner, Some(ObjectKey::new("apps/v1", "ReplicaSet", "rs")));
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
                of(json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "1", "controller": true})),
                running,
                "job",
            ),
        ] {
            assert_eq!(reduced(&metadata, &status), None, "{why}");
        }
    }

    #[test]
    fn a_pod_that_holds_accelerators_is_kept_whoever_owns_it() {
        let spec = json!({"nodeName": "node-1", "containers": [
            {"name": "train", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]});
        let object = json!({"metadata": {"name": "p", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec, "status": {"phase": "Running"}});
        let pod = Pods(Rules::default()).reduce(serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!((pod.owner, pod.node.as_deref()), (None, Some("node-1")));
        assert_eq!(*pod.requests, [("nvidia.com/gpu".into(), 8)]);
    }

    #[test]
    fn a_pod_may_declare_how_many_tokens_its_kv_cache_holds() {
        for (value, expected) in
            [("250000", Some(250_000)), (" 7 ", Some(7)), ("0", None), ("-1", None), ("many", None)]
        {
            let metadata = json!({"annotations": {"wva.llmd.ai/kv-cache-tokens": value}});
            let declared = reduced(&metadata, &json!({"phase": "Running"})).unwrap().kv_cache_tokens;
            assert_eq!(declared.map(NonZeroU64::get), expected, "{value:?}");
        }
    }

    #[test]
    fn only_the_leader_of_a_group_serves() {
        let running = json!({"phase": "Running"});
        let indexed = |index: &str| json!({"labels": {"leaderworkerset.sigs.k8s.io/worker-index": index}});
        assert!(reduced(&indexed("0"), &running).is_some_and(|pod| pod.owner.is_some()));
        assert_eq!(reduced(&indexed("1"), &running), None);
    }
}
