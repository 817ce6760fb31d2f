use jiff::Timestamp;

use crate::{
    engines::{State, step},
    interfaces::{
        Desired, Direction, Limit, ModelKey, Outcome, Override, OverrideKind, ReplicaBounds, Role, ScaleObservation,
        Snapshot, TargetObservation, TargetReference, Variant, VariantKey, VariantObservation,
    },
};

const NOW: &str = "2026-11-25T10:00:00Z";

/// A variant below its minimum is decided on by its bounds alone: 1 becomes 2. One at it is withheld, for want of signals.
fn variant(name: &str, cost: f64, spec: u32, min: u32) -> VariantObservation {
    VariantObservation {
        variant: Variant {
            key: VariantKey::new("llm", name),
            model: ModelKey::new("llm", "m"),
            accelerator: None,
            accelerators_per_replica: None,
            profile: None,
            cost,
            role: Role::Both,
            bounds: ReplicaBounds { min, max: Some(8) },
            target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
            overrides: std::sync::Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation { spec, ..ScaleObservation::default() }),
        replicas: Vec::new(),
        autoscalers: Vec::new(),
    }
}

fn order(kind: OverrideKind, replicas: u32) -> Override {
    Override {
        kind,
        replicas: Some(replicas),
        cost: None,
        from: None,
        until: "2026-12-01T00:00:00Z".parse().unwrap(),
        schedule: None,
        note: None,
    }
}

fn cap(cost: &str) -> Override {
    Override { cost: Some(cost.to_owned()), ..order(OverrideKind::SpendCap, 0) }
}

fn decide_with(variants: Vec<VariantObservation>, of_model: Vec<Override>, now: &str) -> Vec<Outcome> {
    let snapshot = Snapshot {
        variants,
        overrides: [(ModelKey::new("llm", "m"), of_model)].into(),
        ..Snapshot::at(now.parse::<Timestamp>().unwrap())
    };
    step(&State::default(), &snapshot).1.into_iter().map(|decision| decision.outcome).collect()
}

fn under(mut observation: VariantObservation, orders: Vec<Override>) -> VariantObservation {
    observation.variant.overrides = orders.into();
    observation
}

fn one(orders: Vec<Override>, now: &str) -> Outcome {
    decide_with(vec![under(variant("a", 10.0, 1, 2), orders)], Vec::new(), now).remove(0)
}

fn desired(outcome: &Outcome) -> &Desired {
    match outcome {
        Outcome::Desired(desired) => desired,
        Outcome::Withheld(withheld) => panic!("withheld: {}", withheld.message),
    }
}

#[test]
fn each_kind_does_what_it_says_and_says_it() {
    // The variant is set to 1 and its minimum is 2.
    let cases = [
        (order(OverrideKind::Pin, 5), 5, Direction::Up, "pinned to 5 until 2026-12-01T00:00:00Z"),
        (order(OverrideKind::Minimum, 4), 4, Direction::Up, "minimum of 4 until"),
        (order(OverrideKind::Pin, 99), 8, Direction::Up, "within maxReplicas 8"),
        (order(OverrideKind::Pause, 0), 2, Direction::Up, "within minReplicas 2"),
    ];
    for (order, replicas, direction, clause) in cases {
        let outcome = one(vec![order.clone()], NOW);
        let desired = desired(&outcome);
        assert_eq!((desired.replicas, desired.direction), (replicas, direction), "{order:?}");
        assert!(desired.reason.text.contains(clause), "{}", desired.reason.text);
        assert!(matches!(desired.bound_by, Some(Limit::Override(_))), "{:?}", desired.bound_by);
        assert_eq!(desired.unconstrained, 1, "what would have been without it stays visible");
    }
}

#[test]
fn an_override_that_is_over_or_still_to_come_does_nothing() {
    let later = Override { from: Some("2026-11-26T00:00:00Z".parse().unwrap()), ..order(OverrideKind::Pin, 5) };
    for (orders, now) in [(vec![order(OverrideKind::Pin, 5)], "2026-12-01T00:00:00Z"), (vec![later], NOW)] {
        assert_eq!(desired(&one(orders, now)).replicas, 2);
    }
}

