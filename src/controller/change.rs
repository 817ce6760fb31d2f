//! What a new status changes; decides whether and how soon it is written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{METRICS_AVAILABLE, OURS, TARGET_RESOLVED, Truth, find};
use crate::crd::VariantAutoscalingStatus;

/// How much two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Not at all, or by times only.
    None,
    /// By sentences and by what was wanted without limits: numbers in them move with the load in every cycle.
    Wording,
    /// By why no number is served. Numbers in the sentence do not count.
    Cause,
    /// By something a person or program would act on.
    Substance,
}

impl Change {
    /// The change from `previous` to `next`.
    pub fn between(previous: &VariantAutoscalingStatus, next: &VariantAutoscalingStatus) -> Self {
        if Substance::of(previous) != Substance::of(next) {
            Self::Substance
        } else if cause(previous) != cause(next) {
            Self::Cause
        } else if Wording::of(previous) != Wording::of(next) {
            Self::Wording
        } else {
            Self::None
        }
    }
}

/// What a person or program would act on. Conditions that others left are not ours to compare.
#[derive(PartialEq)]
struct Substance<'a> {
    replicas: Option<i32>,
    accelerator: Option<&'a str>,
    bound_by: Option<&'a str>,
    applied: bool,
    conditions: [Option<(&'a str, &'a str, Option<i64>)>; OURS.len()],
    /// What is wrong with the target: no number in it moves, and its reason is always the same.
    unresolved: Option<&'a str>,
}

impl<'a> Substance<'a> {
    fn of(status: &'a VariantAutoscalingStatus) -> Self {
        let allocation = status.desired_optimized_alloc.as_ref();
        let verdict = |condition: &'a Condition| {
            (condition.status.as_str(), condition.reason.as_str(), condition.observed_generation)
        };
        Self {
            replicas: allocation.map(|allocation| allocation.num_replicas),
            accelerator: allocation.map(|allocation| allocation.accelerator.as_str()),
            bound_by: allocation.and_then(|allocation| allocation.bound_by.as_deref()),
            applied: status.actuation.applied,
            conditions: OURS.map(|type_| find(&status.conditions, type_).map(verdict)),
            unresolved: find(&status.conditions, TARGET_RESOLVED)
                .filter(|condition| condition.status == Truth::False.as_str())
                .map(|condition| condition.message.as_str()),
        }
    }
}

/// The sentence about missing signals, without its numbers: ages and counts move in every cycle.
fn cause(status: &VariantAutoscalingStatus) -> Option<String> {
    let missing = find(&status.conditions, METRICS_AVAILABLE)?;
    let is_missing = missing.status == Truth::False.as_str();
    is_missing.then(|| missing.message.chars().filter(|character| !character.is_ascii_digit()).collect())
}

/// Everything else but times.
#[derive(PartialEq)]
struct Wording<'a> {
    unconstrained: Option<i32>,
    reason: Option<&'a str>,
    messages: [Option<&'a str>; OURS.len()],
}

impl<'a> Wording<'a> {
    fn of(status: &'a VariantAutoscalingStatus) -> Self {
        let allocation = status.desired_optimized_alloc.as_ref();
        Self {
            unconstrained: allocation.and_then(|allocation| allocation.unconstrained_replicas),
            reason: status.reason.as_deref(),
            messages: OURS.map(|type_| find(&status.conditions, type_).map(|condition| condition.message.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::{
            fixtures::{at, autoscalers, bounded, decided, withheld},
            status_for,
        },
        interfaces::{Decision, Limit, WithheldKind},
    };

    #[test]
    fn what_a_cycle_brings_is_weighed() {
        let fine = autoscalers(1, &[]);
        let base = decided(3, 3, "spare 31 %");
        let before = status_for(&VariantAutoscalingStatus::default(), Some(1), &base, &fine, at(1000));
        let later = Decision { decided_at: at(1010), ..base.clone() };
        for (name, decision, autoscalers, generation, expected) in [
            ("the same, later", later, fine.clone(), 1, Change::None),
            ("another number in the reason", decided(3, 3, "spare 30 %"), fine.clone(), 1, Change::Wording),
            ("more replicas", decided(3, 4, "spare 31 %"), fine.clone(), 1, Change::Substance),
            ("the target moved", decided(4, 3, "spare 31 %"), fine.clone(), 1, Change::Substance),
            ("a limit bound", bounded(3, 3, 4, Limit::MaxReplicas(3)), fine.clone(), 1, Change::Substance),
            ("withheld", withheld(Some(3), WithheldKind::MetricsMissing, "m"), fine.clone(), 1, Change::Substance),
            ("an HPA changed", base.clone(), autoscalers(1, &["NoBehavior"]), 1, Change::Substance),
            ("the object was edited", base.clone(), fine.clone(), 2, Change::Substance),
        ] {
            let after = status_for(&before, Some(generation), &decision, &autoscalers, at(1010));
            assert_eq!(Change::between(&before, &after), expected, "{name}");
        }
    }

    #[test]
    fn another_fault_of_the_target_is_substance_and_another_cause_of_missing_metrics_is_told_from_its_numbers() {
        let fine = autoscalers(1, &[]);
        for (kind, expected) in
            [(WithheldKind::TargetNotFound, Change::Substance), (WithheldKind::MetricsMissing, Change::Cause)]
        {
            let decision = |message| withheld(Some(3), kind, message);
            let first = decision("objects of e/v1 are not listed yet");
            let before = status_for(&VariantAutoscalingStatus::default(), Some(1), &first, &fine, at(1000));
            let after = status_for(&before, Some(1), &decision("e/v1 is not served"), &fine, at(1010));
            assert_eq!(Change::between(&before, &after), expected, "{kind:?}");
        }
        let missing = |message| {
            let decision = withheld(Some(3), WithheldKind::MetricsMissing, message);
            status_for(&VariantAutoscalingStatus::default(), Some(1), &decision, &fine, at(1000))
        };
        let (before, after) = (missing("the newest is 61 s old"), missing("the newest is 162 s old"));
        assert_eq!(Change::between(&before, &after), Change::Wording);
    }

    #[test]
    fn conditions_of_others_and_their_order_are_no_change() {
        let fine = autoscalers(1, &[]);
        let before = status_for(&VariantAutoscalingStatus::default(), None, &decided(3, 3, "enough"), &fine, at(1000));
        let mut stored = before.clone();
        stored.conditions.reverse();
        stored.conditions.push(Condition { type_: "Foreign".to_owned(), ..before.conditions[0].clone() });
        assert_eq!(Change::between(&stored, &before), Change::None);
    }
}
