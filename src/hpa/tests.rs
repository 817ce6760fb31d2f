//! The table measured on the real controller (Kubernetes 1.37.2), and the rules around it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Behavior, Hpa, HpaSpec, Policy, PolicyKind, Scale, SyncOutcome};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Tolerance as given, no windows, no rate limit.
fn hpa(tolerance: f64) -> Hpa {
    let mut spec = HpaSpec::adopting(1, 1000, Duration::ZERO);
    if let Some(behavior) = &mut spec.behavior {
        behavior.scale_up.tolerance = tolerance;
        behavior.scale_down.tolerance = tolerance;
    }
    Hpa::new(spec)
}

#[test]
fn the_measured_table_holds() {
    // spec, status, served (milli), tolerance, result
    let table = [
        (20, 20, 21_000, 0.1, 20),
        (20, 20, 22_000, 0.1, 20),
        (20, 20, 23_000, 0.1, 23),
        (10, 10, 11_000, 0.1, 10),
        (10, 10, 9_000, 0.1, 10),
        (20, 20, 21_000, 0.0, 21),
        (20, 21, 20_000, 0.1, 21),
        (20, 21, 20_000, 0.0, 20),
        (10, 10, 20_500, 0.1, 21),
        (1, 1, 20_000, 0.0, 20),
    ];
    for (spec, status, served, tolerance, expected) in table {
        let outcome = hpa(tolerance).sync(at(0), Scale { spec, status }, Ok(&[served]));
        assert_eq!(outcome, SyncOutcome::Scaled(expected), "{spec}/{status}, {served} served, tolerance {tolerance}");
    }
}

#[test]
fn items_are_added_up() {
    assert_eq!(hpa(0.1).sync(at(0), Scale { spec: 5, status: 5 }, Ok(&[10_000, 11_000])), SyncOutcome::Scaled(21));
}

#[test]
fn without_behavior_growth_doubles_or_reaches_four_per_sync() {
    let mut hpa = Hpa::new(HpaSpec { behavior: None, ..HpaSpec::adopting(1, 1000, Duration::ZERO) });
    let mut replicas = 1;
    let mut seen = Vec::new();
    for sync in 0..4 {
        let scale = Scale { spec: replicas, status: replicas };
        let SyncOutcome::Scaled(next) = hpa.sync(at(sync * 15), scale, Ok(&[20_000])) else { panic!() };
        replicas = next;
        seen.push(next);
    }
    assert_eq!(seen, [4, 8, 16, 20]);
}

#[test]
fn an_error_or_no_item_freezes_and_shows_the_message_but_bounds_still_hold() {
    let mut hpa = Hpa::new(HpaSpec::adopting(2, 5, Duration::ZERO));
    let frozen = hpa.sync(at(0), Scale { spec: 3, status: 3 }, Err("variant a: stale".to_owned()));
    assert_eq!(frozen, SyncOutcome::FailedGetExternalMetric("variant a: stale".to_owned()));
    assert!(matches!(hpa.sync(at(1), Scale { spec: 3, status: 3 }, Ok(&[])), SyncOutcome::FailedGetExternalMetric(_)));
    assert_eq!(hpa.sync(at(2), Scale { spec: 9, status: 9 }, Err(String::new())), SyncOutcome::Scaled(5));
    assert_eq!(hpa.sync(at(3), Scale { spec: 0, status: 0 }, Ok(&[3000])), SyncOutcome::ScalingDisabled);
}

#[test]
fn the_scale_down_window_keeps_the_greatest_proposal() {
    let mut hpa = Hpa::new(HpaSpec::adopting(1, 100, Duration::from_secs(300)));
    let scale = Scale { spec: 8, status: 8 };
    assert_eq!(hpa.sync(at(0), scale, Ok(&[8_000])), SyncOutcome::Scaled(8));
    assert_eq!(hpa.sync(at(15), scale, Ok(&[3_000])), SyncOutcome::Scaled(8));
    assert_eq!(hpa.sync(at(299), scale, Ok(&[3_000])), SyncOutcome::Scaled(8));
    assert_eq!(hpa.sync(at(301), scale, Ok(&[3_000])), SyncOutcome::Scaled(3));
}

#[test]
fn policies_limit_the_rate_within_their_period() {
    let two_a_minute = Policy { kind: PolicyKind::Pods, value: 2, period: Duration::from_secs(60) };
    let mut behavior = Behavior::adopting(Duration::ZERO);
    behavior.scale_up.policies = vec![two_a_minute];
    behavior.scale_down.policies = vec![Policy { kind: PolicyKind::Percent, value: 50, ..two_a_minute }];
    let mut hpa = Hpa::new(HpaSpec { behavior: Some(behavior), ..HpaSpec::adopting(1, 100, Duration::ZERO) });
    let mut sync = |second, replicas, wanted: u64| match hpa.sync(
        at(second),
        Scale { spec: replicas, status: replicas },
        Ok(&[wanted * 1000]),
    ) {
        SyncOutcome::Scaled(next) => next,
        other => panic!("{other:?}"),
    };
    assert_eq!(sync(0, 1, 10), 3);
    assert_eq!(sync(15, 3, 10), 3);
    assert_eq!(sync(61, 3, 10), 5);
    assert_eq!(sync(200, 5, 1), 2);
}

#[test]
fn from_zero_the_sum_alone_decides() {
    let mut hpa = Hpa::new(HpaSpec::adopting(0, 100, Duration::ZERO));
    assert_eq!(hpa.sync(at(0), Scale { spec: 0, status: 0 }, Ok(&[3_000])), SyncOutcome::Scaled(3));
    assert_eq!(hpa.sync(at(1), Scale { spec: 3, status: 3 }, Ok(&[0])), SyncOutcome::Scaled(0));
}
