//! Engines whose signals count for no variant. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::interfaces::{ModelKey, ServedModel, UnattributedEngines, VariantKey, VariantObservation, age};

/// Of the engines in `served`, heard of within `age_limit` of `now`, those in ready pods that are replicas of no variant,
/// or of a variant that declares another model. Sorted by model and variant.
///
/// A pod that is not known is gone, or of a kind that nothing scales; its last series say nothing of now. A pod that serves
/// what its variant declares may serve other models besides.
pub(super) fn unattributed(
    variants: &[VariantObservation],
    served: impl Iterator<Item = ServedModel>,
    now: Timestamp,
    age_limit: Duration,
) -> Vec<UnattributedEngines> {
    let mut served = served.peekable();
    if served.peek().is_none() {
        return Vec::new();
    }
    let declared: HashMap<&VariantKey, &VariantObservation> =
        variants.iter().map(|observed| (&observed.variant.key, observed)).collect();
    let is_counted = |variant: &VariantKey, model: &ModelKey, pod: &Arc<str>| {
        let of_pod = |observed: &VariantObservation| observed.replicas.iter().any(|replica| replica.pod == *pod);
        declared.get(variant).is_some_and(|observed| observed.variant.model == *model || of_pod(observed))
    };
    let mut pods: BTreeMap<(ModelKey, Option<VariantKey>), BTreeSet<Arc<str>>> = BTreeMap::new();
    for ServedModel { model, pod, identity, sampled_at } in served {
        let Some(identity) = identity.filter(|identity| identity.ready && age(now, sampled_at) <= age_limit) else {
            continue;
        };
        if !identity.variant.as_ref().is_some_and(|variant| is_counted(variant, &model, &pod)) {
            pods.entry((model, identity.variant)).or_default().insert(pod);
        }
    }
    let engines = pods.into_iter().filter_map(|((model, variant), pods)| {
        let example = pods.first()?.clone();
        Some(UnattributedEngines { model, variant, pods: pods.len(), example })
    });
    engines.collect()
}

/// What there is instead of signals of a model's variants.
pub(super) fn served_by_others(UnattributedEngines { pods, example, .. }: &UnattributedEngines) -> String {
    format!(
        "it is served by {pods} ready pod(s) of no variant, such as {example}; check spec.scaleTargetRef, and that the \
         pods of the variant are scraped"
    )
}
