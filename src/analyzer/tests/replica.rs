//! The model of one replica: its limits, its targets, and any input. Held against the simulator in `size::validation`.

use proptest::prelude::*;

use crate::{
    analyzer::{
        Bottleneck, Lengths, QueueAnalyzer, QueueError, Target, Targets, Workload,
        upstream::{self, MeanLengths, Parameters},
    },
    interfaces::{LengthDistribution, ServiceProfile},
};

/// Llama 3.1 8B on an H100, as the simulator has it.
fn h100() -> ServiceProfile {
    ServiceProfile {
        base: 7.0e-3,
        per_prefill_token: 1.9e-5,
        per_sequence: 6.3e-6,
        per_kv_token: 4.13e-8,
        kv_cache_tokens: 372_000.0,
        max_batch: 256,
        max_batched_tokens: 2048,
    }
}

fn chat() -> Workload {
    Workload::new(Lengths::lognormal(1155.0, 1.1).unwrap(), Lengths::lognormal(211.0, 0.8).unwrap())
}

fn replica() -> QueueAnalyzer {
    QueueAnalyzer::new(h100(), chat()).unwrap()
}

fn targets(time_to_first_token: f64, inter_token_latency: f64) -> Targets {
    Targets {
        time_to_first_token: Some(time_to_first_token),
        inter_token_latency: Some(inter_token_latency),
        ..Targets::default()
    }
}

#[test]
fn a_lone_request_takes_its_own_time_and_no_more() {
    let fixed = Workload::new(Lengths::fixed(1000.0).unwrap(), Lengths::fixed(101.0).unwrap());
    let analysis = QueueAnalyzer::new(h100(), fixed).unwrap().analyze(0.0).unwrap();
    // 7 ms + 1000 · 0.019 ms; 7 ms + 0.0063 ms + 1049.5 tokens · 0.0000413 ms.
    assert!((analysis.time_to_first_token.mean - 0.026).abs() < 1e-4, "{:?}", analysis.time_to_first_token);
    assert!((analysis.inter_token_latency.mean - 0.007_049_6).abs() < 1e-5, "{:?}", analysis.inter_token_latency);
    assert!(analysis.utilization == 0.0 && analysis.concurrency < 0.01);
}

/// A first token at next to no load hangs on the own prompt alone: a little more time must let a few requests more in, and
/// never a whole slice of the lengths at once.
#[test]
fn shares_near_the_95th_percentile_have_no_steps() {
    let long = Workload::new(Lengths::lognormal(12_000.0, 0.95).unwrap(), Lengths::fixed(100.0).unwrap());
    let analysis = QueueAnalyzer::new(h100(), long).unwrap().analyze(0.0).unwrap();
    let p95 = analysis.time_to_first_token.p95;
    let share = |part: f64| analysis.share_within_time_to_first_token(p95 * part);
    for percent in 90..110_u32 {
        let part = f64::from(percent) / 100.0;
        let more = share(part + 0.01) - share(part);
        assert!((0.0..0.01).contains(&more), "{percent} %: {more}");
    }
}

/// Two targets that each are met by just enough requests are together met by too few.
#[test]
fn an_objective_of_two_targets_allows_less_than_either_alone() {
    let at = replica().analyze(20.0).unwrap();
    let (first_token, gap) = (at.time_to_first_token.p95, at.inter_token_latency.p95);
    let rate = |targets: Targets| replica().size(&Targets { share: 0.95, ..targets }).unwrap().rate;
    let (one, other) = (targets(first_token, 10.0), targets(10.0, gap));
    let both = rate(targets(first_token, gap));
    assert!(both < 0.99 * rate(one).min(rate(other)), "{both} {} {}", rate(one), rate(other));
}

/// Upstream books the time that its mean concurrency below one leaves out as time between tokens; ours counts a lone
/// request's iterations as they are.
#[test]
fn at_light_load_upstream_is_slower_than_a_lone_request_and_ours_is_not() {
    let parameters = Parameters { alpha: 1.0, beta: 0.01, gamma: 0.001, max_batch: 8, max_queue: 16 };
    let theirs = upstream::QueueAnalyzer::new(parameters, MeanLengths { input: 100.0, output: 10.0 }).unwrap();
    let (_, most) = theirs.rate_range();
    let light = theirs.analyze(most / 10.0).unwrap().inter_token_latency;
    assert!(light > 1.05 * theirs.decode_time(1.0), "{light} against {}", theirs.decode_time(1.0));

    let profile = ServiceProfile {
        base: 1e-3,
        per_prefill_token: 1.1e-5,
        per_sequence: 1e-5,
        per_kv_token: 1e-6,
        kv_cache_tokens: 1e5,
        max_batch: 8,
        max_batched_tokens: 2048,
    };
    let workload = Workload::new(Lengths::fixed(100.0).unwrap(), Lengths::fixed(10.0).unwrap());
    let ours = QueueAnalyzer::new(profile, workload).unwrap();
    let alone = 1e-3 + 1e-5 + 104.0 * 1e-6;
    let lightest = ours.analyze(0.0).unwrap().inter_token_latency.mean;
    assert!((lightest / alone - 1.0).abs() < 1e-3, "{lightest} against {alone}");
}

