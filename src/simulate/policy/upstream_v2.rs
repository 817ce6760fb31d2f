//! `wva-upstream-v2`: the Go project's token analyzer with its cost-aware optimizer, behind an HPA as its chart ships it.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;

use super::{Actuation, ModelSample, Policy, Rhythm, ingest::Ingest, upstream_v1::chart_behavior};
use crate::{
    interfaces::{ModelKey, ReplicaMetrics, Role, ScaleObservation},
    saturation::{
        tokens::{CapacityKey, EngineArguments, WorkloadShape},
        upstream_v2::{
            SchedulerQueueDemand, UpstreamV2Config, UpstreamV2Instance, UpstreamV2Store, per_replica_capacity,
            required_and_spare,
        },
    },
    simulate::scenario::Scenario,
};

const NAMESPACE: &str = "default";

/// Version 2 of upstream.
#[derive(Debug)]
pub(in crate::simulate) struct UpstreamV2<'a> {
    scenario: &'a Scenario,
    models: Vec<Ingest>,
    store: UpstreamV2Store,
    config: UpstreamV2Config,
    /// Last known capacity per replica of each variant, for variants without a live replica.
    known: Vec<f64>,
}

/// A variant as the optimizer sees it.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    name: Arc<str>,
    cost: f64,
    /// Capacity of one replica in tokens.
    capacity: f64,
    replicas: u32,
    min: u32,
    max: u32,
}

impl<'a> UpstreamV2<'a> {
    /// Documented: scale up above a utilisation of 0.85, down below 0.70; the knob moves both.
    pub(in crate::simulate) fn new(scenario: &'a Scenario, scale_up_threshold: f64) -> Self {
        let default = UpstreamV2Config::default();
        let gap = default.scale_up_threshold - default.scale_down_boundary;
        Self {
            scenario,
            models: scenario.models.iter().map(|model| Ingest::new(ModelKey::new(NAMESPACE, &*model.name))).collect(),
            store: UpstreamV2Store::default(),
            config: UpstreamV2Config {
                scale_up_threshold,
                scale_down_boundary: (scale_up_threshold - gap).max(0.05),
                ..default
            },
            known: scenario.variants().map(|_| 0.0).collect(),
        }
    }

    /// Demand and ready supply of a model, with the capacity per replica of its variants brought up to date.
    fn analyze(&mut self, model: usize) -> (f64, f64) {
        let replicas = self.models[model].replicas();
        let (mut demand, mut supply) = (0.0, 0.0);
        let variants: Vec<_> = self.scenario.variants().map(|(model, variant)| (model, variant.clone())).collect();
        for (index, (_, variant)) in variants.iter().enumerate().filter(|(_, (of, _))| *of == model) {
            let of_variant =
                |replica: &&ReplicaMetrics| replica.variant.as_ref().is_some_and(|key| *key.name == *variant.name);
            let mut effective = Vec::new();
            for instance in replicas.iter().filter(of_variant).filter_map(instance) {
                let key = CapacityKey {
                    model_id: self.scenario.models[model].name.as_str().into(),
                    accelerator: variant.profile.accelerator.as_str().into(),
                    accelerators: variant.profile.accelerators,
                    shape: WorkloadShape::of(instance.output_tokens),
                };
                let analysis = self.store.analyze(&key, &instance, &self.config);
                demand += analysis.demand;
                effective.push(analysis.effective);
            }
            if !effective.is_empty() {
                self.known[index] = per_replica_capacity(&effective, 1.0);
            }
            supply += self.known[index] * effective.len() as f64;
        }
        (demand + self.held(model, &replicas), supply)
    }

    fn held(&self, model: usize, replicas: &[ReplicaMetrics]) -> f64 {
        let queue = self.models[model].model().gateway_queue.value().copied().unwrap_or(0.0);
        let mean = |of: fn(&ReplicaMetrics) -> Option<f64>| {
            let values: Vec<f64> = replicas.iter().filter_map(of).collect();
            if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
        };
        let prompt = mean(|replica| replica.performance.prompt_tokens.value().copied());
        let output = mean(|replica| replica.performance.output_tokens.value().copied());
        SchedulerQueueDemand::new(queue, 0.0, prompt, output, 0.0).of(Role::Both)
    }
}

fn instance(replica: &ReplicaMetrics) -> Option<UpstreamV2Instance> {
    let lengths = &replica.performance;
    Some(UpstreamV2Instance {
        capacity: *replica.kv_cache_tokens.value()?,
        usage: *replica.kv_cache_usage.value()?,
        queue: *replica.queue_length.value()?,
        prompt_tokens: lengths.prompt_tokens.value().copied().unwrap_or(0.0),
        output_tokens: lengths.output_tokens.value().copied().unwrap_or(0.0),
        role: Role::Both,
        arguments: Some(EngineArguments { max_batched_tokens: 2048.0, ..EngineArguments::default() }),
    })
}

