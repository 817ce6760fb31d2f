//! From pods over their owners to variants, whatever the kind of the scale target.

use std::sync::Arc;

use super::*;
use crate::{
    discovery::index::KindState,
    interfaces::{PodDirectory, PodEndpoint},
};

fn scaled(group: &str, version: &str, kind: &str) -> Scaled {
    let resource = kube::api::ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    let kind = Arc::new(GroupKind { group: group.to_owned(), kind: kind.to_owned() });
    Scaled { kind, resource, counts: ScaleCounts::default(), rules: Rules::default() }
}

fn rollouts() -> Scaled {
    scaled("argoproj.io", "v1alpha1", "Rollout")
}

fn groups() -> Scaled {
    scaled("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet")
}

fn of(name: &str, kind: &Scaled) -> Object {
    let target = json!({"apiVersion": kind.resource.api_version, "kind": kind.resource.kind, "name": name});
    variant_with(name, &json!({"modelID": "meta/llama", "scaleTargetRef": target}))
}

fn owned_by(object: Object, api_version: &str, kind: &str, name: &str) -> Object {
    let own = |mut value: Value| {
        let owner = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true});
        value["metadata"]["ownerReferences"] = json!([owner]);
        value
    };
    match object {
        Object::ReplicaSet(value) => Object::ReplicaSet(own(value)),
        Object::StatefulSet(value) => Object::StatefulSet(own(value)),
        Object::Deployment(value) => Object::Deployment(own(value)),
        Object::Pod(value) => Object::Pod(own(value)),
        other => panic!("{other:?}"),
    }
}

fn deliver(state: &ClusterState, kind: &Scaled, name: &str, replicas: u32, ready: Option<u32>) {
    let status = json!({"replicas": replicas, "readyReplicas": ready});
    let object = json!({"apiVersion": kind.resource.api_version, "kind": kind.resource.kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"replicas": replicas}, "status": status});
    state.applied(kind, serde_json::from_value(object).unwrap());
}

fn identified(state: &ClusterState, pod: &str) -> Option<String> {
    state.identify(NAMESPACE, pod)?.variant.map(|variant| variant.name.to_string())
}

#[test]
fn pods_of_a_rollout_are_found_over_its_replica_sets() {
    let kind = rollouts();
    let state = state_of([
        of("llama", &kind),
        owned_by(replica_set("llama-rs", ""), "argoproj.io/v1alpha1", "Rollout", "llama"),
        pod("llama-0", "ReplicaSet", "llama-rs", true, 1),
        pod("llama-1", "ReplicaSet", "llama-rs", false, 2),
    ]);
    deliver(&state, &kind, "llama", 2, Some(1));
    assert_eq!(identified(&state, "llama-0").as_deref(), Some("llama"));
    let expected = ScaleObservation { spec: 2, current: 2, ready: 1, pending_since: vec![at(2)] };
    assert_eq!(*scale(&state.observe()[0]), expected);
}

#[test]
fn of_a_group_of_pods_only_the_leader_serves() {
    let kind = groups();
    let labelled = |name: &str, owner: &str, index: &str| {
        let Object::Pod(mut value) = pod(name, "StatefulSet", owner, true, 1) else { panic!("not a pod") };
        value["metadata"]["labels"] = json!({"leaderworkerset.sigs.k8s.io/worker-index": index});
        Object::Pod(value)
    };
    let state = state_of([
        of("big", &kind),
        owned_by(
            Object::StatefulSet(workload("big", 2, 2, 2)),
            "leaderworkerset.x-k8s.io/v1",
            "LeaderWorkerSet",
            "big",
        ),
        owned_by(Object::StatefulSet(workload("big-0", 3, 3, 3)), "v1", "Pod", "big-0"),
        labelled("big-0", "big", "0"),
        labelled("big-0-1", "big-0", "1"),
        // Without its label, as an older release leaves it.
        pod("big-0-2", "StatefulSet", "big-0", true, 1),
    ]);
    deliver(&state, &kind, "big", 2, Some(1));
    assert_eq!(identified(&state, "big-0").as_deref(), Some("big"));
    assert_eq!((identified(&state, "big-0-1"), identified(&state, "big-0-2")), (None, None));
    assert_eq!(scale(&state.observe()[0]).ready, 1, "groups, not pods");
}

#[test]
fn a_kind_that_tells_no_ready_replicas_has_its_ready_pods_counted() {
    let kind = scaled("example.com", "v1", "Thing");
    let own = |object| owned_by(object, "example.com/v1", "Thing", "llama");
    let state = state_of([
        of("llama", &kind),
        own(pod("llama-0", "", "", true, 1)),
        own(deployment("part", 1, 1, 1)),
        replica_set("part-rs", "part"),
        pod("llama-1", "ReplicaSet", "part-rs", true, 2),
        pod("llama-2", "ReplicaSet", "part-rs", false, 3),
    ]);
    deliver(&state, &kind, "llama", 3, None);
    let expected = ScaleObservation { spec: 3, current: 3, ready: 2, pending_since: vec![at(3)] };
    assert_eq!(*scale(&state.observe()[0]), expected);
    assert_eq!(identified(&state, "llama-2").as_deref(), Some("llama"), "over a Deployment that the object owns");

    let mut changes = state.changes();
    apply(&state, pod("llama-2", "ReplicaSet", "part-rs", true, 3));
    assert!(changes.has_changed().unwrap());
    assert_eq!(scale(&state.observe()[0]).ready, 3);
    changes.mark_unchanged();
}

