//! One set of decisions, and how its variants are found.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{explain, series::Metric};
use crate::{
    apiserver::{ObjectReference, Of, Refusal, SeriesQuery},
    constants::{CRD_GROUP, LABEL_VARIANT_NAME},
    interfaces::{Decision, Snapshot, VariantKey, VariantObservation},
};

/// Group, version and kind of the object that declares a variant.
const VARIANT_API_VERSION: &str = "llmd.ai/v1alpha1";
const VARIANT_KIND: &str = "VariantAutoscaling";

/// Decisions made together, and what they were made on.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) max_age: Duration,
    /// When another replica last confirmed the decisions, by our own clock; `None` where we made them.
    pub(super) received: Option<Timestamp>,
    /// In the order of their variants, so that one is found by bisection.
    pub(super) decisions: Arc<[Decision]>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// For each decision, where in the snapshot its variant is.
    observed: Vec<Option<usize>>,
}

impl Published {
    pub(super) fn new(mut decisions: Vec<Decision>, max_age: Duration, snapshot: Option<Arc<Snapshot>>) -> Self {
        // The engine's order already: this only looks.
        decisions.sort_by(|a, b| a.variant.cmp(&b.variant));
        let places: BTreeMap<&VariantKey, usize> = snapshot.iter().flat_map(|snapshot| places(snapshot)).collect();
        let observed = decisions.iter().map(|decision| places.get(&decision.variant).copied()).collect();
        drop(places);
        Self { max_age, received: None, decisions: decisions.into(), snapshot, observed }
    }

    /// The decision on one variant and where it is.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<(usize, &Decision)> {
        let key = |decision: &Decision| (&*decision.variant.namespace, &*decision.variant.name).cmp(&(namespace, name));
        let index = self.decisions.binary_search_by(key).ok()?;
        self.decisions.get(index).map(|decision| (index, decision))
    }

    /// What was seen of the variant of the decision at `index`.
    pub(super) fn observation(&self, index: usize) -> Option<&VariantObservation> {
        let place = (*self.observed.get(index)?)?;
        self.snapshot.as_ref()?.variants.get(place)
    }

    /// Why `metric` of a variant in shadow mode is not served: nobody is to act on it.
    pub(super) fn shadow(&self, metric: Metric, decision: &Decision) -> Option<Refusal> {
        let (index, _) = self.find(&decision.variant.namespace, &decision.variant.name)?;
        let is_shadow = self.observation(index)?.variant.shadow;
        (is_shadow && metric.asks_for_replicas())
            .then(|| Refusal { message: explain::in_shadow_mode(&decision.variant) })
    }

    /// Decisions in `namespace`; `None` is everywhere.
    pub(super) fn within(&self, namespace: Option<&str>) -> impl Iterator<Item = (usize, &Decision)> {
        let range = self.range(namespace);
        range.clone().zip(self.decisions.get(range).unwrap_or_default())
    }

    fn range(&self, namespace: Option<&str>) -> Range<usize> {
        let Some(namespace) = namespace else { return 0..self.decisions.len() };
        let before = |decision: &Decision| &*decision.variant.namespace < namespace;
        let not_after = |decision: &Decision| &*decision.variant.namespace <= namespace;
        self.decisions.partition_point(before)..self.decisions.partition_point(not_after)
    }

    /// Decisions that `query` may be about, with the object it names them by; a superset of what its selector matches,
    /// found without looking at every variant where it names some.
    pub(super) fn candidates(&self, query: &SeriesQuery<'_>) -> Vec<(&Decision, Option<ObjectReference>)> {
        let named = |name: &str| query.namespace.and_then(|namespace| self.find(namespace, name));
        let plain = |(_, decision)| (decision, None);
        match (query.of, query.namespace, query.selector.values_listed_for(LABEL_VARIANT_NAME)) {
            (Of::Subject(name), Some(_), _) => named(name).map(plain).into_iter().collect(),
            (Of::Any, Some(_), Some(names)) => names.iter().filter_map(|name| named(name)).map(plain).collect(),
            (Of::Any | Of::Subject(_), ..) => self.within(query.namespace).map(plain).collect(),
            (Of::Object { group, kind: VARIANT_KIND, name }, ..) if group == CRD_GROUP => {
                let wanted = |decision: &Decision| name.is_none_or(|name| name == &*decision.variant.name);
                let found = self.within(query.namespace).filter(|(_, decision)| wanted(decision));
                found.map(|(_, decision)| (decision, Some(itself(decision)))).collect()
            }
            (Of::Object { group, kind, name }, ..) => {
                let target = |(index, decision)| {
                    let target = self.target(index)?;
                    let is_meant = group_of(&target.api_version) == group
                        && &*target.kind == kind
                        && name.is_none_or(|name| name == &*target.name);
                    is_meant.then_some((decision, Some(target)))
                };
                self.within(query.namespace).filter_map(target).collect()
            }
        }
    }

    /// The object that the variant of the decision at `index` scales.
    fn target(&self, index: usize) -> Option<ObjectReference> {
        let target = &self.observation(index)?.variant.target;
        Some(ObjectReference {
            api_version: target.api_version.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
        })
    }
}

fn places(snapshot: &Snapshot) -> impl Iterator<Item = (&VariantKey, usize)> {
    snapshot.variants.iter().enumerate().map(|(index, observation)| (&observation.variant.key, index))
}

/// The object that declares the variant of a decision.
fn itself(decision: &Decision) -> ObjectReference {
    ObjectReference {
        api_version: VARIANT_API_VERSION.into(),
        kind: VARIANT_KIND.into(),
        name: decision.variant.name.clone(),
    }
}

/// API group of an `apiVersion`; empty for the core group.
fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
