//! The status of a `VariantAutoscaling`, computed from the previous one and a decision. Pure.

use jiff::Timestamp;

use super::conditions::{
    AUTOSCALER_READY, ENGINES_ATTRIBUTED, Finding, METRICS_AVAILABLE, OPTIMIZATION_READY, TARGET_RESOLVED, Truth,
};
use crate::{
    constants::ACCELERATOR_UNRESOLVED,
    crd::{ActuationStatus, InvalidSpec, OptimizedAlloc, VariantAutoscalingStatus},
    interfaces::{Decision, Desired, Outcome, Withheld, WithheldKind},
};

const TARGET_FOUND: &str = "TargetFound";
const METRICS_FOUND: &str = "MetricsFound";
const METRICS_NOT_NEEDED: &str = "MetricsNotNeeded";
const OPTIMIZATION_SUCCEEDED: &str = "OptimizationSucceeded";
const INVALID_CONFIGURATION: &str = "InvalidConfiguration";
const AUTOSCALER_FOLLOWS: &str = "AutoscalerFollows";
const NO_AUTOSCALER: &str = "NoAutoscaler";
const ALL_ATTRIBUTED: &str = "AllAttributed";
const NO_ENGINE_SEEN: &str = "NoEngineSeen";

/// What the checks around a variant found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many HPAs read the variant's desired replicas.
    pub readers: usize,
    /// What would make an HPA ignore or misread them.
    pub warnings: Vec<Warning>,
    /// What does not fit between the engines that were seen and the variants that are declared.
    pub engines: Vec<Warning>,
}

/// What a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// In camel case with a capital, as a reason of the condition and of the event.
    pub reason: String,
    /// A sentence that names the object and the remedy.
    pub message: String,
}

/// The status that follows on `previous` after `decision` was made for the object's `generation`.
///
/// While a decision is withheld the allocation keeps its last value and the conditions say why.
pub fn status_for(
    previous: &VariantAutoscalingStatus,
    generation: Option<i64>,
    decision: &Decision,
    autoscalers: &Findings,
    now: Timestamp,
) -> VariantAutoscalingStatus {
    let (allocation, reason) = match &decision.outcome {
        Outcome::Desired(desired) => (Some(allocation(decision, desired)), desired.reason.to_string()),
        Outcome::Withheld(withheld) => (previous.desired_optimized_alloc.clone(), withheld.message.clone()),
    };
    let applied = match (&allocation, decision.current) {
        (Some(allocation), Some(current)) => allocation.num_replicas == count(current),
        _ => false,
    };
    let findings = [
        target_resolved(decision),
        metrics_available(decision),
        optimization_ready(decision),
        autoscaler_ready(autoscalers),
        engines_attributed(decision, &autoscalers.engines),
    ];
    VariantAutoscalingStatus {
        desired_optimized_alloc: allocation,
        actuation: ActuationStatus { applied },
        reason: Some(reason),
        conditions: findings.map(|finding| finding.carry_on(&previous.conditions, generation, now)).into(),
    }
}

/// The status that follows on `previous` when no decision can be made because the object breaks a rule.
pub fn status_of_invalid(
    previous: &VariantAutoscalingStatus,
    generation: Option<i64>,
    invalid: &InvalidSpec,
    now: Timestamp,
) -> VariantAutoscalingStatus {
    status_of_unusable(previous, generation, INVALID_CONFIGURATION, &invalid.to_string(), now)
}

