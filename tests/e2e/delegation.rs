//! The adapter library's own adapter behind wva: an HPA on its metric and an HPA on ours both work, and its end touches only
//! its own.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Bed, Scenario, Variant, report, start_reference};

const LIMIT: Duration = Duration::from_secs(60);
/// A metric of the test-adapter: 42 where label `foo` is `bar`.
const THEIRS: &str = "my-external-metric";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_on_another_adapters_metric_and_one_on_ours_both_work_and_fail_apart() {
    let (bed, folder) = (Bed::get(), tempfile::tempdir().unwrap());
    let (reference, port) = start_reference(folder.path()).await;
    let token = folder.path().join("token");
    let scenario = Scenario::start_with("delegation", &bed.prometheus_url, |wva| {
        std::fs::write(&token, bed.kubectl(&["create", "token", "wva", "--namespace=wva-system"])).unwrap();
        wva.flag(format!("--delegation-url=https://localhost:{port}"));
        wva.flag(format!("--delegation-metrics={THEIRS}"));
        wva.flag(format!("--delegation-ca-cert-path={}", bed.authority));
        wva.flag(format!("--delegation-bearer-token-path={}", token.display()));
    })
    .await;
    let cluster = &scenario.cluster;
    // As docs/security.md has it: wva asks in its own name.
    cluster.apply(&[
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "wva-delegation" },
            "rules": [{ "apiGroups": ["external.metrics.k8s.io"], "resources": [THEIRS], "verbs": ["get", "list"] }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "wva-delegation" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wva-delegation" },
            "subjects": [{ "kind": "ServiceAccount", "name": "wva", "namespace": "wva-system" }],
        }),
    ]);
    let theirs = Variant::cheap(1, 5).named("theirs");
    let mut hpa = theirs.hpa();
    hpa["spec"]["metrics"][0]["external"] = json!({
        "metric": { "name": THEIRS, "selector": { "matchLabels": { "foo": "bar" } } },
        "target": { "type": "AverageValue", "averageValue": "14" },
    });
    cluster.apply(&[theirs.deployment(), hpa]);
    cluster.create(&[Variant::cheap(2, 3)]).await;
    cluster.scaled_to("theirs", 3, LIMIT).await;
    cluster.followed("cheap", LIMIT).await;

    // Through kube-apiserver it is their answer, with what wva knows nothing of.
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{THEIRS}", cluster.namespace);
    let list = bed.kubectl(&["get", "--raw", &path]);
    assert!(list.contains(r#""value":"42""#) && list.contains(r#""value":"43""#), "{list}");

    reference.kill();
    let refused = cluster.scaling_active("theirs", LIMIT, |condition| condition.status == "False").await;
    let message = refused.message.unwrap_or_default();
    assert!(message.contains("delegation.url") || message.contains(&format!("localhost:{port}")), "{message}");
    cluster.followed("cheap", LIMIT).await;
    assert_eq!(cluster.read("cheap").await, Ok(2));
    assert_eq!(cluster.replicas("theirs").await, 3, "what is not known scales nothing");
    report("delegation", &format!("HPA on {THEIRS}: 1 → 3; adapter killed: {message}"));
}