#[test]
fn the_nearest_scaled_owner_has_the_pod() {
    let kind = scaled("example.com", "v1", "Thing");
    let state = state_of([
        of("outer", &kind),
        owned_by(deployment("part", 1, 1, 1), "example.com/v1", "Thing", "outer"),
        replica_set("part-rs", "part"),
        pod("p", "ReplicaSet", "part-rs", false, 3),
    ]);
    deliver(&state, &kind, "outer", 1, None);
    assert_eq!(identified(&state, "p").as_deref(), Some("outer"));
    assert_eq!(scale(named(&state.observe(), "outer")).pending_since, [at(3)]);
    apply(&state, variant("inner", "part"));
    assert_eq!(identified(&state, "p").as_deref(), Some("inner"));
    let observations = state.observe();
    assert_eq!(scale(named(&observations, "inner")).pending_since, [at(3)]);
    assert_eq!(scale(named(&observations, "outer")).pending_since, []);
}

#[test]
fn a_kind_is_said_to_be_unknown_until_its_objects_are_listed_and_forgotten_with_its_last_variant() {
    let kind = rollouts();
    let state = state_of([of("llama", &kind)]);
    let says = |part: &str| {
        let observations = state.observe();
        assert!(message(&observations[0]).contains(part), "{}", message(&observations[0]));
    };
    says("are not listed yet");
    state.set_kind(&kind.kind, Some(KindState::Unavailable("the API server does not serve it".to_owned())));
    says("chat/llama scales the Rollout llama of argoproj.io/v1alpha1: the API server does not serve it");
    assert_eq!(state.problems().len(), 1);
    state.listed(&kind, Vec::new());
    says("does not exist");
    deliver(&state, &kind, "llama", 1, Some(1));
    assert_eq!(scale(&state.observe()[0]).current, 1);
    assert_eq!(state.wanted_kinds().keys().collect::<Vec<_>>(), [&kind.kind]);
    state.forget_kind(&kind.kind);
    says("are not listed yet");
}

#[test]
fn accelerators_of_a_replica_are_those_of_its_pod_template() {
    let mut with_gpus = workload("llama-d", 1, 1, 1);
    with_gpus["spec"]["template"]["spec"]["containers"] =
        json!([{"resources": {"limits": {"nvidia.com/gpu": "4"}}}, {"resources": {"limits": {"cpu": "1"}}}]);
    let state = state_of([
        variant("llama", "llama-d"),
        Object::Deployment(with_gpus),
        variant("none", "none-d"),
        deployment("none-d", 1, 1, 1),
    ]);
    let observations = state.observe();
    assert_eq!(named(&observations, "llama").variant.accelerators_per_replica, Some(4));
    assert_eq!(named(&observations, "none").variant.accelerators_per_replica, None);
}

#[test]
fn the_ready_pods_of_variants_are_scraped_where_they_say() {
    let exposing = |name: &str, owner: &str, ready: bool, address: &str| {
        let Object::Pod(mut value) = pod(name, "ReplicaSet", owner, ready, 1) else { panic!("not a pod") };
        value["status"]["podIP"] = json!(address);
        value["metadata"]["annotations"] =
            json!({"prometheus.io/port": "9000", "wva.llmd.ai/kv-cache-tokens": "64000"});
        Object::Pod(value)
    };
    let state = state_of([
        variant("llama", "llama"),
        deployment("llama", 3, 3, 1),
        replica_set("llama-rs", "llama"),
        exposing("llama-0", "llama-rs", true, "10.0.0.1"),
        exposing("llama-1", "llama-rs", false, "10.0.0.2"),
        pod("llama-2", "ReplicaSet", "llama-rs", true, 1),
        exposing("other-0", "other-rs", true, "10.0.0.3"),
    ]);
    let expected = PodEndpoint {
        namespace: NAMESPACE.into(),
        pod: "llama-0".into(),
        model_id: Some("meta/llama".into()),
        address: "10.0.0.1".parse().unwrap(),
        ports: [9000].into(),
        path: None,
        kv_cache_tokens: Some(64_000),
    };
    assert_eq!(state.endpoints(), [expected]);
    assert_eq!(state.declared_model(NAMESPACE, "llama-0"), Some("meta/llama".into()));
    assert_eq!(state.declared_model(NAMESPACE, "other-0"), None);
}

#[test]
fn a_pod_of_no_variant_is_scraped_where_it_asks_holds_accelerators_and_stands_beside_variants() {
    let stray = |name: &str, scrape: &str, limits: Value| {
        let Object::Pod(mut value) = pod(name, "ReplicaSet", "other-rs", true, 1) else { panic!("not a pod") };
        value["metadata"]["annotations"] = json!({"prometheus.io/scrape": scrape});
        value["spec"] = json!({"containers": [{"resources": {"limits": limits}}]});
        value["status"]["podIP"] = json!("10.0.0.1");
        Object::Pod(value)
    };
    let gpu = || json!({"nvidia.com/gpu": "1"});
    let state = state_of([
        stray("asks", "true", gpu()),
        stray("is-silent", "yes", gpu()),
        stray("has-none", "true", json!({})),
    ]);
    let scraped = || -> Vec<_> {
        state.endpoints().into_iter().map(|endpoint| (endpoint.pod.to_string(), endpoint.model_id)).collect()
    };
    assert_eq!(scraped(), [], "nobody here declares a variant");
    apply(&state, variant("llama", "llama-d"));
    assert_eq!(scraped(), [("asks".to_owned(), None)]);
}
