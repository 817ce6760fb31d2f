//! What variants scale: replica counts, and what the pod template says of accelerators and role.

use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use kube::{
    api::{ApiResource, DynamicObject, ObjectMeta},
    core::Object,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Address, GroupKind, ObjectKey, ObjectKind, Table, Watched, built_in, count,
    pod_template::{PodTemplate, TemplateAccelerators},
    scoped,
};
use crate::{
    discovery::{
        ClusterState, Options,
        index::{Effect, KindState, Namespace},
        inventory::Rules,
        sync::{WatchFailure, WatchedResource},
    },
    interfaces::Role,
};

/// The label of a pod template that says which part a variant plays.
const ROLE_LABEL: &str = "llm-d.ai/role";

/// What is kept of an object with a scale subresource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// Its own controller, for kinds that are made of other kinds.
    pub owner: Option<ObjectKey>,
    /// `spec.replicas`; 1 where unset.
    pub spec: u32,
    /// `status.replicas`.
    pub current: u32,
    /// `status.readyReplicas`; `None` where the kind does not tell, so that ready pods are counted instead.
    pub ready: Option<u32>,
    /// Accelerator that the pod template pins.
    pub accelerator: Option<Arc<str>>,
    /// Accelerators of one replica, pod by pod: those of its first pod, of each other one, and how many others there are.
    pub accelerators: ReplicaAccelerators,
    /// Role that the pod template names.
    pub role: Role,
}

/// Accelerators of the pods of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicaAccelerators {
    /// Of its leader, or of its only pod.
    pub leader: TemplateAccelerators,
    /// Of each worker, and how many there are.
    pub workers: Option<(TemplateAccelerators, u32)>,
}

/// The Deployment watch.
#[derive(Clone, Debug)]
pub(crate) struct Deployments(pub Rules);

/// The `StatefulSet` watch.
#[derive(Clone, Debug)]
pub(crate) struct StatefulSets(pub Rules);

/// The part of the spec of a Deployment or `StatefulSet` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WorkloadSpec {
    replicas: Option<i32>,
    template: PodTemplate,
}

/// The part of their status that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadStatus {
    replicas: Option<i32>,
    ready_replicas: Option<i32>,
}

type BuiltIn = Object<WorkloadSpec, WorkloadStatus>;

impl Watched for Deployments {
    type Object = BuiltIn;
    type Slim = Workload;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::Deployments
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<apps::Deployment>(), options)
    }

    fn reduce(&self, object: BuiltIn) -> Option<Workload> {
        Some(of_built_in(object, &self.0))
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Workload> {
        namespace.workloads_of(&ObjectKind::Deployment)
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, workload: &Workload) -> Effect {
        namespace.touch_workload(ObjectKind::Deployment, name, workload)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&Workload>) -> Effect {
        namespace.relink_workload(ObjectKind::Deployment, name, old)
    }
}

impl Watched for StatefulSets {
    type Object = BuiltIn;
    type Slim = Workload;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::StatefulSets
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<apps::StatefulSet>(), options)
    }

    fn reduce(&self, object: BuiltIn) -> Option<Workload> {
        Some(of_built_in(object, &self.0))
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Workload> {
        namespace.workloads_of(&ObjectKind::StatefulSet)
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, workload: &Workload) -> Effect {
        namespace.touch_workload(ObjectKind::StatefulSet, name, workload)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&Workload>) -> Effect {
        namespace.relink_workload(ObjectKind::StatefulSet, name, old)
    }
}

/// Any other kind with a scale subresource: the watch of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Scaled {
    /// The kind.
    pub kind: Arc<GroupKind>,
    /// How the API server names it.
    pub resource: ApiResource,
    /// Where its replica counts are.
    pub counts: ScaleCounts,
    /// What counts as an accelerator.
    pub rules: Rules,
}

/// Where a kind has its replica counts, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScaleCounts {
    /// Replicas asked for.
    pub spec: String,
    /// Replicas observed.
    pub status: String,
}

