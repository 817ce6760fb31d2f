//! From readings to signals.

use std::time::Duration;

use super::*;
use crate::interfaces::{EngineKind, HistogramReading, Quantity as Q, Signal};

const SECOND: Duration = Duration::from_secs(1);

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn target(pod: &str) -> ScrapeTarget {
    ScrapeTarget::new("prod", pod, format!("http://{pod}:8000/metrics"))
}

fn model() -> ModelKey {
    ModelKey::new("prod", "m")
}

fn reading(values: &[(Q, f64)]) -> EngineReading {
    values.iter().fold(EngineReading::new(EngineKind::Vllm, "m", "0"), |reading, (quantity, value)| {
        reading.with(*quantity, *value)
    })
}

fn histogram(bounds: &[f64], counts: &[f64], sum: f64) -> HistogramReading {
    HistogramReading { bounds: bounds.into(), counts: counts.to_vec(), sum }
}

/// Records one reading per moment, given in seconds after the start, and gives the signals after the last.
fn after(readings: impl IntoIterator<Item = (u64, EngineReading)>) -> ReplicaMetrics {
    let mut history = ScrapeHistory::default();
    for (seconds, reading) in readings {
        history.record(start() + SECOND * seconds as u32, &target("p"), [reading]);
    }
    history.replica_metrics(&model(), |_| None).remove(0)
}

#[test]
fn peaks_last_one_window_and_signals_carry_the_time_of_the_newest_sample() {
    let usage = |value| reading(&[(Q::KvCacheUsage, value), (Q::Waiting, 10.0 * value)]);
    let metrics = after([(0, usage(0.9)), (30, usage(0.2)), (60, usage(0.3))]);
    let at = start() + SECOND * 60;
    assert_eq!(metrics.kv_cache_usage, Signal::present(0.9, at));
    assert_eq!(metrics.queue_length, Signal::present(9.0, at));
    assert_eq!(metrics.performance.kv_cache_usage_now, Signal::present(0.3, at));
    assert_eq!(metrics.performance.queue_length_now, Signal::present(3.0, at));
    let later = after([(0, usage(0.9)), (30, usage(0.2)), (61, usage(0.3))]);
    assert_eq!(later.kv_cache_usage.value(), Some(&0.3));
}

#[test]
fn a_gauge_the_newest_answer_lacks_is_missing_and_one_the_engine_never_has_is_not_defined() {
    let mut without = reading(&[(Q::Waiting, 1.0)]);
    without.not_defined = [Q::PrefixHits].into_iter().collect();
    let metrics = after([(0, reading(&[(Q::KvCacheUsage, 0.9)])), (5, without)]);
    assert_eq!(metrics.kv_cache_usage, Signal::Missing);
    assert_eq!(metrics.performance.prefix_cache_hit_ratio, Signal::NotDefined);
}

#[test]
fn rates_means_and_latencies_are_of_the_rate_window_only() {
    let at = |second: f64| {
        // 4 requests a second; after 100 s of nothing but the past.
        let requests = 1000.0 + 4.0 * second;
        reading(&[
            (Q::Finished, requests),
            (Q::Running, if second < 60.0 { 0.0 } else { 8.0 }),
            (Q::Waiting, 0.0),
            (Q::PromptTokens, 100.0 * requests),
            (Q::GenerationTokens, 50.0 * requests),
            (Q::PrefixQueries, 100.0 * requests),
            (Q::PrefixHits, 25.0 * requests),
            (Q::Preemptions, second / 10.0),
            (Q::Rejections, second / 2.0),
        ])
        .with_histogram(Q::TimeToFirstToken, histogram(&[0.5, 1.0], &[requests, 0.0, 0.0], 0.25 * requests))
        .with_histogram(Q::PromptLength, histogram(&[100.0], &[requests, 0.0], 100.0 * requests))
    };
    let metrics = after((0..=120).step_by(5).map(|second| (second, at(second as f64))));
    let performance = &metrics.performance;
    let value = |signal: Signal<f64>| *signal.value().unwrap();
    for (name, found, expected) in [
        ("completions", value(metrics.request_rate), 4.0),
        ("arrivals", value(performance.arrival_rate), 4.5),
        ("prompt tokens", value(performance.prompt_tokens), 100.0),
        ("output tokens, from counters", value(performance.output_tokens), 50.0),
        ("prompt token rate", value(performance.prompt_token_rate), 400.0),
        ("generation token rate", value(performance.generation_token_rate), 200.0),
        ("prefix hits", value(performance.prefix_cache_hit_ratio), 0.25),
        ("preemptions", value(performance.preemption_rate), 0.1),
        ("rejections", value(performance.rejection_rate), 0.5),
        ("running", value(performance.mean_running), 8.0),
        ("finished", performance.finished.value().unwrap().stop, 4.0),
    ] {
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, not {expected}");
    }
    let latency = performance.time_to_first_token.value().unwrap();
    assert!((latency.mean - 0.25).abs() < 1e-9 && (latency.rate - 4.0).abs() < 1e-9, "{latency:?}");
    assert!((latency.p95.unwrap() - 0.475).abs() < 1e-9, "{latency:?}");
    assert_eq!(performance.inter_token_latency, Signal::Missing, "no request, no latency");
}

#[test]
fn a_first_sample_has_no_rate() {
    let metrics = after([(0, reading(&[(Q::Finished, 1000.0), (Q::Waiting, 3.0)]))]);
    assert_eq!(metrics.request_rate, Signal::Missing);
    assert_eq!(metrics.performance.arrival_rate, Signal::Missing);
}

