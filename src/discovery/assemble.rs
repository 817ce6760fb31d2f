//! From the watched objects of a namespace to its variants as decisions see them. Pure.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Problem,
    index::KindState,
    namespace::Namespace,
    objects::{
        Autoscaler, ClaimedDevices, DeclaredVariant, GroupKind, ObjectKey, ObjectKind, ReplicaAccelerators,
        TemplateAccelerators, Workload,
    },
};
use crate::interfaces::{
    HpaObservation, HpaTarget, ModelKey, Role, ScaleObservation, TargetObservation, Variant, VariantKey,
    VariantObservation, wire_labels,
};

/// A variant as decisions see it, and why it cannot be used, if so.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Without the signals of its replicas. One that cannot be used has [`TargetObservation::NotFound`] with its problems
    /// as message.
    pub observation: VariantObservation,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What a variant hangs on beside the objects of its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// The installation, where several share the cluster: a label on the wire.
    pub controller_instance: Option<&'a str>,
    /// How far the watches of kinds that are not built in have come.
    pub kinds: &'a BTreeMap<Arc<GroupKind>, KindState>,
}

/// The variants of these names; `None` for one that is not, or no longer.
pub(crate) fn observe(
    name: &Arc<str>,
    namespace: &Namespace,
    surroundings: Surroundings<'_>,
    names: BTreeSet<Arc<str>>,
) -> Vec<(Arc<str>, Option<Observed>)> {
    // Needed by loose selectors only.
    let all = LazyCell::new(|| {
        let variants = namespace.all_declared().map(|(variant, declared)| describe(name, namespace, variant, declared));
        variants.collect::<Vec<Variant>>()
    });
    let assemble = |variant: Arc<str>| {
        let observed = namespace.declared(&variant).map(|(_, declared)| {
            let described = describe(name, namespace, &variant, declared);
            let problems = problems(name, namespace, surroundings, &variant, declared);
            let target = observe_target(namespace, declared, &problems);
            let hpas = declared.target.as_ref().into_iter().flat_map(|target| namespace.autoscalers_on(target));
            let instance = surroundings.controller_instance;
            let autoscalers =
                hpas.map(|(hpa, autoscaler)| observe_autoscaler(hpa, autoscaler, &described, &all, instance));
            let autoscalers = autoscalers.collect();
            let observation = VariantObservation { variant: described, target, replicas: Vec::new(), autoscalers };
            Observed { observation, problems }
        });
        (variant, observed)
    };
    names.into_iter().map(assemble).collect()
}

/// What is wrong with a variant.
fn problems(
    name: &Arc<str>,
    namespace: &Namespace,
    surroundings: Surroundings<'_>,
    variant: &Arc<str>,
    declared: &DeclaredVariant,
) -> Vec<Problem> {
    let mut problems = declared.problems.clone();
    let Some(target) = &declared.target else { return problems };
    let key = VariantKey { namespace: name.clone(), name: variant.clone() };
    let reference = || declared.reference.clone();
    match availability(target, surroundings.kinds) {
        Availability::Listed if namespace.workload(target).is_some() => {}
        Availability::Listed => problems.push(Problem::TargetNotFound { variant: key.clone(), target: reference() }),
        Availability::Awaited => problems.push(Problem::TargetNotListed { variant: key.clone(), target: reference() }),
        Availability::Never(why) => {
            problems.push(Problem::UnsupportedTarget { variant: key.clone(), target: reference(), why });
        }
    }
    let variants: Vec<Arc<str>> = namespace.variants_of(target).cloned().collect();
    if variants.len() > 1 {
        problems.push(Problem::SharedTarget { variant: key, target: declared.reference.clone(), variants });
    }
    problems
}

/// Whether the objects of a kind are known.
enum Availability {
    /// They are.
    Listed,
    /// They will be, or what stands in the way will be known.
    Awaited,
    /// They are not, for this reason.
    Never(String),
}

