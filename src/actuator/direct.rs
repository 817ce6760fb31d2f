//! Direct actuation: `wva` scales workloads itself. Opt-in, off by default, with rights of its own (manifests/actuation).
//!
//! It does what a stock HPA with the sample's behaviour would do with the served value, by the same arithmetic
//! ([`crate::hpa`]), so that a workload behaves alike whoever scales it. A target that an HPA reads our metric for is left
//! to that HPA.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    hpa::{Hpa, HpaSpec, Scale, SyncOutcome},
    interfaces::{
        ActuationMode, Decision, EngineName, Outcome, Snapshot, TargetObservation, TargetReference, VariantKey,
        VariantObservation,
    },
};

/// The stock HPA's scale-down stabilisation.
const SCALE_DOWN_WINDOW: Duration = Duration::from_secs(300);
/// Where a variant has no maximum of its own; an HPA must have one.
const NO_MAXIMUM: u32 = i32::MAX as u32;

/// One write to a scale subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleAction {
    /// The variant.
    pub variant: VariantKey,
    /// What to scale.
    pub target: TargetReference,
    /// `spec.replicas` seen.
    pub from: u32,
    /// `spec.replicas` to set.
    pub to: u32,
}

/// Writes scale subresources.
pub trait ScaleSink: Send + Sync {
    /// Hands over what is to be written; returns at once. Of one target only the latest counts.
    fn scale(&self, actions: Vec<ScaleAction>);
}

/// Decides what to write. It remembers each variant's recent proposals, as an HPA does.
#[derive(Debug, Default)]
pub struct DirectScaler {
    autoscalers: BTreeMap<VariantKey, Hpa>,
}

impl DirectScaler {
    /// What the decisions on `snapshot` call for under `mode`.
    pub fn actions(&mut self, mode: ActuationMode, snapshot: &Snapshot, decisions: &[Decision]) -> Vec<ScaleAction> {
        if mode == ActuationMode::Hpa {
            self.autoscalers.clear();
            return Vec::new();
        }
        let decided: BTreeMap<&VariantKey, &Decision> =
            decisions.iter().map(|decision| (&decision.variant, decision)).collect();
        self.autoscalers.retain(|variant, _| decided.contains_key(variant));
        let observations = snapshot.variants.iter();
        observations
            .filter_map(|observed| self.action(mode, snapshot, observed, decided.get(&observed.variant.key)?))
            .collect()
    }

