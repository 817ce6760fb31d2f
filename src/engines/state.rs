//! What the core remembers between cycles.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{slo::ModelMemory, zero::Activity};
use crate::{
    interfaces::{
        CapacityQuestion, Decision, ModelKey, Outcome, ScaleObservation, Snapshot, TargetObservation, VariantKey,
        as_list,
    },
    saturation::tokens::LearnedCapacities,
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
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            variants: BTreeMap::new(),
            models: BTreeMap::new(),
            activity: BTreeMap::new(),
            capacities: LearnedCapacities::default(),
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

    /// The state after `decisions` on `snapshot`.
    pub(super) fn after(
        &self,
        snapshot: &Snapshot,
        decisions: &[Decision],
        models: BTreeMap<ModelKey, Arc<ModelMemory>>,
        activity: BTreeMap<ModelKey, Activity>,
    ) -> Self {
        let outcomes: BTreeMap<&VariantKey, &Outcome> =
            decisions.iter().map(|decision| (&decision.variant, &decision.outcome)).collect();
        let variants = snapshot
            .variants
            .iter()
            .map(|observation| {
                let key = &observation.variant.key;
                let previous = self.variants.get(key);
                (key.clone(), remember(previous, snapshot.taken_at, &observation.target, outcomes.get(key).copied()))
            })
            .collect();
        Self { version: STATE_VERSION, variants, models, activity, capacities: LearnedCapacities::default() }
    }
}

fn remember(
    previous: Option<&VariantState>,
    now: Timestamp,
    target: &TargetObservation,
    outcome: Option<&Outcome>,
) -> VariantState {
    let desired = match outcome {
        Some(Outcome::Desired(desired)) => Some(desired.replicas),
        Some(Outcome::Withheld(_)) | None => previous.and_then(|state| state.desired),
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
