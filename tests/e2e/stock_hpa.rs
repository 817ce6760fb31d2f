//! The HPA controller of Kubernetes on our values: to the replica, by every kind of metric, from zero and to zero.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use wva::apiserver::{MetricsProvider, Series, SeriesQuery, UnknownMetric};

use crate::harness::{Bed, Cluster, Script, Served, install, publish, report, store};

/// For one change of replicas.
const LIMIT: Duration = Duration::from_secs(40);

/// How an HPA finds the value of a variant.
fn external(name: &str) -> Value {
    json!({ "type": "External", "external": {
        "metric": { "name": "wva_desired_replicas", "selector": { "matchLabels": { "variant_name": name } } },
        "target": { "type": "AverageValue", "averageValue": "1" },
    }})
}

fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({ "type": "Object", "object": {
        "metric": { "name": "wva_desired_replicas" },
        "describedObject": { "apiVersion": api_version, "kind": kind, "name": name },
        "target": { "type": "AverageValue", "averageValue": "1" },
    }})
}

/// A Deployment whose pods nobody schedules, and its HPA.
fn objects(name: &str, replicas: u32, least: u32, metric: &Value, tolerance: Option<&str>) -> [Value; 2] {
    let mut rules = json!({
        "stabilizationWindowSeconds": 0,
        "policies": [{ "type": "Pods", "value": 1000, "periodSeconds": 15 }],
    });
    if let Some(tolerance) = tolerance {
        rules["tolerance"] = tolerance.into();
    }
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "none", "image": "none" }] },
            },
        },
    });
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": name },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": least, "maxReplicas": 30, "metrics": [metric],
            "behavior": { "scaleUp": &rules, "scaleDown": &rules },
        },
    });
    [deployment, hpa]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_follows_external_and_object_metrics_by_a_single_replica_if_it_tolerates_nothing() {
    install();
    let cluster = Cluster::new("stock-hpa").await;
    let store = store();
    let served = Served::start(store.clone()).await;
    let metrics = [
        ("external", external("external"), Some("0")),
        ("of-target", object("apps/v1", "Deployment", "of-target"), Some("0")),
        ("of-variant", object("llmd.ai/v1alpha1", "VariantAutoscaling", "of-variant"), Some("0")),
        ("tolerant", external("tolerant"), None),
    ];
    let names = metrics.each_ref().map(|(name, ..)| *name);
    let serve =
        |desired| publish(&store, &cluster.namespace, &names.map(|name| Script { name, desired: Some(desired) }));
    serve(20);
    served.register();
    for (name, metric, tolerance) in &metrics {
        cluster.apply(&objects(name, 20, 1, metric, *tolerance));
    }
    for name in names {
        cluster.followed(name, LIMIT).await;
    }
    serve(21);
    for name in &names[..3] {
        cluster.scaled_to(name, 21, LIMIT).await;
    }
    assert_eq!(cluster.replicas("tolerant").await, 20, "one in twenty is within the tolerance of 10 %");
    serve(2);
    for name in names {
        cluster.scaled_to(name, 2, LIMIT).await;
    }
    report(
        "stock HPA",
        "20 → 21 → 2 by External, Object (Deployment) and Object (VariantAutoscaling); 10 % tolerance kept 20",
    );
    discard(&cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_goes_to_zero_and_comes_back() {
    install();
    let cluster = Cluster::new("zero").await;
    let store = store();
    let served = Served::start(store.clone()).await;
    let serve = |desired| publish(&store, &cluster.namespace, &[Script { name: "sleeper", desired }]);
    serve(Some(3));
    served.register();
    cluster.apply(&objects("sleeper", 3, 0, &external("sleeper"), Some("0")));
    cluster.followed("sleeper", LIMIT).await;
    serve(Some(0));
    cluster.scaled_to("sleeper", 0, LIMIT).await;
    serve(Some(2));
    cluster.scaled_to("sleeper", 2, LIMIT).await;
    // A value that is withheld is neither zero nor the last one.
    serve(None);
    let condition = cluster.scaling_active("sleeper", LIMIT, |condition| condition.status == "False").await;
    let message = condition.message.unwrap_or_default();
    assert!(message.contains("sleeper: no metrics; scripted"), "{message}");
    assert_eq!(cluster.replicas("sleeper").await, 2);
    report("zero", "3 → 0 → 2; then withheld: it holds and says why");
    discard(&cluster);
}

/// An engine at its worst.
struct Broken;

impl MetricsProvider for Broken {
    fn metric_names(&self) -> &'static [&'static str] {
        &["wva_desired_replicas"]
    }

    fn select(&self, _: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        panic!("broken for a test");
    }

    fn subjects(&self, _: &str) -> Vec<Arc<str>> {
        panic!("broken for a test");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_engine_keeps_no_namespace_from_being_deleted() {
    install();
    let served = Served::start(Arc::new(Broken)).await;
    served.register();
    let cluster = Cluster::new("broken").await;
    let refused = cluster.read("any").await.unwrap_err();
    assert!(refused.contains("a request handler panicked"), "{refused}");
    cluster.delete(Duration::from_secs(60)).await;
    report("broken engine", "a namespace was deleted all the same");
}

/// Nobody is left to delete the pods the way a kubelet does.
fn discard(cluster: &Cluster) {
    let bed = Bed::get();
    let namespace = cluster.namespace.as_str();
    let _ = bed.try_kubectl(&["delete", "namespace", namespace, "--wait=false"], None);
    let pods = ["delete", "pods", "--all", "--namespace", namespace, "--force", "--grace-period=0", "--wait=false"];
    let _ = bed.try_kubectl(&pods, None);
}
