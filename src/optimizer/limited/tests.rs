use proptest::prelude::*;

use crate::{
    interfaces::{
        AcceleratorPool, AcceleratorQuota, Growth, Inventory, Limit, ModelKey, ReplicaBounds, Role, VariantKey,
    },
    optimizer::{
        Bound, CapacityCurve, ModelAllotment, ModelDemand, Offer, OptimizerSettings, SaturationPolicy, Supply, optimize,
    },
};

fn stock(pools: Vec<AcceleratorPool>) -> Inventory {
    Inventory { pools, ..Inventory::default() }
}

/// A variant of `accelerator` that costs 10 and carries 10 per replica of `per_replica` accelerators.
fn offer(name: &str, accelerator: &str, per_replica: u32, serving: u32) -> Offer {
    Offer {
        variant: VariantKey::new("llm", name),
        cost: 10.0,
        capacity: CapacityCurve::linear(10.0),
        bounds: ReplicaBounds { min: 1, max: None },
        keep: 0,
        spec: serving,
        ready: serving,
        pending: 0,
        growth: Growth::Likely,
        own_demand: None,
        accelerator: Some(accelerator.into()),
        accelerators_per_replica: Some(per_replica),
    }
}

fn model(name: &str, priority: u32, demand: f64, variants: Vec<Offer>) -> ModelDemand {
    ModelDemand { model: ModelKey::new("llm", name), role: Role::Both, demand, priority, variants }
}

fn with(policy: SaturationPolicy) -> OptimizerSettings {
    OptimizerSettings { saturation_policy: policy, switching_cost: 0.0, ..OptimizerSettings::default() }
}

fn desired(answers: &[ModelAllotment]) -> Vec<Vec<u32>> {
    answers.iter().map(|answer| answer.variants.iter().map(|allotment| allotment.desired).collect()).collect()
}

fn run(models: &[ModelDemand], inventory: &Inventory, policy: SaturationPolicy) -> Vec<ModelAllotment> {
    optimize(models, &Supply::Limited(inventory), &with(policy))
}

#[test]
fn with_enough_for_all_nothing_is_limited() {
    let models = [model("m", 1, 40.0, vec![offer("a", "H100", 2, 1)])];
    let answers = run(&models, &stock(vec![AcceleratorPool::of_free("H100", 6)]), SaturationPolicy::default());
    assert_eq!(desired(&answers), [[4]], "one replica holds two of the eight already");
    assert_eq!(answers[0].variants[0].bound_by, None);
}

#[test]
fn what_is_missing_is_named_and_the_unconstrained_number_kept() {
    let models = [model("m", 1, 90.0, vec![offer("a", "H100", 2, 1)])];
    let answers = run(&models, &stock(vec![AcceleratorPool::of_free("H100", 6)]), SaturationPolicy::default());
    let allotment = &answers[0].variants[0];
    assert_eq!((allotment.desired, allotment.unconstrained), (4, 9));
    let limit = Limit::Accelerators("H100".into(), 8);
    assert_eq!(limit.to_string(), "8 accelerators of type H100");
    assert_eq!(allotment.bound_by, Some(Bound::Inventory(limit)));
    assert!(!answers[0].is_sufficient);
}

#[test]
fn nodes_that_an_autoscaler_can_add_count() {
    let to_come =
        AcceleratorPool { provisionable: 4, provisionable_block: Some(4), ..AcceleratorPool::of_free("H100", 0) };
    let models = [model("m", 1, 30.0, vec![offer("a", "H100", 2, 1)])];
    assert_eq!(desired(&run(&models, &stock(vec![to_come]), SaturationPolicy::default())), [[3]]);
}

