//! What can still be given: accelerators per type, quotas, and slots on nodes.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    interfaces::{AcceleratorPool, Inventory, Limit},
    optimizer::{ModelDemand, Offer},
};

/// Something of which there is only so much.
#[derive(Clone, Debug)]
struct Resource {
    limit: Limit,
    left: u64,
}

/// What one offer takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Usage {
    /// Accelerators per replica, of the type and of every quota that counts it. No accelerators take nothing.
    Known {
        per_replica: u32,
        /// Places of the resources.
        resources: Vec<usize>,
        /// Blocks of free accelerators on nodes, where replicas must fit on one.
        nodes: Option<usize>,
    },
    /// Type or number is not known.
    Unknown,
}

/// Resources and what is left of them.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    resources: Vec<Resource>,
    nodes: Vec<Vec<u32>>,
}

impl Stock {
    /// What `inventory` leaves to all of `models` together, with what their own replicas hold; and what each offer takes
    /// of it.
    pub(crate) fn new(inventory: &Inventory, models: &[ModelDemand], fit_nodes: bool) -> (Self, Vec<Vec<Usage>>) {
        let mut types: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
        for pool in &inventory.pools {
            let left = types.entry(&pool.accelerator).or_default();
            *left = left.saturating_add(u64::from(pool.free) + u64::from(pool.provisionable));
        }
        for offer in models.iter().flat_map(|model| &model.variants) {
            if let (Some(accelerator), Some(per_replica)) = (&offer.accelerator, offer.accelerators_per_replica) {
                let left = types.entry(accelerator).or_default();
                *left = left.saturating_add(u64::from(offer.supply()) * u64::from(per_replica));
            }
        }
        let mut resources: Vec<Resource> = types
            .iter()
            .map(|(accelerator, left)| Resource {
                limit: Limit::Accelerators((*accelerator).clone(), u32::try_from(*left).unwrap_or(u32::MAX)),
                left: *left,
            })
            .collect();
        resources.extend(inventory.quotas.iter().map(|quota| Resource {
            limit: Limit::Quota(quota.name.clone(), quota.hard),
            left: u64::from(quota.hard.saturating_sub(quota.used_by_others)),
        }));
        let places: BTreeMap<&Arc<str>, usize> = types.keys().copied().zip(0..).collect();
        let nodes = if fit_nodes { places.keys().map(|kind| blocks(inventory, kind)).collect() } else { Vec::new() };
        let usage = models
            .iter()
            .map(|model| model.variants.iter().map(|offer| usage(offer, inventory, &places, fit_nodes)).collect())
            .collect();
        (Self { resources, nodes }, usage)
    }

    /// Replicas that can still be given, of which the first `held` have their places on nodes already.
    pub(crate) fn fits(&self, usage: &Usage, held: u32) -> u32 {
        let Usage::Known { per_replica, resources, nodes } = usage else { return 0 };
        let Some(per_replica) = std::num::NonZero::new(*per_replica) else { return u32::MAX };
        let left = resources.iter().filter_map(|place| self.resources.get(*place)).map(|resource| resource.left).min();
        let within =
            left.map_or(u32::MAX, |left| u32::try_from(left / u64::from(per_replica.get())).unwrap_or(u32::MAX));
        let slots = nodes.and_then(|place| self.nodes.get(place)).map_or(u32::MAX, |blocks| {
            blocks.iter().fold(held, |slots, block| slots.saturating_add(*block / per_replica))
        });
        within.min(slots)
    }

    /// Gives `replicas`, of which the first `held` have their places on nodes already. What is not there is owed by
    /// nobody: minimums are given whatever is left.
    pub(crate) fn take(&mut self, usage: &Usage, replicas: u32, held: u32) {
        let Usage::Known { per_replica, resources, nodes } = usage else { return };
        let accelerators = u64::from(replicas) * u64::from(*per_replica);
        for place in resources {
            if let Some(resource) = self.resources.get_mut(*place) {
                resource.left = resource.left.saturating_sub(accelerators);
            }
        }
        if let Some(blocks) = nodes.and_then(|place| self.nodes.get_mut(place)) {
            let mut missing = replicas.saturating_sub(held);
            while missing > 0 {
                // The tightest block that holds one, which stays the tightest while it does: blocks are in falling order.
                let Some(block) = blocks.iter_mut().rev().find(|block| **block >= *per_replica) else { break };
                let fitting = block.checked_div(*per_replica).unwrap_or(missing).min(missing);
                *block -= per_replica * fitting;
                missing -= fitting;
                blocks.sort_unstable_by(|a, b| b.cmp(a));
            }
        }
    }

