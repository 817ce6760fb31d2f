//! The percentage algorithm of the package reference, as the package contract settles it.

use std::{collections::BTreeMap, sync::Arc};

use super::{targets, upstream_v1};
use crate::interfaces::{
    ModelKey, ModelSaturationAnalysis, ReplicaMetrics, SaturationAnalyzer, SaturationScalingConfig, SignalAverages,
    VariantDecision, VariantKey, VariantSaturationAnalysis,
};

/// The percentage-based analyzer. With upstream's spare triggers configured it uses upstream's arithmetic, but it never
/// freezes a model because a replica is pending.
#[derive(Clone, Copy, Debug, Default)]
pub struct PercentageAnalyzer;

impl SaturationAnalyzer for PercentageAnalyzer {
    fn analyze_model_saturation(
        &self,
        model: &ModelKey,
        metrics: &[ReplicaMetrics],
        config: &SaturationScalingConfig,
    ) -> ModelSaturationAnalysis {
        analyze_replicas(model, &replicas_of(metrics), config)
    }

    fn calculate_capacity_targets(
        &self,
        analysis: &ModelSaturationAnalysis,
        variants: &[VariantDecision],
    ) -> BTreeMap<VariantKey, u32> {
        targets::by_cost(targets::direction(analysis), variants)
    }
}

/// The analysis of whole replicas, measured or supposed.
pub fn analyze_replicas(
    model: &ModelKey,
    replicas: &[Replica],
    config: &SaturationScalingConfig,
) -> ModelSaturationAnalysis {
    if config.spare_triggers.is_some() {
        return upstream_v1::analyze(model, replicas, config);
    }
    describe(model, replicas, config, judge(replicas, config))
}

/// The load of one replica: the greatest of its engine instances' signals.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Variant it belongs to.
    pub variant: VariantKey,
    /// Its signals.
    pub load: SignalAverages,
}

impl Replica {
    /// Whether a signal is at or over its threshold.
    pub fn is_saturated(&self, config: &SaturationScalingConfig) -> bool {
        self.load.kv_cache >= config.kv_cache_threshold || self.load.queue_depth >= config.queue_depth_threshold
    }
}

/// Engine instances joined to replicas. An instance that lacks a signal or a variant leaves its whole pod out: half a
/// replica's load says nothing of the replica.
pub fn replicas_of(metrics: &[ReplicaMetrics]) -> Vec<Replica> {
    joined(metrics.iter().map(|instance| (&instance.pod, load_of(instance))).collect())
}

/// Loads of engine instances, each with its pod, joined to replicas in the order of pods. An instance without a load leaves
/// its whole pod out.
pub(crate) fn joined(mut instances: Vec<(&Arc<str>, Option<Replica>)>) -> Vec<Replica> {
    instances.sort_by_key(|(pod, _)| *pod);
    let mut replicas = Vec::with_capacity(instances.len());
    let pods = instances.chunk_by_mut(|(pod, _), (next, _)| pod == next);
    let replica = |pod: &mut [(&Arc<str>, Option<Replica>)]| {
        let mut loads = pod.iter_mut().map(|(_, load)| load.take());
        let first = loads.next().flatten()?;
        loads.try_fold(first, |replica, other| Some(join(replica, &other?)))
    };
    replicas.extend(pods.filter_map(replica));
    replicas
}

fn load_of(instance: &ReplicaMetrics) -> Option<Replica> {
    let kv_cache = *instance.kv_cache_usage.value()?;
    let queue_depth = *instance.queue_length.value()?;
    Some(Replica { variant: instance.variant.clone()?, load: SignalAverages { kv_cache, queue_depth } })
}

fn join(replica: Replica, other: &Replica) -> Replica {
    let load = SignalAverages {
        kv_cache: replica.load.kv_cache.max(other.load.kv_cache),
        queue_depth: replica.load.queue_depth.max(other.load.queue_depth),
    };
    Replica { load, ..replica }
}

/// Spare capacity as a fraction of the threshold: the smaller of the signals' (T − x)/T. Negative above the threshold.
pub fn relative_spare(load: SignalAverages, config: &SaturationScalingConfig) -> f64 {
    let kv_cache = 1.0 - load.kv_cache / config.kv_cache_threshold;
    let queue_depth = 1.0 - load.queue_depth / config.queue_depth_threshold;
    kv_cache.min(queue_depth)
}

