//! What is off by default: wva that scales workloads itself, and the compensator of an HPA's tolerance.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use serde_json::json;

use crate::harness::{Bed, Cluster, Load, Scenario, Variant, eventually, report};

/// For steps up, cold starts included.
const UP: Duration = Duration::from_secs(60);
/// Replicas of which one more is within the default tolerance of 10 %.
const MANY: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_own_rights_wva_scales_what_no_hpa_does_and_writes_nothing_but_the_replicas() {
    let mut scenario =
        Scenario::start_with("actuation", &Bed::get().prometheus_url, |wva| wva.flag("--actuation-mode=direct")).await;
    let cluster = &scenario.cluster;
    let variant = Variant::cheap(1, 3);
    cluster.apply(&[variant.deployment(), variant.autoscaling()]);
    eventually("the value is served", UP, async || cluster.read(variant.name).await).await;

    scenario.load(Load::BUSY).await;
    scenario.wva.process().printed("not scaled: wva has no right to; apply manifests/actuation", UP).await;
    let cluster = &scenario.cluster;
    assert_eq!(cluster.replicas(variant.name).await, 1, "without the right to it nothing is scaled");

    let rights = Rights::give();
    cluster.scaled_to(variant.name, 3, UP).await;
    assert_eq!(written_by_wva(cluster, variant.name).await, json!({"f:spec": {"f:replicas": {}}}));
    drop(rights);
    report("actuation", "direct: 1 without the right, 3 with it; of the Deployment wva owns spec.replicas");
}

/// manifests/actuation, for as long as this lives: what other scenarios run without.
struct Rights;

impl Rights {
    fn give() -> Self {
        Bed::get().kubectl(&["apply", "-k", "manifests/actuation"]);
        Self
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        // The bed goes away anyway.
        let _ = Bed::get().try_kubectl(&["delete", "-k", "manifests/actuation", "--ignore-not-found"], None);
    }
}

/// Fields of the Deployment that writes under our name to its scale touched.
async fn written_by_wva(cluster: &Cluster, name: &str) -> serde_json::Value {
    let deployment: Deployment = cluster.get(name).await;
    let entries = deployment.metadata.managed_fields.unwrap_or_default();
    let ours = entries.into_iter().find(|entry| entry.manager.as_deref() == Some("wva")).unwrap();
    assert_eq!(ours.subresource.as_deref(), Some("scale"));
    ours.fields_v1.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_compensator_gets_a_small_step_past_an_hpa_with_the_default_tolerance() {
    let mut scenario = Scenario::start("tolerance").await;
    let variant = Variant::cheap(MANY, MANY + 4);
    let mut hpa = variant.hpa();
    for direction in ["scaleUp", "scaleDown"] {
        hpa["spec"]["behavior"][direction].as_object_mut().unwrap().remove("tolerance");
    }
    // The HPA's own minimum must not do what the value should.
    hpa["spec"]["minReplicas"] = json!(1);
    scenario.cluster.apply(&[variant.deployment(), variant.autoscaling(), hpa]);
    eventually("the value is served", UP, async || scenario.cluster.read(variant.name).await).await;
    scenario.cluster.followed(variant.name, UP).await;

    let mut one_more = variant.autoscaling();
    one_more["spec"]["minReplicas"] = json!(MANY + 1);
    scenario.cluster.apply(&[one_more]);
    // 13 for 12 replicas.
    seen_by_hpa(&scenario.cluster, variant.name, "1084m").await;
    assert_eq!(scenario.cluster.replicas(variant.name).await, MANY, "the tolerance swallows one of twelve");

    scenario.wva.kill();
    scenario.wva.flag("--actuation-compensate-tolerance=true");
    scenario.wva.start_again().await;
    scenario.cluster.scaled_to(variant.name, MANY + 2, UP).await;
    report("tolerance", "12 → 13 is ignored by an HPA that tolerates 10 %; compensated, it gets 14");
}

/// Waits until the HPA has weighed a value that is so much per replica.
async fn seen_by_hpa(cluster: &Cluster, name: &str, per_replica: &str) {
    eventually("the HPA weighs the value", UP, async || {
        let hpa: HorizontalPodAutoscaler = cluster.get(name).await;
        let metrics = hpa.status.and_then(|status| status.current_metrics).unwrap_or_default();
        let values = metrics.into_iter().filter_map(|metric| metric.external?.current.average_value);
        let values: Vec<String> = values.map(|value| value.0).collect();
        if values == [per_replica] { Ok(()) } else { Err(format!("{values:?}")) }
    })
    .await;
}
