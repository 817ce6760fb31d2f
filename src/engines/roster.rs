//! The variants of a snapshot in the order of their names, joined once with all that later steps look up by name.
//!
//! A look-up by name in a map of thousands reads a key, somewhere in memory, at each of a dozen levels. Both sides are
//! sorted here, so one pass over them joins them, and what follows goes by place.

use std::collections::{BTreeMap, HashMap};

use super::{ModelMemory, State, VariantState, bounds::EffectiveBounds, slo::Curves};
use crate::interfaces::{
    Decision, ModelKey, ModelMetrics, Role, SaturationScalingConfig, ScaleObservation, ServiceObjective, Snapshot,
    TargetObservation, VariantObservation,
};

/// Everything that is decided on in one cycle. Decisions are kept in the order of [`Roster::entries`].
pub(super) struct Roster<'a> {
    pub(super) state: &'a State,
    pub(super) snapshot: &'a Snapshot,
    /// In the order of names.
    pub(super) entries: Vec<Entry<'a>>,
    /// In the order of models, and of roles within a model.
    pub(super) groups: Vec<Group<'a>>,
    pub(super) curves: Curves<'a>,
}

/// One variant.
pub(super) struct Entry<'a> {
    pub(super) observation: &'a VariantObservation,
    pub(super) previous: Option<&'a VariantState>,
    /// Its bounds, as overrides leave them.
    pub(super) bounds: EffectiveBounds,
}

/// The variants of one model and role: they compete for one load.
pub(super) struct Group<'a> {
    pub(super) model: &'a ModelKey,
    pub(super) role: Role,
    /// Places in [`Roster::entries`], rising.
    pub(super) places: Vec<usize>,
    pub(super) known: Option<&'a ModelMetrics>,
    pub(super) config: &'a SaturationScalingConfig,
    pub(super) objective: Option<&'a ServiceObjective>,
    pub(super) remembered: Option<&'a ModelMemory>,
}

impl<'a> Roster<'a> {
    pub(super) fn new(state: &'a State, snapshot: &'a Snapshot) -> Self {
        let mut observations: Vec<&VariantObservation> = snapshot.variants.iter().collect();
        observations.sort_by(|a, b| a.variant.key.cmp(&b.variant.key));
        let mut remembered = Rising::new(&state.variants);
        let entries: Vec<Entry<'_>> = observations
            .into_iter()
            .map(|observation| Entry {
                observation,
                previous: remembered.get(&observation.variant.key),
                bounds: EffectiveBounds::of(observation, snapshot),
            })
            .collect();
        let groups = groups(&entries, state, snapshot);
        Self { state, snapshot, entries, groups, curves: Curves::of(snapshot) }
    }

    /// The groups of each model together.
    pub(super) fn models(&self) -> impl Iterator<Item = &[Group<'a>]> {
        self.groups.chunk_by(|one, other| one.model == other.model)
    }

    /// Each variant with its decision.
    pub(super) fn beside<'b>(
        &'b self,
        decisions: &'b mut [Decision],
    ) -> impl Iterator<Item = (&'b Entry<'a>, &'b mut Decision)> {
        self.entries.iter().zip(decisions)
    }
}

impl<'a> Entry<'a> {
    /// Its replica counts, where the target could be read.
    pub(super) fn scale(&self) -> Option<&'a ScaleObservation> {
        match &self.observation.target {
            TargetObservation::Found(scale) => Some(scale),
            TargetObservation::NotFound { .. } => None,
        }
    }
}

fn groups<'a>(entries: &[Entry<'a>], state: &'a State, snapshot: &'a Snapshot) -> Vec<Group<'a>> {
    let of = |entry: &Entry<'a>| (&entry.observation.variant.model, entry.observation.variant.role);
    let mut sorted: Vec<((&'a ModelKey, Role), Vec<usize>)> = Vec::new();
    let mut known: HashMap<(&ModelKey, Role), usize> = HashMap::new();
    let mut place = 0;
    // Names of one model's variants often begin alike, and so they stand together.
    for alike in entries.chunk_by(|one, next| of(one) == of(next)) {
        let subject = of(&alike[0]);
        let index = *known.entry(subject).or_insert(sorted.len());
        if index == sorted.len() {
            sorted.push((subject, Vec::with_capacity(alike.len())));
        }
        sorted[index].1.extend(place..place + alike.len());
        place += alike.len();
    }
    sorted.sort_by(|a, b| a.0.cmp(&b.0));

    let known: BTreeMap<&ModelKey, &ModelMetrics> =
        snapshot.models.iter().map(|model| (&model.model, &model.metrics)).collect();
    let mut known = Rising::new(&known);
    let mut configs = Rising::new(&snapshot.saturation_per_model);
    let mut objectives = Rising::new(&snapshot.objectives);
    let mut memories = Rising::new(&state.models);
    let group = |((model, role), places): ((&'a ModelKey, Role), Vec<usize>)| Group {
        model,
        role,
        places,
        known: known.get(&model).copied(),
        config: configs.get(model).unwrap_or(&snapshot.saturation),
        objective: objectives.get(model).map(|objective| &**objective),
        remembered: memories.get(model).map(|memory| &**memory),
    };
    sorted.into_iter().map(group).collect()
}

/// Looks rising keys up in a map, in one pass over both.
struct Rising<'m, K, V> {
    rest: std::iter::Peekable<std::collections::btree_map::Iter<'m, K, V>>,
}

impl<'m, K: Ord, V> Rising<'m, K, V> {
    fn new(map: &'m BTreeMap<K, V>) -> Self {
        Self { rest: map.iter().peekable() }
    }

    /// The value of `key`, which must not be less than any key before.
    fn get(&mut self, key: &K) -> Option<&'m V> {
        while self.rest.next_if(|(known, _)| *known < key).is_some() {}
        self.rest.peek().filter(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}
