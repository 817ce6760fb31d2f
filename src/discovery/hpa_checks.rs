//! What in an HPA would make it ignore or misread the desired replicas we serve. Pure.
//!
//! The arithmetic is that of kube-controller-manager for an External metric: with `AverageValue` the HPA proposes
//! `ceil(sum / target)`, unless `sum / (target · S)` is within the tolerance of 1, where S is `status.replicas`.

use std::{fmt, sync::Arc};

use crate::{
    constants::{LABEL_VARIANT_NAME, WVA_DESIRED_REPLICAS},
    interfaces::{HpaObservation, HpaTarget, TargetObservation, VariantObservation},
};

/// The `averageValue` of `"1"` with which an HPA adopts the number of replicas it reads.
const ONE: i64 = 1000;

/// One thing that makes an HPA ignore or misread our value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpaWarning {
    /// What kind of thing.
    pub reason: HpaWarningReason,
    /// The HPA; `None` when there is none.
    pub autoscaler: Option<Arc<str>>,
    /// A sentence that names the HPA and the remedy.
    pub message: String,
}

impl fmt::Display for HpaWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Kinds of [`HpaWarning`], as the reason of a Kubernetes condition or event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HpaWarningReason {
    /// No HPA scales the target.
    NoAutoscaler,
    /// Several HPAs scale the target.
    SeveralAutoscalers,
    /// An HPA on the target does not read `wva_desired_replicas`.
    MetricNotRead,
    /// The selector does not match exactly this variant.
    SelectorMismatch,
    /// The target type is not `AverageValue`.
    TargetNotAverageValue,
    /// The `averageValue` is not 1.
    AverageValueNotOne,
    /// A tolerance makes the HPA ignore small steps.
    ToleranceSwallowsSteps,
    /// `maxReplicas` of the HPA is below what the variant may have.
    MaxReplicasTooLow,
    /// `minReplicas` of the HPA is above what the variant may have.
    MinReplicasTooHigh,
    /// Scaling to zero needs a cluster that supports it.
    ScaleToZeroNeedsSupport,
}

/// How much an [`HpaWarning`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// May be as intended.
    Informational,
    /// The HPA does not do what is decided.
    Warning,
}

impl HpaWarningReason {
    /// As written in a condition or event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAutoscaler => "NoAutoscaler",
            Self::SeveralAutoscalers => "SeveralAutoscalers",
            Self::MetricNotRead => "MetricNotRead",
            Self::SelectorMismatch => "SelectorMismatch",
            Self::TargetNotAverageValue => "TargetNotAverageValue",
            Self::AverageValueNotOne => "AverageValueNotOne",
            Self::ToleranceSwallowsSteps => "ToleranceSwallowsSteps",
            Self::MaxReplicasTooLow => "MaxReplicasTooLow",
            Self::MinReplicasTooHigh => "MinReplicasTooHigh",
            Self::ScaleToZeroNeedsSupport => "ScaleToZeroNeedsSupport",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::NoAutoscaler | Self::ScaleToZeroNeedsSupport => Severity::Informational,
            _ => Severity::Warning,
        }
    }
}

/// What makes the HPAs on a variant's target ignore or misread the desired replicas of the variant.
pub fn check_hpas(observation: &VariantObservation) -> Vec<HpaWarning> {
    let variant = &observation.variant;
    let hpas = &observation.autoscalers;
    if hpas.is_empty() {
        let message = format!(
            "no HPA scales {} of variant {}; create one that reads {WVA_DESIRED_REPLICAS}, or scale it by other means",
            variant.target, variant.key
        );
        return vec![HpaWarning { reason: HpaWarningReason::NoAutoscaler, autoscaler: None, message }];
    }
    let mut warnings = Vec::new();
    if hpas.len() > 1 {
        let names: Vec<&str> = hpas.iter().map(|hpa| &*hpa.name).collect();
        let message = format!(
            "HPAs {} all scale {} of variant {}, so that none of them acts; delete all but one",
            names.join(", "),
            variant.target,
            variant.key
        );
        warnings.push(HpaWarning { reason: HpaWarningReason::SeveralAutoscalers, autoscaler: None, message });
    }
    for hpa in hpas {
        let found = if hpa.reads_our_metric { misreadings(hpa, observation) } else { vec![not_read(observation)] };
        warnings.extend(found.into_iter().map(|(reason, sentence)| HpaWarning {
            reason,
            autoscaler: Some(hpa.name.clone()),
            message: format!("HPA {}/{} {sentence}", variant.key.namespace, hpa.name),
        }));
    }
    warnings
}

