//! A cluster of any size, as the watches would have filled it: for benchmarks.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use serde_json::{Value, json};

use super::{
    ClusterState, Options,
    inventory::Rules,
    objects::{
        Autoscalers, Deployments, Exposed, Namespaces, Nodes, ObjectKey, Pod, Pods, Quotas, ReplicaSets, ScaledObjects,
        StatefulSets, Variants, Watched,
    },
};

/// How many of what. Names follow from numbers.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// Variants, each with a Deployment, a `ReplicaSet` and an HPA.
    pub variants: usize,
    /// Variants in each namespace.
    pub per_namespace: usize,
    /// Variants of each model.
    pub per_model: usize,
    /// Replicas of each variant.
    pub replicas: usize,
}

impl Filling {
    /// Namespace of a variant.
    pub fn namespace(&self, variant: usize) -> String {
        format!("team-{:05}", variant / self.per_namespace)
    }

    /// Name of a variant, and of its Deployment.
    pub fn variant(&self, variant: usize) -> String {
        format!("llama-{variant:05}")
    }

    /// Model of a variant.
    pub fn model(&self, variant: usize) -> String {
        format!("meta/llama-{:05}", variant / self.per_model)
    }

    /// Name of a pod.
    pub fn pod(&self, variant: usize, replica: usize) -> String {
        format!("llama-{variant:05}-rs-{replica}")
    }

    fn kept(&self, variant: usize, replica: usize, ready: bool) -> Pod {
        Pod {
            owner: Some(ObjectKey::new("apps/v1", "ReplicaSet", &format!("llama-{variant:05}-rs"))),
            created: Timestamp::UNIX_EPOCH,
            ready,
            terminating: false,
            node: Some(format!("node-{:05}", (variant * self.replicas + replica) / 8).into()),
            requests: [("nvidia.com/gpu".into(), 1)].into(),
            exposed: Some(Box::new(Exposed {
                address: [10, 0, 0, 1].into(),
                ports: [8000].into(),
                path: None,
                asks: false,
            })),
            kv_cache_tokens: None,
        }
    }

    fn deployment(&self, variant: usize, replicas: usize) -> Value {
        json!({"metadata": {"name": self.variant(variant), "namespace": self.namespace(variant)},
            "spec": {"replicas": replicas, "template": {"spec": {
                "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}},
            "status": {"replicas": self.replicas, "readyReplicas": self.replicas}})
    }

    fn autoscaler(&self, variant: usize) -> Value {
        let name = self.variant(variant);
        json!({"metadata": {"name": name, "namespace": self.namespace(variant)}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": 20, "metrics": [{"type": "External", "external": {
                "metric": {"name": "wva_desired_replicas", "selector": {"matchLabels": {"variant_name": name}}},
                "target": {"type": "AverageValue", "averageValue": "1"}}}],
            "behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0"}}}})
    }

    fn declared(&self, variant: usize) -> Value {
        json!({"apiVersion": "llmd.ai/v1alpha1", "kind": "VariantAutoscaling", "metadata": {
            "name": self.variant(variant), "namespace": self.namespace(variant), "resourceVersion": "1", "generation": 1},
            "spec": {"scaleTargetRef": {"name": self.variant(variant)}, "modelID": self.model(variant),
                "variantCost": format!("{}.0", 10 + 10 * (variant % self.per_model)), "maxReplicas": 20}})
    }
}

fn node(node: usize) -> Value {
    let amounts = json!({"cpu": "96", "nvidia.com/gpu": "8"});
    json!({"metadata": {"name": format!("node-{node:05}"), "labels": {"karpenter.sh/nodepool": "h100",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}, "spec": {}, "status": {
        "capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// Delivers objects as a watch's first list does.
fn list<W: Watched>(state: &ClusterState, watched: &W, objects: impl Iterator<Item = Value>) {
    let kept = objects.filter_map(|object| {
        let object: W::Object = serde_json::from_value(object).ok()?;
        let (namespace, name) = watched.identity(object.meta())?;
        Some((namespace, name, watched.reduce(object)?))
    });
    state.listed(watched, kept.collect());
}

impl ClusterState {
    /// A cluster filled so, with everything listed.
    pub fn filled(filling: &Filling) -> Self {
        let state = Self::new(&Options::default());
        let rules = Rules::default;
        let all = || 0..filling.variants;
        list(&state, &Variants, all().map(|variant| filling.declared(variant)));
        list(&state, &Deployments(rules()), all().map(|variant| filling.deployment(variant, filling.replicas)));
        list(&state, &Autoscalers::default(), all().map(|variant| filling.autoscaler(variant)));
        let nodes = (filling.variants * filling.replicas).div_ceil(8);
        list(&state, &Nodes(rules()), (0..nodes).map(node));
        let replica_sets = all().map(|variant| {
            let owner = ObjectKey::new("apps/v1", "Deployment", &filling.variant(variant));
            (filling.namespace(variant).into(), format!("llama-{variant:05}-rs").into(), owner)
        });
        state.listed(&ReplicaSets, replica_sets.collect());
        let pods = all().flat_map(|variant| (0..filling.replicas).map(move |replica| (variant, replica)));
        let pods = pods.map(|(variant, replica)| {
            let name: Arc<str> = filling.pod(variant, replica).into();
            (filling.namespace(variant).into(), name, filling.kept(variant, replica, true))
        });
        state.listed(&Pods(rules()), pods.collect());
        state.listed(&StatefulSets(rules()), Vec::new());
        state.listed(&ScaledObjects::default(), Vec::new());
        state.listed(&Namespaces, Vec::new());
        state.listed(&Quotas(rules()), Vec::new());
        state
    }

    /// Changes the readiness of a pod of every `stride`th variant.
    pub fn flip_pods(&self, filling: &Filling, stride: usize) {
        for variant in (0..filling.variants).step_by(stride) {
            let (namespace, name) = (filling.namespace(variant), filling.pod(variant, 0));
            let ready = self.is_pod_ready(&namespace, &name);
            self.keep_pod(&namespace, &name, filling.kept(variant, 0, !ready));
        }
    }

    /// Changes the asked replicas of every Deployment.
    pub fn rescale(&self, filling: &Filling, round: u64) {
        let replicas = filling.replicas + usize::from(round % 2 == 1);
        let deployments = (0..filling.variants).map(|variant| filling.deployment(variant, replicas));
        list(self, &Deployments(Rules::default()), deployments);
    }

    fn is_pod_ready(&self, namespace: &str, pod: &str) -> bool {
        crate::interfaces::PodDirectory::identify(self, namespace, pod).is_some_and(|identity| identity.ready)
    }

    fn keep_pod(&self, namespace: &str, name: &str, pod: Pod) {
        self.store(&Pods(Rules::default()), namespace, name, Some(pod));
    }
}
