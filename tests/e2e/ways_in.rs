//! Every way in to a decision: a `StatefulSet`, a custom kind whose definition comes later, an annotated HPA; and what the
//! inventory says of the nodes.

use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::harness::{Bed, Cluster, MODEL, Scenario, Variant, Wva, eventually, report};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_of_every_kind_and_declaration_are_served_on_a_counted_inventory() {
    let scenario = Scenario::start("ways-in").await;
    let cluster = &scenario.cluster;

    stateful_set(cluster);
    annotated_hpa(cluster);
    bad_annotation(cluster).await;
    custom_kind(cluster).await;
    for variant in ["stateful", "annotated"] {
        eventually(&format!("{variant} is served"), LIMIT, async || cluster.read(variant).await).await;
    }

    let metrics = metrics_of(&scenario.wva).await;
    assert!(metrics.contains("wva_gpu_discovery_up 1\n"), "{metrics}");
    let counted = metrics.lines().filter(|line| line.starts_with("wva_accelerators{") && line.contains("\"L40S\""));
    let counted: Vec<&str> = counted.collect();
    assert!(counted.iter().any(|line| line.contains("state=\"used\"") && !line.ends_with(" 0")), "{counted:?}");
    report("ways in", &counted.join("\n"));
}

/// A workload of the cheap variant as another kind.
fn as_kind(name: &'static str, kind: &str) -> Value {
    let mut workload = Variant::cheap(1, 3).named(name).deployment();
    workload["kind"] = json!(kind);
    workload
}

fn scaling(name: &'static str, target: &Value) -> Value {
    let mut variant = Variant::cheap(1, 3).named(name).autoscaling();
    variant["spec"]["scaleTargetRef"] = target.clone();
    variant
}

fn stateful_set(cluster: &Cluster) {
    let mut workload = as_kind("stateful", "StatefulSet");
    workload["spec"]["serviceName"] = json!("stateful");
    cluster.apply(&[workload, scaling("stateful", &json!({"kind": "StatefulSet", "name": "stateful"}))]);
}

fn annotations() -> Value {
    json!({"llm-d.ai/managed": "true", "llm-d.ai/model-id": MODEL, "llm-d.ai/variant-cost": "4"})
}

/// No `VariantAutoscaling`: the HPA says it all.
fn annotated_hpa(cluster: &Cluster) {
    let variant = Variant::cheap(1, 3).named("annotated");
    let mut hpa = variant.hpa();
    hpa["metadata"]["annotations"] = annotations();
    cluster.apply(&[variant.deployment(), hpa]);
}

async fn bad_annotation(cluster: &Cluster) {
    let mut hpa = Variant::cheap(1, 3).named("mistaken").hpa();
    hpa["metadata"]["annotations"] = annotations();
    hpa["metadata"]["annotations"]["llm-d.ai/variant-cost"] = json!("cheap");
    cluster.apply(&[Variant::cheap(1, 3).named("mistaken").deployment(), hpa]);
    let events = Api::<Event>::namespaced(cluster.client.clone(), &cluster.namespace);
    let note = eventually("the HPA has an event on its annotation", LIMIT, async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let on_hpa = events.items.into_iter().find(|event| {
            let on = event.regarding.clone().unwrap_or_default();
            on.kind.as_deref() == Some("HorizontalPodAutoscaler")
                && event.reason.as_deref() == Some("InvalidAnnotation")
        });
        on_hpa.and_then(|event| event.note).ok_or_else(|| "none yet".to_owned())
    })
    .await;
    assert!(note.contains("llm-d.ai/variant-cost \"cheap\"") && note.contains("decimal number"), "{note}");
    report("ways in", &note);
}

/// The variant comes first, then the definition of its kind, the rights on it, the object, and a pod of its own.
async fn custom_kind(cluster: &Cluster) {
    let target = json!({"apiVersion": "e2e.example.com/v1", "kind": "Engine", "name": "custom"});
    cluster.apply(&[scaling("custom", &target)]);
    // First it is not known yet whether there are such objects.
    eventually("the kind that is not served is named", LIMIT, async || {
        let (_, message) = cluster.condition("custom", "TargetResolved", "False").await;
        let is_named = message.contains("does not serve") && message.contains("CustomResourceDefinition");
        if is_named { Ok(()) } else { Err(message) }
    })
    .await;

    cluster.apply(&[definition()]);
    cluster.apply(&rights());
    let engine = json!({"apiVersion": "e2e.example.com/v1", "kind": "Engine", "metadata": {"name": "custom"},
        "spec": {"count": 1}, "status": {"seen": 1}});
    eventually("the custom kind is served", LIMIT, async || cluster.try_apply(std::slice::from_ref(&engine))).await;
    let uid = Bed::get().kubectl(&[
        "get",
        "engines.e2e.example.com",
        "custom",
        "--namespace",
        &cluster.namespace,
        "-o",
        "jsonpath={.metadata.uid}",
    ]);
    let mut pod = Variant::cheap(1, 3).named("custom").deployment()["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("custom-0");
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "e2e.example.com/v1", "kind": "Engine", "name": "custom",
        "uid": uid.trim(), "controller": true}]);
    cluster.apply(&[pod]);
    eventually("the custom kind's variant is served", LIMIT, async || cluster.read("custom").await).await;
}

/// Counts lie where no other kind has them.
fn definition() -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "engines.e2e.example.com"}, "spec": {"group": "e2e.example.com", "scope": "Namespaced",
            "names": {"plural": "engines", "singular": "engine", "kind": "Engine"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
                "subresources": {"scale": {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.seen"}}}]}})
}

/// What an administrator grants for a kind that the manifests do not know.
fn rights() -> [Value; 2] {
    let metadata = json!({"name": "wva-e2e-engines"});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": [
        {"apiGroups": ["e2e.example.com"], "resources": ["engines"], "verbs": ["get", "list", "watch"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wva-e2e-engines"},
        "subjects": [{"kind": "ServiceAccount", "name": "wva", "namespace": "wva-system"}]});
    [role, binding]
}

/// As an administrator reads it, by way of the front proxy.
async fn metrics_of(wva: &Wva) -> String {
    let request = Wva::http(Some(&Bed::get().front_proxy)).get(wva.url("/metrics"));
    let request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
    request.send().await.unwrap().text().await.unwrap()
}
