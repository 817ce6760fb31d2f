//! Limited accelerators on a real control plane: a `ResourceQuota`, then the accelerators of the nodes; and the recorded cycle,
//! which `wva plan` decides on as it was served.

use std::{fs, path::Path, process::Command, time::Duration};

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use wva::crd::VariantAutoscaling;

use crate::harness::{Bed, Cluster, Load, Scenario, Variant, eventually, report};

/// For several steps up, cold starts included.
const UP: Duration = Duration::from_secs(90);
/// Accelerators of this type that the fleet's nodes have.
const L40S: u32 = 16;
/// What the quota allows.
const QUOTA: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_ends_at_a_quota_and_then_at_the_accelerators_there_are_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let recordings = format!("--recording-directory={}", folder.path().display());
    let scenario = Scenario::start_with("limits", &Bed::get().prometheus_url, |wva| {
        for flag in ["--limits-accelerators=limited", recordings.as_str(), "--recording-interval=1s"] {
            wva.flag(flag);
        }
    })
    .await;
    let cluster = &scenario.cluster;
    cluster.apply(&[json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "team" },
        "spec": { "hard": { "requests.nvidia.com/gpu": QUOTA.to_string() } },
    })]);
    let variant = Variant::cheap(1, L40S + 4);
    cluster.create(&[variant]).await;
    scenario.load(Load::BUSY).await;

    cluster.scaled_to(variant.name, QUOTA, UP).await;
    explained(cluster, variant.name, &format!("quota team of {QUOTA} accelerators")).await;
    assert_eq!(cluster.replicas(variant.name).await, QUOTA, "the load would need more");

    let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), &cluster.namespace);
    quotas.delete("team", &DeleteParams::default()).await.unwrap();
    cluster.scaled_to(variant.name, L40S, UP).await;
    explained(cluster, variant.name, &format!("{L40S} accelerators of type L40S")).await;
    assert_eq!(cluster.replicas(variant.name).await, L40S);

    let replayed = replay(folder.path());
    report(
        "limits",
        &format!("{QUOTA} replicas under a quota of {QUOTA}, {L40S} of 20 without it; wva plan replays: {replayed}"),
    );
}

/// Waits until the status names what binds.
async fn explained(cluster: &Cluster, variant: &str, limit: &str) {
    eventually(&format!("{variant} is bound by {limit}"), UP, async || {
        let object: VariantAutoscaling = cluster.get(variant).await;
        let reason = object.status.unwrap_or_default().reason.unwrap_or_default();
        if reason.contains(&format!("bound by {limit}")) { Ok(()) } else { Err(reason) }
    })
    .await;
}

/// `wva plan` on every cycle that was recorded: each with a decision must be decided on as it was served.
fn replay(folder: &Path) -> String {
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let plan = Command::new(env!("CARGO_BIN_EXE_wva")).args(["plan", "--snapshot"]).arg(&path).output().unwrap();
        let text = String::from_utf8(plan.stdout).unwrap();
        // Before the variant was there nothing was decided.
        if text.contains(", 0 variants\n") {
            continue;
        }
        let verdict = text.lines().last().unwrap_or_default();
        assert!(verdict.ends_with("gives the very decisions that were served"), "{}: {text}", path.display());
        replayed += 1;
    }
    assert!(replayed >= 5, "only {replayed} cycles were recorded");
    format!("{replayed} cycles, each as served")
}
