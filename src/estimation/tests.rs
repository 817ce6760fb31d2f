use proptest::prelude::*;

use super::*;
use crate::interfaces::ServiceProfile;

/// An 8B model on an H100.
const TRUTH: [f64; 4] = [7.0e-3, 19.0e-6, 6.3e-6, 41.3e-9];

/// What a replica with `decoding` sequences and `prefill_rate` prompt tokens per second would show.
fn seen(decoding: f64, prefill_rate: f64, noise: f64) -> Observation {
    let [base, prefill, sequence, kv] = TRUTH;
    let (company, context) = (decoding + 1.0, 1200.0);
    let iteration = (base + company * (sequence + context * kv)) / (1.0 - prefill_rate * prefill);
    let prompts = 1000.0;
    let alone = base + decoding * (sequence + context * kv);
    Observation {
        inter_token_latency: iteration * (1.0 + noise),
        first_token_service: Some((alone + prefill * (prompts + prefill_rate * iteration)) * (1.0 + noise)),
        decoding,
        kv_tokens: decoding * context,
        prefill_rate,
        prompt_tokens: prompts,
        max_batched_tokens: 2048.0,
        dispersion: 1.0,
        spread: 0.0,
    }
}

fn profile(factor: f64) -> ServiceProfile {
    ServiceProfile {
        base: TRUTH[0] * factor,
        per_prefill_token: TRUTH[1] * factor,
        per_sequence: TRUTH[2] * factor,
        per_kv_token: TRUTH[3] * factor,
        kv_cache_tokens: 372_000.0,
        max_batch: 256,
        max_batched_tokens: 2048,
    }
}

/// An hour in which the load moves up and down; one look per quarter of a minute.
fn serve(estimate: &mut Estimate, looks: u32) {
    for look in 0..looks {
        let swing = 0.5 + 0.4 * (f64::from(look) / 20.0).sin();
        let noise = 0.02 * (f64::from(look) * 2.7).sin();
        estimate.observe(&seen(120.0 * swing, 20_000.0 * swing, noise));
    }
}

/// Latency at a load that was never seen, over the true one.
fn extrapolation(estimate: &Estimate) -> f64 {
    let truth = Estimate::from_profile(&profile(1.0));
    estimate.inter_token_latency(190.0, 190.0 * 1200.0, 24_000.0)
        / truth.inter_token_latency(190.0, 190.0 * 1200.0, 24_000.0)
}

#[test]
fn from_nothing_the_latency_at_a_load_never_seen_is_known_within_5_percent_after_15_minutes() {
    let mut estimate = Estimate::from_observation(&seen(60.0, 10_000.0, 0.0)).unwrap();
    let before = estimate.relative_error(190.0, 190.0 * 1200.0, 24_000.0);
    serve(&mut estimate, 60);
    assert!((extrapolation(&estimate) - 1.0).abs() < 0.05, "{}", extrapolation(&estimate));
    let after = estimate.relative_error(190.0, 190.0 * 1200.0, 24_000.0);
    assert!(after < before / 3.0 && after < 0.1, "{before} {after}");
}

#[test]
fn a_profile_that_is_20_percent_off_is_corrected() {
    for factor in [0.8, 1.2] {
        let mut estimate = Estimate::from_profile(&profile(factor));
        assert!((extrapolation(&estimate) - 1.0).abs() > 0.1);
        serve(&mut estimate, 120);
        assert!((extrapolation(&estimate) - 1.0).abs() < 0.05, "{factor}: {}", extrapolation(&estimate));
    }
}

#[test]
fn single_outliers_are_ignored_and_a_lasting_change_is_believed() {
    let mut estimate = Estimate::from_profile(&profile(1.0));
    serve(&mut estimate, 40);
    let slow = Observation { inter_token_latency: 1.0, first_token_service: Some(30.0), ..seen(60.0, 10_000.0, 0.0) };
    estimate.observe(&slow);
    assert!((extrapolation(&estimate) - 1.0).abs() < 0.05);

    for _ in 0..60 {
        let one = seen(60.0, 5_000.0, 0.0);
        estimate.observe(&Observation {
            inter_token_latency: 3.0 * one.inter_token_latency,
            first_token_service: one.first_token_service.map(|seconds| 3.0 * seconds),
            ..one
        });
    }
    let latency = estimate.inter_token_latency(61.0, 61.0 * 1200.0, 5_000.0);
    let expected = 3.0 * seen(60.0, 5_000.0, 0.0).inter_token_latency;
    assert!((latency / expected - 1.0).abs() < 0.15, "{latency} {expected}");
}

#[test]
fn a_window_that_mixes_two_loads_moves_little() {
    let error_after = |spread: f64| {
        let mut estimate = Estimate::from_profile(&profile(1.0));
        serve(&mut estimate, 40);
        // A quarter of the window at ten times the load: nine of ten tokens are from there.
        let (calm, burst) = (seen(8.0, 3_000.0, 0.0), seen(80.0, 20_000.0, 0.0));
        for _ in 0..20 {
            estimate.observe(&Observation {
                inter_token_latency: 0.2 * calm.inter_token_latency + 0.8 * burst.inter_token_latency,
                first_token_service: None,
                decoding: 26.0,
                kv_tokens: 26.0 * 1200.0,
                prefill_rate: 7_250.0,
                spread,
                ..calm
            });
        }
        (extrapolation(&estimate) - 1.0).abs()
    };
    assert!(error_after(1.5) < 0.05 && error_after(0.0) > 0.1, "{} {}", error_after(1.5), error_after(0.0));
}

#[test]
fn replicas_that_are_kept_even_are_understood_as_well() {
    let [base, prefill, sequence, kv] = TRUTH;
    let mut estimate = Estimate::from_observation(&seen(60.0, 10_000.0, 0.0)).unwrap();
    for look in 0..120 {
        // At one sequence a replica, no prompt is ever prefilled beside it; in a crowd as many as elsewhere.
        let decoding = if look % 10 == 0 { 40.0 } else { 1.0 };
        let prefill_rate = 500.0 * decoding;
        let met = 1.0 - 1.0 / decoding;
        let iteration = (base + decoding * (sequence + 1200.0 * kv)) / (1.0 - met * prefill_rate * prefill);
        estimate.observe(&Observation {
            inter_token_latency: iteration,
            first_token_service: Some(base + prefill * 1000.0),
            decoding,
            kv_tokens: decoding * 1200.0,
            prefill_rate,
            dispersion: 0.0,
            ..seen(60.0, 10_000.0, 0.0)
        });
    }
    let learned = estimate.parameters()[0];
    assert!((learned / base - 1.0).abs() < 0.05, "{learned}");
}

proptest! {
    #[test]
    fn whatever_is_observed_parameters_stay_positive_and_finite(
        looks in prop::collection::vec(prop::array::uniform8(prop::num::f64::ANY), 1..30)
    ) {
        let mut estimate = Estimate::from_profile(&profile(1.0));
        for [latency, service, decoding, kv, prefill, prompts, dispersion, spread] in looks {
            estimate.observe(&Observation {
                inter_token_latency: latency,
                first_token_service: Some(service),
                decoding,
                kv_tokens: kv,
                prefill_rate: prefill,
                prompt_tokens: prompts,
                max_batched_tokens: 2048.0,
                dispersion,
                spread,
            });
        }
        prop_assert!(estimate.parameters().iter().all(|parameter| parameter.is_finite() && *parameter > 0.0));
        prop_assert!(estimate.relative_error(10.0, 1e4, 1e3).is_finite());
    }
}
