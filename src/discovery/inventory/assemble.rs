//! From the watched objects to the inventory. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{Devices, NodeAccelerators, Rules, Usage, count, products, vendor_name};
use crate::{
    discovery::{
        accelerator::short_name,
        index::{Cluster, Index},
        namespace::Namespace,
    },
    interfaces::{AcceleratorQuota, Inventory},
};

/// The accelerators of the cluster.
pub(crate) fn assemble(index: &Index, rules: &Rules) -> Inventory {
    let mut usage = Usage::new();
    for (_, namespace) in index.namespaces() {
        for (node, held) in &namespace.usage {
            let total = usage.entry(node.clone()).or_default();
            for (resource, units) in held {
                *total.entry(resource.clone()).or_default() += units;
            }
        }
    }
    let with_slices = with_slices(index, &mut usage);
    let nodes = || index.cluster.nodes.iter().map(|(name, node)| (name, with_slices.get(name).unwrap_or(node)));
    let settings = rules.settings();
    let pools = count(nodes(), &usage, &settings.node_groups);
    let mut quotas: Vec<AcceleratorQuota> = settings
        .quotas
        .iter()
        .map(|quota| AcceleratorQuota {
            name: quota.name.as_str().into(),
            namespace: quota.namespace.as_deref().map(Into::into),
            accelerator: quota.accelerator.as_deref().map(|name| short_name(name).into()),
            hard: quota.hard,
            used_by_others: 0,
        })
        .collect();
    let types = types_by_resource(&index.cluster);
    for (name, namespace) in index.namespaces() {
        quotas.extend(quotas_of(name, namespace, &types));
    }
    Inventory { pools, quotas, products: products(nodes(), &usage) }
}

/// The nodes of which drivers report devices in slices, with those added, and what claims hold of them in `usage`.
///
/// Where a device plugin of the same vendor counts the node's devices already, they are not counted twice.
fn with_slices(index: &Index, usage: &mut Usage) -> BTreeMap<Arc<str>, NodeAccelerators> {
    let slices = &index.cluster.slices;
    let mut newest: BTreeMap<(&Arc<str>, &Arc<str>), i64> = BTreeMap::new();
    for slice in slices.values() {
        let generation = newest.entry((&slice.driver, &slice.pool)).or_insert(slice.generation);
        *generation = (*generation).max(slice.generation);
    }
    let taken: HashSet<(&Arc<str>, &Arc<str>, &Arc<str>)> = index
        .namespaces()
        .flat_map(|(_, namespace)| namespace.claims.values())
        .flatten()
        .map(|(driver, pool, device)| (driver, pool, device))
        .collect();
    let mut nodes: BTreeMap<Arc<str>, NodeAccelerators> = BTreeMap::new();
    for slice in slices.values().filter(|slice| newest[&(&slice.driver, &slice.pool)] == slice.generation) {
        let Some(known) = index.cluster.nodes.get(&slice.node) else { continue };
        let vendor = vendor_name(&slice.driver);
        if known.devices.iter().any(|devices| vendor_name(&devices.resource) == vendor) {
            continue;
        }
        let node = nodes.entry(slice.node.clone()).or_insert_with(|| known.clone());
        for (device, accelerator) in &slice.devices {
            let resource: Arc<str> = format!("{}/{accelerator}", slice.driver).into();
            if taken.contains(&(&slice.driver, &slice.pool, device)) {
                *usage.entry(slice.node.clone()).or_default().entry(resource.clone()).or_default() += 1;
            }
            match node.devices.iter_mut().find(|devices| devices.resource == resource) {
                Some(devices) => {
                    devices.capacity += 1;
                    devices.allocatable += 1;
                }
                None => node.devices.push(Devices {
                    resource,
                    accelerator: accelerator.clone(),
                    product: accelerator.clone(),
                    capacity: 1,
                    allocatable: 1,
                    parts: 1,
                }),
            }
        }
    }
    nodes
}

type Types = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// Accelerator types that the nodes offer under each resource.
fn types_by_resource(cluster: &Cluster) -> Types {
    let mut types = Types::new();
    for devices in cluster.nodes.values().flat_map(|node| &node.devices) {
        types.entry(devices.resource.clone()).or_default().insert(devices.accelerator.clone());
    }
    types
}

/// The `ResourceQuota`s of a namespace. A quota is on a resource, which may be several types: where those are all there
/// are, the bound is on all together; else each type is bound, which is no more than the quota says.
fn quotas_of(name: &Arc<str>, namespace: &Namespace, types: &Types) -> Vec<AcceleratorQuota> {
    let all: BTreeSet<&Arc<str>> = types.values().flatten().collect();
    let mut quotas = Vec::new();
    let mut objects: Vec<_> = namespace.quotas.iter().collect();
    objects.sort_unstable_by_key(|(quota, _)| *quota);
    for (quota, hard) in objects {
        for (resource, hard) in hard {
            let bound = |accelerator: Option<Arc<str>>| AcceleratorQuota {
                name: quota.clone(),
                namespace: Some(name.clone()),
                accelerator,
                hard: *hard,
                used_by_others: used_by_others(namespace, resource),
            };
            match types.get(resource) {
                Some(of_resource) if of_resource.len() == all.len() && all.len() > 1 => quotas.push(bound(None)),
                Some(of_resource) => quotas.extend(of_resource.iter().map(|name| bound(Some(name.clone())))),
                // No node offers it (yet): it may be what a node autoscaler adds.
                None => quotas.push(bound(None)),
            }
        }
    }
    quotas
}

/// What pods that belong to no variant request of a resource. A quota counts a pod from its creation.
fn used_by_others(namespace: &Namespace, resource: &Arc<str>) -> u32 {
    let others = namespace.pods.values().filter(|pod| !pod.requests.is_empty() && namespace.target_of(pod).is_none());
    let requests = others.flat_map(|pod| &pod.requests).filter(|(requested, _)| requested == resource);
    requests.map(|(_, units)| units).sum()
}
