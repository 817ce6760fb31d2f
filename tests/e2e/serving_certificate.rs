//! The certificate that wva makes itself: kube-apiserver verifies it from the start, through a rotation, and wva can change
//! nothing else of the APIService.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Bed, Cluster, Reader, Scenario, Variant, eventually, report, seconds};

const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
const ACCOUNT: &str = "--as=system:serviceaccount:wva-system:wva";

/// The APIService as a user applies it, but pointing at a process on loopback: verified, with no authority yet.
fn register(cluster: &Cluster, port: u16) {
    let bed = Bed::get();
    bed.kubectl(&["delete", "apiservice", API_SERVICE, "--ignore-not-found"]);
    let service = json!({"name": "wva", "namespace": "wva-system", "port": port});
    cluster.apply(&[json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": API_SERVICE },
        "spec": { "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                  "versionPriority": 100, "service": service },
    })]);
}

fn spec() -> Value {
    let found = Bed::get().kubectl(&["get", "apiservice", API_SERVICE, "-o", "json"]);
    serde_json::from_str::<Value>(&found).unwrap()["spec"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_apiserver_verifies_the_certificate_through_a_rotation_and_not_one_read_fails() {
    let bed = Bed::get();
    let secret = ["patch", "secret", "wva-serving-certificate", "--namespace=wva-system", "--type=merge", "-p"];
    let scenario = Scenario::start_with("certificate", &bed.prometheus_url, |wva| {
        // A new beginning, however long ago another run filled it.
        bed.kubectl(&[&secret[..], &[r#"{"data": null}"#]].concat());
        // Rotated after 30 s or so, in steps of 3 s.
        wva.own_certificate(Duration::from_secs(60));
    })
    .await;
    let (cluster, started) = (&scenario.cluster, Instant::now());
    register(cluster, scenario.wva.port());
    cluster.create(&[Variant::cheap(1, 3)]).await;
    let trusted = started.elapsed();
    let first = spec();
    assert!(first.get("insecureSkipTLSVerify").is_none_or(|skip| skip == false), "{first}");
    assert!(first["caBundle"].is_string());

    let reader = Reader::start(cluster, "cheap");
    let limit = Duration::from_secs(120);
    let sizes = |spec: &Value| spec["caBundle"].as_str().unwrap().len();
    let both = eventually("old and new authority stand side by side", limit, async || {
        let now = spec();
        if sizes(&now) > sizes(&first) * 3 / 2 { Ok(now) } else { Err(now.to_string()) }
    })
    .await;
    let began = started.elapsed();
    eventually("only the new authority is left", limit, async || {
        let now = spec();
        let is_new = now["caBundle"] != first["caBundle"] && sizes(&now) < sizes(&both) * 3 / 4;
        if is_new { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let done = started.elapsed();
    // A connection made from here on needs the new certificate: that of the aggregator's discovery is.
    assert_eq!(cluster.read("cheap").await, Ok(1));
    let reads = reader.reads();
    let failed: Vec<_> = reads.iter().filter(|read| **read != Ok(1)).collect();
    assert!(failed.is_empty() && reads.len() > 20, "{} reads, failed: {failed:?}", reads.len());
    report(
        "certificate",
        &format!(
            "registered → verified {}; rotation from {} to {}; {} reads, none failed",
            seconds(trusted),
            seconds(began),
            seconds(done),
            reads.len()
        ),
    );
    bed.kubectl(&[&secret[..], &[r#"{"data": null}"#]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_api_service_wva_may_change_the_ca_bundle_and_nothing_else() {
    let scenario = Scenario::start("policy").await;
    let bed = Bed::get();
    let patch = |patch: &str| {
        let arguments = ["patch", "apiservice", API_SERVICE, "--type=merge", ACCOUNT, "-p", patch];
        bed.try_kubectl(&arguments, None)
    };
    let bundle = spec()["caBundle"].as_str().unwrap().to_owned();
    patch(&json!({"spec": {"caBundle": bundle}}).to_string()).unwrap();
    for (what, refused) in [
        ("another Service", json!({"spec": {"service": {"name": "evil", "namespace": "default"}}})),
        ("another port", json!({"spec": {"service": {"port": 1}}})),
        ("no verification", json!({"spec": {"insecureSkipTLSVerify": true, "caBundle": null}})),
        ("a higher priority", json!({"spec": {"versionPriority": 999}})),
        ("a higher group priority", json!({"spec": {"groupPriorityMinimum": 9999}})),
        ("a label", json!({"metadata": {"labels": {"a": "b"}}})),
        ("an annotation", json!({"metadata": {"annotations": {"a": "b"}}})),
    ] {
        let error = patch(&refused.to_string()).expect_err(what);
        assert!(error.contains("wva-serving-certificate") && error.contains("wva may"), "{what}: {error}");
    }
    let other = ["patch", "apiservice", "v1.apps", "--type=merge", ACCOUNT, "-p", r#"{"spec":{"caBundle":null}}"#];
    assert!(bed.try_kubectl(&other, None).unwrap_err().contains("Forbidden"));
    let delete = ["delete", "apiservice", API_SERVICE, ACCOUNT];
    assert!(bed.try_kubectl(&delete, None).unwrap_err().contains("Forbidden"));
    drop(scenario);
}
