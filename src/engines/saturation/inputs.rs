//! Whether a model can be decided on at all, and the sentence to say when not.

use jiff::Timestamp;

use crate::{
    engines::group::{Member, total},
    interfaces::{
        Desired, Direction, EngineName, Limit, Outcome, Reason, ReplicaMetrics, ScaleObservation, Signal, Snapshot,
        Withheld, WithheldKind, age,
    },
    saturation::replicas_of,
};

/// Outcomes of all members when nothing of the model can be measured; `None` when something can.
pub(in crate::engines) fn without_measurement(
    snapshot: &Snapshot,
    members: &[Member<'_>],
    metrics: &[ReplicaMetrics],
) -> Option<Vec<Outcome>> {
    let ready = total(members.iter().map(|member| member.scale.ready));
    if ready == 0 {
        return Some(members.iter().map(before_the_first_replica).collect());
    }
    let measured = replicas_of(metrics);
    measured
        .is_empty()
        .then(|| members.iter().map(|member| metrics_missing(snapshot, members, member, ready)).collect())
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

fn metrics_missing(snapshot: &Snapshot, members: &[Member<'_>], member: &Member<'_>, ready: u32) -> Outcome {
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
pub(super) fn oldest_sample(metrics: &[ReplicaMetrics]) -> Option<Timestamp> {
    let complete = metrics
        .iter()
        .filter(|replica| replica.kv_cache_usage.value().is_some() && replica.queue_length.value().is_some());
    complete.flat_map(|replica| [&replica.kv_cache_usage, &replica.queue_length]).filter_map(Signal::sampled_at).min()
}
