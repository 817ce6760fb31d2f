//! From objects to variants, pods and problems.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    discovery::Problem,
    interfaces::{HpaTarget, PodDirectory, ReplicaBounds, Role, VariantKey},
};

fn identified(state: &ClusterState, pod: &str) -> Option<(String, bool)> {
    let identity = state.identify(NAMESPACE, pod)?;
    Some((identity.variant?.to_string(), identity.ready))
}

#[test]
fn a_variant_is_observed_with_the_counts_of_its_target_and_the_ages_of_its_pending_pods() {
    let observations = state_of([
        variant("llama", "llama-d"),
        deployment("llama-d", 4, 3, 1),
        replica_set("llama-rs", "llama-d"),
        pod("new", "ReplicaSet", "llama-rs", false, 20),
        pod("old", "ReplicaSet", "llama-rs", false, 10),
        pod("ready", "ReplicaSet", "llama-rs", true, 5),
        pod("foreign", "ReplicaSet", "other-rs", false, 1),
    ])
    .observe();
    let llama = named(&observations, "llama");
    assert_eq!(llama.variant.key, VariantKey::new(NAMESPACE, "llama"));
    assert_eq!(llama.variant.model.to_string(), "meta/llama in namespace chat");
    let expected = ScaleObservation { spec: 4, current: 3, ready: 1, pending_since: vec![at(10), at(20)] };
    assert_eq!(*scale(llama), expected);
    assert!(llama.replicas.is_empty() && llama.autoscalers.is_empty());
}

