//! One set of decisions, and how its variants are found.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ahash::RandomState;
use jiff::Timestamp;

use super::{explain, series::Metric};
use crate::{
    apiserver::{ObjectReference, Of, Refusal, SeriesQuery},
    constants::{CRD_GROUP, LABEL_VARIANT_NAME},
    interfaces::{Decision, Snapshot, TargetReference, VariantObservation},
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
    /// In the order of their variants.
    pub(super) decisions: Arc<[Decision]>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// For each decision, where in the snapshot its variant is.
    observed: Vec<Option<usize>>,
    /// Hashes of the decisions' variants, in order, with their places: found without looking at the names on the way.
    /// Made when somebody asks, as the next one is.
    by_name: OnceLock<Vec<(u64, usize)>>,
    hashes: RandomState,
    /// Decisions in the order of the namespace and name of what they scale.
    by_target: OnceLock<Vec<usize>>,
}

impl Published {
    pub(super) fn new(mut decisions: Vec<Decision>, max_age: Duration, snapshot: Option<Arc<Snapshot>>) -> Self {
        // The engine's order already: this only looks.
        decisions.sort_by(|a, b| a.variant.cmp(&b.variant));
        let variants = decisions.iter().map(|decision| &decision.variant);
        let observed = snapshot.as_ref().map_or_else(Vec::new, |snapshot| snapshot.places(variants));
        Self { max_age, received: None, decisions: decisions.into(), snapshot, observed, ..Self::default() }
    }

    /// The decision on one variant and where it is.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<(usize, &Decision)> {
        let by_name = self.by_name.get_or_init(|| {
            let places = self.decisions.iter().enumerate();
            let mut hashes: Vec<_> = places.map(|(index, decision)| (self.hash(key(decision)), index)).collect();
            hashes.sort_unstable();
            hashes
        });
        let wanted = self.hash((namespace, name));
        let from = by_name.partition_point(|(hash, _)| *hash < wanted);
        let alike = by_name.iter().skip(from).take_while(|(hash, _)| *hash == wanted);
        let mut found = alike.filter_map(|(_, index)| Some((*index, self.decisions.get(*index)?)));
        found.find(|(_, decision)| key(decision) == (namespace, name))
    }

    fn hash(&self, key: (&str, &str)) -> u64 {
        self.hashes.hash_one(key)
    }

    /// What was seen of the variant of the decision at `index`.
    pub(super) fn observation(&self, index: usize) -> Option<&VariantObservation> {
        let place = (*self.observed.get(index)?)?;
        self.snapshot.as_ref()?.variants.get(place)
    }

    /// Why `metric` of the variant of the decision at `index` is not served where it is in shadow mode: nobody is to act
    /// on it.
    pub(super) fn shadow(&self, metric: Metric, index: usize, decision: &Decision) -> Option<Refusal> {
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

    /// Decisions that `query` may be about; a superset of what its selector matches, found without looking at every
    /// variant where it names some.
    pub(super) fn candidates(&self, query: &SeriesQuery<'_>) -> Vec<Candidate<'_>> {
        let plain = |(index, decision)| Candidate { index, decision, object: None };
        let as_itself = |(index, decision)| Candidate { index, decision, object: Some(itself(decision)) };
        match (query.of, query.namespace, query.selector.values_listed_for(LABEL_VARIANT_NAME)) {
            (Of::Subject(name), namespace, _) => self.named(namespace, name).map(plain).collect(),
            (Of::Any, Some(namespace), Some(names)) => {
                names.iter().filter_map(|name| self.find(namespace, name)).map(plain).collect()
            }
            (Of::Any, namespace, _) => self.within(namespace).map(plain).collect(),
            (Of::Object { group, kind: VARIANT_KIND, name }, namespace, _) if group == CRD_GROUP => match name {
                Some(name) => self.named(namespace, name).map(as_itself).collect(),
                None => self.within(namespace).map(as_itself).collect(),
            },
            (Of::Object { group, kind, name }, namespace, _) => {
                let is_meant =
                    |target: &TargetReference| group_of(&target.api_version) == group && &*target.kind == kind;
                let candidate = |(index, decision)| {
                    let target = self.target(index).filter(|target| is_meant(target))?;
                    Some(Candidate { index, decision, object: Some(reference(target)) })
                };
                match name {
                    Some(name) => self.scaling(namespace, name).filter_map(candidate).collect(),
                    None => self.within(namespace).filter_map(candidate).collect(),
                }
            }
        }
    }

    /// Decisions on variants called `name`: one, or one for each namespace.
    fn named(&self, namespace: Option<&str>, name: &str) -> impl Iterator<Item = (usize, &Decision)> {
        let one = namespace.and_then(|namespace| self.find(namespace, name));
        let everywhere = namespace.is_none().then(|| self.within(None)).into_iter().flatten();
        one.into_iter().chain(everywhere.filter(move |(_, decision)| &*decision.variant.name == name))
    }

    /// Decisions on variants that scale something called `name`; in one namespace, without looking at every variant.
    fn scaling(&self, namespace: Option<&str>, name: &str) -> impl Iterator<Item = (usize, &Decision)> {
        let place = |index: usize| Some((&*self.decisions.get(index)?.variant.namespace, &*self.target(index)?.name));
        let order = self.by_target.get_or_init(|| {
            let mut order: Vec<usize> =
                (0..self.decisions.len()).filter(|index| self.target(*index).is_some()).collect();
            order.sort_by_key(|index| place(*index));
            order
        });
        let everywhere = namespace.is_none().then(|| self.within(None)).into_iter().flatten();
        let wanted = namespace.map(|namespace| (namespace, name));
        let range = order.partition_point(|index| place(*index) < wanted)
            ..order.partition_point(|index| place(*index) <= wanted);
        let found = order.get(range).unwrap_or_default();
        let within = found.iter().filter_map(|index| Some((*index, self.decisions.get(*index)?)));
        within
            .chain(everywhere.filter(move |(index, _)| self.target(*index).is_some_and(|target| &*target.name == name)))
    }

    /// What the variant of the decision at `index` scales.
    fn target(&self, index: usize) -> Option<&TargetReference> {
        Some(&self.observation(index)?.variant.target)
    }
}

/// A decision that a query may be about.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) index: usize,
    pub(super) decision: &'a Decision,
    /// The object that the query names it by.
    pub(super) object: Option<ObjectReference>,
}

fn reference(target: &TargetReference) -> ObjectReference {
    ObjectReference { api_version: target.api_version.clone(), kind: target.kind.clone(), name: target.name.clone() }
}

/// Namespace and name of a decision's variant.
fn key(decision: &Decision) -> (&str, &str) {
    (&decision.variant.namespace, &decision.variant.name)
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
