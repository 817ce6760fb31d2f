//! From nodes, pods and quotas to the inventory.

use std::sync::Arc;

use super::*;
use crate::{
    interfaces::{AcceleratorPool, AcceleratorQuota, Inventory},
    snapshot::ClusterObserver,
};

fn node(name: &str, gpus: u32) -> Object {
    let amounts = json!({"cpu": "96", "nvidia.com/gpu": gpus.to_string()});
    Object::Node(json!({"metadata": {"name": name, "labels": {"cloud.google.com/gke-nodepool": "h100-pool",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}, "spec": {}, "status": {
        "capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}}))
}

/// A pod that holds GPUs on a node, owned by a `ReplicaSet` or by nobody.
fn gpu_pod(name: &str, owner: Option<&str>, node: Option<&str>, gpus: u32) -> Object {
    let Object::Pod(mut value) = pod(name, "ReplicaSet", owner.unwrap_or_default(), true, 1) else {
        panic!("not a pod")
    };
    if owner.is_none() {
        value["metadata"]["ownerReferences"] = json!([]);
    }
    value["spec"] = json!({"nodeName": node, "containers": [
        {"name": "engine", "resources": {"requests": {"nvidia.com/gpu": gpus.to_string()}}}]});
    Object::Pod(value)
}

fn quota(name: &str, gpus: u32) -> Object {
    Object::Quota(json!({"metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"hard": {"requests.nvidia.com/gpu": gpus.to_string()}}}))
}

fn inventory(state: &ClusterState) -> Arc<Inventory> {
    state.inventory().unwrap()
}

fn numbers(pool: &AcceleratorPool) -> (u32, u32, u32, &[u32]) {
    (pool.total, pool.allocatable, pool.used, &pool.free_blocks)
}

#[test]
fn foreign_pods_take_accelerators_as_ours_do_and_give_them_back() {
    let state = state_of([
        node("n1", 8),
        node("n2", 8),
        variant("llama", "llama-d"),
        replica_set("llama-rs", "llama-d"),
        gpu_pod("llama-0", Some("llama-rs"), Some("n1"), 4),
        gpu_pod("training", None, Some("n1"), 2),
        gpu_pod("queued", None, None, 8),
    ]);
    let before = inventory(&state);
    let pool = &before.pools[0];
    assert_eq!((&*pool.node_group, &*pool.accelerator), ("h100-pool", "H100"));
    assert_eq!(numbers(pool), (16, 16, 6, &[8, 2][..]));

    let mut changes = state.changes();
    apply(&state, gpu_pod("queued", None, Some("n2"), 8));
    assert!(changes.has_changed().unwrap(), "a foreign pod that takes accelerators bears on decisions");
    assert_eq!(numbers(&inventory(&state).pools[0]), (16, 16, 14, &[2][..]));

    let Object::Pod(mut finished) = gpu_pod("training", None, Some("n1"), 2) else { panic!("not a pod") };
    finished["status"]["phase"] = json!("Succeeded");
    apply(&state, Object::Pod(finished));
    assert_eq!(numbers(&inventory(&state).pools[0]), (16, 16, 12, &[4][..]));

    changes.mark_unchanged();
    let Object::Pod(same) = gpu_pod("queued", None, Some("n2"), 8) else { panic!("not a pod") };
    apply(&state, Object::Pod(same));
    assert!(!changes.has_changed().unwrap());
    assert!(Arc::ptr_eq(&inventory(&state), &inventory(&state)), "counted once for as long as nothing changes");
}

#[test]
fn nodes_come_go_and_close() {
    let state = state_of([node("n1", 8)]);
    let mut changes = state.changes();
    let Object::Node(mut cordoned) = node("n1", 8) else { panic!("not a node") };
    cordoned["spec"]["unschedulable"] = json!(true);
    apply(&state, Object::Node(cordoned));
    assert!(changes.has_changed().unwrap());
    assert_eq!(numbers(&inventory(&state).pools[0]), (8, 0, 0, &[][..]));
    changes.mark_unchanged();
    apply(
        &state,
        Object::Node(json!({"metadata": {"name": "cpu-only"}, "spec": {}, "status": {"capacity": {"cpu": "8"}}})),
    );
    assert!(!changes.has_changed().unwrap(), "a node without accelerators");
    state.listed(&Nodes(Rules::default()), Vec::new());
    assert!(inventory(&state).pools.is_empty());
}

#[test]
fn an_inventory_without_a_list_of_nodes_is_unknown_not_empty() {
    let state = ClusterState::new(&Options::default());
    apply(&state, node("n1", 8));
    assert_eq!(state.inventory(), None, "pods are not known");
    assert_eq!(*inventory(&synced()), Inventory::default());
}

#[test]
fn a_quota_bounds_a_namespace_and_tells_what_others_use_of_it() {
    let state = state_of([
        node("n1", 8),
        quota("gpus", 12),
        variant("llama", "llama-d"),
        replica_set("llama-rs", "llama-d"),
        gpu_pod("llama-0", Some("llama-rs"), Some("n1"), 4),
        gpu_pod("training", None, Some("n1"), 2),
        gpu_pod("queued", None, None, 1),
    ]);
    let expected = |used_by_others| AcceleratorQuota {
        name: "gpus".into(),
        namespace: Some(NAMESPACE.into()),
        accelerator: Some("H100".into()),
        hard: 12,
        used_by_others,
    };
    assert_eq!(inventory(&state).quotas, [expected(3)]);
    let Object::Variant(value) = variant("llama", "llama-d") else { panic!("not a variant") };
    state.deleted(&Variants, &serde_json::from_value(value).unwrap());
    assert_eq!(inventory(&state).quotas, [expected(7)], "without a variant all pods are others'");
}

#[test]
fn a_quota_on_a_resource_of_several_types_bounds_them_together() {
    let Object::Node(mut l4) = node("n2", 4) else { panic!("not a node") };
    l4["metadata"]["labels"]["nvidia.com/gpu.product"] = json!("NVIDIA-L4");
    let state = state_of([node("n1", 8), Object::Node(l4), quota("gpus", 12)]);
    let quotas = &inventory(&state).quotas;
    assert_eq!((quotas.len(), &quotas[0].accelerator, quotas[0].hard), (1, &None, 12));
}

#[test]
fn devices_in_slices_are_counted_and_those_of_claims_are_taken() {
    let resource = |kind: &str, plural: &str| kube::api::ApiResource {
        group: "resource.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "resource.k8s.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let slices = Slices { resource: resource("ResourceSlice", "resourceslices"), rules: Rules::default() };
    let slice = |name: &str, generation: u32, devices: &[&str]| {
        let device =
            |device: &&str| json!({"name": device, "attributes": {"productName": {"string": "NVIDIA H100 80GB HBM3"}}});
        let devices: Vec<Value> = devices.iter().map(device).collect();
        let spec = json!({"driver": "gpu.nvidia.com", "nodeName": "n1", "devices": devices,
            "pool": {"name": "n1", "generation": generation}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    };
    let claims = Claims { resource: resource("ResourceClaim", "resourceclaims"), rules: Rules::default() };
    let claim = json!({"metadata": {"name": "c", "namespace": NAMESPACE}, "spec": {}, "status": {"allocation": {
        "devices": {"results": [{"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-1"}]}}}});
    let state = state_of([node("n1", 0)]);
    state.applied(&slices, slice("old", 1, &["gpu-0"]));
    state.applied(&slices, slice("new", 2, &["gpu-0", "gpu-1", "gpu-2"]));
    state.applied(&claims, serde_json::from_value(claim).unwrap());
    assert_eq!(numbers(&inventory(&state).pools[0]), (3, 3, 1, &[2][..]));
    apply(&state, node("n1", 8));
    assert_eq!(numbers(&inventory(&state).pools[0]), (8, 8, 0, &[8][..]), "the device plugin counts them already");
}