#[test]
fn each_limit_of_a_replica_can_be_the_one_that_binds() {
    let h100 = h100();
    let bottleneck = |profile| QueueAnalyzer::new(profile, chat()).unwrap().saturation().bottleneck;
    assert_eq!(bottleneck(h100), Bottleneck::Batch);
    assert_eq!(bottleneck(ServiceProfile { kv_cache_tokens: 60_000.0, ..h100 }), Bottleneck::KvCache);
    assert_eq!(bottleneck(ServiceProfile { max_batched_tokens: 512, ..h100 }), Bottleneck::TokenBudget);
}

#[test]
fn from_saturation_on_there_is_no_steady_state() {
    let replica = replica();
    let limit = replica.saturation().rate;
    assert!(replica.analyze(limit * 0.98).is_ok());
    assert!(matches!(replica.analyze(limit).unwrap_err(), QueueError::Unstable { .. }));
}

#[test]
fn sizing_stops_at_the_target_that_binds_and_no_sooner() {
    let replica = replica();
    for (targets, bound_by) in
        [(targets(10.0, 0.02), Target::InterTokenLatency), (targets(0.35, 1.0), Target::TimeToFirstToken)]
    {
        let sizing = replica.size(&targets).unwrap();
        assert_eq!(sizing.bound_by, Some(bound_by));
        let share = |rate: f64| {
            let analysis = replica.analyze(rate).unwrap();
            let first_token = analysis.share_within_time_to_first_token(targets.time_to_first_token.unwrap());
            first_token.min(analysis.share_within_inter_token_latency(targets.inter_token_latency.unwrap()))
        };
        assert!(share(sizing.rate) >= 0.99 && share(sizing.rate * 1.01) < 0.99, "{}", sizing.rate);
    }
    let unbound = replica.size(&Targets::default()).unwrap();
    assert_eq!(unbound.bound_by, None);
    assert!(unbound.at.utilization > 0.98);
}

#[test]
fn a_target_that_a_lone_request_misses_is_named_with_what_can_be_had() {
    let replica = replica();
    for (wanted, named, best) in [
        (targets(1.0, 0.005), "the inter-token-latency target of 5 ms cannot be met: at best it is 7", 0.007..0.008),
        (targets(0.02, 0.05), "the time-to-first-token target of 20 ms cannot be met: at best it is 1", 0.1..0.2),
    ] {
        let error = replica.size(&wanted).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(matches!(error, QueueError::Infeasible { best: found, .. } if best.contains(&found)), "{error:?}");
    }
    let many = Targets { tokens_per_second: Some(1e6), ..targets(1.0, 0.05) };
    let error = replica.size(&many).unwrap_err();
    assert!(matches!(error, QueueError::Infeasible { target: Target::TokensPerSecond, .. }), "{error}");
}

#[test]
fn lengths_that_vary_more_make_the_wait_longer_at_the_same_mean() {
    let with = |variation| {
        let workload = Workload::new(Lengths::lognormal(4000.0, variation).unwrap(), Lengths::fixed(200.0).unwrap());
        let replica = QueueAnalyzer::new(h100(), workload).unwrap();
        replica.analyze(3.5).unwrap().time_to_first_token
    };
    let (constant, varied) = (with(0.0), with(1.2));
    assert!(varied.mean > 1.1 * constant.mean && varied.p95 > 1.5 * constant.p95, "{constant:?} {varied:?}");
}

#[test]
fn prompts_in_the_prefix_cache_are_not_computed() {
    let cached = chat().with_prefix_cache_hits(0.8).unwrap();
    let cached = QueueAnalyzer::new(h100(), cached).unwrap().analyze(15.0).unwrap();
    let plain = replica().analyze(15.0).unwrap();
    assert!(cached.time_to_first_token.mean < 0.6 * plain.time_to_first_token.mean);
    assert!(cached.inter_token_latency.mean < plain.inter_token_latency.mean);
}

