//! Properties of whole runs.

use std::{io::Write, time::Duration};

use super::{
    bench_run,
    outcome::Outcome,
    policy::PolicyName,
    scenario::{Scenario, Slow, Window, tests::one_variant},
};
use crate::fleet::{GeneratedLoad, LoadSpec, Step, TokenLengths};

fn run(scenario: &Scenario, policy: &str, seed: u64) -> Outcome {
    bench_run(scenario, policy.parse().unwrap(), seed).unwrap()
}

/// Load that rises from one replica's worth to several and falls again.
fn waves() -> Scenario {
    let mut scenario = one_variant();
    let step = |rate, to, minutes: u64| Step { rate, to, duration: Some(Duration::from_secs(minutes * 60)) };
    let lengths = (TokenLengths::Fixed(1000), TokenLengths::Fixed(200));
    let load = GeneratedLoad::constant(1.0, lengths.0, lengths.1);
    let steps = vec![step(8.0, None, 4), step(8.0, Some(40.0), 2), step(40.0, None, 6), step(6.0, None, 10)];
    scenario.models[0].load = super::LoadSource::Generated(LoadSpec::Poisson(GeneratedLoad { steps, ..load }));
    scenario
}

#[test]
fn the_same_seed_gives_the_same_outcome_and_another_seed_another() {
    let scenario = waves();
    for policy in ["wva", "apa", "wva-upstream-v2"] {
        let outcome = run(&scenario, policy, 3);
        assert_eq!(outcome.models, run(&scenario, policy, 3).models, "{policy}");
        assert_ne!(outcome.models[0].requests, run(&scenario, policy, 4).models[0].requests, "{policy}");
    }
}

#[test]
fn every_policy_counts_every_request_and_stays_within_its_bounds() {
    let mut scenario = waves();
    scenario.models[0].variants[0].max_replicas = 5;
    for name in PolicyName::ALL {
        let outcome = &run(&scenario, name.as_str(), 1).models[0];
        let requests = outcome.requests;
        assert_eq!(requests.in_flight(), 0, "{name:?}");
        assert_eq!(requests.arrived, requests.completed, "{name:?}: none is rejected here");
        let segments = outcome.segments.iter().fold((0, 0), |sum, segment| (sum.0 + segment.0, sum.1 + segment.1));
        assert_eq!(segments, (requests.arrived, requests.met), "{name:?}");
        assert!((1..=5).contains(&outcome.max_replicas), "{name:?}");
        assert!(outcome.average_replicas > 0.99, "{name:?}: {}", outcome.average_replicas);
    }
}

#[test]
fn a_fixed_number_of_replicas_costs_its_number_times_price_and_hours() {
    let scenario = one_variant();
    let outcome = &run(&scenario, "static@3", 1).models[0];
    assert!((outcome.average_replicas - 3.0).abs() < 1e-6, "{}", outcome.average_replicas);
    assert!((outcome.cost - 3.0 / 6.0).abs() < 0.01, "ten minutes of three at price 1: {}", outcome.cost);
    assert_eq!(outcome.scale_actions, 0);
}

#[test]
fn nothing_is_decided_during_the_warm_up() {
    let mut scenario = waves();
    scenario.timing.warm_up = Duration::from_secs(3600);
    for name in PolicyName::ALL {
        assert_eq!(run(&scenario, name.as_str(), 1).models[0].scale_actions, 0, "{name:?}");
    }
}

#[test]
fn replicas_never_exceed_the_accelerators_there_are() {
    let mut scenario = waves();
    let accelerator = scenario.models[0].variants[0].profile.accelerator.clone();
    scenario.quotas.insert(accelerator, 2);
    let outcome = run(&scenario, "kpa@4", 1);
    let most = outcome.timeline.points.iter().map(|point| point.ready[0]).max();
    assert_eq!(most, Some(2));
    assert!(outcome.models[0].max_replicas > 2, "more were asked for");
}

#[test]
fn while_nothing_can_be_scraped_wva_lets_no_replica_go() {
    let mut scenario = waves();
    // Over the fall of the load, when replicas would go.
    let (from, length) = (11 * 60, 5 * 60);
    scenario.faults.dark = Some(Window { at: Duration::from_secs(from), length: Duration::from_secs(length) });
    let outcome = run(&scenario, "wva", 1);
    // Samples from before count for their time.
    let during = outcome
        .timeline
        .points
        .iter()
        .filter(|point| point.seconds > (from + 60) as f64 && point.seconds < (from + length) as f64);
    let set: Vec<u32> = during.map(|point| point.set[0]).collect();
    assert!(set.is_sorted() && set.len() > 60, "{set:?}");
}

#[test]
fn a_slow_start_and_a_slow_replica_make_things_worse_and_lost_scrapes_do_not_break_anything() {
    let plain = run(&waves(), "static@3", 1).models[0].requests.met;
    let mut slow = waves();
    slow.faults.slow_replica = Some(Slow { at: Duration::from_secs(60), factor: 10.0 });
    assert!(run(&slow, "static@3", 1).models[0].requests.met < plain);

    // One replica of those that the rise of the load calls for: it is late by four more cold starts, and no other is.
    let mut plain = waves();
    plain.models[0].variants[0].max_replicas = 4;
    let mut late = plain.clone();
    late.faults.slow_start = Some(Slow { at: Duration::from_secs(250), factor: 5.0 });
    let reached = |scenario: &Scenario, count: u32| {
        let points = run(scenario, "kpa@8", 1).timeline.points;
        points.iter().find(|point| point.ready[0] >= count).map(|point| point.seconds).unwrap()
    };
    assert_eq!(reached(&late, 3), reached(&plain, 3));
    let delay = reached(&late, 4) - reached(&plain, 4);
    let cold_start = plain.models[0].variants[0].cold_start.as_secs_f64();
    assert!((delay - 4.0 * cold_start).abs() <= 2.0, "{delay} s of {cold_start} s");

    let mut lossy = waves();
    lossy.faults.scrape_loss = 0.1;
    assert_eq!(run(&lossy, "wva", 1).models[0].requests.in_flight(), 0);
}

#[test]
fn recorded_snapshots_replay_to_what_was_asked_for() {
    let scenario = waves();
    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(folder.path().join("recorded.jsonl")).unwrap();
    let mut count = 0;
    let mut record = |progress: super::run::Progress<'_>| {
        if let super::run::Progress::Snapshot(snapshot) = progress {
            writeln!(file, "{}", serde_json::to_string(snapshot).unwrap()).unwrap();
            count += 1;
        }
    };
    let policy: super::policy::Named = "wva".parse().unwrap();
    let simulation = super::run::Simulation::new(&scenario, policy.build(&scenario), 1, &[1], &mut record).unwrap();
    let outcome = simulation.run().unwrap();

    let rows = super::backtest(folder.path(), None).unwrap();
    assert_eq!((rows.len(), rows[0].snapshots), (1, count));
    assert!(rows[0].backtested.max_replicas >= outcome.models[0].max_replicas, "{rows:?}");
    assert!((rows[0].recorded.replica_hours / outcome.models[0].average_replicas / rows[0].hours - 1.0).abs() < 0.1);
}
