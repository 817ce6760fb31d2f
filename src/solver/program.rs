//! A system in the words of the optimizer: one model per server, one variant per accelerator it can run on.

use std::collections::BTreeMap;

use crate::{
    core::{Allocation, Server, Sizing, System},
    interfaces::{AcceleratorPool, AcceleratorQuota, Growth, Inventory, ModelKey, ReplicaBounds, Role, VariantKey},
    optimizer::{ModelDemand, Offer, OptimizerSettings},
    solver::{Constraints, ServerSolution, Solution},
};

/// The program to solve.
pub(super) struct Program {
    pub(super) models: Vec<ModelDemand>,
    /// `None` is unlimited.
    pub(super) inventory: Option<Inventory>,
    pub(super) settings: OptimizerSettings,
}

impl Program {
    pub(super) fn new(system: &System, sizing: &dyn Sizing, constraints: &Constraints) -> Self {
        let models: Vec<ModelDemand> = system.servers.iter().map(|server| demand(system, server, sizing)).collect();
        let inventory = constraints.limited.then(|| inventory(system));
        let settings = OptimizerSettings {
            switching_cost: constraints.switching_cost,
            saturation_policy: constraints.saturation_policy,
            ..OptimizerSettings::default()
        };
        Self { models, inventory, settings }
    }

    /// `replicas` per model and variant as a solution.
    pub(super) fn solution(&self, system: &System, replicas: &[Vec<u32>], gap: Option<f64>) -> Solution {
        let servers: Vec<ServerSolution> = self
            .models
            .iter()
            .zip(&system.servers)
            .zip(replicas)
            .map(|((model, server), replicas)| {
                let chosen = model.variants.iter().zip(replicas).filter(|(_, n)| **n > 0);
                let allocations: Vec<Allocation> = chosen
                    .map(|(offer, n)| Allocation {
                        accelerator: offer.variant.name.to_string(),
                        replicas: *n,
                        cost: offer.cost * f64::from(*n),
                    })
                    .collect();
                ServerSolution {
                    server: server.name.clone(),
                    allocations,
                    is_satisfied: carried(model, replicas) >= model.demand * (1.0 - 1e-9)
                        && replicas.iter().sum::<u32>() >= server.min_replicas,
                }
            })
            .collect();
        let cost = servers.iter().flat_map(|server| &server.allocations).map(|allocation| allocation.cost).sum();
        Solution { servers, cost, gap }
    }
}

/// What `replicas` carry.
pub(super) fn carried(model: &ModelDemand, replicas: &[u32]) -> f64 {
    model.variants.iter().zip(replicas).map(|(offer, n)| offer.capacity.at(*n)).sum()
}

fn demand(system: &System, server: &Server, sizing: &dyn Sizing) -> ModelDemand {
    let class = system.class_of(server);
    let candidates = system.accelerators.iter().filter(|accelerator| {
        !server.keep_accelerator || server.current.is_empty() || server.replicas_on(&accelerator.name) > 0
    });
    let variants = candidates
        .filter_map(|accelerator| {
            let model = system.model(&server.model)?;
            let capacity = sizing.capacity(server, model, accelerator, &class)?;
            let current = server.replicas_on(&accelerator.name);
            Some(Offer {
                variant: VariantKey::new(server.name.as_str(), accelerator.name.as_str()),
                cost: system.replica_cost(server, accelerator),
                capacity,
                bounds: ReplicaBounds { min: 0, max: server.max_replicas },
                keep: 0,
                spec: current,
                ready: current,
                pending: 0,
                growth: Growth::Likely,
                own_demand: None,
                accelerator: Some(accelerator.kind().into()),
                accelerators_per_replica: Some(system.accelerators_per_replica(server, accelerator)),
            })
        })
        .collect();
    ModelDemand {
        model: ModelKey::new(server.name.as_str(), server.model.as_str()),
        role: Role::Both,
        demand: server.load.arrival_rate,
        priority: class.priority,
        variants: with_minimum(variants, server.min_replicas),
    }
}

/// The minimum over all accelerators stands on those in use, and for the rest on the cheapest: one of the choices that keep
/// it, and the one that nobody has to move for.
fn with_minimum(mut variants: Vec<Offer>, minimum: u32) -> Vec<Offer> {
    let mut order: Vec<usize> = (0..variants.len()).collect();
    order.sort_by(|a, b| {
        let rank = |offer: &Offer| (offer.spec == 0, offer.cost);
        let (a, b) = (&variants[*a], &variants[*b]);
        rank(a).0.cmp(&rank(b).0).then(a.cost.total_cmp(&b.cost)).then_with(|| a.variant.cmp(&b.variant))
    });
    let mut left = minimum;
    for (position, index) in order.iter().enumerate() {
        let offer = &mut variants[*index];
        let room = offer.bounds.max.unwrap_or(u32::MAX);
        let share = if offer.spec > 0 && position + 1 < order.len() { offer.spec } else { u32::MAX };
        offer.bounds.min = left.min(share).min(room);
        left -= offer.bounds.min;
    }
    variants
}

/// What the system has: as free accelerators, and, because what its servers hold comes on top of those, as quotas.
fn inventory(system: &System) -> Inventory {
    let kinds: BTreeMap<&str, u32> = system
        .accelerators
        .iter()
        .map(|accelerator| (accelerator.kind(), system.capacity.get(accelerator.kind()).copied().unwrap_or(0)))
        .collect();
    let pool = |(kind, count): (&&str, &u32)| AcceleratorPool::of_free(*kind, *count);
    let quota = |(kind, count): (&&str, &u32)| AcceleratorQuota {
        name: (*kind).into(),
        namespace: None,
        accelerator: Some((*kind).into()),
        hard: *count,
        used_by_others: 0,
    };
    Inventory {
        pools: kinds.iter().map(pool).collect(),
        quotas: kinds.iter().map(quota).collect(),
        ..Inventory::default()
    }
}
