//! The single queues against each other and against any input.

use proptest::prelude::*;

use crate::analyzer::{
    Lengths, MG1Model, MM1KModel, MM1StateDependent, QueueError, QueueMetrics,
    upstream::{MeanLengths, Parameters, QueueAnalyzer, Targets},
};

fn sane(queue: &QueueMetrics) -> bool {
    let QueueMetrics {
        utilization,
        in_system,
        in_service,
        in_queue,
        throughput,
        response_time,
        waiting_time,
        service_time,
        blocking_probability,
    } = *queue;
    [in_system, in_service, in_queue, throughput, response_time, waiting_time, service_time]
        .iter()
        .all(|value| value.is_finite() && *value >= 0.0)
        && [utilization, blocking_probability].iter().all(|share| (0.0..=1.0 + 1e-9).contains(share))
}

#[test]
fn mg1_is_mm1_for_exponential_and_md1_for_constant_service() {
    for load in [0.05, 0.3, 0.5, 0.8, 0.95] {
        for mean in [0.01, 1.0, 40.0] {
            let rate = load / mean;
            // M/M/1: T = 1 / (μ − λ). M/D/1: W = ρ·S / (2·(1 − ρ)).
            let exponential = MG1Model::new(rate, mean, 1.0).unwrap().metrics();
            let response = 1.0 / (1.0 / mean - rate);
            assert!((exponential.response_time / response - 1.0).abs() < 1e-9, "{load} {mean}");
            assert!((exponential.in_system / (load / (1.0 - load)) - 1.0).abs() < 1e-9, "{load} {mean}");
            let constant = MG1Model::new(rate, mean, 0.0).unwrap().metrics();
            let waiting = load * mean / (2.0 * (1.0 - load));
            assert!((constant.waiting_time / waiting - 1.0).abs() < 1e-9, "{load} {mean}");
        }
    }
}

#[test]
fn a_finite_queue_with_much_room_is_the_infinite_one() {
    let finite = MM1KModel::new(0.6, 1.0, 500).unwrap().metrics();
    let infinite = MG1Model::new(0.6, 1.0, 1.0).unwrap().metrics();
    assert!((finite.waiting_time - infinite.waiting_time).abs() < 1e-9);
}

#[test]
fn a_state_dependent_queue_of_constant_rate_is_mm1k() {
    let simple = MM1KModel::new(1.7, 2.0, 30).unwrap().metrics();
    let general = MM1StateDependent::new(1.7, &[2.0], 30).unwrap().metrics();
    assert!((simple.in_system - general.in_system).abs() < 1e-9);
    assert!((simple.blocking_probability - general.blocking_probability).abs() < 1e-12);
}

#[test]
fn an_overloaded_infinite_queue_is_an_error_that_says_how_much_it_carries() {
    let error = MG1Model::new(3.0, 0.5, 1.0).unwrap_err();
    assert_eq!(error, QueueError::Unstable { arrival_rate: 3.0, limit: 2.0 });
    assert!(error.to_string().contains("at most 2 requests/s"), "{error}");
}

#[test]
fn an_input_that_makes_no_sense_is_named() {
    for (error, name) in [
        (MM1KModel::new(f64::NAN, 1.0, 3).unwrap_err(), "arrival rate"),
        (MM1KModel::new(1.0, 0.0, 3).unwrap_err(), "service rate"),
        (MM1KModel::new(1.0, 1.0, 0).unwrap_err(), "capacity"),
        (MM1StateDependent::new(1.0, &[], 3).unwrap_err(), "number of service rates"),
        (MG1Model::new(1.0, -1.0, 1.0).unwrap_err(), "mean service time"),
        (Lengths::lognormal(0.0, 1.0).unwrap_err(), "mean token length"),
        (Lengths::lognormal(10.0, f64::INFINITY).unwrap_err(), "coefficient of variation of token lengths"),
    ] {
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

/// Any number at all, with those that occur made likely.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        proptest::num::f64::ANY,
        (-12.0..12.0_f64).prop_map(|exponent| 10.0_f64.powf(exponent)),
        Just(0.0),
        Just(f64::NAN),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_input_gives_a_negative_an_infinity_or_a_nan(
        rate in number(), service in number(), variation in number(), room in 0u32..5000,
        rates in proptest::collection::vec(number(), 0..20),
    ) {
        for queue in [
            MM1KModel::new(rate, service, room).map(|queue| queue.metrics()),
            MM1StateDependent::new(rate, &rates, room).map(|queue| queue.metrics()),
            MG1Model::new(rate, service, variation).map(|queue| queue.metrics()),
        ].into_iter().flatten() {
            prop_assert!(sane(&queue), "{queue:?}");
        }
    }

    #[test]
    fn upstreams_model_gives_numbers_or_says_why_not(
        alpha in number(), beta in number(), gamma in number(), input in number(), output in number(),
        rate in number(), target in number(), max_batch in 0u32..300, max_queue in 0u32..100,
    ) {
        let parameters = Parameters { alpha, beta, gamma, max_batch, max_queue };
        let Ok(analyzer) = QueueAnalyzer::new(parameters, MeanLengths { input, output }) else { return Ok(()) };
        let targets = Targets { time_to_first_token: target, inter_token_latency: target, tokens_per_second: 0.0 };
        for at in [analyzer.analyze(rate), analyzer.size(&targets).map(|sizing| sizing.at)].into_iter().flatten() {
            let values = [at.throughput, at.response_time, at.waiting_time, at.concurrency, at.prefill_time,
                at.inter_token_latency, at.time_to_first_token, at.utilization];
            prop_assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{at:?}");
        }
    }

    #[test]
    fn more_arrivals_wait_longer(load in 0.05..0.9_f64, more in 1.01..1.1_f64, variation in 0.0..5.0_f64) {
        let wait = |load: f64| MG1Model::new(load, 1.0, variation).unwrap().metrics().waiting_time;
        prop_assert!(wait(load * more) > wait(load));
        let wait = |load: f64| MM1KModel::new(load, 1.0, 50).unwrap().metrics().waiting_time;
        prop_assert!(wait(load * more) > wait(load));
    }

    #[test]
    fn lognormal_lengths_have_their_mean_and_their_variation(mean in 30.0..20_000.0_f64, variation in 0.0..1.5_f64) {
        let lengths = Lengths::lognormal(mean, variation).unwrap();
        prop_assert!((lengths.mean() / mean - 1.0).abs() < 1e-2, "{}", lengths.mean());
        prop_assert!((lengths.variation() - variation).abs() < 0.03 * variation.max(0.1), "{}", lengths.variation());
    }
}