/// A reason, and the rest of the sentence that begins with the HPA.
type Finding = (HpaWarningReason, String);

fn misreadings(hpa: &HpaObservation, observation: &VariantObservation) -> Vec<Finding> {
    let found = [
        selector(hpa, observation),
        target(hpa),
        tolerance(hpa, observation),
        max(hpa, observation),
        min(hpa, observation),
    ];
    found.into_iter().flatten().collect()
}

fn not_read(observation: &VariantObservation) -> Finding {
    let sentence = format!(
        "does not read {WVA_DESIRED_REPLICAS}, so that decisions on variant {} have no effect; \
         give it an External metric of that name",
        observation.variant.key
    );
    (HpaWarningReason::MetricNotRead, sentence)
}

fn selector(hpa: &HpaObservation, observation: &VariantObservation) -> Option<Finding> {
    let name = &observation.variant.key.name;
    let sentence = format!(
        "selects no variant, another one, or several, whose values it would add up; \
         set the metric's selector to matchLabels {LABEL_VARIANT_NAME}: {name}"
    );
    (!hpa.selects_this_variant_only).then_some((HpaWarningReason::SelectorMismatch, sentence))
}

fn target(hpa: &HpaObservation) -> Option<Finding> {
    let remedy = "set target type AverageValue with averageValue \"1\"";
    let wrong = match hpa.target {
        HpaTarget::AverageValue(ONE) => return None,
        HpaTarget::AverageValue(milli) => {
            let sentence = format!("divides desired replicas by its averageValue of {milli}m; {remedy}");
            return Some((HpaWarningReason::AverageValueNotOne, sentence));
        }
        HpaTarget::Value(_) => "has target type Value, which multiplies desired replicas by ready pods",
        HpaTarget::Unset => "has a target without averageValue",
    };
    Some((HpaWarningReason::TargetNotAverageValue, format!("{wrong}; {remedy}")))
}

fn tolerance(hpa: &HpaObservation, observation: &VariantObservation) -> Option<Finding> {
    let current = match &observation.target {
        TargetObservation::Found(scale) => scale.current,
        TargetObservation::NotFound { .. } => 0,
    };
    let most = hpa.bounds.max.unwrap_or(u32::MAX).max(current);
    let tolerance = hpa.tolerance_up.max(hpa.tolerance_down);
    if smallest_effective_step(tolerance, most) <= 1 {
        return None;
    }
    let at = |replicas| {
        let (up, down) = (
            smallest_effective_step(hpa.tolerance_up, replicas),
            smallest_effective_step(hpa.tolerance_down, replicas),
        );
        let steps = if up == down { up.to_string() } else { format!("{up} up and {down} down") };
        format!("{steps} at {replicas} replicas")
    };
    let steps = if current == 0 || current == most { at(most) } else { format!("{}, {}", at(current), at(most)) };
    let sentence = format!(
        "ignores small changes: its smallest effective step is {steps}; \
         set behavior.scaleUp.tolerance and behavior.scaleDown.tolerance to \"0\" \
         (Kubernetes 1.35, or feature gate HPAConfigurableTolerance)"
    );
    Some((HpaWarningReason::ToleranceSwallowsSteps, sentence))
}

/// The smallest change of a proposal at `replicas` that an HPA acts on: both ends of the tolerance are inclusive.
fn smallest_effective_step(tolerance: f64, replicas: u32) -> u64 {
    // A millionth keeps 0.29 · 100 from being 28.999….
    (tolerance * f64::from(replicas) + 1e-6).floor() as u64 + 1
}

fn max(hpa: &HpaObservation, observation: &VariantObservation) -> Option<Finding> {
    let bounds = observation.variant.bounds;
    let (max, wanted, field) = match (hpa.bounds.max, bounds.max) {
        (Some(max), _) if max < bounds.min => (max, bounds.min, "minReplicas"),
        (Some(max), Some(wanted)) if max < wanted => (max, wanted, "maxReplicas"),
        _ => return None,
    };
    let key = &observation.variant.key;
    let sentence = format!("has maxReplicas {max}, below the {field} {wanted} of variant {key}; raise it to {wanted}");
    Some((HpaWarningReason::MaxReplicasTooLow, sentence))
}