/// The status that follows on `previous` when no decision can be made for a reason that lies with the declaration.
pub(super) fn status_of_unusable(
    previous: &VariantAutoscalingStatus,
    generation: Option<i64>,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> VariantAutoscalingStatus {
    let finding = |condition, truth| Finding::new(condition, truth, reason, message);
    let findings = [
        finding(TARGET_RESOLVED, Truth::Unknown),
        finding(METRICS_AVAILABLE, Truth::Unknown),
        finding(OPTIMIZATION_READY, Truth::False),
        finding(AUTOSCALER_READY, Truth::Unknown),
        finding(ENGINES_ATTRIBUTED, Truth::Unknown),
    ];
    VariantAutoscalingStatus {
        desired_optimized_alloc: previous.desired_optimized_alloc.clone(),
        actuation: ActuationStatus { applied: false },
        reason: Some(message.to_owned()),
        conditions: findings.map(|finding| finding.carry_on(&previous.conditions, generation, now)).into(),
    }
}

fn allocation(decision: &Decision, desired: &Desired) -> OptimizedAlloc {
    let accelerator = decision.accelerator.as_deref().filter(|name| !name.is_empty());
    OptimizedAlloc {
        last_run_time: Some(whole_seconds(decision.decided_at)),
        accelerator: accelerator.unwrap_or(ACCELERATOR_UNRESOLVED).to_owned(),
        num_replicas: count(desired.replicas),
        unconstrained_replicas: Some(count(desired.unconstrained)),
        bound_by: desired.bound_by.as_ref().map(ToString::to_string),
    }
}

/// Kubernetes writes its times without fractions.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Kubernetes counts replicas in 32 bits with sign.
fn count(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

fn target_resolved(decision: &Decision) -> Finding {
    if let Outcome::Withheld(Withheld { kind: kind @ WithheldKind::TargetNotFound, message }) = &decision.outcome {
        return Finding::new(TARGET_RESOLVED, Truth::False, kind.as_str(), message);
    }
    match decision.current {
        Some(_) => Finding::new(TARGET_RESOLVED, Truth::True, TARGET_FOUND, "the scale target exists and can be read"),
        None => Finding::new(
            TARGET_RESOLVED,
            Truth::False,
            WithheldKind::TargetNotFound.as_str(),
            "the scale target has no observed replicas; check spec.scaleTargetRef",
        ),
    }
}

fn metrics_available(decision: &Decision) -> Finding {
    match &decision.outcome {
        Outcome::Desired(Desired { oldest_input: Some(_), .. }) => {
            Finding::new(METRICS_AVAILABLE, Truth::True, METRICS_FOUND, "the signals the decision needs are fresh")
        }
        Outcome::Desired(_) => Finding::new(
            METRICS_AVAILABLE,
            Truth::Unknown,
            METRICS_NOT_NEEDED,
            "the decision followed from the bounds alone and needed no metrics",
        ),
        Outcome::Withheld(Withheld { kind, message }) => {
            let truth = match kind {
                WithheldKind::MetricsMissing | WithheldKind::NoReadyReplica => Truth::False,
                WithheldKind::TargetNotFound => Truth::Unknown,
            };
            Finding::new(METRICS_AVAILABLE, truth, kind.as_str(), message)
        }
    }
}

fn optimization_ready(decision: &Decision) -> Finding {
    match &decision.outcome {
        Outcome::Desired(desired) => {
            Finding::new(OPTIMIZATION_READY, Truth::True, OPTIMIZATION_SUCCEEDED, explain(desired))
        }
        Outcome::Withheld(Withheld { kind, message }) => {
            let message = format!("no number is served and desiredOptimizedAlloc shows the last one: {message}");
            Finding::new(OPTIMIZATION_READY, Truth::False, kind.as_str(), message)
        }
    }
}

/// Why the number is what it is: the reason, and the limit that bound it.
pub(super) fn explain(Desired { unconstrained, reason, bound_by, .. }: &Desired) -> String {
    match bound_by {
        Some(limit) => format!("{reason}; {unconstrained} without the limit {limit}"),
        None => reason.to_string(),
    }
}

fn autoscaler_ready(Findings { readers, warnings, .. }: &Findings) -> Finding {
    let reading = *readers > 0;
    if warnings.is_empty() {
        return if reading {
            Finding::new(AUTOSCALER_READY, Truth::True, AUTOSCALER_FOLLOWS, "the HPA adopts the desired replicas as is")
        } else {
            Finding::new(
                AUTOSCALER_READY,
                Truth::Unknown,
                NO_AUTOSCALER,
                "no HPA on the scale target reads wva_desired_replicas of this variant; manifests/samples shows one",
            )
        };
    }
    let truth = if reading { Truth::False } else { Truth::Unknown };
    Finding::new(AUTOSCALER_READY, truth, reasons(warnings), sentences(warnings))
}

fn engines_attributed(decision: &Decision, warnings: &[Warning]) -> Finding {
    if !warnings.is_empty() {
        return Finding::new(ENGINES_ATTRIBUTED, Truth::False, reasons(warnings), sentences(warnings));
    }
    match &decision.outcome {
        Outcome::Desired(Desired { oldest_input: Some(_), .. }) => Finding::new(
            ENGINES_ATTRIBUTED,
            Truth::True,
            ALL_ATTRIBUTED,
            "every engine that is seen to serve the model is a replica of a variant of it",
        ),
        _ => Finding::new(
            ENGINES_ATTRIBUTED,
            Truth::Unknown,
            NO_ENGINE_SEEN,
            "no engine that serves the model has been heard of lately",
        ),
    }
}

fn sentences(warnings: &[Warning]) -> String {
    warnings.iter().map(|warning| warning.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// All reasons, each once. Conditions allow a list with commas, and events compare it to find what is new.
fn reasons(warnings: &[Warning]) -> String {
    let mut reasons: Vec<_> = warnings.iter().map(|warning| warning.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.join(",")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::{
        controller::fixtures::{at, autoscalers, bounded, decided, withheld},
        crd::VariantAutoscaling,
        interfaces::Limit,
    };

    fn first(decision: &Decision, autoscalers: &Findings) -> VariantAutoscalingStatus {
        status_for(&VariantAutoscalingStatus::default(), Some(3), decision, autoscalers, at(1000))
    }

    fn verdicts(status: &VariantAutoscalingStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_decision_is_shown_with_its_reason_and_all_conditions_true() {
        let status = first(&decided(3, 5, "spare capacity 12 % is below the target of 20 %"), &autoscalers(1, &[]));
        let allocation = status.desired_optimized_alloc.as_ref().unwrap();
        assert_eq!((allocation.num_replicas, allocation.accelerator.as_str()), (5, "A100"));
        assert_eq!(allocation.last_run_time, Some(at(1000)));
        assert_eq!(status.reason.as_deref(), Some("saturation: spare capacity 12 % is below the target of 20 %"));
        assert!(!status.actuation.applied, "3 of 5 are there");
        assert_eq!(
            verdicts(&status),
            [
                ("TargetResolved", "True", "TargetFound"),
                ("MetricsAvailable", "True", "MetricsFound"),
                ("OptimizationReady", "True", "OptimizationSucceeded"),
                ("AutoscalerReady", "True", "AutoscalerFollows"),
                ("EnginesAttributed", "True", "AllAttributed"),
            ]
        );
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3)));
    }

    #[test]
    fn a_withheld_decision_keeps_the_last_allocation_and_says_why() {
        let before = first(&decided(5, 5, "enough"), &autoscalers(1, &[]));
        for (kind, current, expected) in [
            (
                WithheldKind::MetricsMissing,
                Some(5),
                [("TargetResolved", "True", "TargetFound"), ("MetricsAvailable", "False", "MetricsMissing")],
            ),
            (
                WithheldKind::NoReadyReplica,
                Some(5),
                [("TargetResolved", "True", "TargetFound"), ("MetricsAvailable", "False", "NoReadyReplica")],
            ),
            (
                WithheldKind::TargetNotFound,
                None,
                [("TargetResolved", "False", "TargetNotFound"), ("MetricsAvailable", "Unknown", "TargetNotFound")],
            ),
        ] {
            let decision = withheld(current, kind, "the cause and the remedy");
            let after = status_for(&before, Some(3), &decision, &autoscalers(1, &[]), at(1060));
            assert_eq!(after.desired_optimized_alloc, before.desired_optimized_alloc, "{kind:?}");
            assert_eq!(after.actuation.applied, current == Some(5), "{kind:?}");
            assert_eq!(after.reason.as_deref(), Some("the cause and the remedy"));
            assert_eq!(verdicts(&after)[..2], expected);
            assert_eq!(verdicts(&after)[2], ("OptimizationReady", "False", kind.as_str()));
            assert!(after.conditions[2].message.ends_with("the cause and the remedy"));
        }
    }

    #[test]
    fn a_decision_from_bounds_alone_does_not_claim_metrics() {
        let mut decision = decided(0, 1, "minReplicas");
        if let Outcome::Desired(desired) = &mut decision.outcome {
            desired.oldest_input = None;
        }
        let status = first(&decision, &autoscalers(1, &[]));
        assert_eq!(verdicts(&status)[1], ("MetricsAvailable", "Unknown", "MetricsNotNeeded"));
    }

    #[test]
    fn the_limit_that_bound_a_decision_is_shown_beside_the_unlimited_number() {
        let status = first(&bounded(4, 5, 9, Limit::MaxReplicas(5)), &autoscalers(1, &[]));
        let allocation = status.desired_optimized_alloc.unwrap();
        assert_eq!((allocation.num_replicas, allocation.unconstrained_replicas), (5, Some(9)));
        assert_eq!(allocation.bound_by.as_deref(), Some("maxReplicas 5 of the VariantAutoscaling"));
        assert!(status.conditions[2].message.contains("9 without the limit maxReplicas 5"));
    }

    #[test]
    fn an_hpa_that_will_not_follow_makes_the_autoscaler_not_ready() {
        let decision = decided(3, 3, "enough");
        for (readers, reasons, expected) in [
            (1, &[][..], ("True", "AutoscalerFollows")),
            (1, &["ToleranceSwallowsSteps"][..], ("False", "ToleranceSwallowsSteps")),
            (2, &["Zeta", "Alpha", "Zeta"][..], ("False", "Alpha,Zeta")),
            (0, &[][..], ("Unknown", "NoAutoscaler")),
            (0, &["ReadsOtherMetric"][..], ("Unknown", "ReadsOtherMetric")),
        ] {
            let status = first(&decision, &autoscalers(readers, reasons));
            let condition = &status.conditions[3];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected, "{readers} {reasons:?}");
            for reason in reasons {
                assert!(condition.message.contains(&format!("HPA web: {reason}")), "{}", condition.message);
            }
        }
    }

    #[test]
    fn engines_that_count_for_no_variant_are_told_whether_or_not_a_number_is_served() {
        let odd = Warning { reason: "PodsOfNoVariant".to_owned(), message: "2 pods".to_owned() };
        let with = |engines: &[&Warning]| Findings {
            engines: engines.iter().map(|warning| (*warning).clone()).collect(),
            ..autoscalers(1, &[])
        };
        let missing = withheld(Some(3), WithheldKind::MetricsMissing, "m");
        for (decision, findings, expected) in [
            (decided(3, 3, "enough"), with(&[]), ("True", "AllAttributed")),
            (decided(3, 3, "enough"), with(&[&odd, &odd]), ("False", "PodsOfNoVariant")),
            (missing.clone(), with(&[&odd]), ("False", "PodsOfNoVariant")),
            (missing, with(&[]), ("Unknown", "NoEngineSeen")),
        ] {
            let status = first(&decision, &findings);
            assert_eq!((status.conditions[4].status.as_str(), status.conditions[4].reason.as_str()), expected);
        }
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let missing = withheld(Some(3), WithheldKind::MetricsMissing, "m");
        let none = withheld(Some(3), WithheldKind::NoReadyReplica, "m");
        let fine = autoscalers(1, &[]);
        let mut status = first(&decided(3, 3, "enough"), &fine);
        for (decision, now, expected) in [
            (decided(3, 4, "more"), 1010, 1000),
            (missing, 1020, 1020),
            (none, 1030, 1020),
            (decided(3, 4, "more"), 1040, 1040),
        ] {
            status = status_for(&status, Some(4), &decision, &fine, at(now));
            assert_eq!(status.conditions[2].last_transition_time, Time(at(expected)), "at {now}");
            assert_eq!(status.conditions[0].last_transition_time, Time(at(1000)), "the target never changed");
        }
    }

    #[test]
    fn conditions_of_others_are_not_taken_over() {
        let foreign = Condition {
            type_: "Mine".to_owned(),
            ..first(&decided(1, 1, ""), &autoscalers(1, &[])).conditions.remove(0)
        };
        let previous = VariantAutoscalingStatus { conditions: vec![foreign], ..VariantAutoscalingStatus::default() };
        let status = status_for(&previous, None, &decided(1, 1, ""), &autoscalers(1, &[]), at(1));
        assert_eq!(status.conditions.len(), 5);
    }

    #[test]
    fn an_unknown_accelerator_is_named_so() {
        for accelerator in [None, Some("".into())] {
            let decision = Decision { accelerator, ..decided(1, 1, "") };
            let status = first(&decision, &autoscalers(1, &[]));
            assert_eq!(status.desired_optimized_alloc.unwrap().accelerator, "unresolved");
        }
    }

    #[test]
    fn an_object_that_breaks_a_rule_is_told_so() {
        let object: VariantAutoscaling = serde_saphyr::from_str(
            "{apiVersion: llmd.ai/v1alpha1, kind: VariantAutoscaling, metadata: {name: a}, \
             spec: {modelID: m, scaleTargetRef: {name: x}, minReplicas: 3, maxReplicas: 2}}",
        )
        .unwrap();
        let invalid = object.spec.validate().unwrap_err();
        let status = status_of_invalid(&VariantAutoscalingStatus::default(), Some(1), &invalid, at(1));
        assert_eq!(status.conditions[2].status, "False");
        assert_eq!(status.conditions[2].reason, "InvalidConfiguration");
        assert!(status.reason.unwrap().contains("spec.minReplicas is \"3\", but it must not exceed maxReplicas"));
    }
}