/// The answer of an analysis, before it is described.
#[derive(Clone, Copy)]
pub(super) struct Verdict {
    pub(super) average_spare_capacity: f64,
    pub(super) should_scale_up: bool,
    pub(super) scale_down_safe: bool,
}

fn judge(replicas: &[Replica], config: &SaturationScalingConfig) -> Verdict {
    let non_saturated = || replicas.iter().filter(|replica| !replica.is_saturated(config));
    let average_spare_capacity = mean(non_saturated().map(|replica| relative_spare(replica.load, config)));
    let should_scale_up = !replicas.is_empty() && below(average_spare_capacity, config.spare_capacity_target);
    // Saturated replicas carry load too: unlike upstream they are part of what one replica less has to hold.
    let after = average_load(replicas.iter()).scaled(redistribution(replicas.len()));
    let scale_down_safe = replicas.len() >= 2
        && !should_scale_up
        && !below(relative_spare(after, config), config.spare_capacity_target + config.safety_margin);
    Verdict { average_spare_capacity, should_scale_up, scale_down_safe }
}

/// Strictly below, but for the rounding of sums and products: 0.28 over two replicas leaves exactly 30 % for one.
pub(super) fn below(value: f64, limit: f64) -> bool {
    value < limit - 1e-9
}

/// How much more each of n − 1 replicas carries than each of n did.
pub(super) fn redistribution(replicas: usize) -> f64 {
    if replicas < 2 { f64::INFINITY } else { replicas as f64 / (replicas - 1) as f64 }
}

/// Mean of `values`; 0 when there are none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// Mean load per signal.
pub(super) fn average_load<'a>(replicas: impl Iterator<Item = &'a Replica> + Clone) -> SignalAverages {
    SignalAverages {
        kv_cache: mean(replicas.clone().map(|replica| replica.load.kv_cache)),
        queue_depth: mean(replicas.map(|replica| replica.load.queue_depth)),
    }
}

/// The verdict with the numbers behind it.
pub(super) fn describe(
    model: &ModelKey,
    replicas: &[Replica],
    config: &SaturationScalingConfig,
    verdict: Verdict,
) -> ModelSaturationAnalysis {
    let spare = |of: fn(&SignalAverages) -> f64, threshold: f64| {
        mean(replicas.iter().filter(|replica| !replica.is_saturated(config)).map(|r| threshold - of(&r.load)))
    };
    ModelSaturationAnalysis {
        model: model.clone(),
        total_replicas: count(replicas.iter()),
        saturated_replicas: count(replicas.iter().filter(|replica| replica.is_saturated(config))),
        average_spare_capacity: verdict.average_spare_capacity,
        average_spare: SignalAverages {
            kv_cache: spare(|load| load.kv_cache, config.kv_cache_threshold),
            queue_depth: spare(|load| load.queue_depth, config.queue_depth_threshold),
        },
        should_scale_up: verdict.should_scale_up,
        should_scale_down: verdict.scale_down_safe,
        scale_down_safe: verdict.scale_down_safe,
        variant_analyses: per_variant(replicas, config),
    }
}

