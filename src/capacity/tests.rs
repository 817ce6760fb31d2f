use super::*;
use crate::interfaces::{CapacityQuestion, LengthDistribution, ServiceObjective, ServiceProfile};

/// The built-in profile of an 8B model on an H100, and chat-like lengths.
fn question(time_to_first_token: f64, inter_token_latency: f64) -> CapacityQuestion {
    let profile = ServiceProfile {
        base: 7.0e-3,
        per_prefill_token: 19.0e-6,
        per_sequence: 6.3e-6,
        per_kv_token: 41.3e-9,
        kv_cache_tokens: 372_000.0,
        max_batch: 256,
        max_batched_tokens: 2048,
    };
    let prompts = LengthDistribution {
        bounds: vec![200.0, 500.0, 1000.0, 2000.0, 5000.0],
        counts: vec![10.0, 20.0, 40.0, 20.0, 10.0, 0.0],
        mean: 1000.0,
    };
    let outputs = LengthDistribution {
        bounds: vec![50.0, 100.0, 200.0, 400.0],
        counts: vec![10.0, 40.0, 30.0, 20.0, 0.0],
        mean: 150.0,
    };
    let objective = ServiceObjective {
        class: "chat".into(),
        priority: 1,
        time_to_first_token: Some(time_to_first_token),
        inter_token_latency: Some(inter_token_latency),
        tokens_per_second: None,
        target_share: 0.99,
    };
    CapacityQuestion::new(&profile, &prompts, &outputs, &objective).unwrap()
}

/// Small enough for a debug build.
fn small() -> Effort {
    Effort { sizes: vec![1, 2, 4], requests: 600, residences: 4.0, precision: 0.05 }
}

#[test]
fn the_same_question_has_the_same_answer_and_more_replicas_never_carry_less_each() {
    let curve = simulated(&question(1.0, 0.05), &small());
    assert_eq!(curve, simulated(&question(1.0, 0.05), &small()));
    assert!(curve.points.is_sorted_by(|a, b| a.rate <= b.rate), "{curve:?}");
    assert!(curve.rate(3.0) > curve.rate(2.0) && curve.rate_per_replica(3.0) <= curve.rate_per_replica(4.0));
    assert_eq!(curve.rate_per_replica(100.0), curve.points[2].rate);
}

#[test]
fn a_tighter_target_never_leaves_more_capacity() {
    let rate = |ttft, itl| simulated(&question(ttft, itl), &small()).rate_per_replica(2.0);
    let (loose, tokens, first) = (rate(1.0, 0.05), rate(1.0, 0.02), rate(0.15, 0.05));
    assert!(tokens < loose && first < loose, "{loose} {tokens} {first}");
    assert_eq!(rate(1.0, 0.005), 0.0, "an iteration alone takes 7 ms");
}

#[test]
fn what_is_in_the_prefix_cache_costs_no_prefill() {
    let cached = |per_mille| {
        let prefill_bound = CapacityQuestion { cached_per_mille: per_mille, ..question(1.0, 0.5) };
        simulated(&prefill_bound, &small())
    };
    let (none, most) = (cached(0), cached(800));
    let (before, after) = (none.rate_per_replica(4.0), most.rate_per_replica(4.0));
    assert!(after > 1.2 * before, "{before} {after}");
    assert!(most.miss_share(4.0, 1.0) <= 0.02 && most.miss_share(4.0, 3.0) > 0.5, "{:?}", most.misses);
}

#[test]
fn the_closed_form_is_of_the_right_order() {
    let (exact, quick) = (simulated(&question(1.0, 0.05), &small()), approximated(&question(1.0, 0.05)));
    for replicas in [1.0, 2.0, 4.0] {
        let ratio = quick.rate_per_replica(replicas) / exact.rate_per_replica(replicas);
        assert!((0.4..=1.2).contains(&ratio), "{ratio} at {replicas}");
    }
}

#[test]
fn lengths_are_drawn_with_the_measured_mean_within_the_measured_bounds() {
    let question = question(1.0, 0.05);
    let mut stream = workload::Stream::new(&question);
    let samples = stream.first(20_000);
    let mean = samples.iter().map(|sample| f64::from(sample.prompt)).sum::<f64>() / samples.len() as f64;
    assert!((mean / 1000.0 - 1.0).abs() < 0.05, "{mean}");
    assert!(samples.is_sorted_by(|a, b| a.arrival < b.arrival));
    let long = samples.iter().filter(|sample| sample.prompt > 2500).count() as f64 / samples.len() as f64;
    assert!((0.03..=0.12).contains(&long), "{long}");
}

#[test]
fn the_cache_answers_only_what_it_was_told() {
    let cache = CurveCache::default();
    let (one, other) = (std::sync::Arc::new(question(1.0, 0.05)), std::sync::Arc::new(question(2.0, 0.05)));
    cache.insert(one.clone(), std::sync::Arc::new(approximated(&one)));
    assert_eq!(cache.answers([&one, &other].into_iter()).len(), 1);
    assert!(cache.get(&other).is_none());
}
