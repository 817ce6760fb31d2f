//! Which events are announced, and what a new list does.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{discovery::index::Namespace, interfaces::PodDirectory};

/// A variant with everything around it.
fn llama() -> ClusterState {
    state_of([
        variant("llama", "llama-d"),
        deployment("llama-d", 1, 1, 1),
        replica_set("llama-rs", "llama-d"),
        pod("llama-0", "ReplicaSet", "llama-rs", true, 1),
        autoscaler("llama", "llama-d", &json!({})),
    ])
}

fn edited(object: Object, edit: impl Fn(&mut Value)) -> Object {
    match object {
        Object::Variant(mut value) => {
            edit(&mut value);
            Object::Variant(value)
        }
        Object::Deployment(mut value) => {
            edit(&mut value);
            Object::Deployment(value)
        }
        Object::Autoscaler(mut value) => {
            edit(&mut value);
            Object::Autoscaler(value)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_that_matter_to_a_decision_are_announced() {
    let more = json!({"modelID": "meta/llama", "scaleTargetRef": {"name": "llama-d"}, "maxReplicas": 4});
    for (object, what) in [
        (variant_with("llama", &more), "bounds of a variant"),
        (variant("second", "second-d"), "a new variant"),
        (deployment("llama-d", 2, 1, 1), "asked replicas"),
        (deployment("llama-d", 1, 2, 1), "current replicas"),
        (pod("llama-0", "ReplicaSet", "llama-rs", false, 1), "readiness of a pod"),
        (pod("llama-1", "ReplicaSet", "llama-rs", false, 9), "a new pod"),
        (replica_set("second-rs", "llama-d"), "a new ReplicaSet, whose pods may be here already"),
        (
            edited(autoscaler("llama", "llama-d", &json!({})), |value| value["spec"]["maxReplicas"] = json!(11)),
            "bounds of an HPA",
        ),
        (autoscaler("llama", "other-d", &json!({})), "an HPA that turns away"),
    ] {
        let state = llama();
        let changes = state.changes();
        apply(&state, object);
        assert!(changes.has_changed().unwrap(), "{what}");
    }
}

#[test]
fn changes_that_matter_to_no_decision_are_silent() {
    let annotate = |value: &mut Value| value["metadata"]["annotations"] = json!({"seen": "today"});
    for (object, what) in [
        (edited(variant("llama", "llama-d"), annotate), "metadata of a variant"),
        (
            edited(variant("llama", "llama-d"), |value| {
                value["status"] = json!({"desiredOptimizedAlloc": {"accelerator": "A100", "numReplicas": 3}});
            }),
            "our own status update",
        ),
        (edited(deployment("llama-d", 1, 1, 1), annotate), "metadata of a target"),
        (
            edited(autoscaler("llama", "llama-d", &json!({})), |value| {
                value["status"] = json!({"currentReplicas": 1, "desiredReplicas": 1});
            }),
            "status of an HPA",
        ),
        (deployment("web", 3, 3, 3), "a Deployment of no variant"),
        (pod("web-0", "ReplicaSet", "web-rs", true, 1), "a pod of no variant"),
        (replica_set("web-rs", "web"), "a ReplicaSet of no variant"),
        (autoscaler("web", "web", &json!({})), "an HPA on no variant"),
    ] {
        let state = llama();
        let changes = state.changes();
        apply(&state, object);
        assert!(!changes.has_changed().unwrap(), "{what}");
    }
}

#[test]
fn the_end_of_the_first_listing_is_announced_once() {
    let state = ClusterState::new(&Options::default());
    let mut changes = state.changes();
    list_nothing(&state);
    assert!(state.is_synced());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    list_nothing(&state);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn a_new_list_replaces_what_was_known_of_its_kind_only() {
    let state = llama();
    let mut changes = state.changes();
    let pods = Pods(Rules::default());
    let kept = pods.reduce(match pod("llama-1", "ReplicaSet", "llama-rs", true, 2) {
        Object::Pod(value) => serde_json::from_value(value).unwrap(),
        other => panic!("{other:?}"),
    });
    let listed = || vec![(Arc::from(NAMESPACE), Arc::from("llama-1"), kept.clone().unwrap())];
    state.listed(&pods, listed());
    assert_eq!(state.identify(NAMESPACE, "llama-0"), None);
    assert!(state.identify(NAMESPACE, "llama-1").is_some());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    state.listed(&pods, listed());
    assert!(!changes.has_changed().unwrap(), "the same list again");
    state.listed(&Variants, Vec::new());
    assert!(state.observe().is_empty() && changes.has_changed().unwrap());
}

#[test]
fn a_pod_that_finishes_is_forgotten() {
    let state = llama();
    let Object::Pod(mut value) = pod("llama-0", "ReplicaSet", "llama-rs", false, 1) else { panic!("not a pod") };
    value["status"]["phase"] = json!("Failed");
    apply(&state, Object::Pod(value));
    assert_eq!(state.identify(NAMESPACE, "llama-0"), None);
    assert_eq!(scale(&state.observe()[0]).pending_since, []);
}

#[test]
fn a_deleted_variant_frees_its_target() {
    let state = llama();
    apply(&state, variant("second", "llama-d"));
    assert_eq!(state.problems().len(), 2);
    let Object::Variant(value) = variant("second", "llama-d") else { panic!("not a variant") };
    state.deleted(&Variants, &serde_json::from_value(value).unwrap());
    assert!(state.problems().is_empty());
    assert_eq!(state.observe().len(), 1);
}

#[test]
fn a_namespace_without_objects_is_forgotten() {
    let mut index = crate::discovery::index::Index::default();
    let deployment = ObjectKey::new("apps/v1", "Deployment", "d");
    index.store(&ReplicaSets, "n", "rs", Some(deployment));
    assert!(
        index.namespace("n").is_some_and(|(_, namespace): (_, &Namespace)| namespace.replica_sets.contains_key("rs"))
    );
    index.store(&ReplicaSets, "n", "rs", None);
    assert!(index.namespace("n").is_none());
}
