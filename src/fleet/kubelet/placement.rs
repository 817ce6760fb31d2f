//! The scheduler's part: which node takes a pod. Node selectors, accelerators and cordons count; affinity and taints do
//! not.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::GPU_RESOURCE;

/// Accelerators taken per node.
pub(super) type Taken = HashMap<String, u32>;

/// The first of `nodes` that `pod` fits on; else why it fits on none, as the scheduler would word it.
pub(super) fn place<'n>(pod: &Pod, accelerators: u32, nodes: &'n [Node], taken: &Taken) -> Result<&'n Node, String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        match obstacle(pod, accelerators, node, taken) {
            None => return Ok(node),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    let reasons: Vec<_> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
}

fn obstacle(pod: &Pod, accelerators: u32, node: &Node, taken: &Taken) -> Option<&'static str> {
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("node(s) were unschedulable");
    }
    let selector = pod.spec.iter().filter_map(|spec| spec.node_selector.as_ref()).flatten();
    if selector.into_iter().any(|(label, value)| node.labels().get(label) != Some(value)) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get(GPU_RESOURCE));
    let allocatable: u32 = allocatable.and_then(|quantity| quantity.0.parse().ok()).unwrap_or(0);
    let taken = taken.get(&node.name_any()).copied().unwrap_or(0);
    (accelerators > allocatable.saturating_sub(taken)).then_some("Insufficient nvidia.com/gpu")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, product: &str, unschedulable: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "nvidia.com/gpu.product": product } },
            "spec": { "unschedulable": unschedulable },
            "status": { "allocatable": { GPU_RESOURCE: "4" } },
        }))
        .unwrap()
    }

    fn pod(product: Option<&str>) -> Pod {
        let selector = product.map(|product| json!({ "nvidia.com/gpu.product": product }));
        serde_json::from_value(json!({ "spec": { "containers": [], "nodeSelector": selector } })).unwrap()
    }

    #[test]
    fn the_first_node_with_room_and_the_right_accelerator_takes_the_pod() {
        let nodes =
            [node("a", "A100", false), node("b", "H100", true), node("c", "H100", false), node("d", "H100", false)];
        let taken = Taken::from([("c".to_owned(), 3)]);
        let on = |product, accelerators| place(&pod(product), accelerators, &nodes, &taken).map(ResourceExt::name_any);
        assert_eq!(on(None, 4), Ok("a".to_owned()));
        assert_eq!(on(Some("H100"), 1), Ok("c".to_owned()));
        assert_eq!(on(Some("H100"), 2), Ok("d".to_owned()));
        let message = "0/4 nodes are available: 2 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node \
                       affinity/selector, 1 node(s) were unschedulable.";
        assert_eq!(on(Some("H100"), 8), Err(message.to_owned()));
    }
}