#[test]
fn another_accelerator_takes_over_where_one_is_short() {
    let dear = Offer { cost: 30.0, ..offer("dear", "L4", 1, 0) };
    let dear = Offer { bounds: ReplicaBounds { min: 0, max: None }, ..dear };
    let models = [model("m", 1, 50.0, vec![offer("a", "H100", 1, 1), dear])];
    let answers = run(
        &models,
        &stock(vec![AcceleratorPool::of_free("H100", 2), AcceleratorPool::of_free("L4", 9)]),
        SaturationPolicy::default(),
    );
    assert_eq!(desired(&answers), [[3, 2]]);
    assert!(answers[0].is_sufficient);
}

#[test]
fn variants_that_share_accelerators_share_them_best() {
    // Small carries 10 on one accelerator, big 35 on two for less than twice the price: four accelerators carry 60 only
    // with a big one.
    let small = Offer { bounds: ReplicaBounds { min: 0, max: None }, ..offer("small", "H100", 1, 0) };
    let big = Offer { cost: 40.0, capacity: CapacityCurve::linear(35.0), ..offer("big", "H100", 2, 0) };
    let big = Offer { bounds: ReplicaBounds { min: 0, max: None }, ..big };
    let models = [model("m", 1, 55.0, vec![small, big])];
    let answers = run(&models, &stock(vec![AcceleratorPool::of_free("H100", 4)]), SaturationPolicy::default());
    assert_eq!(desired(&answers), [[2, 1]]);
}

#[test]
fn higher_priority_is_served_first_and_nobody_falls_below_its_minimum() {
    let models = [
        model("low", 10, 80.0, vec![offer("a", "H100", 1, 4)]),
        model("high", 1, 60.0, vec![offer("b", "H100", 1, 1)]),
    ];
    let inventory = stock(vec![AcceleratorPool::of_free("H100", 2)]);
    for policy in [SaturationPolicy::PriorityRoundRobin, SaturationPolicy::PriorityExhaustive] {
        assert_eq!(desired(&run(&models, &inventory, policy)), [[1], [6]], "{policy:?}");
    }
}

#[test]
fn equals_share_fairly_whatever_they_hold() {
    let models =
        [model("a", 1, 80.0, vec![offer("a", "H100", 1, 7)]), model("b", 1, 80.0, vec![offer("b", "H100", 1, 1)])];
    assert_eq!(
        desired(&run(&models, &stock(vec![AcceleratorPool::of_free("H100", 0)]), SaturationPolicy::PriorityRoundRobin)),
        [[4], [4]]
    );
}

#[test]
fn saturation_policies_differ_in_who_gets_the_rest() {
    // Ten accelerators; nobody can be satisfied.
    let models = [
        model("a", 1, 200.0, vec![offer("a", "H100", 1, 1)]),
        model("b", 1, 200.0, vec![offer("b", "H100", 1, 1)]),
        model("c", 5, 200.0, vec![offer("c", "H100", 1, 2)]),
    ];
    let inventory = stock(vec![AcceleratorPool::of_free("H100", 6)]);
    let cases = [
        (SaturationPolicy::None, [[1], [1], [2]]),
        (SaturationPolicy::PriorityExhaustive, [[8], [1], [1]]),
        (SaturationPolicy::PriorityRoundRobin, [[5], [4], [1]]),
        (SaturationPolicy::RoundRobin, [[4], [3], [3]]),
    ];
    for (policy, expected) in cases {
        assert_eq!(desired(&run(&models, &inventory, policy)), expected, "{policy:?}");
    }
}

#[test]
fn quotas_of_namespace_and_type_bind_as_a_minimum() {
    let quota = |name: &str, namespace: Option<&str>, accelerator: Option<&str>, hard, others| AcceleratorQuota {
        name: name.into(),
        namespace: namespace.map(Into::into),
        accelerator: accelerator.map(Into::into),
        hard,
        used_by_others: others,
    };
    let models = [model("m", 1, 90.0, vec![offer("a", "H100", 1, 1)])];
    let inventory = Inventory {
        pools: vec![AcceleratorPool::of_free("H100", 20)],
        quotas: vec![
            quota("elsewhere", Some("other"), None, 1, 0),
            quota("team", Some("llm"), None, 8, 3),
            quota("all-h100", None, Some("H100"), 7, 0),
            quota("l4", None, Some("L4"), 0, 0),
        ],
        ..Inventory::default()
    };
    let answers = run(&models, &inventory, SaturationPolicy::default());
    assert_eq!(desired(&answers), [[5]]);
    assert_eq!(answers[0].variants[0].bound_by, Some(Bound::Inventory(Limit::Quota("team".into(), 8))));
}

