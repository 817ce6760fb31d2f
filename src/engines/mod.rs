//! Engines turn a snapshot into decisions. [`step`] is the whole of it: a pure function of state and snapshot, so a
//! recorded snapshot replays to the same decisions and a simulator drives the very code of production.
//!
//! ```text
//!                                  ┌► saturation ─┐  each: demand D, capacity P, confidence, targets
//! Snapshot ─► roster (model, role) ┤              ├► arbitration ─► zero ─► limits ─► overrides ─► Decision
//!      State ──────────────────────┴► slo ────────┘
//!        ▲                            └► memory ─► State, with the capacity curves it asks for
//! ```

mod arbitration;
mod bounds;
mod compensation;
mod group;
mod limits;
mod overrides;
mod roles;
mod roster;
mod saturation;
mod slo;
mod state;
mod zero;

use std::{collections::BTreeMap, sync::Arc};

use crate::interfaces::{Decision, Limit, ModelKey, Snapshot};
use roster::Roster;

pub use slo::{ArrivalHistory, LengthMemory, Looks, ModelMemory, PeakMemory, VariantMemory};
pub use state::{STATE_VERSION, State, VariantState};
pub use zero::Activity;

/// Decides on every variant of `snapshot`; decisions are in the order of variant names, whatever the snapshot's order.
///
/// A variant that is no longer in the snapshot is forgotten.
pub fn step(state: &State, snapshot: &Snapshot) -> (State, Vec<Decision>) {
    let roster = Roster::new(state, snapshot);
    let mut memories = Memories::new();
    let mut decisions = decide(&roster, &mut memories);
    let activity = zero::apply(&roster, &mut decisions);
    compensation::apply(&roster, &mut decisions);
    limits::apply(&roster, &mut decisions);
    overrides::apply(&roster, &mut decisions);
    let next = state::after(&roster, &decisions, memories, activity);
    (next, decisions)
}

/// What the engines decide on each variant, in the order of the roster, knowing what accelerators allow.
fn decide(roster: &Roster<'_>, memories: &mut Memories) -> Vec<Decision> {
    let mut decisions: Vec<Option<Decision>> = roster.entries.iter().map(|_| None).collect();
    for groups in roster.models() {
        roles::decide(roster, groups, &Ceilings::new(), memories, &mut decisions);
    }
    let ceilings = limits::ceilings(roster, &decisions);
    for groups in roster.models().filter(|groups| limits::is_narrowed(groups, &ceilings)) {
        // What one variant cannot have, another of its model may: the engines decide again, knowing that.
        roles::decide(roster, groups, &ceilings, memories, &mut decisions);
    }
    decisions.into_iter().flatten().collect()
}

/// The most replicas that accelerators allow a variant, by its place, and the limit that says so.
type Ceilings = BTreeMap<usize, (u32, Limit)>;

/// What the SLO engine remembers of each model.
type Memories = BTreeMap<ModelKey, Arc<ModelMemory>>;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
