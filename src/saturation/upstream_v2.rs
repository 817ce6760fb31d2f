//! The Go project's token analyzer (version 2, default since its v0.9), repeated exactly for comparison and migration.
//!
//! Its known defects are part of it: peaks of cache and queue that did not coincide are summed, and the mean of the last
//! ten observations, however old or low, is the compute bound ([`super::tokens::LearnedCapacities`] is ours).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::tokens::{CapacityKey, EngineArguments, TokenLoad, WorkloadShape, memory_bound, waiting_tokens};
use crate::interfaces::{Role, as_list};

/// Observations in a rolling window.
const WINDOW: usize = 10;
/// Bytes of a prompt per token, by which the endpoint picker's queue is weighed.
const BYTES_PER_TOKEN: f64 = 4.0;

/// Thresholds of version 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpstreamV2Config {
    /// Share of the cache that may be in use.
    pub kv_cache_threshold: f64,
    /// A replica with at least so many waiting requests is saturated.
    pub queue_length_threshold: f64,
    /// Utilisation above which replicas are added.
    pub scale_up_threshold: f64,
    /// Utilisation below which replicas are removed.
    pub scale_down_boundary: f64,
}

impl Default for UpstreamV2Config {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.80,
            queue_length_threshold: 5.0,
            scale_up_threshold: 0.85,
            scale_down_boundary: 0.70,
        }
    }
}

/// One engine instance as version 2 sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpstreamV2Instance {
    /// KV-cache capacity in tokens.
    pub capacity: f64,
    /// One-minute peak of its usage, a fraction of 1.
    pub usage: f64,
    /// One-minute peak of the waiting requests.
    pub queue: f64,
    /// Mean prompt length.
    pub prompt_tokens: f64,
    /// Mean output length.
    pub output_tokens: f64,
    /// Part it plays.
    pub role: Role,
    /// Its command line, where it could be read.
    pub arguments: Option<EngineArguments>,
}

/// Demand and capacity of one instance, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpstreamV2Analysis {
    /// Tokens in use and waited for.
    pub demand: f64,
    /// The lesser of memory and compute bound.
    pub effective: f64,
}

/// Rolling windows of compute bounds. Never evicted, as upstream has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamV2Store(#[serde(with = "as_list")] BTreeMap<CapacityKey, VecDeque<f64>>);

impl UpstreamV2Store {
    /// Whether nothing was observed yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The windows of one model.
    #[must_use]
    pub fn of_model(&self, model_id: &Arc<str>) -> Self {
        let first = CapacityKey {
            model_id: model_id.clone(),
            accelerator: "".into(),
            accelerators: 0,
            shape: WorkloadShape::Short,
        };
        let own = self.0.range(first..).take_while(|(key, _)| key.model_id == *model_id);
        Self(own.map(|(key, window)| (key.clone(), window.clone())).collect())
    }

    /// Analyses an instance and remembers what it shows.
    pub fn analyze(
        &mut self,
        key: &CapacityKey,
        instance: &UpstreamV2Instance,
        config: &UpstreamV2Config,
    ) -> UpstreamV2Analysis {
        let &UpstreamV2Instance { capacity, usage, queue, prompt_tokens, output_tokens, role, .. } = instance;
        let load = TokenLoad::new(capacity, usage, waiting_tokens(queue, prompt_tokens, output_tokens, role));
        let memory = memory_bound(capacity, config.kv_cache_threshold);
        let compute = self.compute_bound(key, instance, load.in_use, memory, config);
        UpstreamV2Analysis { demand: load.demand(), effective: memory.min(compute) }
    }

    fn compute_bound(
        &mut self,
        key: &CapacityKey,
        instance: &UpstreamV2Instance,
        in_use: f64,
        memory: f64,
        config: &UpstreamV2Config,
    ) -> f64 {
        if instance.queue >= config.queue_length_threshold.trunc() && in_use > 0.0 {
            let window = self.0.entry(key.clone()).or_default();
            window.push_back(in_use);
            if window.len() > WINDOW {
                window.pop_front();
            }
            return in_use;
        }
        if let Some(window) = self.0.get(key).filter(|window| !window.is_empty()) {
            return (window.iter().sum::<f64>() / window.len() as f64).trunc();
        }
        let has_lengths = instance.prompt_tokens > 0.0 && instance.output_tokens > 0.0;
        instance
            .arguments
            .filter(|_| has_lengths)
            .map_or(memory, |arguments| arguments.compute_bound(instance.prompt_tokens, instance.output_tokens))
    }
}

/// Capacity of one replica of a variant: the median of its instances' (an even count takes the integer mean of the two in
/// the middle), times instances per pod.
pub fn per_replica_capacity(effective: &[f64], instances_per_pod: f64) -> f64 {
    let mut sorted = effective.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => return 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]).trunc(),
    };
    median * instances_per_pod
}

/// Capacity of a variant without replicas: what was learned of it live stands; an estimate from its pod template is
/// bounded by its own memory bound and by a compatible variant's live record.
pub fn capacity_without_replicas(
    live: Option<f64>,
    estimate: Option<f64>,
    own_memory_bound: Option<f64>,
    compatible_live: Option<f64>,
) -> Option<f64> {
    let bounded = |estimate: f64| [own_memory_bound, compatible_live].into_iter().flatten().fold(estimate, f64::min);
    live.or_else(|| estimate.map(bounded)).or(compatible_live)
}

