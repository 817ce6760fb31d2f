//! The Go project's percentage analyzer (version 1, default until its v0.9), repeated exactly.
//!
//! Its known defects are part of it: saturated replicas are left out of the scale-down simulation, and one pending
//! replica freezes the whole model.

use std::collections::BTreeMap;

use super::percentage::{
    Replica, Verdict, average_load, below, describe, mean, redistribution, relative_spare, replicas_of,
};
use crate::interfaces::{
    ModelKey, ModelSaturationAnalysis, ReplicaMetrics, SaturationAnalyzer, SaturationScalingConfig, SpareTriggers,
    VariantDecision, VariantKey,
};

/// Upstream's version 1, for comparison and migration.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamV1Analyzer;

impl UpstreamV1Analyzer {
    /// `kvSpareTrigger` and `queueSpareTrigger` where a configuration has none.
    pub const TRIGGERS: SpareTriggers = SpareTriggers { kv_cache: 0.10, queue_depth: 3.0 };
}

impl SaturationAnalyzer for UpstreamV1Analyzer {
    fn analyze_model_saturation(
        &self,
        model: &ModelKey,
        metrics: &[ReplicaMetrics],
        config: &SaturationScalingConfig,
    ) -> ModelSaturationAnalysis {
        analyze(model, &replicas_of(metrics), config)
    }

    fn calculate_capacity_targets(
        &self,
        analysis: &ModelSaturationAnalysis,
        variants: &[VariantDecision],
    ) -> BTreeMap<VariantKey, u32> {
        if variants.iter().any(in_transition) {
            return variants.iter().map(|variant| (variant.variant.clone(), asked_for(variant))).collect();
        }
        super::targets::by_cost(super::targets::direction(analysis), variants)
    }
}

fn in_transition(variant: &VariantDecision) -> bool {
    variant.pending > 0 || asked_for(variant) != variant.current
}

/// Upstream writes "not decided" as 0.
fn asked_for(variant: &VariantDecision) -> u32 {
    variant.desired.filter(|desired| *desired != 0).unwrap_or(variant.current)
}