#[test]
fn the_strongest_has_the_last_word() {
    let all = vec![order(OverrideKind::Pause, 0), order(OverrideKind::Minimum, 6), order(OverrideKind::Pin, 5)];
    assert_eq!(desired(&one(all, NOW)).replicas, 2, "paused at 1, with a minimum of 2");
    assert_eq!(desired(&one(vec![order(OverrideKind::Minimum, 6), cap("30")], NOW)).replicas, 6);
}

#[test]
fn a_pin_needs_no_signals_and_a_minimum_that_is_met_asks_for_nothing() {
    let withheld = |order| decide_with(vec![under(variant("a", 10.0, 3, 1), vec![order])], Vec::new(), NOW).remove(0);
    assert_eq!(desired(&withheld(order(OverrideKind::Pin, 4))).replicas, 4);
    assert_eq!(desired(&withheld(order(OverrideKind::Minimum, 5))).replicas, 5);
    assert!(matches!(withheld(order(OverrideKind::Minimum, 3)), Outcome::Withheld(_)));
}

#[test]
fn a_spend_cap_takes_the_dearest_first_and_nobody_below_its_minimum() {
    let variants = vec![variant("cheap", 5.0, 3, 1), variant("dear", 20.0, 3, 1)];
    let outcomes = decide_with(variants.clone(), vec![cap("50")], NOW);
    assert!(matches!(outcomes[0], Outcome::Withheld(_)), "three cheap ones fit beside one dear one");
    assert_eq!(desired(&outcomes[1]).replicas, 1);
    assert!(matches!(desired(&outcomes[1]).bound_by, Some(Limit::SpendCap(_))));
    let outcomes = decide_with(variants, vec![cap("1")], NOW);
    assert_eq!((desired(&outcomes[0]).replicas, desired(&outcomes[1]).replicas), (1, 1));
    let alone = decide_with(vec![under(variant("a", 10.0, 5, 1), vec![cap("35")])], Vec::new(), NOW);
    assert_eq!(desired(&alone[0]).replicas, 3);
}

#[test]
fn an_override_of_the_model_holds_for_each_of_its_variants() {
    let variants = vec![variant("a", 1.0, 3, 1), variant("b", 2.0, 1, 1)];
    let outcomes = decide_with(variants, vec![order(OverrideKind::Pause, 0)], NOW);
    assert_eq!((desired(&outcomes[0]).replicas, desired(&outcomes[1]).replicas), (3, 1));
    assert!(desired(&outcomes[0]).reason.text.starts_with("paused until 2026-12-01T00:00:00Z; without it:"));
}

#[test]
fn what_a_paused_variant_may_not_carry_another_does() {
    let full = |name, cost| crate::engines::tests::variant(name, cost, 1, (0.95, 9.0), 0);
    let grown = |orders: Vec<Override>| {
        let variants = vec![under(full("cheap", 1.0), orders), full("dear", 9.0)];
        let decisions = step(&State::default(), &crate::engines::tests::snapshot(0, variants)).1;
        let outcomes: Vec<Outcome> = decisions.into_iter().map(|decision| decision.outcome).collect();
        (desired(&outcomes[0]).clone(), desired(&outcomes[1]).replicas)
    };
    let late = |kind, n| Override { until: "2100-01-01T00:00:00Z".parse().unwrap(), ..order(kind, n) };
    let (cheap, dear) = grown(Vec::new());
    assert!(cheap.replicas > 1 && dear == 1, "the cheapest grows");
    let (cheap, dear) = grown(vec![late(OverrideKind::Pause, 0)]);
    assert!(cheap.replicas == 1 && dear > 1, "another does in its place");
    assert!(cheap.reason.text.contains("paused until 2100-01-01T00:00:00Z"), "{}", cheap.reason);
}

#[test]
fn a_variant_in_shadow_mode_is_decided_on_and_says_so() {
    let mut shadow = variant("a", 1.0, 1, 2);
    shadow.variant.shadow = true;
    let outcome = decide_with(vec![shadow], Vec::new(), NOW).remove(0);
    assert_eq!(desired(&outcome).replicas, 2);
    assert!(desired(&outcome).reason.text.ends_with("shadow mode: no HPA is served this number"));
}
