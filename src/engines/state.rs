//! What the core remembers between cycles.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{roster::Roster, saturation, slo::ModelMemory, zero::Activity};
use crate::{
    interfaces::{
        CapacityQuestion, Decision, ModelKey, Outcome, ScaleObservation, TargetObservation, VariantKey, as_list,
    },
    saturation::{tokens::LearnedCapacities, upstream_v2::UpstreamV2Store},
};

/// Version of the state schema.
pub const STATE_VERSION: u32 = 2;

/// Memory of the core: serialisable, so that a new leader starts from the old one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// Per variant.
    #[serde(with = "as_list")]
    pub variants: BTreeMap<VariantKey, VariantState>,
    /// What the SLO engine remembers per model.
    #[serde(default, with = "as_list")]
    pub models: BTreeMap<ModelKey, Arc<ModelMemory>>,
    /// When each model that may stand at zero was last active.
    #[serde(default, with = "as_list")]
    pub activity: BTreeMap<ModelKey, Activity>,
    /// Tokens that replicas were seen to hold when their compute was full, in models that are judged by tokens.
    #[serde(default)]
    pub capacities: LearnedCapacities,
    /// The same as upstream's version 2 remembers it, in models that it decides on.
    #[serde(default, skip_serializing_if = "UpstreamV2Store::is_empty")]
    pub upstream_windows: UpstreamV2Store,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            variants: BTreeMap::new(),
            models: BTreeMap::new(),
            activity: BTreeMap::new(),
            capacities: LearnedCapacities::default(),
            upstream_windows: UpstreamV2Store::default(),
        }
    }
}

/// What is remembered of one variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantState {
    /// Replicas asked for last; `None` until the first decision with a number.
    pub desired: Option<u32>,
    /// Since when.
    pub desired_since: Timestamp,
    /// Ready replicas seen last.
    pub ready: u32,
    /// Since when. The first sight of a variant counts as a change: a new leader does not scale down at once.
    pub ready_since: Timestamp,
    /// `spec.replicas` seen last.
    pub spec: u32,
    /// Since when.
    pub spec_since: Timestamp,
}

impl State {
    /// The state of the leader before, as a new one may use it at `now`: nothing shrinks before this leader has seen a
    /// whole window itself.
    #[must_use]
    pub fn taken_over(mut self, now: Timestamp) -> Self {
        for variant in self.variants.values_mut() {
            variant.ready_since = variant.ready_since.max(now);
        }
        self
    }

    /// The capacity curves that the next decisions want: to be computed outside the cycle and put into a later snapshot.
    pub fn questions(&self) -> impl Iterator<Item = &Arc<CapacityQuestion>> {
        self.models.values().flat_map(|memory| memory.questions())
    }
}

/// The state after `decisions` on the variants of `roster`.
pub(super) fn after(
    roster: &Roster<'_>,
    decisions: &[Decision],
    models: BTreeMap<ModelKey, Arc<ModelMemory>>,
    activity: BTreeMap<ModelKey, Activity>,
) -> State {
    let remembered = roster.entries.iter().zip(decisions).map(|(entry, decision)| {
        let next = remember(entry.previous, roster.snapshot.taken_at, &entry.observation.target, &decision.outcome);
        (entry.observation.variant.key.clone(), next)
    });
    let variants = remembered.collect();
    State {
        version: STATE_VERSION,
        variants,
        models,
        activity,
        capacities: saturation::learn(roster),
        upstream_windows: saturation::windows(roster),
    }
}

fn remember(
    previous: Option<&VariantState>,
    now: Timestamp,
    target: &TargetObservation,
    outcome: &Outcome,
) -> VariantState {
    let desired = match outcome {
        Outcome::Desired(desired) => Some(desired.replicas),
        Outcome::Withheld(_) => previous.and_then(|state| state.desired),
    };
    let (ready, spec) = match target {
        TargetObservation::Found(ScaleObservation { ready, spec, .. }) => (*ready, *spec),
        TargetObservation::NotFound { .. } => previous.map_or((0, 0), |state| (state.ready, state.spec)),
    };
    let since = |unchanged: Option<Timestamp>| unchanged.unwrap_or(now);
    VariantState {
        desired,
        desired_since: since(previous.filter(|state| state.desired == desired).map(|state| state.desired_since)),
        ready,
        ready_since: since(previous.filter(|state| state.ready == ready).map(|state| state.ready_since)),
        spec,
        spec_since: since(previous.filter(|state| state.spec == spec).map(|state| state.spec_since)),
    }
}