/// Upstream's arithmetic with absolute spare triggers.
pub(super) fn analyze(
    model: &ModelKey,
    replicas: &[Replica],
    config: &SaturationScalingConfig,
) -> ModelSaturationAnalysis {
    let triggers = config.spare_triggers.unwrap_or(UpstreamV1Analyzer::TRIGGERS);
    let thresholds = (config.kv_cache_threshold, config.queue_depth_threshold);
    let non_saturated: Vec<&Replica> = replicas.iter().filter(|replica| !replica.is_saturated(config)).collect();

    let spare = |load: (f64, f64)| (thresholds.0 - load.0, thresholds.1 - load.1);
    let average = average_load(non_saturated.iter().copied());
    let average = (average.kv_cache, average.queue_depth);
    // With every replica saturated the average spare is 0, not threshold − 0.
    let average_spare = if non_saturated.is_empty() { (0.0, 0.0) } else { spare(average) };
    let should_scale_up = !replicas.is_empty()
        && (below(average_spare.0, triggers.kv_cache) || below(average_spare.1, triggers.queue_depth));

    let factor = redistribution(non_saturated.len());
    let after = spare((average.0 * factor, average.1 * factor));
    let scale_down_safe = non_saturated.len() >= 2
        && !should_scale_up
        && !below(after.0, triggers.kv_cache)
        && !below(after.1, triggers.queue_depth);

    let average_spare_capacity = mean(non_saturated.iter().map(|replica| relative_spare(replica.load, config)));
    describe(model, replicas, config, Verdict { average_spare_capacity, should_scale_up, scale_down_safe })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::interfaces::{EngineKind, Growth, ReplicaBounds, Role, Signal};

    fn upstream_defaults() -> SaturationScalingConfig {
        SaturationScalingConfig {
            spare_triggers: Some(UpstreamV1Analyzer::TRIGGERS),
            ..SaturationScalingConfig::default()
        }
    }

    fn replica(index: usize, variant: &str, kv: f64, queue: f64) -> ReplicaMetrics {
        let present = |value| Signal::present(value, Timestamp::UNIX_EPOCH);
        ReplicaMetrics {
            pod: format!("{variant}-{index}").into(),
            instance: "8000".into(),
            variant: Some(VariantKey::new("default", variant)),
            engine: EngineKind::Vllm,
            kv_cache_usage: present(kv),
            queue_length: present(queue),
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance: std::sync::Arc::default(),
        }
    }

    struct Vector {
        number: u8,
        loads: &'static [(&'static str, f64, f64)],
        non_saturated: u32,
        spare: (f64, f64),
        up: bool,
        down_safe: bool,
    }

    /// Upstream's published analysis vectors: KV threshold 0.8, queue 5, triggers 0.1 and 3.
    const ANALYSIS: &[Vector] = &[
        Vector {
            number: 1,
            loads: &[("a", 0.75, 2.0), ("a", 0.76, 2.0)],
            non_saturated: 2,
            spare: (0.045, 3.0),
            up: true,
            down_safe: false,
        },
        Vector {
            number: 2,
            loads: &[("a", 0.50, 3.0), ("a", 0.50, 3.0)],
            non_saturated: 2,
            spare: (0.30, 2.0),
            up: true,
            down_safe: false,
        },
        Vector {
            number: 3,
            loads: &[("a", 0.50, 1.0), ("a", 0.50, 1.0)],
            non_saturated: 2,
            spare: (0.30, 4.0),
            up: false,
            down_safe: false,
        },
        Vector {
            number: 4,
            loads: &[("a", 0.20, 1.0), ("a", 0.30, 1.0), ("a", 0.25, 1.0)],
            non_saturated: 3,
            spare: (0.55, 4.0),
            up: false,
            down_safe: true,
        },
        Vector {
            number: 5,
            loads: &[("a", 0.70, 2.0), ("a", 0.75, 2.0)],
            non_saturated: 2,
            spare: (0.075, 3.0),
            up: true,
            down_safe: false,
        },
        Vector {
            number: 6,
            loads: &[("a", 0.50, 2.0)],
            non_saturated: 1,
            spare: (0.30, 3.0),
            up: false,
            down_safe: false,
        },
        Vector { number: 7, loads: &[], non_saturated: 0, spare: (0.0, 0.0), up: false, down_safe: false },
        Vector {
            number: 8,
            loads: &[("a", 0.85, 2.0), ("a", 0.50, 6.0), ("a", 0.90, 7.0)],
            non_saturated: 0,
            spare: (0.0, 0.0),
            up: true,
            down_safe: false,
        },
        Vector {
            number: 10,
            loads: &[("a", 0.70, 2.0), ("a", 0.75, 3.0), ("b", 0.60, 1.0), ("b", 0.65, 2.0)],
            non_saturated: 4,
            spare: (0.125, 3.0),
            up: false,
            down_safe: false,
        },
        Vector {
            number: 11,
            loads: &[("a", 0.65, 1.0), ("a", 0.72, 1.0)],
            non_saturated: 2,
            spare: (0.115, 4.0),
            up: false,
            down_safe: false,
        },
    ];

    #[test]
    fn upstreams_analysis_vectors_hold() {
        for vector in ANALYSIS {
            let metrics: Vec<_> = vector
                .loads
                .iter()
                .enumerate()
                .map(|(i, (variant, kv, queue))| replica(i, variant, *kv, *queue))
                .collect();
            let analysis = UpstreamV1Analyzer.analyze_model_saturation(
                &ModelKey::new("default", "m"),
                &metrics,
                &upstream_defaults(),
            );
            let n = vector.number;
            assert_eq!(analysis.total_replicas - analysis.saturated_replicas, vector.non_saturated, "vector {n}");
            assert!((analysis.average_spare.kv_cache - vector.spare.0).abs() < 1e-9, "vector {n}: {analysis:?}");
            assert!((analysis.average_spare.queue_depth - vector.spare.1).abs() < 1e-9, "vector {n}: {analysis:?}");
            assert_eq!(
                (analysis.should_scale_up, analysis.scale_down_safe),
                (vector.up, vector.down_safe),
                "vector {n}"
            );
        }
    }

    /// Vector 13: utilisation is the mean of the replicas' KV-cache usage.
    #[test]
    fn upstreams_utilisation_vectors_hold() {
        for (loads, mean, peak) in [([0.3, 0.6, 0.9], 0.6, 0.9), ([0.85, 0.4, 0.55], 0.6, 0.85)] {
            let metrics: Vec<_> = loads.iter().enumerate().map(|(i, kv)| replica(i, "a", *kv, 0.0)).collect();
            let model = ModelKey::new("default", "m");
            let analysis = UpstreamV1Analyzer.analyze_model_saturation(&model, &metrics, &upstream_defaults());
            let variant = &analysis.variant_analyses[0];
            assert!((variant.average.kv_cache - mean).abs() < 1e-9);
            assert!((variant.peak.kv_cache - peak).abs() < 1e-9);
        }
    }

    fn signal(up: bool, down_safe: bool) -> ModelSaturationAnalysis {
        let model = ModelKey::new("default", "m");
        let analysis = UpstreamV1Analyzer.analyze_model_saturation(&model, &[], &upstream_defaults());
        ModelSaturationAnalysis {
            should_scale_up: up,
            scale_down_safe: down_safe,
            should_scale_down: down_safe,
            ..analysis
        }
    }

    /// name, cost, current, pending, desired
    type State = (&'static str, f64, u32, u32, Option<u32>);

    fn targets(analyzer: &dyn SaturationAnalyzer, states: &[State], up: bool, down: bool) -> Vec<u32> {
        let variants: Vec<_> = states
            .iter()
            .map(|(name, cost, current, pending, desired)| VariantDecision {
                variant: VariantKey::new("default", *name),
                cost: *cost,
                role: Role::Both,
                spec: *current,
                current: *current,
                pending: *pending,
                desired: *desired,
                bounds: ReplicaBounds::default(),
                growth: Growth::default(),
            })
            .collect();
        let targets = analyzer.calculate_capacity_targets(&signal(up, down), &variants);
        variants.iter().map(|variant| targets[&variant.variant]).collect()
    }

    #[test]
    fn upstreams_target_vectors_hold() {
        let v1: &dyn SaturationAnalyzer = &UpstreamV1Analyzer;
        let three: &[State] = &[("exp", 20.0, 2, 0, None), ("cheap", 5.0, 2, 0, None), ("mid", 15.0, 2, 0, None)];
        assert_eq!(targets(v1, three, true, false), [2, 3, 2], "vector 14");
        assert_eq!(targets(v1, three, false, true), [1, 2, 2], "vector 15");
        assert_eq!(
            targets(v1, &[("a", 5.0, 3, 1, None), ("b", 5.0, 2, 0, None)], true, false),
            [3, 2],
            "vector 17: frozen"
        );
        assert_eq!(
            targets(v1, &[("b", 5.0, 1, 0, None), ("a", 5.0, 1, 0, None)], true, false),
            [1, 2],
            "vector 18: tie by name"
        );
        assert_eq!(
            targets(v1, &[("a", 5.0, 1, 0, None), ("b", 9.0, 1, 0, None)], false, true),
            [1, 1],
            "vector 20: all at one"
        );
        assert_eq!(targets(v1, &[("a", 5.0, 1, 0, None)], true, false), [2], "vector 21: replicas, not pods");
    }

    #[test]
    fn ours_is_not_frozen_by_a_pending_replica() {
        let ours: &dyn SaturationAnalyzer = &crate::saturation::PercentageAnalyzer;
        assert_eq!(targets(ours, &[("a", 5.0, 3, 1, None), ("b", 5.0, 2, 0, None)], true, false), [4, 2]);
    }

    #[test]
    fn an_ask_that_is_still_to_come_is_kept_and_a_withdrawn_scale_down_is_not() {
        let ours: &dyn SaturationAnalyzer = &crate::saturation::PercentageAnalyzer;
        assert_eq!(targets(ours, &[("a", 5.0, 2, 0, Some(3))], false, false), [3]);
        assert_eq!(targets(ours, &[("a", 5.0, 2, 0, Some(1))], false, false), [2]);
    }
}
