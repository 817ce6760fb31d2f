//! From the watched objects of a namespace to its variants as decisions see them. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Problem,
    index::Namespace,
    objects::{Autoscaler, DeclaredVariant, ScaleTarget, Workload},
};
use crate::interfaces::{
    HpaObservation, HpaTarget, ModelKey, Role, ScaleObservation, TargetObservation, Variant, VariantKey,
    VariantObservation, wire_labels,
};

/// Every variant of a namespace without the signals of its replicas, ordered by name.
///
/// A variant that cannot be used has [`TargetObservation::NotFound`] with its problems as message.
pub(crate) fn observe(
    name: &Arc<str>,
    namespace: &Namespace,
    controller_instance: Option<&str>,
) -> Vec<VariantObservation> {
    if namespace.variants.is_empty() {
        return Vec::new();
    }
    let pending = pending(namespace);
    let mut declared: Vec<(&Arc<str>, &DeclaredVariant)> = namespace.variants.iter().collect();
    declared.sort_unstable_by_key(|(variant, _)| *variant);
    let (variants, targets): (Vec<Variant>, Vec<TargetObservation>) = declared
        .into_iter()
        .map(|(variant, declared)| {
            let target = observe_target(name, namespace, variant, declared, &pending);
            (describe(name, namespace, variant, declared), target)
        })
        .unzip();
    let autoscalers = observe_autoscalers(namespace, controller_instance, &variants);
    let parts = variants.into_iter().zip(targets).zip(autoscalers);
    parts
        .map(|((variant, target), autoscalers)| VariantObservation {
            variant,
            target,
            replicas: Vec::new(),
            autoscalers,
        })
        .collect()
}

/// What is wrong with a variant.
pub(crate) fn problems(
    name: &Arc<str>,
    namespace: &Namespace,
    variant: &Arc<str>,
    declared: &DeclaredVariant,
) -> Vec<Problem> {
    let mut problems = declared.problems.clone();
    let Some(target) = &declared.target else { return problems };
    let key = VariantKey { namespace: name.clone(), name: variant.clone() };
    if namespace.workload(target).is_none() {
        problems.push(Problem::TargetNotFound { variant: key.clone(), target: declared.reference.clone() });
    }
    let variants: Vec<Arc<str>> = namespace.variants_of(target).cloned().collect();
    if variants.len() > 1 {
        problems.push(Problem::SharedTarget { variant: key, target: declared.reference.clone(), variants });
    }
    problems
}

/// The variant as declared; the pod template knows its accelerator better than its label does.
fn describe(name: &Arc<str>, namespace: &Namespace, variant: &Arc<str>, declared: &DeclaredVariant) -> Variant {
    let workload = declared.target.as_ref().and_then(|target| namespace.workload(target));
    let pinned = workload.and_then(|workload| workload.accelerator.clone());
    Variant {
        key: VariantKey { namespace: name.clone(), name: variant.clone() },
        model: ModelKey { namespace: name.clone(), model_id: declared.model_id.clone() },
        accelerator: pinned.or_else(|| declared.accelerator.clone()),
        accelerators_per_replica: None,
        profile: None,
        cost: declared.cost,
        role: workload.map_or(Role::default(), |workload| workload.role),
        bounds: declared.bounds,
        target: declared.reference.clone(),
        overrides: declared.overrides.clone(),
        shadow: declared.shadow,
    }
}

fn observe_target(
    name: &Arc<str>,
    namespace: &Namespace,
    variant: &Arc<str>,
    declared: &DeclaredVariant,
    pending: &HashMap<ScaleTarget, Vec<Timestamp>>,
) -> TargetObservation {
    let problems = problems(name, namespace, variant, declared);
    let target = declared.target.as_ref();
    match target.and_then(|target| Some((target, namespace.workload(target)?))) {
        Some((target, workload)) if problems.is_empty() => {
            let pending_since = pending.get(target).cloned().unwrap_or_default();
            let &Workload { spec, current, ready, .. } = workload;
            TargetObservation::Found(ScaleObservation { spec, current, ready, pending_since })
        }
        _ => {
            let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
            TargetObservation::NotFound { message: sentences.join("; ") }
        }
    }
}

/// Creation times, oldest first, of the pods of each scaled target that are not ready and not on their way out.
fn pending(namespace: &Namespace) -> HashMap<ScaleTarget, Vec<Timestamp>> {
    let mut pending: HashMap<ScaleTarget, Vec<Timestamp>> = HashMap::new();
    for pod in namespace.pods.values().filter(|pod| !pod.ready && !pod.terminating) {
        if let Some(target) = namespace.target_of(pod).filter(|target| namespace.is_scaled(target)) {
            pending.entry(target).or_default().push(pod.created);
        }
    }
    for times in pending.values_mut() {
        times.sort_unstable();
    }
    pending
}

/// The HPAs on the target of each variant, in the order of `variants`.
fn observe_autoscalers(
    namespace: &Namespace,
    controller_instance: Option<&str>,
    variants: &[Variant],
) -> Vec<Vec<HpaObservation>> {
    let mut by_target: HashMap<&ScaleTarget, BTreeMap<&Arc<str>, &Autoscaler>> = HashMap::new();
    for (hpa, autoscaler) in &namespace.autoscalers {
        if namespace.is_scaled(&autoscaler.target) {
            by_target.entry(&autoscaler.target).or_default().insert(hpa, autoscaler);
        }
    }
    let hpas_of = |variant: &Variant| {
        let target = namespace.variants.get(&variant.key.name).and_then(|declared| declared.target.as_ref());
        let hpas = target.and_then(|target| by_target.get(target)).into_iter().flatten();
        hpas.map(|(hpa, autoscaler)| observe_autoscaler(hpa, autoscaler, variant, variants, controller_instance))
            .collect()
    };
    variants.iter().map(hpas_of).collect()
}

fn observe_autoscaler(
    hpa: &Arc<str>,
    autoscaler: &Autoscaler,
    variant: &Variant,
    variants: &[Variant],
    controller_instance: Option<&str>,
) -> HpaObservation {
    let metric = autoscaler.metric.as_ref();
    let selects_this_variant_only = metric.is_some_and(|metric| {
        let selects = |variant: &Variant| metric.selects(|key| label(variant, controller_instance, key));
        // Without looking for a pin first, cost would grow with HPAs times variants.
        let selects_another = || variants.iter().any(|other| other.key != variant.key && selects(other));
        selects(variant) && (metric.pins_variant() || !selects_another())
    });
    HpaObservation {
        name: hpa.clone(),
        bounds: autoscaler.bounds,
        reads_our_metric: metric.is_some(),
        selects_this_variant_only,
        target: metric.map_or(HpaTarget::Unset, |metric| metric.target),
        tolerance_up: autoscaler.tolerance_up,
        tolerance_down: autoscaler.tolerance_down,
    }
}

/// A label of a variant's `wva_desired_replicas` on the wire.
fn label<'a>(variant: &'a Variant, controller_instance: Option<&'a str>, key: &str) -> Option<&'a str> {
    wire_labels(&variant.key, &variant.model.model_id, variant.accelerator.as_deref(), controller_instance)
        .find_map(|(name, value)| (name == key).then_some(value))
}
