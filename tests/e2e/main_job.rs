//! What wva is for: load becomes replicas of the cheapest variant that can take it, by way of the stock HPA.

use std::time::Duration;

use crate::harness::{
    Bed, FETCH_INTERVAL, Load, MODEL, PEAK_WINDOW, Sample, Scenario, Timeline, Variant, eventually, report,
};

/// For one step up, cold starts included.
const UP: Duration = Duration::from_secs(40);
/// Of `kubectl get va -o wide`.
const COLUMNS: [&str; 11] =
    ["NAME", "TARGET", "MODEL", "MIN", "MAX", "OPTIMIZED", "METRICSREADY", "ACCELERATOR", "COST", "REASON", "AGE"];
/// Looks at the replicas after they are at their minima.
const LOOKS_AT_REST: usize = 30;
/// For all steps down, each of which waits for a peak window.
const DOWN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_raises_the_cheap_variant_to_its_maximum_before_the_dear_one_and_its_end_lowers_both_to_their_minima() {
    let scenario = Scenario::start("main-job").await;
    let cluster = &scenario.cluster;
    // Ranges that do not overlap: a value read by the wrong HPA cannot go unnoticed.
    let (cheap, dear) = (Variant::cheap(1, 3), Variant::dear(4, 5));
    cluster.create(&[cheap, dear]).await;
    for variant in [cheap, dear] {
        cluster.followed(variant.name, UP).await;
        // Events tell the steps between two statuses that were written.
        cluster.condition(variant.name, "OptimizationReady", "True").await;
    }
    let timeline = Timeline::start(cluster);

    scenario.load(Load::BUSY).await;
    cluster.scaled_to("cheap", 3, UP).await;
    cluster.scaled_to("dear", 5, UP).await;
    let raised = cluster.event("cheap", "ScalingUp").await;
    assert!(raised.starts_with("desired replicas from 1 to ") && raised.contains("replicas are saturated"), "{raised}");

    scenario.load(Load::IDLE).await;
    cluster.scaled_to("dear", 4, DOWN).await;
    cluster.scaled_to("cheap", 1, DOWN).await;
    let lowered = cluster.event("cheap", "ScalingDown").await;
    assert!(lowered.contains("desired replicas from 3 to 2: saturation: average spare capacity"), "{lowered}");

    timeline.looks(LOOKS_AT_REST).await;
    report("main job", &format!("spec.replicas under load and after it:{}", timeline.table(&["cheap", "dear"])));
    assert_order(&timeline);
    assert_own_values(&timeline, &[cheap, dear]);
    assert_status(&scenario).await;
}

/// Cheap goes first on the way up, dear on the way down; nothing is removed within a peak window of another change.
fn assert_order(timeline: &Timeline) {
    // Of decisions, because each HPA follows in its own time.
    for decision in timeline.decisions() {
        assert!(
            decision["dear"] == 4 || decision["cheap"] == 3,
            "dear was asked for while cheap had room: {decision:?}"
        );
    }
    let steps = |variant| timeline.scalings(variant).into_iter().map(|(_, replicas)| replicas).collect::<Vec<_>>();
    let cheap_steps = steps("cheap");
    assert!(cheap_steps.ends_with(&[3, 2, 1]), "{cheap_steps:?}");
    assert_eq!(steps("dear"), [4, 5, 4]);
    let at = |variant: &str, index: usize| timeline.scalings(variant)[index].0;
    let mut removals = vec![at("dear", 2)];
    removals.extend([at("cheap", cheap_steps.len() - 2), at("cheap", cheap_steps.len() - 1)]);
    assert!(removals.is_sorted(), "cheap was lowered before dear: {removals:?}");
    for pair in removals.windows(2) {
        // The HPA may be late for the first and early for the second by one of its periods.
        assert!(
            pair[1].saturating_sub(pair[0]) + FETCH_INTERVAL >= PEAK_WINDOW,
            "removals follow too closely: {removals:?}"
        );
    }
}

fn assert_own_values(timeline: &Timeline, variants: &[Variant]) {
    for variant in variants {
        let seen = timeline.of(variant.name);
        let range = variant.min..=variant.max;
        for (at, Sample { replicas, read }) in &seen {
            assert!(range.contains(replicas), "{} has {replicas} replicas at {at:?}", variant.name);
            assert!(read.is_none_or(|read| range.contains(&read)), "HPA {} read {read:?} at {at:?}", variant.name);
        }
        assert!(seen.iter().any(|(_, sample)| sample.read == Some(variant.max)), "{seen:?}");
    }
}

/// What a person sees.
async fn assert_status(scenario: &Scenario) {
    let cluster = &scenario.cluster;
    for variant in ["cheap", "dear"] {
        for condition in ["TargetResolved", "MetricsAvailable", "OptimizationReady", "AutoscalerReady"] {
            cluster.condition(variant, condition, "True").await;
        }
    }
    // The status follows the decision that the HPA may have carried out already.
    eventually("kubectl shows the decision", UP, async || {
        let table = Bed::get().kubectl(&["get", "va", "--namespace", &cluster.namespace, "-o", "wide"]);
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], COLUMNS);
        let shown = rows[1][..10] == ["cheap", "cheap", MODEL, "1", "3", "1", "True", "L40S", "4", "saturation:"];
        shown.then_some(()).ok_or(table)
    })
    .await;
}
