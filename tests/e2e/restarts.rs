//! wva itself dies, or is asked to end.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::harness::{Load, Scenario, Timeline, Variant, Wva, eventually, report, seconds};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_wva_is_killed_the_hpa_holds_and_after_a_restart_it_follows_again() {
    let mut scenario = Scenario::start("killed").await;
    scenario.cluster.create(&[Variant::cheap(1, 3)]).await;
    scenario.load(Load::BUSY).await;
    let cluster = scenario.cluster.clone();
    cluster.scaled_to("cheap", 3, LIMIT).await;
    cluster.followed("cheap", LIMIT).await;

    let timeline = Timeline::start(&cluster);
    scenario.wva.kill();
    let killed = Instant::now();
    let failing = cluster
        .scaling_active("cheap", LIMIT, |condition| condition.reason.as_deref() == Some("FailedGetExternalMetric"))
        .await;
    let held = killed.elapsed();
    assert_eq!(failing.status, "False");
    timeline.looks(20).await;

    let restarted = Instant::now();
    scenario.wva.start_again().await;
    let ready = restarted.elapsed();
    eventually("a value is read through kube-apiserver", LIMIT, async || cluster.read("cheap").await).await;
    let readable = restarted.elapsed();
    cluster.followed("cheap", LIMIT).await;
    let follows = restarted.elapsed();
    // A new process does not know the peaks before it: nothing may be removed on that account.
    timeline.looks(20).await;
    assert_eq!(timeline.scalings("cheap").len(), 1, "{:?}", timeline.scalings("cheap"));
    report(
        "killed",
        &format!(
            "killed → HPA holds {}; restarted → ready {}, value readable {}, HPA follows {}",
            seconds(held),
            seconds(ready),
            seconds(readable),
            seconds(follows)
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_wva_is_asked_to_end_it_is_unready_first_still_answers_and_then_exits_well() {
    let mut scenario = Scenario::start("ended").await;
    scenario.cluster.create(&[Variant::cheap(1, 3)]).await;
    let http = Wva::http(None);
    let readiness = scenario.wva.url("/readyz");
    assert_eq!(http.get(&readiness).send().await.unwrap().status(), StatusCode::OK);

    let asked = Instant::now();
    scenario.wva.process().terminate();
    eventually("it is no longer ready", LIMIT, async || {
        let answer = http.get(&readiness).send().await.expect("the port is open as long as it is ready");
        let status = answer.status();
        (status == StatusCode::INTERNAL_SERVER_ERROR).then_some(()).ok_or_else(|| status.to_string())
    })
    .await;
    let unready = asked.elapsed();
    let value = scenario.cluster.read("cheap").await;
    assert_eq!(value, Ok(1), "it still answers");
    let status = scenario.wva.process().exit(LIMIT).await;
    assert!(status.success(), "{status}");
    report("ended", &format!("SIGTERM → not ready {}, exit code 0 {}", seconds(unready), seconds(asked.elapsed())));

    scenario.wva.start_again().await;
    let readiness = scenario.wva.url("/readyz");
    scenario.wva.process().terminate();
    eventually("it has noticed", LIMIT, async || {
        let is_ready = http.get(&readiness).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK);
        (!is_ready).then_some(()).ok_or_else(|| "it is ready".to_owned())
    })
    .await;
    scenario.wva.process().terminate();
    let status = scenario.wva.process().exit(LIMIT).await;
    assert_eq!(status.code(), Some(1), "who asks twice does not want to wait");
}