impl Default for ScaleCounts {
    /// Where nearly every kind has them.
    fn default() -> Self {
        Self { spec: "/spec/replicas".to_owned(), status: "/status/replicas".to_owned() }
    }
}

impl Watched for Scaled {
    type Object = DynamicObject;
    type Slim = Workload;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        let ApiResource { group, plural, .. } = &self.resource;
        let dot = if group.is_empty() { "" } else { "." };
        WatchedResource::Scaled(format!("{plural}{dot}{group}").into())
    }

    fn address(&self, options: &Options) -> Address {
        scoped(self.resource.clone(), options)
    }

    fn reduce(&self, object: DynamicObject) -> Option<Workload> {
        let (metadata, data) = (object.metadata, object.data);
        let at =
            |pointer: &str| data.pointer(pointer).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
        let (replicas, current) = (at(&self.counts.spec), at(&self.counts.status));
        // A kind whose status tells counts leaves out the count of ready ones while it is 0.
        let ready = at("/status/readyReplicas").or_else(|| self.tells_ready().then_some(0));
        let (template, accelerators) = template(&data, &self.rules);
        Some(workload(&metadata, [replicas, current, ready], &template, accelerators))
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Workload> {
        namespace.workloads_of(&ObjectKind::Other(self.kind.clone()))
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, workload: &Workload) -> Effect {
        namespace.touch_workload(ObjectKind::Other(self.kind.clone()), name, workload)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&Workload>) -> Effect {
        namespace.relink_workload(ObjectKind::Other(self.kind.clone()), name, old)
    }

    fn delivered(&self, state: &ClusterState) {
        state.set_kind(&self.kind, Some(KindState::Listed));
    }

    /// An API server that is ill for a while does not make known objects unknown.
    fn failed(&self, state: &ClusterState, failure: &WatchFailure) {
        if !(matches!(failure, WatchFailure::Other(..)) && state.is_known(&self.kind)) {
            state.set_kind(&self.kind, Some(KindState::Unavailable(failure.to_string())));
        }
    }
}

impl Scaled {
    /// Kinds that are known to have `status.readyReplicas`.
    fn tells_ready(&self) -> bool {
        matches!(
            (self.kind.group.as_str(), self.kind.kind.as_str()),
            ("leaderworkerset.x-k8s.io", "LeaderWorkerSet")
                | ("argoproj.io", "Rollout")
                | ("", "ReplicationController")
        )
    }
}

fn of_built_in(object: BuiltIn, rules: &Rules) -> Workload {
    let status = object.status.unwrap_or_default();
    let WorkloadSpec { replicas, template } = object.spec;
    let leader = template.accelerators(rules);
    let counts = [replicas, status.replicas, Some(status.ready_replicas.unwrap_or(0))];
    workload(&object.metadata, counts, &template, ReplicaAccelerators { leader, workers: None })
}

fn workload(
    metadata: &ObjectMeta,
    [spec, current, ready]: [Option<i32>; 3],
    template: &PodTemplate,
    accelerators: ReplicaAccelerators,
) -> Workload {
    Workload {
        owner: ObjectKey::controller_of(metadata),
        spec: count(spec).unwrap_or(1),
        current: count(current).unwrap_or(0),
        ready: count(ready),
        accelerator: template.accelerator(),
        accelerators,
        role: match template.label(ROLE_LABEL) {
            Some("prefill") => Role::Prefill,
            Some("decode") => Role::Decode,
            _ => Role::Both,
        },
    }
}