fn min(hpa: &HpaObservation, observation: &VariantObservation) -> Option<Finding> {
    let (min, wanted) = (hpa.bounds.min, observation.variant.bounds.min);
    let key = &observation.variant.key;
    if min > wanted {
        let sentence =
            format!("has minReplicas {min}, above the minReplicas {wanted} of variant {key}; lower it to {wanted}");
        return Some((HpaWarningReason::MinReplicasTooHigh, sentence));
    }
    let sentence = "has minReplicas 0, which needs Kubernetes 1.37 or the feature gate HPAScaleToZero; a target that \
                    something else set to 0 stays there until it is scaled to 1 by hand"
        .to_owned();
    (min == 0 && wanted == 0).then_some((HpaWarningReason::ScaleToZeroNeedsSupport, sentence))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interfaces::{ModelKey, ReplicaBounds, Role, ScaleObservation, TargetReference, Variant, VariantKey};

    fn sound_hpa() -> HpaObservation {
        HpaObservation {
            name: "llama".into(),
            bounds: ReplicaBounds { min: 1, max: Some(40) },
            reads_our_metric: true,
            selects_this_variant_only: true,
            target: HpaTarget::AverageValue(1000),
            tolerance_up: 0.0,
            tolerance_down: 0.0,
        }
    }

    fn observation(hpas: Vec<HpaObservation>) -> VariantObservation {
        VariantObservation {
            variant: Variant {
                key: VariantKey::new("chat", "llama-a100"),
                model: ModelKey::new("chat", "meta/llama"),
                accelerator: None,
                accelerators_per_replica: None,
                profile: None,
                cost: 1.0,
                role: Role::Both,
                bounds: ReplicaBounds { min: 1, max: Some(40) },
                target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "d".into() },
                overrides: Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation { current: 20, ..ScaleObservation::default() }),
            replicas: Vec::new(),
            autoscalers: hpas,
        }
    }

    fn reasons(observation: &VariantObservation) -> Vec<HpaWarningReason> {
        check_hpas(observation).iter().map(|warning| warning.reason).collect()
    }

    #[test]
    fn the_recommended_hpa_raises_nothing() {
        assert_eq!(check_hpas(&observation(vec![sound_hpa()])), []);
    }

    #[test]
    fn each_deviation_has_its_own_reason() {
        use HpaWarningReason as R;
        let bounds = |min, max| ReplicaBounds { min, max: Some(max) };
        for (hpa, expected) in [
            (HpaObservation { reads_our_metric: false, target: HpaTarget::Unset, ..sound_hpa() }, R::MetricNotRead),
            (HpaObservation { selects_this_variant_only: false, ..sound_hpa() }, R::SelectorMismatch),
            (HpaObservation { target: HpaTarget::Value(1000), ..sound_hpa() }, R::TargetNotAverageValue),
            (HpaObservation { target: HpaTarget::Unset, ..sound_hpa() }, R::TargetNotAverageValue),
            (HpaObservation { target: HpaTarget::AverageValue(2000), ..sound_hpa() }, R::AverageValueNotOne),
            (HpaObservation { tolerance_up: 0.1, ..sound_hpa() }, R::ToleranceSwallowsSteps),
            (HpaObservation { tolerance_down: 0.1, ..sound_hpa() }, R::ToleranceSwallowsSteps),
            (HpaObservation { bounds: bounds(1, 39), ..sound_hpa() }, R::MaxReplicasTooLow),
            (HpaObservation { bounds: bounds(2, 40), ..sound_hpa() }, R::MinReplicasTooHigh),
        ] {
            let warnings = check_hpas(&observation(vec![hpa]));
            assert_eq!(warnings.iter().map(|warning| warning.reason).collect::<Vec<_>>(), [expected]);
            assert_eq!(warnings[0].autoscaler.as_deref(), Some("llama"));
            assert_eq!(warnings[0].reason.severity(), Severity::Warning);
            assert!(warnings[0].message.starts_with("HPA chat/llama "), "{}", warnings[0]);
        }
    }

    #[test]
    fn the_tolerance_warning_says_which_steps_are_lost() {
        let hpa = HpaObservation { tolerance_up: 0.1, tolerance_down: 0.1, ..sound_hpa() };
        let warnings = check_hpas(&observation(vec![hpa.clone()]));
        assert!(warnings[0].message.contains("step is 3 at 20 replicas, 5 at 40 replicas;"), "{}", warnings[0]);
        let uneven = HpaObservation { tolerance_down: 0.0, ..hpa.clone() };
        let warnings = check_hpas(&observation(vec![uneven]));
        assert!(warnings[0].message.contains("3 up and 1 down at 20 replicas"), "{}", warnings[0]);
        let mut unseen = observation(vec![hpa]);
        unseen.target = TargetObservation::NotFound { message: String::new() };
        assert!(check_hpas(&unseen)[0].message.contains("step is 5 at 40 replicas;"));
    }

    #[test]
    fn a_tolerance_that_no_size_of_the_target_can_feel_is_not_reported() {
        let bounds = ReplicaBounds { min: 1, max: Some(9) };
        let hpa = HpaObservation { tolerance_up: 0.1, tolerance_down: 0.1, bounds, ..sound_hpa() };
        let mut small = observation(vec![hpa]);
        small.variant.bounds = bounds;
        small.target = TargetObservation::Found(ScaleObservation { current: 4, ..ScaleObservation::default() });
        assert_eq!(reasons(&small), []);
    }

    #[test]
    fn steps_are_those_measured_on_a_real_hpa() {
        for (tolerance, replicas, step) in
            [(0.1, 0, 1), (0.1, 9, 1), (0.1, 10, 2), (0.1, 19, 2), (0.1, 20, 3), (0.1, 50, 6), (0.1, 100, 11)]
        {
            assert_eq!(smallest_effective_step(tolerance, replicas), step, "{replicas}");
        }
        assert_eq!(smallest_effective_step(0.29, 100), 30);
        assert_eq!(smallest_effective_step(0.0, 1000), 1);
    }

    #[test]
    fn no_hpa_is_only_information() {
        let warnings = check_hpas(&observation(Vec::new()));
        assert_eq!(warnings[0].reason, HpaWarningReason::NoAutoscaler);
        assert_eq!(warnings[0].reason.severity(), Severity::Informational);
        assert_eq!(warnings[0].autoscaler, None);
    }

    #[test]
    fn several_hpas_on_one_target_are_all_named() {
        let second = HpaObservation { name: "cpu".into(), reads_our_metric: false, ..sound_hpa() };
        let warnings = check_hpas(&observation(vec![sound_hpa(), second]));
        assert_eq!(warnings[0].reason, HpaWarningReason::SeveralAutoscalers);
        assert!(warnings[0].message.contains("llama, cpu"), "{}", warnings[0]);
        assert_eq!(warnings[1].reason, HpaWarningReason::MetricNotRead);
    }

    #[test]
    fn an_hpa_that_cannot_reach_the_least_replicas_is_reported_without_a_greatest() {
        let mut seen =
            observation(vec![HpaObservation { bounds: ReplicaBounds { min: 1, max: Some(3) }, ..sound_hpa() }]);
        seen.variant.bounds = ReplicaBounds { min: 1, max: None };
        assert_eq!(reasons(&seen), []);
        seen.variant.bounds.min = 4;
        assert_eq!(reasons(&seen), [HpaWarningReason::MaxReplicasTooLow]);
    }

    #[test]
    fn scaling_to_zero_is_explained_where_both_allow_it() {
        let hpa = HpaObservation { bounds: ReplicaBounds { min: 0, max: Some(40) }, ..sound_hpa() };
        let mut seen = observation(vec![hpa]);
        assert_eq!(reasons(&seen), [], "the variant never asks for 0");
        seen.variant.bounds.min = 0;
        assert_eq!(reasons(&seen), [HpaWarningReason::ScaleToZeroNeedsSupport]);
        seen.autoscalers[0].bounds.min = 1;
        assert_eq!(reasons(&seen), [HpaWarningReason::MinReplicasTooHigh]);
    }

    proptest! {
        /// The HPA's own arithmetic: the step reported acts, one less does not.
        #[test]
        fn the_smallest_effective_step_is_where_the_hpa_begins_to_act(percent in 0_u32..=50, replicas in 1_u32..=2000) {
            let step = smallest_effective_step(f64::from(percent) / 100.0, replicas);
            let acts = |step: u64| step * 100 > u64::from(percent) * u64::from(replicas);
            prop_assert!(acts(step));
            prop_assert!(!acts(step - 1));
        }
    }
}
