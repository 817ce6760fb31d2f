//! Engines turn a snapshot into decisions. [`step`] is the whole of it: a pure function of state and snapshot, so a
//! recorded snapshot replays to the same decisions and a simulator drives the very code of production.
//!
//! ```text
//! Snapshot ─► groups (model, role) ─► saturation ─► bounds ─► Decision
//!      State ──────────────────────────────▲───────────────────► State
//! ```

mod bounds;
mod group;
mod saturation;
mod state;

use std::collections::BTreeMap;

use crate::interfaces::{Decision, ModelKey, Role, Snapshot, VariantObservation};

pub use state::{STATE_VERSION, State, VariantState};

/// Decides on every variant of `snapshot`; decisions are in the order of variant names, whatever the snapshot's order.
///
/// A variant that is no longer in the snapshot is forgotten.
pub fn step(state: &State, snapshot: &Snapshot) -> (State, Vec<Decision>) {
    let mut groups: BTreeMap<(&ModelKey, Role), Vec<&VariantObservation>> = BTreeMap::new();
    for observation in &snapshot.variants {
        groups.entry((&observation.variant.model, observation.variant.role)).or_default().push(observation);
    }
    let mut decisions: Vec<Decision> =
        groups.into_values().flat_map(|members| saturation::decide(state, snapshot, members)).collect();
    decisions.sort_by(|a, b| a.variant.cmp(&b.variant));
    (state.after(snapshot, &decisions), decisions)
}

#[cfg(test)]
mod tests;
