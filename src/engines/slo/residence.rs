//! How much the KV caches hold, against what they hold while the pool carries all it can.
//!
//! Requests that become longer show here before the first of them has finished, and so does an engine that is slower than
//! believed. It is a stock: it follows arrivals by the time that requests stay.

use std::collections::BTreeMap;

use super::{memory::ModelMemory, plan::Candidate};
use crate::{
    engines::group::Member,
    interfaces::{ReplicaMetrics, Snapshot, VariantKey},
};

/// The load of the measured replicas by the tokens that they hold, in units of what they carry. `None` where usage, the
/// caches' size or the curve is unknown.
pub(super) fn load(
    memory: &ModelMemory,
    snapshot: &Snapshot,
    members: &[Member<'_>],
    metrics: &[ReplicaMetrics],
    candidates: &[Candidate],
) -> Option<f64> {
    let ready: u32 = members.iter().map(|member| member.scale.ready).sum();
    let of_variant: BTreeMap<&VariantKey, (f64, f64)> = members
        .iter()
        .zip(candidates)
        .filter_map(|(member, candidate)| {
            let size = memory.variants.get(member.key())?.kv_cache_tokens?;
            let full = candidate.curve.resident_tokens_per_replica(f64::from(ready.max(1)));
            (full > 0.0).then_some((member.key(), (size, full)))
        })
        .collect();
    let (mut held, mut full) = (0.0, 0.0);
    for replica in metrics {
        let usage = replica.performance.kv_cache_usage_now.fresh(snapshot.taken_at, snapshot.ages.signal);
        let Some(usage) = usage.value().filter(|usage| (0.0..=1.0).contains(*usage)) else { continue };
        let Some((size, of_full)) = replica.variant.as_ref().and_then(|key| of_variant.get(key)) else { continue };
        held += usage * size;
        full += of_full;
    }
    (full > 0.0).then(|| held / full)
}