    fn action(
        &mut self,
        mode: ActuationMode,
        snapshot: &Snapshot,
        observed: &VariantObservation,
        decision: &Decision,
    ) -> Option<ScaleAction> {
        let TargetObservation::Found(scale) = &observed.target else { return None };
        let Outcome::Desired(desired) = &decision.outcome else { return None };
        if observed.variant.shadow {
            return None;
        }
        let action = |to| ScaleAction {
            variant: observed.variant.key.clone(),
            target: observed.variant.target.clone(),
            from: scale.spec,
            to,
        };
        // From zero also where an HPA reads the value: with a minimum above zero it is disabled until somebody does this.
        if scale.spec == 0 && desired.replicas > 0 && desired.reason.engine == EngineName::ScaleFromZero {
            return Some(action(desired.replicas));
        }
        let is_left_to_hpa = observed.autoscalers.iter().any(|autoscaler| autoscaler.reads_our_metric);
        if mode != ActuationMode::Direct || is_left_to_hpa {
            return None;
        }
        let bounds = observed.variant.bounds;
        let hpa = self.autoscalers.entry(observed.variant.key.clone()).or_insert_with(|| {
            Hpa::new(HpaSpec::adopting(bounds.min, bounds.max.unwrap_or(NO_MAXIMUM), SCALE_DOWN_WINDOW))
        });
        let seen = Scale { spec: scale.spec, status: scale.current };
        match hpa.sync(snapshot.taken_at, seen, Ok(&[u64::from(desired.replicas) * 1000])) {
            SyncOutcome::Scaled(replicas) if replicas != scale.spec => Some(action(replicas)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::interfaces::{
        Desired, Direction, HpaObservation, HpaTarget, ModelKey, Reason, ReplicaBounds, Role, SaturationLevel,
        ScaleObservation, Variant,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn world(second: i64, spec: u32, with_hpa: bool) -> Snapshot {
        let hpa = HpaObservation {
            name: "hpa".into(),
            bounds: ReplicaBounds { min: 1, max: Some(9) },
            reads_our_metric: true,
            selects_this_variant_only: true,
            target: HpaTarget::AverageValue(1000),
            tolerance_up: 0.0,
            tolerance_down: 0.0,
        };
        let observation = VariantObservation {
            variant: Variant {
                key: VariantKey::new("llm", "a"),
                model: ModelKey::new("llm", "m"),
                accelerator: None,
                accelerators_per_replica: None,
                profile: None,
                cost: 1.0,
                role: Role::Both,
                bounds: ReplicaBounds { min: 0, max: Some(9) },
                target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "a".into() },
                overrides: std::sync::Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation {
                spec,
                current: spec,
                ready: spec,
                pending_since: Vec::new(),
            }),
            replicas: Vec::new(),
            autoscalers: if with_hpa { vec![hpa] } else { Vec::new() },
        };
        Snapshot { variants: vec![observation], ..Snapshot::at(at(second)) }
    }

    fn decision(spec: u32, replicas: u32, engine: EngineName) -> Decision {
        Decision {
            variant: VariantKey::new("llm", "a"),
            model: ModelKey::new("llm", "m"),
            accelerator: None,
            current: Some(spec),
            ready: spec,
            decided_at: at(0),
            saturation: SaturationLevel::default(),
            outcome: Outcome::Desired(Desired {
                replicas,
                unconstrained: replicas,
                direction: Direction::between(spec, replicas),
                reason: Reason { engine, text: String::new() },
                bound_by: None,
                oldest_input: None,
            }),
        }
    }

    fn scaled(mode: ActuationMode, spec: u32, replicas: u32, engine: EngineName, with_hpa: bool) -> Option<u32> {
        let actions =
            DirectScaler::default().actions(mode, &world(0, spec, with_hpa), &[decision(spec, replicas, engine)]);
        actions.first().map(|action| action.to)
    }

    #[test]
    fn nothing_is_written_unless_asked_for_and_never_beside_an_hpa() {
        use EngineName::{Saturation, ScaleFromZero};
        assert_eq!(scaled(ActuationMode::Hpa, 0, 1, ScaleFromZero, false), None);
        assert_eq!(scaled(ActuationMode::Hpa, 2, 4, Saturation, false), None);
        assert_eq!(scaled(ActuationMode::FromZero, 2, 4, Saturation, false), None);
        assert_eq!(scaled(ActuationMode::Direct, 2, 4, Saturation, true), None);
        assert_eq!(scaled(ActuationMode::Direct, 2, 4, Saturation, false), Some(4));
        assert_eq!(scaled(ActuationMode::Direct, 4, 4, Saturation, false), None);
    }

    #[test]
    fn a_variant_in_shadow_mode_is_never_scaled() {
        for (spec, engine) in [(2, EngineName::Saturation), (0, EngineName::ScaleFromZero)] {
            let mut snapshot = world(0, spec, false);
            let mut scaled = || {
                let decisions = [decision(spec, 4, engine)];
                let actions = DirectScaler::default().actions(ActuationMode::Direct, &snapshot, &decisions).len();
                snapshot.variants[0].variant.shadow = true;
                actions
            };
            assert_eq!((scaled(), scaled()), (1, 0));
        }
    }

    #[test]
    fn a_sleeping_target_is_woken_also_beside_an_hpa() {
        for with_hpa in [true, false] {
            for mode in [ActuationMode::FromZero, ActuationMode::Direct] {
                assert_eq!(scaled(mode, 0, 1, EngineName::ScaleFromZero, with_hpa), Some(1));
            }
        }
    }

    #[test]
    fn a_scale_down_waits_for_the_window_and_a_withheld_decision_moves_nothing() {
        let mut scaler = DirectScaler::default();
        let mut ask = |second, spec, replicas| {
            let decisions = [decision(spec, replicas, EngineName::Saturation)];
            scaler.actions(ActuationMode::Direct, &world(second, spec, false), &decisions)
        };
        assert_eq!(ask(0, 4, 2), []);
        assert_eq!(ask(150, 4, 2), []);
        assert_eq!(ask(301, 4, 2)[0].to, 2);
    }
}
