//! What is served of decisions.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::{
    apiserver::{Labels, ObjectReference, Of, Selector},
    clock::SimulatedClock,
    constants::{
        WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_DESIRED_REPLICAS, WVA_SATURATION_LEVEL, WVA_SCALING_DECISION,
    },
    interfaces::{
        AgeLimits, Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, Signal, VariantKey,
        Withheld, WithheldKind,
    },
};

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn decision(name: &str, outcome: Outcome) -> Decision {
    Decision {
        variant: VariantKey::new("prod", name),
        model: ModelKey::new("prod", "meta/llama"),
        accelerator: Some("H100".into()),
        current: Some(2),
        ready: 2,
        decided_at: start(),
        saturation: SaturationLevel { kv_cache: Signal::present(0.875, start()), queue_depth: Signal::Missing },
        outcome,
    }
}

fn three() -> Outcome {
    Outcome::Desired(Desired {
        replicas: 3,
        unconstrained: 3,
        direction: Direction::Up,
        reason: Reason { engine: EngineName::Saturation, text: "busy".to_owned() },
        bound_by: None,
        oldest_input: None,
    })
}

fn store() -> (Arc<SimulatedClock>, DecisionStore) {
    let clock = Arc::new(SimulatedClock::new(start()));
    let store = DecisionStore::new(clock.clone(), None);
    let withheld = Outcome::Withheld(Withheld { kind: WithheldKind::MetricsMissing, message: "nothing".to_owned() });
    store.publish(vec![decision("a", three()), decision("b", withheld)], Duration::from_secs(120));
    (clock, store)
}

fn select(store: &DecisionStore, namespace: Option<&str>, metric: &str, selector: &str) -> Vec<Series> {
    let selector = selector.parse().unwrap();
    store.select(&SeriesQuery { namespace, metric, of: Of::Any, selector: &selector }).unwrap()
}

fn values(store: &DecisionStore, metric: &str, variant: &str) -> Vec<(Labels, Result<u64, String>)> {
    select(store, Some("prod"), metric, &format!("variant_name={variant}"))
        .into_iter()
        .map(|series| (series.labels, series.value.map(|s| s.milli).map_err(|r| r.message)))
        .collect()
}

#[test]
fn one_item_per_variant_with_the_contracts_labels() {
    let (_, store) = store();
    let found = values(&store, WVA_DESIRED_REPLICAS, "a");
    let labels =
        [("accelerator_type", "H100"), ("model_name", "meta/llama"), ("namespace", "prod"), ("variant_name", "a")];
    assert_eq!(found, [(Labels::from_iter(labels), Ok(3000))]);
    assert_eq!(values(&store, WVA_CURRENT_REPLICAS, "a")[0].1, Ok(2000));
    assert_eq!(values(&store, WVA_DESIRED_RATIO, "a")[0].1, Ok(1500));
}

#[test]
fn the_scaling_decision_is_one_item_whose_label_tells_the_direction() {
    let (_, store) = store();
    let found = values(&store, WVA_SCALING_DECISION, "a");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.get("direction").unwrap(), &found[0].1), ("up", &Ok(1000)));
}

#[test]
fn a_saturation_signal_that_is_missing_is_refused_not_zero() {
    let (_, store) = store();
    let found: BTreeMap<_, _> = values(&store, WVA_SATURATION_LEVEL, "a")
        .into_iter()
        .map(|(labels, value)| (labels.get("signal").unwrap().to_owned(), value))
        .collect();
    assert_eq!(found["kv_cache"], Ok(875));
    assert!(found["queue_depth"].is_err());
}

#[test]
fn a_withheld_decision_is_refused_with_its_own_message_but_current_replicas_stay_readable() {
    let (_, store) = store();
    assert_eq!(values(&store, WVA_DESIRED_REPLICAS, "b")[0].1, Err("nothing".to_owned()));
    assert_eq!(values(&store, WVA_CURRENT_REPLICAS, "b")[0].1, Ok(2000));
}

#[test]
fn a_decision_older_than_its_limit_is_refused() {
    let (clock, store) = store();
    clock.advance(Duration::from_secs(120));
    assert_eq!(values(&store, WVA_DESIRED_REPLICAS, "a")[0].1, Ok(3000));
    clock.advance(Duration::from_secs(1));
    let refused = values(&store, WVA_DESIRED_REPLICAS, "a")[0].1.clone().unwrap_err();
    assert!(refused.starts_with("variant prod/a: the last decision is 121 s old"), "{refused}");
}

#[test]
fn unknown_metrics_are_told_from_empty_ones_and_a_variant_that_left_is_gone() {
    let (_, store) = store();
    let selector = Selector::default();
    let nonsense = SeriesQuery { namespace: Some("prod"), metric: "wva_nonsense", of: Of::Any, selector: &selector };
    assert!(store.select(&nonsense).is_err());
    assert!(select(&store, Some("other"), WVA_DESIRED_REPLICAS, "").is_empty());
    assert_eq!(select(&store, None, WVA_DESIRED_REPLICAS, "").len(), 2);
    store.publish(Vec::new(), Duration::from_secs(120));
    assert!(select(&store, None, WVA_DESIRED_REPLICAS, "").is_empty());
    assert!(store.subjects("prod").is_empty());
}

/// Variants `a` of Deployment `deployment-a` and `b` of StatefulSet `b`.
fn snapshot() -> Snapshot {
    let observation = |name: &str, kind: &str, target: &str| {
        serde_json::from_value(serde_json::json!({
            "variant": {
                "key": {"namespace": "prod", "name": name},
                "model": {"namespace": "prod", "modelId": "meta/llama"},
                "accelerator": "H100",
                "cost": 7.0,
                "target": {"apiVersion": "apps/v1", "kind": kind, "name": target},
            },
            "target": {"state": "found", "spec": 2, "current": 2, "ready": 2},
        }))
        .unwrap()
    };
    Snapshot {
        // Not in the order of decisions.
        variants: vec![observation("b", "StatefulSet", "b"), observation("a", "Deployment", "deployment-a")],
        ..Snapshot::at(start())
    }
}