/// The pod template of a kind that is not built in: its `spec.template`, or those of a `LeaderWorkerSet`.
fn template(data: &Value, rules: &Rules) -> (PodTemplate, ReplicaAccelerators) {
    let read = |pointer: &str| {
        let template = data.pointer(pointer).filter(|template| template.is_object())?;
        PodTemplate::deserialize(template).ok()
    };
    if let Some(worker) = read("/spec/leaderWorkerTemplate/workerTemplate") {
        let leader = read("/spec/leaderWorkerTemplate/leaderTemplate").unwrap_or_else(|| worker.clone());
        let size = data.pointer("/spec/leaderWorkerTemplate/size").and_then(Value::as_u64).unwrap_or(1);
        let others = u32::try_from(size.saturating_sub(1)).unwrap_or(u32::MAX);
        let accelerators = ReplicaAccelerators {
            leader: leader.accelerators(rules),
            workers: (others > 0).then(|| (worker.accelerators(rules), others)),
        };
        return (leader, accelerators);
    }
    let template = read("/spec/template").unwrap_or_default();
    let accelerators = ReplicaAccelerators { leader: template.accelerators(rules), workers: None };
    (template, accelerators)
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
        Deployments(Rules::default()).reduce(serde_json::from_value(object(spec, status)).unwrap()).unwrap()
    }

    fn scaled(kind: (&str, &str), counts: ScaleCounts, object: Value) -> Workload {
        let group_kind = GroupKind { group: kind.0.to_owned(), kind: kind.1.to_owned() };
        let resource = ApiResource {
            group: kind.0.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{}/v1", kind.0),
            kind: kind.1.to_owned(),
            plural: "things".to_owned(),
        };
        let watched = Scaled { kind: Arc::new(group_kind), resource, counts, rules: Rules::default() };
        watched.reduce(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn gpus(units: u32) -> Value {
        json!({"containers": [{"resources": {"limits": {"nvidia.com/gpu": units}}}]})
    }

    #[test]
    fn counts_are_those_of_spec_and_status() {
        let both = (&json!({"replicas": 4}), &json!({"replicas": 3, "readyReplicas": 2}));
        let seen = deployment(both.0, both.1);
        assert_eq!((seen.spec, seen.current, seen.ready), (4, 3, Some(2)));
        let stateful = StatefulSets(Rules::default());
        assert_eq!(stateful.reduce(serde_json::from_value(object(both.0, both.1)).unwrap()), Some(seen));
        let fresh = deployment(&json!({}), &Value::Null);
        assert_eq!((fresh.spec, fresh.current, fresh.ready), (1, 0, Some(0)), "unset spec.replicas is 1");
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

    #[test]
    fn a_group_of_pods_is_one_replica_with_the_accelerators_of_all() {
        let group = |leader: Option<Value>| {
            let mut template = json!({"size": 4, "workerTemplate": {"spec": gpus(8)}});
            if let Some(leader) = leader {
                template["leaderTemplate"] = json!({"spec": leader});
            }
            let object = json!({"metadata": {"name": "big"}, "spec": {"replicas": 2, "leaderWorkerTemplate": template},
                "status": {"replicas": 2, "readyReplicas": 1}});
            scaled(("leaderworkerset.x-k8s.io", "LeaderWorkerSet"), ScaleCounts::default(), object)
        };
        let seen = group(Some(gpus(4)));
        assert_eq!((seen.spec, seen.current, seen.ready), (2, 2, Some(1)));
        let pods = |seen: &Workload| {
            let workers = seen.accelerators.workers.as_ref().map(|(worker, others)| (worker.devices, *others));
            (seen.accelerators.leader.devices, workers)
        };
        assert_eq!(pods(&seen), (Some(4), Some((Some(8), 3))));
        assert_eq!(
            pods(&group(None)),
            (Some(8), Some((Some(8), 3))),
            "without a template of its own the leader is a worker"
        );
    }

    #[test]
    fn a_custom_kind_has_its_counts_where_its_definition_says() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"size": 7, "template": "not of pods"},
            "status": {"observed": {"size": 5}}});
        let counts = ScaleCounts { spec: "/spec/size".to_owned(), status: "/status/observed/size".to_owned() };
        let seen = scaled(("example.com", "Thing"), counts, object);
        assert_eq!((seen.spec, seen.current, seen.ready), (7, 5, None));
        assert_eq!(seen.accelerators, ReplicaAccelerators::default());
    }
}