fn per_variant(replicas: &[Replica], config: &SaturationScalingConfig) -> Vec<VariantSaturationAnalysis> {
    let mut variants: BTreeMap<&VariantKey, Vec<&Replica>> = BTreeMap::new();
    for replica in replicas {
        variants.entry(&replica.variant).or_default().push(replica);
    }
    variants
        .into_iter()
        .map(|(variant, replicas)| VariantSaturationAnalysis {
            variant: variant.clone(),
            total_replicas: count(replicas.iter()),
            saturated_replicas: count(replicas.iter().filter(|replica| replica.is_saturated(config))),
            average: average_load(replicas.iter().copied()),
            peak: replicas.iter().fold(SignalAverages::default(), |peak, replica| SignalAverages {
                kv_cache: peak.kv_cache.max(replica.load.kv_cache),
                queue_depth: peak.queue_depth.max(replica.load.queue_depth),
            }),
        })
        .collect()
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

impl SignalAverages {
    /// Every signal times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { kv_cache: self.kv_cache * factor, queue_depth: self.queue_depth * factor }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::interfaces::Signal;

    fn instance(pod: &str, variant: &str, kv: Signal<f64>, queue: Signal<f64>) -> ReplicaMetrics {
        ReplicaMetrics {
            pod: pod.into(),
            instance: format!("{pod}:8000").into(),
            variant: Some(VariantKey::new("default", variant)),
            engine: crate::interfaces::EngineKind::Vllm,
            kv_cache_usage: kv,
            queue_length: queue,
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance: Arc::default(),
        }
    }

    fn present(value: f64) -> Signal<f64> {
        Signal::present(value, Timestamp::UNIX_EPOCH)
    }

    fn analyze(loads: &[(f64, f64)]) -> ModelSaturationAnalysis {
        let metrics: Vec<_> = loads
            .iter()
            .enumerate()
            .map(|(i, (kv, queue))| instance(&format!("pod-{i}"), "a", present(*kv), present(*queue)))
            .collect();
        PercentageAnalyzer.analyze_model_saturation(
            &ModelKey::new("default", "m"),
            &metrics,
            &SaturationScalingConfig::default(),
        )
    }

    /// The reference's configuration: KV 80 %, queue 5, spare target 20 %, margin 10 %.
    #[test]
    fn the_references_thresholds_decide_by_relative_spare_capacity() {
        // (replicas kv/queue, average spare, up, down safe)
        type Case = (&'static [(f64, f64)], f64, bool, bool);
        let cases: &[Case] = &[
            (&[(0.40, 0.0), (0.40, 0.0)], 0.5, false, false), // one replica left would stand at 80 %
            (&[(0.60, 0.0), (0.60, 0.0)], 0.25, false, false),
            (&[(0.65, 0.0), (0.65, 0.0)], 0.1875, true, false),
            (&[(0.20, 4.5), (0.20, 4.5)], 0.1, true, false), // the queue binds
            (&[(0.20, 0.0), (0.20, 0.0)], 0.75, false, true), // 0.4 afterwards: 50 % spare
            (&[(0.28, 0.0), (0.28, 0.0)], 0.65, false, true), // exactly 30 % spare afterwards is safe
            (&[(0.10, 0.0)], 0.875, false, false),           // the last replica stays
            (&[(0.85, 0.0), (0.10, 9.0)], 0.0, true, false), // all saturated
            (&[(0.80, 0.0), (0.30, 0.0), (0.30, 0.0)], 0.625, false, false), // a saturated replica's load must fit too
            (&[], 0.0, false, false),
        ];
        for (loads, spare, up, down) in cases {
            let analysis = analyze(loads);
            assert!((analysis.average_spare_capacity - spare).abs() < 1e-9, "{loads:?}: {analysis:?}");
            assert_eq!((analysis.should_scale_up, analysis.scale_down_safe), (*up, *down), "{loads:?}");
        }
    }

    #[test]
    fn ranks_of_one_pod_are_one_replica_and_a_rank_without_a_signal_hides_it() {
        let two_ranks =
            [instance("p", "a", present(0.1), present(7.0)), instance("p", "a", present(0.5), present(0.0))];
        assert_eq!(
            replicas_of(&two_ranks),
            [Replica {
                variant: VariantKey::new("default", "a"),
                load: SignalAverages { kv_cache: 0.5, queue_depth: 7.0 }
            }]
        );
        for missing_at in [0, 1] {
            let mut ranks = two_ranks.clone();
            ranks[missing_at].kv_cache_usage = Signal::Missing;
            assert_eq!(replicas_of(&ranks), []);
        }
    }

    proptest! {
        #[test]
        fn never_up_and_down_at_once_and_never_not_a_number(
            loads in prop::collection::vec((0.0..=1.0_f64, 0.0..=1e6_f64), 0..40)
        ) {
            let analysis = analyze(&loads);
            prop_assert!(!(analysis.should_scale_up && analysis.scale_down_safe));
            prop_assert!(analysis.average_spare_capacity.is_finite());
            prop_assert!(analysis.saturated_replicas <= analysis.total_replicas);
        }

        #[test]
        fn more_load_never_turns_up_into_hold(
            loads in prop::collection::vec((0.0..=0.6_f64, 0.0..=3.0_f64), 1..20), more in 0.0..=0.19_f64
        ) {
            let heavier: Vec<_> = loads.iter().map(|(kv, queue)| (kv + more, queue + 10.0 * more)).collect();
            // Only below the thresholds: a replica pushed over one leaves the average.
            prop_assert!(!analyze(&loads).should_scale_up || analyze(&heavier).should_scale_up);
            prop_assert!(!analyze(&heavier).scale_down_safe || analyze(&loads).scale_down_safe);
        }
    }
}