    /// Gives every variant of a model its minimum.
    pub(crate) fn take_minimums(&mut self, model: &ModelDemand, usage: &[Usage]) {
        for (offer, usage) in model.variants.iter().zip(usage) {
            self.take(usage, offer.range().0, offer.supply());
        }
    }

    /// How much `plan` (replicas per offer beyond what was given) takes too much of the first resource that it overdraws:
    /// the place of the resource and accelerators too many.
    pub(crate) fn overdrawn(&self, usage: &[Usage], plan: impl Fn(usize) -> u32) -> Option<(usize, u64)> {
        let mut taken = vec![0_u64; self.resources.len()];
        for (index, usage) in usage.iter().enumerate() {
            if let Usage::Known { per_replica, resources, .. } = usage {
                for place in resources {
                    taken[*place] = taken[*place].saturating_add(u64::from(plan(index)) * u64::from(*per_replica));
                }
            }
        }
        let excess = taken.iter().zip(&self.resources).map(|(taken, resource)| taken.saturating_sub(resource.left));
        excess.enumerate().find(|(_, excess)| *excess > 0)
    }

    /// Accelerators left of every resource.
    pub(crate) fn left(&self) -> impl Iterator<Item = u64> {
        self.resources.iter().map(|resource| resource.left)
    }

    /// The limit that an offer meets first.
    pub(crate) fn tightest(&self, usage: &Usage) -> Limit {
        let Usage::Known { resources, .. } = usage else { return Limit::UnknownAccelerator };
        let of_offer = resources.iter().filter_map(|place| self.resources.get(*place));
        of_offer.min_by_key(|resource| resource.left).map_or(Limit::UnknownInventory, |resource| resource.limit.clone())
    }
}

impl Usage {
    /// Accelerators that one replica takes of the resource at `place`.
    pub(crate) fn of(&self, place: usize) -> u32 {
        match self {
            Self::Known { per_replica, resources, .. } if resources.contains(&place) => *per_replica,
            Self::Known { .. } | Self::Unknown => 0,
        }
    }
}

fn usage(offer: &Offer, inventory: &Inventory, places: &BTreeMap<&Arc<str>, usize>, fit_nodes: bool) -> Usage {
    let (Some(accelerator), Some(per_replica)) = (&offer.accelerator, offer.accelerators_per_replica) else {
        // A replica that holds no accelerator needs none of a type.
        return match offer.accelerators_per_replica {
            Some(0) => Usage::Known { per_replica: 0, resources: Vec::new(), nodes: None },
            _ => Usage::Unknown,
        };
    };
    let place = places.get(accelerator).copied();
    let counts = |(index, quota): (usize, &crate::interfaces::AcceleratorQuota)| {
        let applies = quota.namespace.as_ref().is_none_or(|namespace| *namespace == offer.variant.namespace)
            && quota.accelerator.as_ref().is_none_or(|kind| kind == accelerator);
        applies.then_some(places.len() + index)
    };
    Usage::Known {
        per_replica,
        resources: place.into_iter().chain(inventory.quotas.iter().enumerate().filter_map(counts)).collect(),
        nodes: place.filter(|_| fit_nodes && per_replica > 0),
    }
}

/// Free accelerators of a type per node, those that can be added included, in falling order.
fn blocks(inventory: &Inventory, accelerator: &str) -> Vec<u32> {
    let of_type = inventory.pools.iter().filter(|pool| *pool.accelerator == *accelerator);
    let mut blocks: Vec<u32> =
        of_type.flat_map(|pool| pool.free_blocks.iter().copied().chain(blocks_to_add(pool))).collect();
    blocks.sort_unstable_by(|a, b| b.cmp(a));
    blocks
}

/// More nodes than anybody's replicas would fill are not written down one by one.
const MOST_NODES: u32 = 10_000;

fn blocks_to_add(pool: &AcceleratorPool) -> impl Iterator<Item = u32> {
    let block = pool.provisionable_block.unwrap_or(pool.provisionable);
    let nodes = pool.provisionable.checked_div(block).unwrap_or(0).min(MOST_NODES);
    (0..nodes).map(move |_| block)
}
