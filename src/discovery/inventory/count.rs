//! Counts the accelerators of all nodes into pools.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{NEURON, NEURON_CORE, vendor_name};
use crate::{
    discovery::accelerator::short_name,
    interfaces::{AcceleratorPool, AcceleratorProduct, NodeGroupLimit},
};

/// What a node has of accelerators.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeAccelerators {
    /// Its node group; empty where nothing names one.
    pub group: Arc<str>,
    /// Whether it takes inference pods: ready, not cordoned, no taint that keeps them off.
    pub open: bool,
    /// One entry per resource; a node may have several vendors'.
    pub devices: Vec<Devices>,
}

/// Accelerators of one resource on one node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Devices {
    /// Extended resource, or DRA driver.
    pub resource: Arc<str>,
    /// Canonical accelerator type.
    pub accelerator: Arc<str>,
    /// Full name of the product.
    pub product: Arc<str>,
    /// All of them.
    pub capacity: u32,
    /// Those that pods may get.
    pub allocatable: u32,
    /// Into how many parts a pod may divide one ([`NEURON_CORE`]); 1 where it may not.
    pub parts: u32,
}

/// What pods hold, by node and resource, in units of the resource.
pub(crate) type Usage = HashMap<Arc<str>, BTreeMap<Arc<str>, u32>>;

/// The pools of `nodes`, sorted by node group and accelerator; `limits` adds what a node autoscaler may still provide.
pub(crate) fn count<'a>(
    nodes: impl Iterator<Item = (&'a Arc<str>, &'a NodeAccelerators)>,
    usage: &Usage,
    limits: &[NodeGroupLimit],
) -> Vec<AcceleratorPool> {
    let mut pools: BTreeMap<(Arc<str>, Arc<str>), AcceleratorPool> = BTreeMap::new();
    let nothing = BTreeMap::new();
    for (name, node) in nodes {
        let used = usage.get(name).unwrap_or(&nothing);
        // Two resources of one accelerator type are one block of the node.
        let mut free: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
        for devices in &node.devices {
            let pool = pool(&mut pools, &node.group, &devices.accelerator);
            let used = used_of(devices, used);
            pool.total += devices.capacity;
            pool.used += used;
            if node.open {
                pool.allocatable += devices.allocatable;
                *free.entry(&devices.accelerator).or_default() += devices.allocatable.saturating_sub(used);
            }
        }
        for (accelerator, free) in free.into_iter().filter(|(_, free)| *free > 0) {
            pool(&mut pools, &node.group, accelerator).free_blocks.push(free);
        }
    }
    for limit in limits {
        provide(&mut pools, limit);
    }
    pools.into_values().map(with_blocks).collect()
}

/// What is free of each product on nodes that take pods, sorted.
pub(crate) fn products<'a>(
    nodes: impl Iterator<Item = (&'a Arc<str>, &'a NodeAccelerators)>,
    usage: &Usage,
) -> Vec<AcceleratorProduct> {
    let mut products: BTreeMap<(&str, &Arc<str>, &Arc<str>), u32> = BTreeMap::new();
    let nothing = BTreeMap::new();
    for (name, node) in nodes {
        let used = usage.get(name).unwrap_or(&nothing);
        for devices in &node.devices {
            let free = if node.open { devices.allocatable.saturating_sub(used_of(devices, used)) } else { 0 };
            let key = (vendor_name(&devices.resource), &devices.product, &devices.accelerator);
            *products.entry(key).or_default() += free;
        }
    }
    let of = |((vendor, product, accelerator), free): ((&str, &Arc<str>, &Arc<str>), u32)| AcceleratorProduct {
        vendor: vendor.into(),
        product: product.clone(),
        accelerator: accelerator.clone(),
        free,
    };
    products.into_iter().map(of).collect()
}

fn pool<'a>(
    pools: &'a mut BTreeMap<(Arc<str>, Arc<str>), AcceleratorPool>,
    group: &Arc<str>,
    accelerator: &Arc<str>,
) -> &'a mut AcceleratorPool {
    pools.entry((group.clone(), accelerator.clone())).or_insert_with(|| AcceleratorPool {
        node_group: group.clone(),
        accelerator: accelerator.clone(),
        total: 0,
        allocatable: 0,
        used: 0,
        free: 0,
        largest_free_block: 0,
        free_blocks: Vec::new(),
        provisionable: 0,
        provisionable_block: None,
    })
}

