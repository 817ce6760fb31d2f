//! The `VariantAutoscaling` schema: generated file, rules, and objects of upstream.

use std::{fs, path::Path};

use kube::{CustomResourceExt, api::ObjectMeta};
use kube_cel::Validator;
use serde_json::{Value, json};
use wva::crd::{self, VariantAutoscaling, VariantAutoscalingSpec};

const FILE: &str = "manifests/crd/variantautoscalings.llmd.ai.yaml";
const HEADER: &str =
    "# Generated from src/crd; rewrite with: WVA_UPDATE_MANIFESTS=1 cargo test --test integration crd\n";

#[test]
fn the_file_in_manifests_is_what_the_types_generate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let generated = format!("{HEADER}{}", crd::yaml().unwrap());
    if std::env::var_os("WVA_UPDATE_MANIFESTS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap();
    assert!(stored == generated, "{FILE} is out of date; its first line says how to rewrite it");
}

/// The schema of the one version.
fn schema() -> Value {
    let definition = serde_json::to_value(VariantAutoscaling::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn object(spec: &Value) -> Value {
    json!({ "metadata": { "name": "llama-a100" }, "spec": spec })
}

/// Messages of the CEL rules that `object` breaks, with defaults applied as the API server does.
fn broken_rules(object: &Value) -> Vec<String> {
    match Validator::new().validate_with_defaults(&schema(), object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn rules_that_span_fields_reject_what_the_types_reject() {
    let accepted = [
        json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m" }),
        json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m", "minReplicas": 0, "maxReplicas": 1 }),
        json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m", "minReplicas": 4, "maxReplicas": 4 }),
        json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m", "minReplicas": 9 }),
        json!({ "scaleTargetRef": { "kind": "StatefulSet", "name": "x", "apiVersion": "apps/v1" }, "modelID": "m" }),
        json!({ "scaleTargetRef": { "kind": "LeaderWorkerSet", "name": "x" }, "modelID": "m" }),
        json!({ "scaleTargetRef": { "kind": "Rollout", "name": "x" }, "modelID": "m" }),
        json!({ "scaleTargetRef": { "kind": "Thing", "name": "x", "apiVersion": "example.com/v1" }, "modelID": "m" }),
        json!({ "scaleTargetRef": { "kind": "LeaderWorkerSet", "name": "x",
                "apiVersion": "leaderworkerset.x-k8s.io/v1" }, "modelID": "m" }),
    ];
    for spec in &accepted {
        assert_eq!(broken_rules(&object(spec)), Vec::<String>::new(), "{spec}");
        let typed: VariantAutoscalingSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(typed.validate(), Ok(()), "{spec}");
    }
    let rejected = [
        (
            json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m", "minReplicas": 5, "maxReplicas": 4 }),
            "minReplicas must not exceed maxReplicas",
        ),
        (
            json!({ "scaleTargetRef": { "kind": "LeaderWorkerSet", "name": "x", "apiVersion": "apps/v1" },
                    "modelID": "m" }),
            "apiVersion must be of group",
        ),
        (
            json!({ "scaleTargetRef": { "kind": "Deployment", "name": "x", "apiVersion": "extensions/v1beta1" },
                    "modelID": "m" }),
            "apiVersion must be of group",
        ),
        (
            json!({ "scaleTargetRef": { "kind": "Rollout", "name": "x", "apiVersion": "apps/v1" }, "modelID": "m" }),
            "apiVersion must be of group",
        ),
        (json!({ "scaleTargetRef": { "kind": "Thing", "name": "x" }, "modelID": "m" }), "apiVersion is needed"),
    ];
    for (spec, message) in &rejected {
        let broken = broken_rules(&object(spec));
        assert!(broken.len() == 1 && broken[0].contains(message), "{spec}: {broken:?}");
        let typed: VariantAutoscalingSpec = serde_json::from_value(spec.clone()).unwrap();
        assert!(typed.validate().is_err(), "{spec}");
    }
}

#[test]
fn an_override_is_complete_or_refused_with_what_it_lacks() {
    let spec = |order: Value| json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m", "overrides": [order] });
    let until = "2027-01-01T00:00:00Z";
    for order in [
        json!({ "kind": "Pause", "until": until }),
        json!({ "kind": "Pin", "replicas": 0, "until": until }),
        json!({ "kind": "SpendCap", "cost": "12.5", "until": until, "from": "2026-12-01T00:00:00Z" }),
        json!({ "kind": "Minimum", "replicas": 3, "until": until, "schedule": { "start": "22:00", "end": "06:00" } }),
    ] {
        assert_eq!(broken_rules(&object(&spec(order.clone()))), Vec::<String>::new(), "{order}");
        let typed: VariantAutoscalingSpec = serde_json::from_value(spec(order.clone())).unwrap();
        assert_eq!(typed.validate(), Ok(()), "{order}");
    }
    for (order, message) in [
        (json!({ "kind": "Pin", "until": until }), "need replicas"),
        (json!({ "kind": "Minimum", "until": until }), "need replicas"),
        (json!({ "kind": "SpendCap", "until": until }), "needs cost"),
        (json!({ "kind": "Pause", "until": until, "from": until }), "must be after from"),
    ] {
        let broken = broken_rules(&object(&spec(order.clone())));
        assert!(broken.len() == 1 && broken[0].contains(message), "{order}: {broken:?}");
        let typed: VariantAutoscalingSpec = serde_json::from_value(spec(order.clone())).unwrap();
        assert!(typed.validate().unwrap_err().to_string().contains(message), "{order}");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let text = include_str!("../../docs/overrides.md");
    let example = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let object: VariantAutoscaling = serde_saphyr::from_str(example).unwrap();
    assert_eq!(object.spec.validate(), Ok(()));
    assert_eq!(object.spec.overrides.len(), 1);
}

#[test]
fn a_name_that_no_label_selector_can_hold_is_rejected() {
    let spec = json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m" });
    let named = |name: String| json!({ "metadata": { "name": name }, "spec": spec });
    assert_eq!(broken_rules(&named("v".repeat(63))), Vec::<String>::new());
    let broken = broken_rules(&named("v".repeat(64)));
    assert!(broken.len() == 1 && broken[0].contains("63 characters"), "{broken:?}");
}

#[test]
fn every_rule_of_the_schema_compiles_as_cel() {
    let compiled = kube_cel::compile_schema(&schema());
    assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
}

#[test]
fn a_field_with_a_bad_value_is_named_by_the_typed_check() {
    for (key, value, field) in [
        ("scaleTargetRef", json!({ "name": "" }), "scaleTargetRef.name"),
        ("modelID", json!(""), "modelID"),
        ("variantCost", json!("-1"), "variantCost"),
        ("variantCost", json!("1."), "variantCost"),
        ("variantCost", json!("1e3"), "variantCost"),
        ("variantCost", json!("NaN"), "variantCost"),
        ("minReplicas", json!(-1), "minReplicas"),
        ("maxReplicas", json!(0), "maxReplicas"),
    ] {
        let mut spec = json!({ "scaleTargetRef": { "name": "x" }, "modelID": "m" });
        spec[key] = value;
        let typed: VariantAutoscalingSpec = serde_json::from_value(spec.clone()).unwrap();
        let error = typed.validate().unwrap_err();
        assert_eq!(error.field, field, "{spec}");
        assert!(error.to_string().starts_with(&format!("spec.{field} is ")), "{error}");
    }
}

#[test]
fn bounds_and_patterns_are_in_the_schema() {
    let schema = schema();
    let spec = &schema["properties"]["spec"];
    let properties = &spec["properties"];
    assert_eq!(spec["required"], json!(["modelID", "scaleTargetRef"]));
    assert_eq!(properties["modelID"]["minLength"], 1);
    assert_eq!(properties["variantCost"]["pattern"], r"^\d+(\.\d+)?$");
    assert_eq!(properties["variantCost"]["default"], "10.0");
    assert_eq!(properties["minReplicas"]["minimum"], 0.0);
    assert_eq!(properties["maxReplicas"]["minimum"], 1.0);
    let target = &properties["scaleTargetRef"];
    assert_eq!(target["required"], json!(["name"]));
    assert_eq!(target["properties"]["kind"]["default"], "Deployment");
    assert_eq!(target["properties"]["kind"]["enum"], Value::Null, "any kind with a scale subresource");
    let conditions = &schema["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn every_field_has_a_description_for_kubectl_explain() {
    fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undescribed(&path, property, found);
        }
    }
    let mut found = Vec::new();
    undescribed("", &schema(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn columns_are_upstreams_and_then_wide_ones() {
    let columns = VariantAutoscaling::crd().spec.versions.remove(0).additional_printer_columns.unwrap();
    let names = |wide: bool| -> Vec<_> {
        columns.iter().filter(|c| (c.priority.unwrap_or(0) > 0) == wide).map(|c| c.name.as_str()).collect()
    };
    assert_eq!(names(false), ["Target", "Model", "Min", "Max", "Optimized", "MetricsReady", "Age"]);
    assert_eq!(names(true), ["Accelerator", "Cost", "Reason"]);
}

#[test]
fn an_object_of_upstream_parses_and_keeps_its_status() {
    let object: VariantAutoscaling = serde_saphyr::from_str(include_str!("../fixtures/upstream-va.yaml")).unwrap();
    assert_eq!(object.spec.scale_target_ref.api_version, "apps/v1");
    assert_eq!(object.spec.variant_cost, "40.0");
    assert_eq!(object.spec.validate(), Ok(()));
    let status = object.status.as_ref().unwrap();
    let allocation = status.desired_optimized_alloc.as_ref().unwrap();
    assert_eq!((allocation.num_replicas, allocation.accelerator.as_str()), (3, "A100"));
    assert!(status.actuation.applied);
    assert_eq!(status.conditions[0].type_, "MetricsAvailable");
    assert_eq!(broken_rules(&serde_json::to_value(&object).unwrap()), Vec::<String>::new());
}

#[test]
fn what_follows_from_the_kind_may_be_left_out() {
    for (target, api_version, kind) in [
        (json!({ "name": "x" }), "apps/v1", "Deployment"),
        (json!({ "name": "x", "kind": "StatefulSet" }), "apps/v1", "StatefulSet"),
        (json!({ "name": "x", "kind": "LeaderWorkerSet" }), "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
        (json!({ "name": "x", "kind": "Rollout" }), "argoproj.io/v1alpha1", "Rollout"),
    ] {
        let spec: VariantAutoscalingSpec =
            serde_json::from_value(json!({ "scaleTargetRef": target, "modelID": "m" })).unwrap();
        assert_eq!(spec.scale_target_ref.api_version, api_version);
        assert_eq!(spec.scale_target_ref.kind, kind);
        let object = VariantAutoscaling { metadata: ObjectMeta::default(), spec, status: None };
        let again: VariantAutoscaling = serde_json::from_value(serde_json::to_value(&object).unwrap()).unwrap();
        assert_eq!(again.spec, object.spec, "writing and reading keeps the spec");
    }
}
