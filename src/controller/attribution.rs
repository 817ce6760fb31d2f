//! What does not fit between the engines that were seen and the variants that are declared, as warnings. Pure.
//!
//! A model name that differs a little, a Deployment that nobody declared, a replica that Prometheus does not scrape: each
//! leaves load or capacity out of the decision without any number looking wrong.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use super::Warning;
use crate::interfaces::{
    ModelKey, Snapshot, TargetObservation, UnattributedEngines, Variant, VariantKey, VariantObservation, age,
};

const ANOTHER_MODEL: &str = "PodsServeAnotherModel";
const NO_VARIANT: &str = "PodsOfNoVariant";
const NO_SIGNALS: &str = "ReplicasWithoutSignals";

/// Warnings by the variant that they are told on.
pub fn engine_warnings(snapshot: &Snapshot) -> BTreeMap<VariantKey, Vec<Warning>> {
    let mut warnings: BTreeMap<VariantKey, Vec<Warning>> = BTreeMap::new();
    let mut warn = |variant: &VariantKey, reason: &str, message: String| {
        warnings.entry(variant.clone()).or_default().push(Warning { reason: reason.to_owned(), message });
    };
    let mut by_owner: HashMap<&VariantKey, Vec<&UnattributedEngines>> = HashMap::new();
    let mut of_nobody: HashMap<&ModelKey, &UnattributedEngines> = HashMap::new();
    for engines in &snapshot.unattributed {
        match &engines.variant {
            Some(owner) => by_owner.entry(owner).or_default().push(engines),
            None => {
                of_nobody.insert(&engines.model, engines);
            }
        }
    }
    for Variant { key, model, .. } in snapshot.variants.iter().map(|observed| &observed.variant) {
        for engines in by_owner.get(key).into_iter().flatten() {
            warn(key, ANOTHER_MODEL, another_model(engines, model));
        }
        if let Some(engines) = of_nobody.get(model) {
            warn(key, NO_VARIANT, of_no_variant(engines));
        }
    }
    for (observed, ready, silent) in silent(snapshot) {
        warn(&observed.variant.key, NO_SIGNALS, without_signals(observed, ready, silent));
    }
    warnings
}

fn another_model(
    UnattributedEngines { model, pods, example, .. }: &UnattributedEngines,
    declared: &ModelKey,
) -> String {
    format!(
        "{pods} ready pod(s) of it, such as {example}, serve model {}, but spec.modelID is {}, so that they count for \
         nothing; set spec.modelID to the name the engine serves (its model_name label)",
        model.model_id, declared.model_id
    )
}

fn of_no_variant(UnattributedEngines { model, pods, example, .. }: &UnattributedEngines) -> String {
    format!(
        "{pods} ready pod(s), such as {example}, serve model {} too and are replicas of no variant, so that their load and \
         capacity count for nothing; declare a VariantAutoscaling for what they belong to",
        model.model_id
    )
}

fn without_signals(observed: &VariantObservation, ready: usize, silent: usize) -> String {
    format!(
        "{silent} of {ready} ready replica(s) of {} have no signal of model {}, though others of the model have, so that \
         they count for nothing; check that these pods are scraped and which model_name they export (/debug/collector)",
        observed.variant.target, observed.variant.model.model_id
    )
}

/// Variants with ready replicas that are not heard of, while others of their model are: how many are ready, and how many
/// of those silent. Where none of a model is heard of, the decision itself says so.
fn silent(snapshot: &Snapshot) -> Vec<(&VariantObservation, usize, usize)> {
    let mut heard: HashMap<&ModelKey, bool> = HashMap::new();
    let mut silent = Vec::new();
    for observed in &snapshot.variants {
        let measured = observed.measured_pods(snapshot.taken_at, snapshot.ages.signal);
        *heard.entry(&observed.variant.model).or_default() |= measured > 0;
        let TargetObservation::Found(scale) = &observed.target else { continue };
        let ready = scale.ready as usize;
        if measured < ready {
            silent.push((observed, ready, ready - measured));
        }
    }
    silent.retain(|(observed, ..)| heard.get(&observed.variant.model) == Some(&true));
    silent
}

/// Remembers since when each warning holds: a pod that has just become ready is heard of a moment later.
#[derive(Debug, Default)]
pub struct Patience {
    since: BTreeMap<(VariantKey, String), Timestamp>,
}