fn availability(target: &ObjectKey, kinds: &BTreeMap<Arc<GroupKind>, KindState>) -> Availability {
    let kind = match &target.kind {
        ObjectKind::Deployment | ObjectKind::StatefulSet => return Availability::Listed,
        ObjectKind::ReplicaSet => {
            return Availability::Never("a ReplicaSet is not scaled on its own; name its Deployment".to_owned());
        }
        ObjectKind::Other(kind) => kind,
    };
    match kinds.get(kind) {
        Some(KindState::Listed) => Availability::Listed,
        Some(KindState::Unavailable(why)) => Availability::Never(why.clone()),
        None => Availability::Awaited,
    }
}

/// The variant as declared; the pod template knows its accelerator better than its label does.
fn describe(name: &Arc<str>, namespace: &Namespace, variant: &Arc<str>, declared: &DeclaredVariant) -> Variant {
    let workload = declared.target.as_ref().and_then(|target| namespace.workload(target));
    let pinned = workload.and_then(|workload| workload.accelerator.clone());
    Variant {
        key: VariantKey { namespace: name.clone(), name: variant.clone() },
        model: ModelKey { namespace: name.clone(), model_id: declared.model_id.clone() },
        accelerator: pinned.or_else(|| declared.accelerator.clone()),
        accelerators_per_replica: workload.and_then(|workload| accelerators(&workload.accelerators, namespace)),
        profile: None,
        cost: declared.cost,
        role: workload.map_or(Role::default(), |workload| workload.role),
        bounds: declared.bounds,
        target: declared.reference.clone(),
        overrides: declared.overrides.clone(),
        shadow: declared.shadow,
    }
}

/// Accelerators of one replica over all its pods; `None` where they are not known.
fn accelerators(replica: &ReplicaAccelerators, namespace: &Namespace) -> Option<u32> {
    let leader = of_pod(&replica.leader, namespace);
    let Some((worker, others)) = &replica.workers else { return leader };
    // A leader that only directs others may have none itself.
    let workers = of_pod(worker, namespace)?.checked_mul(*others)?;
    Some(workers + leader.unwrap_or(0))
}

fn of_pod(pod: &TemplateAccelerators, namespace: &Namespace) -> Option<u32> {
    if pod.claim_templates.is_empty() {
        return pod.devices;
    }
    let claimed = |template: &Arc<str>| {
        let ClaimedDevices(devices) = namespace.claim_templates.get(template)?;
        *devices
    };
    let claimed: u32 = pod.claim_templates.iter().map(claimed).sum::<Option<u32>>()?;
    Some(claimed + pod.devices.unwrap_or(0)).filter(|accelerators| *accelerators > 0)
}

fn observe_target(namespace: &Namespace, declared: &DeclaredVariant, problems: &[Problem]) -> TargetObservation {
    let target = declared.target.as_ref();
    match target.and_then(|target| Some((target, namespace.workload(target)?))) {
        Some((target, workload)) if problems.is_empty() => {
            let &Workload { spec, current, ready, .. } = workload;
            let ready = ready.unwrap_or_else(|| {
                let ready = namespace.pods_under(target).filter(|pod| pod.ready).count();
                u32::try_from(ready).unwrap_or(u32::MAX)
            });
            TargetObservation::Found(ScaleObservation {
                spec,
                current,
                ready,
                pending_since: pending(namespace, target),
            })
        }
        _ => {
            let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
            TargetObservation::NotFound { message: sentences.join("; ") }
        }
    }
}

/// Creation times, oldest first, of the pods of a scaled target that are not ready and not on their way out.
fn pending(namespace: &Namespace, target: &ObjectKey) -> Vec<Timestamp> {
    let pending = namespace.pods_under(target).filter(|pod| !pod.ready && !pod.terminating);
    let mut times: Vec<Timestamp> = pending.map(|pod| pod.created).collect();
    times.sort_unstable();
    times
}

fn observe_autoscaler(
    hpa: &Arc<str>,
    autoscaler: &Autoscaler,
    variant: &Variant,
    all: &LazyCell<Vec<Variant>, impl FnOnce() -> Vec<Variant>>,
    controller_instance: Option<&str>,
) -> HpaObservation {
    let metric = autoscaler.metric.as_ref();
    let selects_this_variant_only = metric.is_some_and(|metric| {
        let selects = |variant: &Variant| metric.selects(|key| label(variant, controller_instance, key));
        // Without looking for a pin first, cost would grow with HPAs times variants.
        let selects_another = || all.iter().any(|other| other.key != variant.key && selects(other));
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
