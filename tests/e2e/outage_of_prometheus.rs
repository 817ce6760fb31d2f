//! Prometheus dies: the HPA holds and says why in our words; it follows again once there are metrics.

use std::time::{Duration, Instant};

use crate::harness::{Bed, FETCH_INTERVAL, Load, SIGNAL_AGE, Scenario, Timeline, Variant, report, seconds};

/// One sync of the HPA, one fetch, and the scheduling of a busy machine.
const SLACK: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prometheus_the_hpa_holds_with_our_message_and_follows_again_when_it_is_back() {
    let scenario = Scenario::start("prometheus").await;
    let cluster = &scenario.cluster;
    cluster.create(&[Variant::cheap(1, 3)]).await;
    scenario.load(Load::BUSY).await;
    // Between the bounds, so that a step in either direction would show.
    cluster.scaled_to("cheap", 2, LIMIT).await;
    cluster.scaled_to("cheap", 3, LIMIT).await;
    cluster.followed("cheap", LIMIT).await;

    let timeline = Timeline::start(cluster);
    Bed::get().testbed(&["stop", "prometheus", "--kill"]);
    let _back = Restart;
    let killed = Instant::now();
    let condition = cluster
        .scaling_active("cheap", SIGNAL_AGE + FETCH_INTERVAL + SLACK, |condition| {
            condition.reason.as_deref() == Some("FailedGetExternalMetric")
        })
        .await;
    let held = killed.elapsed();
    assert_eq!(condition.status, "False");
    let message = condition.message.unwrap();
    let namespace = &cluster.namespace;
    for part in [
        format!("variant {namespace}/cheap: none of the 3 ready replicas of model"),
        format!("sampled in the last {} s; the newest is ", SIGNAL_AGE.as_secs()),
        format!("Prometheus at {}", Bed::get().prometheus_url),
    ] {
        assert!(message.contains(&part), "{message:?}\nhas no {part:?}");
    }
    timeline.looks(20).await;
    assert_eq!(timeline.scalings("cheap").len(), 1, "{:?}", timeline.scalings("cheap"));
    let (reason, _) = cluster.condition("cheap", "MetricsAvailable", "False").await;
    assert_eq!(reason, "MetricsMissing");
    cluster.event("cheap", "MetricsUnavailable").await;

    Bed::get().testbed(&["start", "prometheus"]);
    let started = Instant::now();
    cluster.followed("cheap", LIMIT).await;
    cluster.condition("cheap", "MetricsAvailable", "True").await;
    report(
        "no Prometheus",
        &format!(
            "killed → HPA holds {} (signal age limit {}); started → HPA follows {}",
            seconds(held),
            seconds(SIGNAL_AGE),
            seconds(started.elapsed())
        ),
    );
    report("no Prometheus", &format!("kubectl describe hpa: {message}"));
}

/// Other scenarios need Prometheus also when this one fails.
struct Restart;

impl Drop for Restart {
    fn drop(&mut self) {
        Bed::get().testbed(&["start", "prometheus"]);
    }
}