impl Patience {
    /// Of the warnings `found` at `now`, those that have lasted for `grace`, and those that `is_told` already.
    pub fn lasting(
        &mut self,
        now: Timestamp,
        grace: Duration,
        found: BTreeMap<VariantKey, Vec<Warning>>,
        is_told: impl Fn(&VariantKey, &str) -> bool,
    ) -> BTreeMap<VariantKey, Vec<Warning>> {
        let mut before = std::mem::take(&mut self.since);
        let mut lasting: BTreeMap<VariantKey, Vec<Warning>> = BTreeMap::new();
        for (variant, warnings) in found {
            for warning in warnings {
                let key = (variant.clone(), warning.reason.clone());
                let since = *self.since.entry(key.clone()).or_insert_with(|| before.remove(&key).unwrap_or(now));
                if age(now, since) >= grace || is_told(&variant, &warning.reason) {
                    lasting.entry(variant.clone()).or_default().push(warning);
                }
            }
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::interfaces::{ReplicaBounds, ReplicaMetrics, Role, ScaleObservation, Signal, TargetReference};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A variant with `ready` replicas, whose pods were heard of so many seconds ago.
    fn variant(name: &str, model: &str, ready: u32, heard: &[i64]) -> VariantObservation {
        let replica = |(index, ago): (usize, &i64)| ReplicaMetrics {
            pod: format!("{name}-{index}").into(),
            queue_length: Signal::present(0.0, at(-ago)),
            ..ReplicaMetrics::default()
        };
        VariantObservation {
            variant: Variant {
                key: VariantKey::new("chat", name),
                model: ModelKey::new("chat", model),
                accelerator: None,
                accelerators_per_replica: None,
                profile: None,
                cost: 1.0,
                role: Role::Both,
                bounds: ReplicaBounds::default(),
                target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
                overrides: Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation { ready, ..ScaleObservation::default() }),
            replicas: heard.iter().enumerate().map(replica).collect(),
            autoscalers: Vec::new(),
        }
    }

    fn engines(model: &str, owner: Option<&str>) -> UnattributedEngines {
        let variant = owner.map(|owner| VariantKey::new("chat", owner));
        UnattributedEngines { model: ModelKey::new("chat", model), variant, pods: 2, example: "p-0".into() }
    }

    fn told(variants: Vec<VariantObservation>, unattributed: Vec<UnattributedEngines>) -> Vec<String> {
        let snapshot = Snapshot { variants, unattributed, ..Snapshot::at(at(0)) };
        let warnings = engine_warnings(&snapshot).into_iter();
        let of = |(variant, warnings): (VariantKey, Vec<Warning>)| {
            warnings
                .into_iter()
                .map(move |warning| format!("{}: {}: {}", variant.name, warning.reason, warning.message))
        };
        warnings.flat_map(of).collect()
    }

    #[test]
    fn a_variant_whose_pods_serve_another_model_is_told_both_names() {
        let told = told(vec![variant("a", "lama", 2, &[])], vec![engines("llama", Some("a"))]);
        assert_eq!(
            told,
            [
                "a: PodsServeAnotherModel: 2 ready pod(s) of it, such as p-0, serve model llama, but spec.modelID is lama, so \
              that they count for nothing; set spec.modelID to the name the engine serves (its model_name label)"
            ]
        );
    }

    #[test]
    fn pods_of_no_variant_are_told_to_every_variant_of_the_model_and_to_no_other() {
        let variants = vec![variant("a", "m", 0, &[]), variant("b", "m", 0, &[]), variant("c", "other", 0, &[])];
        let told = told(variants, vec![engines("m", None), engines("nobody-declares-it", None)]);
        let expected =
            ["a: PodsOfNoVariant: 2 ready pod(s), such as p-0", "b: PodsOfNoVariant: 2 ready pod(s), such as p-0"];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        assert!(told.iter().zip(expected).all(|(told, expected)| told.starts_with(expected)), "{told:?}");
    }

    #[test]
    fn ready_replicas_that_are_not_heard_of_are_told_where_others_of_the_model_are() {
        let table: [(&[i64], &[i64], &[&str]); 5] = [
            (&[1, 1], &[1, 60], &[]),
            (&[1, 1], &[1], &["b: ReplicasWithoutSignals: 1 of 2 ready"]),
            (&[1, 1], &[1, 61], &["b: ReplicasWithoutSignals: 1 of 2 ready"]),
            (&[1, 1], &[], &["b: ReplicasWithoutSignals: 2 of 2 ready"]),
            (&[], &[], &[]),
        ];
        for (of_a, of_b, expected) in table {
            let told = told(vec![variant("a", "m", 2, of_a), variant("b", "m", 2, of_b)], Vec::new());
            assert_eq!(told.len(), expected.len(), "{told:?}");
            assert!(told.iter().zip(expected).all(|(told, expected)| told.starts_with(expected)), "{told:?}");
        }
    }

    #[test]
    fn a_warning_is_told_once_it_has_lasted_or_was_told_before() {
        let mut patience = Patience::default();
        let key = VariantKey::new("chat", "a");
        let warning = || Warning { reason: NO_VARIANT.to_owned(), message: String::new() };
        let grace = Duration::from_secs(60);
        let mut lasting = |second, found: bool, is_told: bool| {
            let found = if found { [(key.clone(), vec![warning()])].into() } else { BTreeMap::new() };
            !patience.lasting(at(second), grace, found, |_, _| is_told).is_empty()
        };
        assert!(!lasting(0, true, false));
        assert!(!lasting(59, true, false));
        assert!(lasting(60, true, false));
        assert!(!lasting(61, false, true), "what does not hold is not told");
        assert!(!lasting(62, true, false), "it begins anew");
        assert!(lasting(63, true, true));
    }
}