/// A device of which one core is taken is not free.
fn used_of(devices: &Devices, used: &BTreeMap<Arc<str>, u32>) -> u32 {
    let whole = used.get(&devices.resource).copied().unwrap_or(0);
    if &*devices.resource != NEURON {
        return whole;
    }
    whole + used.get(NEURON_CORE).copied().unwrap_or(0).div_ceil(devices.parts.max(1))
}

fn provide(pools: &mut BTreeMap<(Arc<str>, Arc<str>), AcceleratorPool>, limit: &NodeGroupLimit) {
    let pool = pool(pools, &limit.name.as_str().into(), &short_name(&limit.accelerator).into());
    pool.provisionable = limit.max_nodes.saturating_mul(limit.accelerators_per_node).saturating_sub(pool.total);
    pool.provisionable_block = Some(limit.accelerators_per_node);
}

fn with_blocks(mut pool: AcceleratorPool) -> AcceleratorPool {
    pool.free_blocks.sort_unstable_by(|a, b| b.cmp(a));
    pool.largest_free_block = pool.free_blocks.first().copied().unwrap_or(0);
    pool.free = pool.free_blocks.iter().sum();
    pool
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn devices(resource: &str, accelerator: &str, capacity: u32, allocatable: u32) -> Devices {
        let product = format!("{accelerator} in full").into();
        Devices { resource: resource.into(), accelerator: accelerator.into(), product, capacity, allocatable, parts: 1 }
    }

    fn node(group: &str, open: bool, devices: Vec<Devices>) -> NodeAccelerators {
        NodeAccelerators { group: group.into(), open, devices }
    }

    fn counted(
        nodes: &[NodeAccelerators],
        used: &[(usize, &str, u32)],
        limits: &[NodeGroupLimit],
    ) -> Vec<AcceleratorPool> {
        let named: Vec<(Arc<str>, &NodeAccelerators)> =
            nodes.iter().enumerate().map(|(index, node)| (format!("n{index}").into(), node)).collect();
        let mut usage = Usage::new();
        for (node, resource, units) in used {
            *usage.entry(format!("n{node}").into()).or_default().entry((*resource).into()).or_default() += units;
        }
        count(named.iter().map(|(name, node)| (name, *node)), &usage, limits)
    }

    const GPU: &str = "nvidia.com/gpu";

    #[test]
    fn a_pool_tells_total_allocatable_used_free_and_blocks() {
        let h100 = |allocatable| vec![devices(GPU, "H100", 8, allocatable)];
        let nodes = [node("a", true, h100(8)), node("a", true, h100(7)), node("b", true, h100(8))];
        let pools = counted(&nodes, &[(0, GPU, 6), (1, GPU, 3)], &[]);
        let a = &pools[0];
        assert_eq!((&*a.node_group, &*a.accelerator), ("a", "H100"));
        assert_eq!((a.total, a.allocatable, a.used, a.free), (16, 15, 9, 6));
        assert_eq!((a.largest_free_block, a.free_blocks.as_slice()), (4, &[4, 2][..]));
        assert_eq!((&*pools[1].node_group, pools[1].free), ("b", 8));
    }

    #[test]
    fn a_node_that_takes_no_pods_has_accelerators_but_none_to_give() {
        let closed = node("a", false, vec![devices(GPU, "H100", 8, 8)]);
        let pool = &counted(&[closed], &[(0, GPU, 2)], &[])[0];
        assert_eq!((pool.total, pool.allocatable, pool.used, pool.free, pool.largest_free_block), (8, 0, 2, 0, 0));
    }

    #[test]
    fn a_node_of_several_vendors_is_in_several_pools() {
        let both = node("a", true, vec![devices(GPU, "L4", 2, 2), devices("habana.ai/gaudi", "Gaudi-2", 8, 8)]);
        let pools = counted(&[both], &[(0, "habana.ai/gaudi", 1)], &[]);
        let summary: Vec<_> = pools.iter().map(|pool| (&*pool.accelerator, pool.total, pool.free)).collect();
        assert_eq!(summary, [("Gaudi-2", 8, 7), ("L4", 2, 2)]);
    }

    #[test]
    fn products_are_told_apart_by_maker_and_full_name() {
        let nodes = [
            node("a", true, vec![devices(GPU, "L4", 2, 2), devices("habana.ai/gaudi", "Gaudi-2", 8, 8)]),
            node("b", true, vec![devices(GPU, "L4", 4, 4)]),
            node("b", false, vec![devices(GPU, "L4", 4, 4)]),
        ];
        let names: Vec<Arc<str>> = (0..nodes.len()).map(|index| format!("n{index}").into()).collect();
        let usage = [("n1".into(), [(GPU.into(), 3)].into())].into();
        let found = products(names.iter().zip(&nodes), &usage);
        let found: Vec<_> = found.iter().map(|p| (&*p.vendor, &*p.product, &*p.accelerator, p.free)).collect();
        assert_eq!(found, [("Habana", "Gaudi-2 in full", "Gaudi-2", 8), ("NVIDIA", "L4 in full", "L4", 3)]);
    }

    #[test]
    fn a_neuron_device_with_a_core_taken_is_not_free() {
        let mut neuron = devices(NEURON, "Inferentia2", 6, 6);
        neuron.parts = 2;
        let pools = counted(&[node("a", true, vec![neuron])], &[(0, NEURON, 1), (0, NEURON_CORE, 3)], &[]);
        assert_eq!((pools[0].used, pools[0].free), (3, 3));
    }

    #[test]
    fn what_an_autoscaler_of_nodes_may_add_is_counted_also_where_there_is_no_node_yet() {
        let limit = |name: &str, accelerator: &str, max_nodes| NodeGroupLimit {
            name: name.to_owned(),
            accelerator: accelerator.to_owned(),
            accelerators_per_node: 8,
            max_nodes,
        };
        let nodes = [node("a", true, vec![devices(GPU, "H100", 8, 8)])];
        let limits = [limit("a", "NVIDIA-H100-80GB-HBM3", 4), limit("b", "a100", 2), limit("c", "A100", 0)];
        let pools = counted(&nodes, &[], &limits);
        let summary: Vec<_> = pools
            .iter()
            .map(|pool| {
                (&*pool.node_group, &*pool.accelerator, pool.total, pool.provisionable, pool.provisionable_block)
            })
            .collect();
        assert_eq!(
            summary,
            [("a", "H100", 8, 24, Some(8)), ("b", "A100", 0, 16, Some(8)), ("c", "A100", 0, 0, Some(8))]
        );
        assert_eq!(counted(&nodes, &[], &[])[0].provisionable_block, None);
    }

    proptest! {
        #[test]
        fn free_accelerators_are_the_sum_of_blocks_and_never_more_than_allocatable(
            nodes in vec((0_usize..3, any::<bool>(), 0_u32..9, 0_u32..9), 0..20),
            used in vec((0_usize..20, 0_u32..12), 0..20),
        ) {
            let groups = ["a", "b", "c"];
            let nodes: Vec<_> = nodes
                .into_iter()
                .map(|(group, open, capacity, lost)| {
                    node(groups[group], open, vec![devices(GPU, "H100", capacity, capacity.saturating_sub(lost))])
                })
                .collect();
            let used: Vec<_> = used.into_iter().map(|(node, units)| (node, GPU, units)).collect();
            for pool in counted(&nodes, &used, &[]) {
                prop_assert_eq!(pool.free, pool.free_blocks.iter().sum::<u32>());
                prop_assert_eq!(pool.largest_free_block, pool.free_blocks.first().copied().unwrap_or(0));
                prop_assert!(pool.free <= pool.allocatable && pool.allocatable <= pool.total);
                prop_assert!(pool.free_blocks.is_sorted_by(|a, b| a >= b) && !pool.free_blocks.contains(&0));
            }
        }
    }
}