/// The cost-aware optimizer: missing capacity from the cheapest per token with room; else spare capacity off the dearest.
fn optimize(candidates: &mut [Candidate], required: f64, spare: f64) {
    if required > 0.0 {
        add(candidates, required);
    } else if spare > 0.0 {
        remove(candidates, spare);
    }
}

fn add(candidates: &mut [Candidate], mut required: f64) {
    while required > 0.0 {
        let per_token = |candidate: &Candidate| candidate.cost / candidate.capacity;
        let room =
            candidates.iter_mut().filter(|candidate| candidate.replicas < candidate.max && candidate.capacity > 0.0);
        let Some(best) = room.min_by(|a, b| per_token(a).total_cmp(&per_token(b))) else { return };
        let wanted = (required / best.capacity).ceil().min(f64::from(best.max - best.replicas)) as u32;
        best.replicas += wanted;
        required -= f64::from(wanted) * best.capacity;
    }
}

fn remove(candidates: &mut [Candidate], mut spare: f64) {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| dearest_first(&candidates[a], &candidates[b]));
    let cheapest = order.last().copied();
    for index in order {
        let others: u32 =
            (0..candidates.len()).filter(|&other| other != index).map(|other| candidates[other].replicas).sum();
        let candidate = &mut candidates[index];
        if candidate.capacity <= 0.0 {
            continue;
        }
        let least = candidate.min.max(u32::from(Some(index) == cheapest && others == 0));
        let removable = candidate.replicas.saturating_sub(least);
        let count = ((spare / candidate.capacity).floor() as u32).min(removable);
        candidate.replicas -= count;
        spare -= f64::from(count) * candidate.capacity;
    }
}

fn dearest_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.cost.total_cmp(&a.cost).then(a.capacity.total_cmp(&b.capacity)).then_with(|| a.name.cmp(&b.name))
}

impl Policy for UpstreamV2<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm::of_scrapes(self.scenario)
    }

    fn actuation(&self) -> Actuation {
        Actuation::Hpa(Some(chart_behavior()))
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        for (ingest, model) in self.models.iter_mut().zip(models) {
            ingest.record(at, model);
        }
    }

    fn decide(&mut self, _: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let mut asks: Vec<_> = scales.iter().map(|scale| Ok(f64::from(scale.spec))).collect();
        for model in 0..self.scenario.models.len() {
            let (demand, supply) = self.analyze(model);
            if supply <= 0.0 {
                continue;
            }
            let of_model: Vec<_> = (0..).zip(self.scenario.variants()).filter(|(_, (of, _))| *of == model).collect();
            let anticipated = of_model
                .iter()
                .map(|(index, _): &(usize, _)| {
                    f64::from(scales[*index].spec.saturating_sub(scales[*index].ready)) * self.known[*index]
                })
                .sum();
            let (required, spare) = required_and_spare(demand, supply, anticipated, &self.config);
            let mut candidates: Vec<_> = of_model
                .iter()
                .map(|(index, (_, variant))| Candidate {
                    name: variant.name.as_str().into(),
                    cost: variant.profile.price,
                    capacity: self.known[*index],
                    replicas: scales[*index].spec,
                    min: variant.min_replicas,
                    max: variant.max_replicas,
                })
                .collect();
            optimize(&mut candidates, required, spare);
            for ((index, _), candidate) in of_model.iter().zip(&candidates) {
                asks[*index] = Ok(f64::from(candidate.replicas));
            }
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, cost: f64, capacity: f64, replicas: u32, max: u32) -> Candidate {
        Candidate { name: name.into(), cost, capacity, replicas, min: 1, max }
    }

    fn after(mut candidates: Vec<Candidate>, required: f64, spare: f64) -> Vec<u32> {
        optimize(&mut candidates, required, spare);
        candidates.iter().map(|candidate| candidate.replicas).collect()
    }

    /// Vectors 39 to 42.
    #[test]
    fn upstreams_optimizer_vectors_hold() {
        let cheap = |replicas, max| candidate("cheap", 5.0, 10_000.0, replicas, max);
        let dear = |replicas| candidate("exp", 15.0, 20_000.0, replicas, 10);
        assert_eq!(after(vec![cheap(2, 10), dear(1)], 5_000.0, 0.0), [3, 1], "39");
        assert_eq!(after(vec![cheap(1, 10)], 25_000.0, 0.0), [4], "40");
        assert_eq!(after(vec![cheap(2, 3), dear(1)], 30_000.0, 0.0), [3, 2], "41");
        assert_eq!(after(vec![cheap(3, 10), dear(2)], 0.0, 15_000.0), [2, 2], "42");
    }

    #[test]
    fn the_last_replica_of_the_cheapest_stays_unless_another_holds_some() {
        let idle = |min| Candidate { min, ..candidate("a", 5.0, 10_000.0, 1, 10) };
        assert_eq!(after(vec![idle(0)], 0.0, 50_000.0), [1]);
        assert_eq!(after(vec![idle(0), candidate("b", 9.0, 10_000.0, 1, 10)], 0.0, 50_000.0), [0, 1]);
    }
}
