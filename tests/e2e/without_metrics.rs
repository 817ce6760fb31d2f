//! A Prometheus that is not there from the start: the API is, and nothing else in the cluster suffers.

use std::time::{Duration, Instant};

use crate::harness::{Bed, Scenario, Variant, eventually, report, seconds};

/// Port 9 is "discard": nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_unreachable_prometheus_wva_serves_says_so_per_value_and_lets_namespaces_be_deleted() {
    let scenario = Scenario::with_prometheus("without-metrics", NOWHERE).await;
    let cluster = &scenario.cluster;
    cluster.apply(&Variant::cheap(1, 3).objects());

    let expected = format!("Prometheus at {NOWHERE}");
    let message = eventually("the value is refused with the reason", LIMIT, async || {
        let message = cluster.read("cheap").await.expect_err("nothing is known");
        if message.contains(&expected) { Ok(message) } else { Err(message) }
    })
    .await;
    assert!(message.contains("cannot be reached"), "{message}");
    assert!(message.contains(&format!("variant {}/cheap", cluster.namespace)), "{message}");
    cluster.condition("cheap", "MetricsAvailable", "False").await;

    // Discovery is complete: kubectl fails if one API group does not answer.
    let resources = Bed::get().kubectl(&["api-resources", "--api-group=external.metrics.k8s.io", "--cached=false"]);
    assert!(resources.contains("wva_desired_replicas"), "{resources}");
    let began = Instant::now();
    cluster.delete(LIMIT).await;
    report("no metrics", &format!("read: {message}"));
    report("no metrics", &format!("namespace with workloads deleted in {}", seconds(began.elapsed())));
}