#[test]
fn growth_is_denied_while_the_inventory_is_unknown() {
    let models = [model("m", 1, 90.0, vec![offer("a", "H100", 1, 2)])];
    let answers = optimize(&models, &Supply::Unknown, &with(SaturationPolicy::default()));
    assert_eq!(desired(&answers), [[2]]);
    assert_eq!(answers[0].variants[0].bound_by, Some(Bound::Inventory(Limit::UnknownInventory)));
    assert!(Limit::UnknownInventory.to_string().contains("rights to list nodes"));
    let fewer = [model("m", 1, 10.0, vec![offer("a", "H100", 1, 2)])];
    assert_eq!(desired(&optimize(&fewer, &Supply::Unknown, &with(SaturationPolicy::default()))), [[1]]);
}

#[test]
fn growth_is_denied_to_a_variant_whose_accelerator_is_unknown() {
    let unknown = Offer { accelerator: None, accelerators_per_replica: None, ..offer("a", "", 1, 2) };
    let answers = run(
        &[model("m", 1, 90.0, vec![unknown])],
        &stock(vec![AcceleratorPool::of_free("H100", 9)]),
        SaturationPolicy::default(),
    );
    assert_eq!(desired(&answers), [[2]]);
    assert_eq!(answers[0].variants[0].bound_by, Some(Bound::Inventory(Limit::UnknownAccelerator)));
}

#[test]
fn replicas_fit_on_nodes_where_that_is_asked_for() {
    // Six free accelerators on three nodes: none takes a replica of four, three take one of two.
    let scattered =
        AcceleratorPool { free_blocks: vec![2, 2, 2], largest_free_block: 2, ..AcceleratorPool::of_free("H100", 6) };
    let inventory = stock(vec![scattered]);
    let fit = OptimizerSettings { fit_nodes: true, ..with(SaturationPolicy::default()) };
    let replicas = |per_replica| {
        let models = [model("m", 1, 90.0, vec![offer("a", "H100", per_replica, 1)])];
        let of =
            |settings: &OptimizerSettings| desired(&optimize(&models, &Supply::Limited(&inventory), settings))[0][0];
        (of(&with(SaturationPolicy::default())), of(&fit))
    };
    assert_eq!(replicas(4), (2, 1));
    assert_eq!(replicas(2), (4, 4));
}

prop_compose! {
    fn any_model(index: usize)(
        demand in 0.0..150.0_f64,
        priority in 1_u32..4,
        variants in prop::collection::vec((1.0..30.0_f64, 1.0..20.0_f64, 0_usize..3, 1_u32..4, 0_u32..3, 0_u32..8, 0_u32..5), 1..4),
    ) -> ModelDemand {
        let variants = variants
            .into_iter()
            .enumerate()
            .map(|(place, (cost, capacity, kind, per_replica, min, more, serving))| Offer {
                cost,
                capacity: CapacityCurve::linear(capacity),
                bounds: ReplicaBounds { min, max: Some(min + more) },
                ..offer(&format!("{index}-{place}"), ["H100", "L4", "MI300X"][kind], per_replica, serving)
            })
            .collect();
        model(&format!("m{index}"), priority, demand, variants)
    }
}

fn any_models() -> impl Strategy<Value = Vec<ModelDemand>> {
    (any_model(0), any_model(1), any_model(2), any_model(3), 1_usize..5)
        .prop_map(|(a, b, c, d, n)| vec![a, b, c, d].into_iter().take(n).collect())
}