#[test]
fn a_histogram_gives_lengths_of_its_own_mean() {
    let histogram =
        LengthDistribution { bounds: vec![100.0, 1000.0, 5000.0], counts: vec![20.0, 60.0, 15.0, 5.0], mean: 1155.0 };
    let lengths = Lengths::from_histogram(&histogram).unwrap();
    assert!((lengths.mean() - 1155.0).abs() < 1e-6 && lengths.variation() > 0.8);
    assert_eq!(Lengths::from_histogram(&LengthDistribution { mean: f64::NAN, ..histogram.clone() }), None);
    assert_eq!(Lengths::from_histogram(&LengthDistribution { counts: vec![0.0; 4], ..histogram }), None);
}

/// Numbers of all magnitudes, and what is no number.
fn number(least: f64, most: f64) -> impl Strategy<Value = f64> {
    let (low, high) = (least.log10(), most.log10());
    prop_oneof![20 => (low..high).prop_map(|exponent| 10.0_f64.powf(exponent)), 1 => proptest::num::f64::ANY]
}

fn any_profile() -> impl Strategy<Value = ServiceProfile> {
    let times = (number(1e-6, 1.0), number(1e-9, 1e-2), number(1e-9, 1e-2), number(1e-12, 1e-4));
    (times, number(1e2, 1e8), 0u32..2000, 0u32..20_000).prop_map(
        |((base, per_prefill_token, per_sequence, per_kv_token), kv_cache_tokens, max_batch, max_batched_tokens)| {
            ServiceProfile {
                base,
                per_prefill_token,
                per_sequence,
                per_kv_token,
                kv_cache_tokens,
                max_batch,
                max_batched_tokens,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_unit_of_time_changes_nothing(exponent in -3_i32..4, utilization in 0.05..0.95_f64) {
        let unit = 2.0_f64.powi(exponent);
        let in_units = ServiceProfile {
            base: h100().base * unit,
            per_prefill_token: h100().per_prefill_token * unit,
            per_sequence: h100().per_sequence * unit,
            per_kv_token: h100().per_kv_token * unit,
            ..h100()
        };
        let here = replica().analyze(replica().saturation().rate * utilization).unwrap();
        let other = QueueAnalyzer::new(in_units, chat()).unwrap();
        let there = other.analyze(other.saturation().rate * utilization).unwrap();
        let close = |one: f64, other: f64, most: f64| (one * unit / other - 1.0).abs() < most;
        prop_assert!(close(1.0 / here.rate, 1.0 / there.rate, 1e-9));
        for (here, there) in [
            (here.time_to_first_token, there.time_to_first_token),
            (here.inter_token_latency, there.inter_token_latency),
        ] {
            prop_assert!(close(here.mean, there.mean, 1e-6), "{here:?} {there:?}");
            prop_assert!(close(here.p95, there.p95, 0.025) && close(here.p99, there.p99, 0.025), "{here:?} {there:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_replica_gives_numbers_or_says_why_not(
        profile in any_profile(), prompt in number(1.0, 1e5), prompt_cv in 0.0..3.0_f64,
        output in number(1.0, 2e4), output_cv in 0.0..3.0_f64, utilization in 0.0..1.1_f64,
    ) {
        let lengths = Lengths::lognormal(prompt, prompt_cv).and_then(|prompts| {
            Ok(Workload::new(prompts, Lengths::lognormal(output, output_cv)?))
        });
        let Ok(replica) = lengths.and_then(|workload| QueueAnalyzer::new(profile, workload)) else { return Ok(()) };
        let limit = replica.saturation().rate;
        prop_assert!(limit.is_finite() && limit > 0.0);
        match replica.analyze(limit * utilization) {
            Ok(analysis) => {
                for latency in [analysis.time_to_first_token, analysis.inter_token_latency] {
                    let values = [latency.mean, latency.p95, latency.p99];
                    prop_assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{analysis:?}");
                    prop_assert!(latency.p95 <= latency.p99, "{latency:?}");
                }
                let others = [analysis.concurrency, analysis.kv_cache_usage, analysis.queueing_share];
                prop_assert!(others.iter().all(|value| value.is_finite() && *value >= 0.0), "{others:?}");
                let share = analysis.share_within_time_to_first_token(1.0);
                prop_assert!((0.0..=1.0).contains(&share), "{share}");
            }
            Err(error) => prop_assert!(matches!(error, QueueError::Unstable { .. }), "{error}"),
        }
    }
}
