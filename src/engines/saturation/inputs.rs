//! Whether a model can be decided on at all, and the sentence to say when not.

use jiff::Timestamp;

use crate::{
    engines::group::{Case, Member, total, usable},
    interfaces::{
        Desired, Direction, EngineName, Limit, Outcome, Reason, ReplicaMetrics, ScaleObservation, Signal,
        SignalAverages, Withheld, WithheldKind, age,
    },
    saturation::{Replica, joined},
};

/// The replicas of a group that can be measured now, with what is yet to come.
pub(in crate::engines) fn measured(case: &Case<'_, '_>) -> Vec<Replica> {
    let most = case.members.iter().map(|member| member.observation.replicas.len()).sum();
    let mut loads = Vec::with_capacity(most);
    for member in case.members {
        loads.extend(member.replicas().map(|instance| {
            let load = load(case, instance);
            (&instance.pod, load.map(|load| Replica { variant: member.key().clone(), load }))
        }));
    }
    joined(loads)
}

fn load(case: &Case<'_, '_>, instance: &ReplicaMetrics) -> Option<SignalAverages> {
    let (kv_cache, queue_depth) = fresh(case, instance);
    let load = SignalAverages { kv_cache: *kv_cache.value()?, queue_depth: *queue_depth.value()? };
    Some(load.scaled(case.inflow))
}

fn fresh(case: &Case<'_, '_>, instance: &ReplicaMetrics) -> (Signal<f64>, Signal<f64>) {
    let fresh = |signal| usable(signal, case.snapshot.taken_at, case.snapshot.ages.signal);
    (fresh(instance.kv_cache_usage), fresh(instance.queue_length))
}

/// Outcomes of all members when nothing of the model can be measured; `None` when something can.
pub(in crate::engines) fn without_measurement(case: &Case<'_, '_>, measured: &[Replica]) -> Option<Vec<Outcome>> {
    let members = case.members;
    let ready = total(members.iter().map(|member| member.scale.ready));
    if ready == 0 {
        return Some(members.iter().map(before_the_first_replica).collect());
    }
    measured.is_empty().then(|| members.iter().map(|member| metrics_missing(case, member, ready)).collect())
}

/// No replica is ready, so no signal is expected: only the bounds speak.
fn before_the_first_replica(member: &Member<'_>) -> Outcome {
    let min = member.bounds.range().min;
    let &ScaleObservation { spec, current, .. } = member.scale;
    if spec < min || (spec == 0 && min == 0) {
        let bound_by = member.bounds.binding(spec);
        let text = match &bound_by {
            _ if min == 0 => "scaled to zero".to_owned(),
            Some(Limit::Override(clause)) => clause.to_string(),
            _ => format!("{spec} replicas are below minReplicas {min}"),
        };
        return Outcome::Desired(Desired {
            replicas: min,
            unconstrained: spec,
            direction: Direction::between(spec, min),
            reason: Reason { engine: EngineName::Bounds, text },
            bound_by,
            oldest_input: None,
        });
    }
    let variant = &member.observation.variant;
    Outcome::Withheld(Withheld {
        kind: WithheldKind::NoReadyReplica,
        message: format!(
            "variant {}: no replica of model {} is ready yet, {current} of {} are pending; if this lasts, check its pods",
            variant.key, variant.model, variant.target
        ),
    })
}

fn metrics_missing(case: &Case<'_, '_>, member: &Member<'_>, ready: u32) -> Outcome {
    let Case { snapshot, members, .. } = *case;
    let variant = &member.observation.variant;
    let limit = snapshot.ages.signal.as_secs();
    let newest = members.iter().flat_map(|member| &member.observation.replicas).filter_map(newest_sample).max();
    let unavailable = snapshot.unavailable.get(&variant.model);
    let errors = snapshot.sources.iter().filter_map(|source| {
        let error = source.last_error.as_deref()?;
        // Most errors begin with the name themselves.
        let named = error.starts_with(&*source.name);
        let told = unavailable.is_some_and(|found| found.contains(error));
        (!told).then(|| if named { error.to_owned() } else { format!("{}: {error}", source.name) })
    });
    let mut causes: Vec<String> = errors.collect();
    match (newest, unavailable) {
        (Some(sampled_at), _) => {
            causes.insert(0, format!("the newest is {} s old", age(snapshot.taken_at, sampled_at).as_secs()));
        }
        (None, Some(found)) => causes.insert(0, found.clone()),
        (None, None) if causes.is_empty() => causes.push(format!(
            "there is no series of it at all; check that spec.modelID equals the model_name label, here {:?}, and that the pods of {} are scraped",
            &*variant.model.model_id, variant.target
        )),
        (None, None) => {}
    }
    let causes = causes.join("; ");
    Outcome::Withheld(Withheld {
        kind: WithheldKind::MetricsMissing,
        message: format!(
            "variant {}: none of the {ready} ready replicas of model {} has a KV-cache usage and a queue length sampled in the last {limit} s; {causes}",
            variant.key, variant.model
        ),
    })
}

fn newest_sample(replica: &ReplicaMetrics) -> Option<Timestamp> {
    [replica.kv_cache_usage.sampled_at(), replica.queue_length.sampled_at()].into_iter().flatten().max()
}

/// Sample time of the oldest signal that went into the decision.
pub(super) fn oldest_sample(case: &Case<'_, '_>) -> Option<Timestamp> {
    let instances = case.members.iter().flat_map(Member::replicas).map(|instance| fresh(case, instance));
    let sampled = instances.filter_map(|(kv_cache, queue)| Some(kv_cache.sampled_at()?.min(queue.sampled_at()?)));
    sampled.min()
}