fn any_policy() -> impl Strategy<Value = SaturationPolicy> {
    prop::sample::select(vec![
        SaturationPolicy::None,
        SaturationPolicy::PriorityExhaustive,
        SaturationPolicy::PriorityRoundRobin,
        SaturationPolicy::RoundRobin,
    ])
}

/// Accelerators of a type that replicas beyond the minimums take.
fn taken(models: &[ModelDemand], answers: &[ModelAllotment], kind: &str, of: impl Fn(&Offer, u32) -> u32) -> u32 {
    let offers = models.iter().flat_map(|model| &model.variants);
    let replicas = answers.iter().flat_map(|answer| answer.variants.iter().map(|allotment| allotment.desired));
    let of_type = offers.zip(replicas).filter(|(offer, _)| offer.accelerator.as_deref() == Some(kind));
    of_type.map(|(offer, n)| of(offer, n) * offer.accelerators_per_replica.unwrap_or(0)).sum()
}

proptest! {
    #[test]
    fn bounds_hold_and_no_more_is_given_than_there_is(
        models in any_models(), free in prop::array::uniform3(0_u32..30), policy in any_policy(), fit_nodes in any::<bool>(),
    ) {
        let kinds = ["H100", "L4", "MI300X"];
        let pools = kinds.iter().zip(free).map(|(kind, n)| AcceleratorPool { free_blocks: vec![2; n as usize / 2], ..AcceleratorPool::of_free(*kind, n) });
        let inventory = stock(pools.collect());
        let settings = OptimizerSettings { fit_nodes, ..with(policy) };
        let answers = optimize(&models, &Supply::Limited(&inventory), &settings);
        for (model, answer) in models.iter().zip(&answers) {
            for (offer, allotment) in model.variants.iter().zip(&answer.variants) {
                prop_assert!((offer.range().0..=offer.range().1).contains(&allotment.desired));
            }
        }
        for (kind, free) in kinds.iter().zip(free) {
            let available = free + taken(&models, &answers, kind, |offer, _| offer.ready);
            let minimums = taken(&models, &answers, kind, |offer, _| offer.range().0);
            prop_assert!(taken(&models, &answers, kind, |_, n| n) <= available.max(minimums));
        }
    }

    #[test]
    fn the_order_of_models_and_variants_changes_nothing(
        models in any_models(), free in prop::array::uniform3(0_u32..30), policy in any_policy(), turn in 0_usize..4,
    ) {
        let inventory = stock(["H100", "L4", "MI300X"].iter().zip(free).map(|(kind, n)| AcceleratorPool::of_free(*kind, n)).collect());
        let by_name = |models: &[ModelDemand]| {
            let answers = run(models, &inventory, policy);
            let mut all: Vec<_> = answers.into_iter().flat_map(|answer| answer.variants).collect();
            all.sort_by(|a, b| a.variant.cmp(&b.variant));
            all
        };
        let mut turned = models.clone();
        turned.rotate_left(turn % models.len());
        for model in &mut turned {
            model.variants.reverse();
        }
        prop_assert_eq!(by_name(&turned), by_name(&models));
    }
}

/// Prefill and decode of one model carry nothing without each other.
#[test]
fn prefill_and_decode_have_their_demands_together_or_share_what_there_is() {
    let part = |role, name: &str| ModelDemand {
        model: ModelKey::new("llm", "disaggregated"),
        role,
        ..model(name, 1, 40.0, vec![offer(name, "H100", 1, 0)])
    };
    let models = [part(Role::Prefill, "prefill"), part(Role::Decode, "decode")];
    for policy in SaturationPolicy::ALL.into_iter().filter(|policy| *policy != SaturationPolicy::None) {
        let given = |free| desired(&run(&models, &stock(vec![AcceleratorPool::of_free("H100", free)]), policy));
        assert_eq!(given(8), [[4], [4]], "{policy}");
        assert_eq!(given(6), [[3], [3]], "{policy}");
    }
}