fn store_with_snapshot() -> DecisionStore {
    let (_, store) = store();
    store.publish_with(Arc::new(snapshot()), vec![decision("b", three()), decision("a", three())]);
    store
}

#[test]
fn a_value_is_a_property_of_the_scale_target_and_of_the_variants_own_object() {
    let store = store_with_snapshot();
    let selector = Selector::default();
    let of = |group, kind, name| {
        let of = Of::Object { group, kind, name };
        let query = SeriesQuery { namespace: Some("prod"), metric: WVA_DESIRED_REPLICAS, of, selector: &selector };
        let found = store.select(&query).unwrap();
        found.into_iter().map(|series| (series.subject, series.object.unwrap())).collect::<Vec<_>>()
    };
    let reference = |api_version: &str, kind: &str, name: &str| ObjectReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
    };
    let (deployment, itself) =
        (reference("apps/v1", "Deployment", "deployment-a"), reference("llmd.ai/v1alpha1", "VariantAutoscaling", "a"));
    assert_eq!(of("apps", "Deployment", Some("deployment-a")), [("a".into(), deployment.clone())]);
    assert_eq!(of("apps", "Deployment", None), [("a".into(), deployment)]);
    assert_eq!(of("llmd.ai", "VariantAutoscaling", Some("a")), [("a".into(), itself)]);
    assert_eq!(of("llmd.ai", "VariantAutoscaling", None).len(), 2);
    for (kind, name) in
        [("Deployment", "deployment-a"), ("StatefulSet", "b"), ("Deployment", "b"), ("StatefulSet", "c")]
    {
        let all = of("apps", kind, None).into_iter().filter(|(_, object)| *object.name == *name).collect::<Vec<_>>();
        assert_eq!(of("apps", kind, Some(name)), all, "by its name as by looking at everything");
    }
    assert!(of("apps", "Deployment", Some("a")).is_empty(), "that is the variant's name, not its target's");
    assert!(of("other", "Deployment", Some("deployment-a")).is_empty());
}

#[test]
fn an_explanation_holds_the_decision_what_it_was_made_on_and_every_age() {
    let store = store_with_snapshot();
    let explained = store.explain("prod", "a").unwrap();
    assert_eq!(explained["summary"]["desired"], 3);
    assert_eq!(explained["summary"]["unconstrained"], 3);
    assert_eq!(explained["summary"]["reason"], "saturation: busy");
    assert_eq!(explained["decision"]["saturation"]["kvCache"]["value"], 0.875);
    assert_eq!(explained["observation"]["variant"]["cost"], 7.0);
    assert_eq!(explained["ages"]["decisionSeconds"], 0.0);
    assert_eq!(explained["ages"]["decisionRefusedAfterSeconds"], 120.0);
    assert_eq!(explained["rivals"][0]["variant"]["name"], "b");
    assert!(store.explain("prod", "c").is_none());
}

#[test]
fn a_selector_finds_the_same_by_the_names_it_lists_as_by_looking_at_everything() {
    let (_, store) = store();
    let names = |selector: &str| {
        let found = select(&store, Some("prod"), WVA_CURRENT_REPLICAS, selector);
        found.into_iter().map(|series| series.subject.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("variant_name in (b,a,z)"), ["a", "b"]);
    assert_eq!(names("variant_name in (b,a,z),variant_name!=b"), ["a"]);
    assert_eq!(names("variant_name notin (b)"), ["a"]);
    assert_eq!(names("variant_name=a,accelerator_type=L4"), [""; 0]);
}

#[test]
fn a_decision_of_another_replica_is_as_old_as_its_receipt() {
    let (clock, store) = store();
    // Its clock is hours behind ours.
    clock.advance(Duration::from_hours(5));
    store.publish_received(Arc::new(snapshot()), vec![decision("a", three())], clock.now());
    clock.advance(AgeLimits::default().decision);
    assert_eq!(values(&store, WVA_DESIRED_REPLICAS, "a")[0].1, Ok(3000));
    clock.advance(Duration::from_secs(1));
    let refused = values(&store, WVA_DESIRED_REPLICAS, "a")[0].1.clone().unwrap_err();
    assert!(refused.contains("121 s"), "{refused}");
}

#[test]
fn a_variant_in_shadow_mode_is_shown_but_its_number_is_not_served() {
    let mut snapshot = snapshot();
    snapshot.variants[1].variant.shadow = true;
    let (_, store) = store();
    store.publish_with(Arc::new(snapshot), vec![decision("b", three()), decision("a", three())]);
    for metric in [WVA_DESIRED_REPLICAS, WVA_DESIRED_RATIO, WVA_SCALING_DECISION] {
        let refused = values(&store, metric, "a")[0].1.clone().unwrap_err();
        assert!(refused.starts_with("variant prod/a is in shadow mode"), "{refused}");
        assert!(values(&store, metric, "b")[0].1.is_ok(), "others are served {metric}");
    }
    assert_eq!(values(&store, WVA_CURRENT_REPLICAS, "a")[0].1, Ok(2000));
    assert_eq!(store.summary("prod", "a").unwrap().desired, Some(3));
    assert_eq!(store.explain("prod", "a").unwrap()["summary"]["desired"], 3);
    assert_eq!(store.decisions().len(), 2);
}