#[test]
fn a_pod_on_its_way_out_is_not_pending() {
    let mut leaving = pod("leaving", "ReplicaSet", "llama-rs", false, 10);
    if let Object::Pod(value) = &mut leaving {
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let state = state_of([
        variant("llama", "llama-d"),
        deployment("llama-d", 0, 0, 0),
        replica_set("llama-rs", "llama-d"),
        leaving,
    ]);
    assert_eq!(scale(named(&state.observe(), "llama")).pending_since, []);
    assert_eq!(identified(&state, "leaving"), Some(("chat/llama".to_owned(), false)));
}

#[test]
fn stateful_sets_own_their_pods_directly() {
    let state = state_of([
        variant_with("llama", &json!({"modelID": "m", "scaleTargetRef": {"kind": "StatefulSet", "name": "llama-s"}})),
        Object::StatefulSet(workload("llama-s", 2, 2, 1)),
        deployment("llama-s", 9, 9, 9),
        pod("llama-s-0", "StatefulSet", "llama-s", true, 1),
        pod("llama-s-1", "StatefulSet", "llama-s", false, 2),
    ]);
    let expected = ScaleObservation { spec: 2, current: 2, ready: 1, pending_since: vec![at(2)] };
    assert_eq!(*scale(named(&state.observe(), "llama")), expected);
    assert_eq!(identified(&state, "llama-s-0"), Some(("chat/llama".to_owned(), true)));
}

#[test]
fn the_pod_template_knows_accelerator_and_role_better_than_the_label() {
    let declared = |target: &str| {
        Object::Variant(json!({
            "metadata": {"name": target, "namespace": NAMESPACE,
                "labels": {"inference.optimization/acceleratorName": "NVIDIA-L40S"}},
            "spec": {"modelID": "m", "scaleTargetRef": {"name": target}}}))
    };
    let template = json!({"metadata": {"labels": {"llm-d.ai/role": "decode"}},
        "spec": {"containers": [], "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}});
    let mut pinned = workload("pinned", 1, 1, 1);
    pinned["spec"]["template"] = template;
    let state =
        state_of([declared("pinned"), Object::Deployment(pinned), declared("free"), deployment("free", 1, 1, 1)]);
    let observations = state.observe();
    let seen = |name| {
        let variant = &named(&observations, name).variant;
        (variant.accelerator.as_deref(), variant.role)
    };
    assert_eq!(seen("pinned"), (Some("H100"), Role::Decode));
    assert_eq!(seen("free"), (Some("L40S"), Role::Both));
}

#[test]
fn variants_that_cannot_be_used_are_withheld_with_the_reason_and_the_others_go_on() {
    let spec = |field: &str, value: Value| {
        let mut spec = json!({"modelID": "m", "scaleTargetRef": {"name": field}});
        spec[field] = value;
        spec
    };
    let state = state_of([
        variant("good", "good-d"),
        deployment("good-d", 1, 1, 1),
        variant("lost", "nowhere"),
        variant("one", "shared"),
        variant("two", "shared"),
        deployment("shared", 1, 1, 1),
        variant_with("cost", &spec("variantCost", json!("-1"))),
        deployment("variantCost", 1, 1, 1),
        variant_with("broken", &json!({"modelID": 7})),
    ]);
    let observations = state.observe();
    assert_eq!(scale(named(&observations, "good")).current, 1);
    for (name, expected) in [
        (
            "lost",
            "variant chat/lost scales Deployment nowhere, which does not exist; create it or correct scaleTargetRef",
        ),
        (
            "one",
            "variants one, two in namespace chat all scale Deployment shared; give each a scale target of its own or delete all but one",
        ),
        (
            "two",
            "variants one, two in namespace chat all scale Deployment shared; give each a scale target of its own or delete all but one",
        ),
        (
            "cost",
            "VariantAutoscaling chat/cost has spec.variantCost \"-1\"; set it to a decimal number such as \"10.0\"",
        ),
    ] {
        assert_eq!(message(named(&observations, name)), expected);
    }
    assert!(message(named(&observations, "broken")).starts_with("VariantAutoscaling chat/broken cannot be read: "));
    let problems = state.problems();
    let names: Vec<&str> = problems.keys().map(|key| &*key.name).collect();
    assert_eq!(names, ["broken", "cost", "lost", "one", "two"]);
    let lost = &problems[&VariantKey::new(NAMESPACE, "lost")];
    assert_eq!(lost.iter().map(Problem::reason).collect::<Vec<_>>(), ["TargetNotFound"]);
    assert!(lost[0].concerns_target());
}

#[test]
fn a_problem_ends_with_its_cause() {
    let state = state_of([variant("one", "shared"), variant("two", "shared"), deployment("shared", 1, 1, 1)]);
    assert_eq!(state.problems().len(), 2);
    apply(&state, variant("two", "own"));
    assert_eq!(state.problems().len(), 1, "only that the target of two does not exist");
    apply(&state, deployment("own", 1, 1, 1));
    assert!(state.problems().is_empty());
}

#[test]
fn a_pod_is_identified_with_the_only_variant_of_its_target() {
    let state = state_of([
        variant("llama", "llama-d"),
        replica_set("llama-rs", "llama-d"),
        replica_set("other-rs", "other-d"),
        pod("mine", "ReplicaSet", "llama-rs", true, 1),
        pod("other", "ReplicaSet", "other-rs", true, 1),
        pod("orphan", "ReplicaSet", "no-rs", true, 1),
    ]);
    assert_eq!(identified(&state, "mine"), Some(("chat/llama".to_owned(), true)));
    for unknown in ["other", "orphan", "absent"] {
        assert_eq!(identified(&state, unknown), None, "{unknown}");
    }
    assert_eq!(state.identify("elsewhere", "mine"), None);
    apply(&state, variant("rival", "llama-d"));
    assert_eq!(identified(&state, "mine"), None, "two variants on one target");
}

#[test]
fn hpas_are_attached_to_the_variant_whose_target_they_scale() {
    let one = json!({"matchLabels": {"variant_name": "one"}});
    let state = state_of([
        variant("one", "one-d"),
        deployment("one-d", 1, 1, 1),
        variant("two", "two-d"),
        deployment("two-d", 1, 1, 1),
        autoscaler("hpa", "one-d", &one),
        autoscaler("elsewhere", "three-d", &one),
    ]);
    let observations = state.observe();
    let hpa = &named(&observations, "one").autoscalers[0];
    assert_eq!(named(&observations, "one").autoscalers.len(), 1);
    assert_eq!((&*hpa.name, hpa.bounds), ("hpa", ReplicaBounds { min: 1, max: Some(10) }));
    assert_eq!(hpa.target, HpaTarget::AverageValue(1000));
    assert!(hpa.reads_our_metric && hpa.selects_this_variant_only);
    assert!(named(&observations, "two").autoscalers.is_empty());
}

#[test]
fn a_selector_must_match_this_variant_and_no_other() {
    let with = |key: &str, operator: &str, values: Value| {
        let mut expression = json!({"key": key, "operator": operator});
        if !values.is_null() {
            expression["values"] = values;
        }
        json!({"matchExpressions": [expression]})
    };
    for (selector, exclusive) in [
        (json!({"matchLabels": {"variant_name": "one"}}), true),
        (json!({"matchLabels": {"variant_name": "one", "namespace": "chat", "accelerator_type": "A100"}}), true),
        (json!({"matchLabels": {"variant_name": "two"}}), false),
        (json!({"matchLabels": {"variant_name": "one", "namespace": "other"}}), false),
        (json!({"matchLabels": {"variant_name": "one", "controller_instance": "blue"}}), true),
        (json!({"matchLabels": {"variant_name": "one", "controller_instance": "green"}}), false),
        (json!({"matchLabels": {"accelerator_type": "A100"}}), true),
        (json!({"matchLabels": {"accelerator_type": "unresolved"}}), false),
        (json!({"matchLabels": {"model_name": "meta/llama"}}), false),
        (json!({}), false),
        (Value::Null, false),
        (with("variant_name", "In", json!(["one"])), true),
        (with("variant_name", "In", json!(["one", "two"])), false),
        (with("variant_name", "NotIn", json!(["two"])), true),
        (with("variant_name", "Exists", Value::Null), false),
    ] {
        let state = ClusterState::new(&Options { controller_instance: Some("blue".to_owned()), ..Options::default() });
        list_nothing(&state);
        let mut a100 = workload("one-d", 1, 1, 1);
        a100["spec"]["template"]["spec"]["nodeSelector"] = json!({"nvidia.com/gpu.product": "NVIDIA-A100-PCIE-80GB"});
        for object in [
            variant("one", "one-d"),
            Object::Deployment(a100),
            variant("two", "two-d"),
            deployment("two-d", 1, 1, 1),
            autoscaler("hpa", "one-d", &selector),
        ] {
            apply(&state, object);
        }
        let observations = state.observe();
        let hpa = &named(&observations, "one").autoscalers[0];
        assert_eq!(hpa.selects_this_variant_only, exclusive, "{selector}");
    }
}

#[test]
fn variants_come_in_the_order_of_their_keys() {
    let state = state_of(["c", "a", "b"].map(|name| variant(name, name)));
    let observations = state.observe();
    let names: Vec<&str> = observations.iter().map(|observation| &*observation.variant.key.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn nothing_is_taken_for_absent_before_everything_was_listed() {
    let state = ClusterState::new(&Options::default());
    apply(&state, variant("llama", "llama-d"));
    let before = state.observe();
    assert!(message(named(&before, "llama")).contains("deployments.apps"), "{before:?}");
    assert!(!message(named(&before, "llama")).contains("does not exist"));
    assert!(state.problems().is_empty());
    assert!(!state.is_synced());
}

proptest! {
    /// Watches are independent: their events interleave in any way, and readers come at any time.
    #[test]
    fn the_order_of_arrival_does_not_matter(objects in Just(every_kind()).prop_shuffle()) {
        let (shuffled, ordered) = (synced(), state_of(every_kind()));
        for (arrived, object) in objects.iter().enumerate() {
            apply(&shuffled, object.clone());
            prop_assert_eq!(shuffled.observe(), state_of(objects[..=arrived].iter().cloned()).observe());
        }
        prop_assert_eq!(shuffled.observe(), ordered.observe());
        prop_assert_eq!(shuffled.problems(), ordered.problems());
        for pod in ["a-0", "a-1", "s-0", "x-0"] {
            prop_assert_eq!(shuffled.identify(NAMESPACE, pod), ordered.identify(NAMESPACE, pod));
        }
    }
}

fn every_kind() -> Vec<Object> {
    vec![
        variant("a", "a-d"),
        variant_with("s", &json!({"modelID": "m", "scaleTargetRef": {"kind": "StatefulSet", "name": "s"}})),
        variant("x", "x-d"),
        variant("y", "x-d"),
        deployment("a-d", 2, 2, 1),
        deployment("x-d", 1, 1, 1),
        Object::StatefulSet(workload("s", 1, 1, 0)),
        replica_set("a-rs", "a-d"),
        replica_set("x-rs", "x-d"),
        pod("a-0", "ReplicaSet", "a-rs", true, 1),
        pod("a-1", "ReplicaSet", "a-rs", false, 2),
        pod("s-0", "StatefulSet", "s", false, 3),
        pod("x-0", "ReplicaSet", "x-rs", true, 4),
        autoscaler("a", "a-d", &json!({"matchLabels": {"variant_name": "a"}})),
        autoscaler("b", "a-d", &json!({})),
    ]
}
