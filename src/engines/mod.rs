//! Engines turn a snapshot into decisions. [`step`] is the whole of it: a pure function of state and snapshot, so a
//! recorded snapshot replays to the same decisions and a simulator drives the very code of production.
//!
//! ```text
//!                                  ┌► saturation ─┐  each: demand D, capacity P, confidence, targets
//! Snapshot ─► groups (model, role) ┤              ├► arbitration ─► zero ─► limits ─► overrides ─► Decision
//!      State ──────────────────────┴► slo ────────┘
//!        ▲                            └► memory ─► State, with the capacity curves it asks for
//! ```

mod arbitration;
mod bounds;
mod compensation;
mod group;
mod limits;
mod overrides;
mod saturation;
mod slo;
mod state;
mod zero;

use std::{collections::BTreeMap, sync::Arc};

use crate::interfaces::{Decision, Limit, ModelKey, Role, Snapshot, VariantKey, VariantObservation};

pub use slo::{LengthMemory, LoadMemory, ModelMemory, PeakMemory, VariantMemory};
pub use state::{STATE_VERSION, State, VariantState};
pub use zero::Activity;

/// Decides on every variant of `snapshot`; decisions are in the order of variant names, whatever the snapshot's order.
///
/// A variant that is no longer in the snapshot is forgotten.
pub fn step(state: &State, snapshot: &Snapshot) -> (State, Vec<Decision>) {
    let mut memories = BTreeMap::new();
    let mut ceilings = Ceilings::new();
    let mut decisions = groups(state, snapshot, &ceilings, &mut memories);
    if limits::find(snapshot, &decisions, &mut ceilings) {
        // What one variant cannot have, another of its model may: the engines decide again, knowing that.
        decisions = groups(state, snapshot, &ceilings, &mut memories);
    }
    let activity = zero::apply(state, snapshot, &mut decisions);
    compensation::apply(snapshot, &mut decisions);
    limits::apply(snapshot, &mut decisions);
    overrides::apply(snapshot, &mut decisions);
    let next = state.after(snapshot, &decisions, memories, activity);
    (State { capacities: saturation::learn(state, snapshot), ..next }, decisions)
}

/// The most replicas that accelerators allow a variant, and the limit that says so.
type Ceilings = BTreeMap<VariantKey, (u32, Limit)>;

/// What the engines decide on each group of variants that shares a load, in the order of the variants.
fn groups(
    state: &State,
    snapshot: &Snapshot,
    ceilings: &Ceilings,
    memories: &mut BTreeMap<ModelKey, Arc<ModelMemory>>,
) -> Vec<Decision> {
    let mut groups: BTreeMap<(&ModelKey, Role), Vec<&VariantObservation>> = BTreeMap::new();
    for observation in &snapshot.variants {
        groups.entry((&observation.variant.model, observation.variant.role)).or_default().push(observation);
    }
    let known: BTreeMap<&ModelKey, _> = snapshot.models.iter().map(|known| (&known.model, &known.metrics)).collect();
    let mut decisions = Vec::with_capacity(snapshot.variants.len());
    for ((model, role), observations) in groups {
        let (decided, memory) = group::decide(state, snapshot, ceilings, role, observations, known.get(model).copied());
        decisions.extend(decided);
        if let Some(memory) = memory {
            memories.insert(model.clone(), Arc::new(memory));
        }
    }
    decisions.sort_by(|a, b| a.variant.cmp(&b.variant));
    decisions
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