#[test]
fn a_sample_that_is_not_newer_than_the_last_changes_nothing() {
    let done = |finished| reading(&[(Q::Finished, finished)]);
    let metrics = after([(0, done(0.0)), (10, done(10.0)), (10, done(500.0)), (9, done(900.0)), (20, done(20.0))]);
    assert_eq!(metrics.request_rate.value(), Some(&1.0));
}

#[test]
fn capacity_that_is_not_exported_is_declared_or_learned_from_the_load() {
    let lengths = |requests: f64| {
        reading(&[(Q::KvCacheUsage, 0.5), (Q::Running, 20.0)])
            .with_histogram(Q::PromptLength, histogram(&[1e4], &[requests, 0.0], 900.0 * requests))
            .with_histogram(Q::OutputLength, histogram(&[1e4], &[requests, 0.0], 200.0 * requests))
    };
    let readings = || (0..20).map(|second| (5 * second, lengths(100.0 + second as f64)));
    // 20 requests that hold 900 + 200 / 2 tokens fill one half.
    assert_eq!(after(readings()).kv_cache_tokens.value(), Some(&40_000.0));

    let mut history = ScrapeHistory::default();
    let declared = ScrapeTarget { kv_cache_tokens: Some(64_000), ..target("p") };
    readings().for_each(|(second, reading)| history.record(start() + SECOND * second as u32, &declared, [reading]));
    let metrics = history.replica_metrics(&model(), |_| None);
    assert_eq!(metrics[0].kv_cache_tokens.value(), Some(&64_000.0));

    let exported = lengths(0.0).with(Q::KvCacheBlocks, 10.0).with(Q::KvCacheBlockSize, 16.0);
    assert_eq!(after([(0, exported)]).kv_cache_tokens.value(), Some(&160.0));
}

#[test]
fn lengths_are_all_time_until_the_window_has_passed_and_of_the_window_after() {
    let at = |short: f64, long: f64| {
        reading(&[])
            .with_histogram(Q::OutputLength, histogram(&[10.0, 100.0], &[short, long, 0.0], 5.0 * short + 50.0 * long))
    };
    let mut history = ScrapeHistory::default();
    let mut lengths_at = |second: u32, reading| {
        history.record(start() + SECOND * second, &target("p"), [reading]);
        history.model_metrics(&model()).output_lengths.unwrap()
    };
    assert_eq!(lengths_at(0, at(1000.0, 0.0)).counts, [1000.0, 0.0, 0.0]);
    for second in (60..1800).step_by(60) {
        lengths_at(second, at(1000.0, f64::from(second)));
    }
    let late = lengths_at(1800, at(1000.0, 1800.0));
    assert_eq!(late.counts[0], 0.0, "what was long ago no longer counts");
    assert!((850.0..=1000.0).contains(&late.counts[1]), "a window and at most one mark more: {late:?}");
    assert_eq!(late.mean, 50.0);
}

#[test]
fn the_lengths_of_a_model_outlive_its_replicas() {
    let at = reading(&[]).with_histogram(Q::PromptLength, histogram(&[10.0], &[100.0, 0.0], 500.0));
    let mut history = ScrapeHistory::default();
    history.record(start(), &target("a"), [at.clone()]);
    history.record(start(), &target("b"), [at]);
    assert_eq!(history.model_metrics(&model()).prompt_lengths.unwrap().total(), 200.0, "over all replicas");
    history.retain(start(), |_| false);
    assert_eq!(history.replica_metrics(&model(), |_| None), []);
    assert_eq!(history.model_metrics(&model()).prompt_lengths.unwrap().total(), 200.0);
}

#[test]
fn instances_are_named_by_address_and_rank_and_attributed() {
    let mut history = ScrapeHistory::default();
    let ranks = ["0", "1"].map(|rank| EngineReading::new(EngineKind::Vllm, "m", rank).with(Q::Waiting, 1.0));
    history.record(start(), &target("p"), ranks);
    let metrics = history.replica_metrics(&model(), |target| Some(VariantKey::new(target.namespace.clone(), "v")));
    assert_eq!(metrics.iter().map(|metrics| &*metrics.instance).collect::<Vec<_>>(), ["p:8000", "p:8000/1"]);
    assert!(
        metrics.iter().all(|metrics| metrics.variant == Some(VariantKey::new("prod", "v")) && &*metrics.pod == "p")
    );
}

#[test]
fn a_reading_without_a_model_is_of_the_one_its_variant_declares() {
    let nameless = || EngineReading::new(EngineKind::Tgi, "", "").with(Q::Waiting, 1.0);
    let mut history = ScrapeHistory::default();
    history.record(start(), &target("unknown"), [nameless()]);
    history.record(start(), &ScrapeTarget { model_id: Some("m".into()), ..target("known") }, [nameless()]);
    let metrics = history.replica_metrics(&model(), |_| None);
    assert_eq!(metrics.iter().map(|metrics| &*metrics.pod).collect::<Vec<_>>(), ["known"]);
}

#[test]
fn gateways_are_added_up_and_their_restarts_taken_out() {
    let mut history = ScrapeHistory::default();
    let said = |queue, requests| [GatewayReading { model: "m".into(), queue: Some(queue), requests: Some(requests) }];
    for (second, requests) in [(0, 100.0), (10, 120.0), (20, 5.0)] {
        let at = start() + SECOND * second;
        history.record_gateway(at, &target("epp-a"), said(3.0, requests));
        history.record_gateway(at, &target("epp-b"), said(1.0, f64::from(second)));
    }
    let metrics = history.model_metrics(&model());
    let at = start() + SECOND * 20;
    assert_eq!(metrics.gateway_queue, Signal::present(4.0, at));
    assert_eq!(metrics.gateway_arrival_rate, Signal::present(25.0 / 20.0 + 1.0, at));
    assert_eq!(history.model_metrics(&ModelKey::new("other", "m")).gateway_queue, Signal::Missing);
}
