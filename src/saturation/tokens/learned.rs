//! How many tokens a replica holds when its compute, not its memory, is what is full: learned from saturated replicas.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::WorkloadShape;
use crate::interfaces::age;

/// An observation counts half after this long.
const HALF_LIFE: Duration = Duration::from_secs(120);
/// A key is observed no more often than this: cycles follow each other as fast as metrics come, and what one burst shows
/// must not fill the memory.
const INTERVAL: Duration = Duration::from_secs(10);
/// Observations older than this are forgotten, so a capacity that is not seen any more ages out.
const MEMORY: Duration = Duration::from_secs(1800);
/// Observations kept per key; the oldest goes first.
const MOST_OBSERVATIONS: usize = 64;
/// The capacity is this weighted quantile of the observations: most of them are low, because a queue forms before a
/// replica has filled up, and few are high.
const QUANTILE: f64 = 0.8;

/// What a capacity was learned for. Parallelism is part of it: capacities of one accelerator and of four are no relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityKey {
    /// The model, as in `spec.modelID`. Capacity is a matter of hardware: namespaces share it.
    pub model_id: Arc<str>,
    /// Accelerator type.
    pub accelerator: Arc<str>,
    /// Accelerators per replica.
    pub accelerators: u32,
    /// Shape of the workload.
    pub shape: WorkloadShape,
}

/// Tokens a saturated replica held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Tokens in use.
    pub tokens: f64,
    /// When.
    pub seen_at: Timestamp,
}

/// Compute-bound capacities by key. Serialisable, so that they survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LearnedCapacities(Vec<(CapacityKey, Vec<Observation>)>);

impl LearnedCapacities {
    /// Learns from one cycle: for each key the tokens that its saturated replicas hold, and forgets what is too old.
    #[must_use]
    pub fn after(&self, observed: &[(CapacityKey, f64)], now: Timestamp) -> Self {
        let mut known: BTreeMap<CapacityKey, Vec<Observation>> = self.0.iter().cloned().collect();
        for (key, tokens) in observed {
            if !(tokens.is_finite() && *tokens > 0.0) {
                continue;
            }
            let observations = known.entry(key.clone()).or_default();
            if observations.last().is_none_or(|last| age(now, last.seen_at) >= INTERVAL) {
                observations.push(Observation { tokens: *tokens, seen_at: now });
            }
        }
        for observations in known.values_mut() {
            observations.retain(|observation| age(now, observation.seen_at) <= MEMORY);
            let excess = observations.len().saturating_sub(MOST_OBSERVATIONS);
            observations.drain(..excess);
        }
        known.retain(|_, observations| !observations.is_empty());
        Self(known.into_iter().collect())
    }

    /// Tokens that a replica of `key` holds when it is full; `None` before the first observation.
    pub fn capacity(&self, key: &CapacityKey, now: Timestamp) -> Option<f64> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        let mut weighted: Vec<(f64, f64)> = self.0[at]
            .1
            .iter()
            .map(|observation| {
                let halvings = age(now, observation.seen_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
                (observation.tokens, 0.5_f64.powf(halvings))
            })
            .collect();
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        for (tokens, weight) in &weighted {
            below += weight;
            if below >= QUANTILE * total {
                return Some(*tokens);
            }
        }
        weighted.last().map(|(tokens, _)| *tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(shape: WorkloadShape) -> CapacityKey {
        CapacityKey { model_id: "m".into(), accelerator: "H100".into(), accelerators: 1, shape }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// One observation every 15 s from `start` on.
    fn learn(mut known: LearnedCapacities, start: i64, tokens: &[f64]) -> (LearnedCapacities, i64) {
        let mut second = start;
        for tokens in tokens {
            known = known.after(&[(key(WorkloadShape::Long), *tokens)], at(second));
            second += 15;
        }
        (known, second)
    }

    #[test]
    fn ten_low_observations_are_overcome_within_five_minutes() {
        let (known, second) = learn(LearnedCapacities::default(), 0, &[45_000.0; 10]);
        let truth = 100_000.0;
        // True ones scatter a little.
        let observed: Vec<f64> = (0..20).map(|i| truth * (0.95 + 0.01 * f64::from(i % 10))).collect();
        let (known, second) = learn(known, second, &observed);
        let capacity = known.capacity(&key(WorkloadShape::Long), at(second)).unwrap();
        assert!((capacity / truth - 1.0).abs() < 0.10, "{capacity}");
    }

    #[test]
    fn a_capacity_that_is_not_seen_any_more_ages_out() {
        let (known, second) = learn(LearnedCapacities::default(), 0, &[45_000.0; 3]);
        assert!(known.capacity(&key(WorkloadShape::Long), at(second)).is_some());
        let later = known.after(&[], at(second + 1801));
        assert_eq!(later, LearnedCapacities::default());
    }

    #[test]
    fn shapes_do_not_mix_and_nonsense_is_not_learned() {
        let (known, second) = learn(LearnedCapacities::default(), 0, &[45_000.0, f64::NAN, -1.0, 0.0]);
        assert_eq!(known.capacity(&key(WorkloadShape::Short), at(second)), None);
        assert_eq!(known.capacity(&key(WorkloadShape::Long), at(second)), Some(45_000.0));
    }

    #[test]
    fn what_was_learned_survives_a_restart() {
        let (known, second) = learn(LearnedCapacities::default(), 0, &[45_000.0, 46_000.0]);
        let text = serde_json::to_string(&known).unwrap();
        let restarted: LearnedCapacities = serde_json::from_str(&text).unwrap();
        assert_eq!(restarted, known);
        let capacity = |known: &LearnedCapacities| known.capacity(&key(WorkloadShape::Long), at(second));
        assert_eq!(capacity(&restarted), capacity(&known));
    }
}
