//! Variants without a `VariantAutoscaling`.

use super::*;
use crate::{
    discovery::Problem,
    interfaces::{PodDirectory, ReplicaBounds},
};

fn annotations(model: &str) -> Value {
    json!({"llm-d.ai/managed": "true", "llm-d.ai/model-id": model, "llm-d.ai/variant-cost": "40"})
}

fn annotated(name: &str, target: &str) -> Object {
    let Object::Autoscaler(mut value) = autoscaler(name, target, &json!({"matchLabels": {"variant_name": name}}))
    else {
        panic!("not an HPA")
    };
    value["metadata"]["annotations"] = annotations("meta/llama");
    Object::Autoscaler(value)
}

fn scaled_object(name: &str, target: &str) -> Object {
    Object::OfKeda(json!({"metadata": {"name": name, "namespace": NAMESPACE,
        "annotations": annotations("meta/llama")}, "spec": {"scaleTargetRef": {"name": target}, "minReplicaCount": 0}}))
}

fn names(state: &ClusterState) -> Vec<String> {
    state.observe().iter().map(|observation| observation.variant.key.name.to_string()).collect()
}

#[test]
fn an_annotated_hpa_is_a_variant_of_its_name_that_reads_its_own_value() {
    let state = state_of([
        annotated("llama-hpa", "llama-d"),
        deployment("llama-d", 2, 2, 1),
        replica_set("llama-rs", "llama-d"),
        pod("llama-0", "ReplicaSet", "llama-rs", true, 1),
    ]);
    let observations = state.observe();
    let seen = named(&observations, "llama-hpa");
    assert_eq!((&*seen.variant.model.model_id, seen.variant.cost), ("meta/llama", 40.0));
    assert_eq!(seen.variant.bounds, ReplicaBounds { min: 1, max: Some(10) });
    assert_eq!(scale(seen).spec, 2);
    assert!(seen.autoscalers[0].selects_this_variant_only && seen.autoscalers[0].reads_our_metric);
    assert_eq!(state.identify(NAMESPACE, "llama-0").unwrap().variant.unwrap().to_string(), "chat/llama-hpa");
}

#[test]
fn of_several_ways_in_one_counts() {
    let state = state_of([deployment("llama-d", 1, 1, 1), annotated("hpa", "llama-d")]);
    assert_eq!(names(&state), ["hpa"]);
    apply(&state, scaled_object("scaled", "llama-d"));
    assert_eq!(names(&state), ["scaled"], "a ScaledObject before an HPA");
    apply(&state, variant("va", "llama-d"));
    assert_eq!(names(&state), ["va"], "a VariantAutoscaling before both");
    assert!(state.problems().is_empty(), "which is no fault");
    let Object::Variant(value) = variant("va", "llama-d") else { panic!("not a variant") };
    state.deleted(&Variants, &serde_json::from_value(value).unwrap());
    assert_eq!(names(&state), ["scaled"]);
    apply(&state, annotated("hpa", "other-d"));
    assert_eq!(names(&state), ["hpa", "scaled"], "another target");
}

#[test]
fn two_annotated_hpas_on_one_target_are_a_fault_of_both() {
    let state = state_of([deployment("llama-d", 1, 1, 1), annotated("one", "llama-d"), annotated("two", "llama-d")]);
    let reasons: Vec<_> = state.problems().values().flatten().map(Problem::reason).collect();
    assert_eq!(reasons, ["SharedTarget", "SharedTarget"]);
}

#[test]
fn a_bad_annotation_withholds_the_decision_and_says_why() {
    let Object::Autoscaler(mut value) = annotated("llama", "llama-d") else { panic!("not an HPA") };
    value["metadata"]["annotations"]["llm-d.ai/variant-cost"] = json!("-3");
    let state = state_of([deployment("llama-d", 1, 1, 1), Object::Autoscaler(value)]);
    let observations = state.observe();
    let text = message(named(&observations, "llama"));
    assert!(
        text.contains("HorizontalPodAutoscaler chat/llama has the annotation llm-d.ai/variant-cost \"-3\""),
        "{text}"
    );
}

#[test]
fn a_namespace_that_opts_out_has_no_variants() {
    let namespace = |exclude: &str| {
        Object::Namespace(json!({"metadata": {"name": NAMESPACE, "annotations": {"wva.llmd.ai/exclude": exclude}}}))
    };
    let state = state_of([
        variant("llama", "llama-d"),
        deployment("llama-d", 1, 1, 1),
        replica_set("llama-rs", "llama-d"),
        pod("llama-0", "ReplicaSet", "llama-rs", true, 1),
        annotated("hpa", "other-d"),
    ]);
    assert_eq!(names(&state), ["hpa", "llama"]);
    let changes = state.changes();
    apply(&state, namespace("true"));
    assert!(changes.has_changed().unwrap() && names(&state).is_empty());
    assert_eq!(state.identify(NAMESPACE, "llama-0").unwrap().variant, None);
    apply(&state, namespace("false"));
    assert_eq!(names(&state), ["hpa", "llama"]);
}