/// What the endpoint picker's queue adds to the demand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SchedulerQueueDemand {
    /// Prompt tokens, less what the prefix cache will hold.
    pub prompt: f64,
    /// Output tokens.
    pub output: f64,
}

impl SchedulerQueueDemand {
    /// The demand of `size` held requests of `bytes` in total.
    pub fn new(size: f64, bytes: f64, prompt_tokens: f64, output_tokens: f64, prefix_hit_ratio: f64) -> Self {
        let prompt = (bytes / BYTES_PER_TOKEN).max(size * prompt_tokens) * (1.0 - prefix_hit_ratio);
        Self { prompt, output: size * output_tokens }
    }

    /// What of it falls on a role.
    pub fn of(&self, role: Role) -> f64 {
        if role == Role::Prefill { self.prompt } else { self.prompt + self.output }
    }
}

/// Tokens of capacity that are missing and to spare (`RC` and `SC`). Anticipated supply counts upwards only.
pub fn required_and_spare(demand: f64, supply: f64, anticipated: f64, config: &UpstreamV2Config) -> (f64, f64) {
    let required = (demand / config.scale_up_threshold - (supply + anticipated)).max(0.0);
    let spare = (supply - demand / config.scale_down_boundary).max(0.0);
    (required, spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CapacityKey {
        CapacityKey { model_id: "m".into(), accelerator: "A100".into(), accelerators: 1, shape: WorkloadShape::Medium }
    }

    fn instance(in_use: f64, queue: f64) -> UpstreamV2Instance {
        UpstreamV2Instance {
            capacity: 16_000.0,
            usage: in_use / 16_000.0,
            queue,
            prompt_tokens: 0.0,
            output_tokens: 0.0,
            role: Role::Both,
            arguments: None,
        }
    }

    fn effective(store: &mut UpstreamV2Store, instance: &UpstreamV2Instance) -> f64 {
        store.analyze(&key(), instance, &UpstreamV2Config::default()).effective
    }

    /// Vectors 23, 24, 25, 27 and 38.
    #[test]
    fn upstreams_capacity_vectors_hold() {
        let mut store = UpstreamV2Store::default();
        assert_eq!(effective(&mut store, &instance(5_000.0, 0.0)), 12_800.0, "23");
        assert_eq!(effective(&mut store, &instance(8_000.0, 6.0)), 8_000.0, "24: observed");
        assert_eq!(effective(&mut store, &instance(3_000.0, 2.0)), 8_000.0, "24: remembered");
        assert_eq!(effective(&mut UpstreamV2Store::default(), &instance(4_000.0, 10.0)), 4_000.0, "25");
        let arguments = EngineArguments { max_batched_tokens: 2048.0, ..EngineArguments::default() };
        let estimated = UpstreamV2Instance {
            prompt_tokens: 500.0,
            output_tokens: 100.0,
            arguments: Some(arguments),
            ..instance(1_000.0, 0.0)
        };
        assert_eq!(effective(&mut UpstreamV2Store::default(), &estimated), 12_800.0, "27");
        assert_eq!(effective(&mut UpstreamV2Store::default(), &instance(7_000.0, 5.0)), 7_000.0, "38");
    }

    #[test]
    fn the_window_is_the_mean_of_the_last_ten() {
        let mut store = UpstreamV2Store::default();
        for in_use in (1..=12).map(|n| f64::from(n) * 1_000.0) {
            effective(&mut store, &instance(in_use, 9.0));
        }
        assert_eq!(effective(&mut store, &instance(500.0, 0.0)), 7_500.0, "3,000 to 12,000");
    }

    /// Vectors 30, 31 and 37.
    #[test]
    fn upstreams_variant_vectors_hold() {
        assert_eq!(capacity_without_replicas(Some(12_000.0), None, None, None), Some(12_000.0));
        assert_eq!(capacity_without_replicas(None, Some(140_800.0), None, Some(40_000.0)), Some(40_000.0));
        assert_eq!(capacity_without_replicas(None, None, None, None), None);
        assert_eq!(per_replica_capacity(&[7.0, 1.0, 5.0, 3.0], 1.0), 4.0);
        assert_eq!(per_replica_capacity(&[7.0, 1.0, 5.0], 2.0), 10.0);
        assert_eq!(per_replica_capacity(&[], 1.0), 0.0);
    }

    /// Vector 33.
    #[test]
    fn upstreams_scheduler_queue_vector_holds() {
        let demand = SchedulerQueueDemand::new(10.0, 4_000.0, 100.0, 50.0, 0.5);
        assert_eq!((demand.of(Role::Prefill), demand.of(Role::Decode)), (500.0, 1_000.0));
    }

    #[test]
    fn upstreams_required_and_spare_vectors_hold() {
        let config = UpstreamV2Config::default();
        let (required, spare) = required_and_spare(10_000.0, 10_000.0, 0.0, &config);
        assert!((required - 1_764.7).abs() < 0.1 && spare == 0.0);
        let (required, spare) = required_and_spare(5_000.0, 10_000.0, 0.0, &config);
        assert!(required == 0.0 && (spare - 2_857.14).abs() < 0.01);
        assert_eq!(required_and_spare(8_000.0, 10_000.0, 0.0, &config), (0.0, 0.0), "dead band");
    }
}
