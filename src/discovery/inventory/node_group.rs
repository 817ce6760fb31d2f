//! The node group of a node: what a node autoscaler grows and shrinks.

use std::sync::Arc;

use super::rules::Labels;

/// Node labels whose value is a node group, the more specific first.
const GROUP_LABELS: [&str; 14] = [
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "alpha.eksctl.io/nodegroup-name",
    "kubernetes.azure.com/agentpool",
    "agentpool",
    "karpenter.sh/nodepool",
    "karpenter.sh/provisioner-name",
    "cluster.x-k8s.io/deployment-name",
    "topology.cluster.x-k8s.io/deployment-name",
    "cluster.x-k8s.io/pool-name",
    "node.cluster.x-k8s.io/node-group",
    "kops.k8s.io/instancegroup",
    "doks.digitalocean.com/node-pool",
    "k8s.ovh.net/nodepool",
];

/// The annotation in which Cluster API names the `MachineSet` of a node, and the one that says it is one.
const CAPI_OWNER: (&str, &str) = ("cluster.x-k8s.io/owner-name", "cluster.x-k8s.io/owner-kind");

/// The node group of a node; empty where nothing names one.
pub(crate) fn of(configured: Option<&str>, labels: &Labels, annotations: &Labels) -> Arc<str> {
    let mut names = configured.into_iter().chain(GROUP_LABELS);
    let labelled = names.find_map(|label| labels.get(label)).map(String::as_str);
    labelled.or_else(|| machine_deployment(annotations)).unwrap_or_default().into()
}

/// A `MachineSet` is named after its `MachineDeployment`, with a hash behind.
fn machine_deployment(annotations: &Labels) -> Option<&str> {
    let owner = annotations.get(CAPI_OWNER.0)?;
    match annotations.get(CAPI_OWNER.1).map(String::as_str) {
        Some("MachineSet") => Some(owner.rsplit_once('-').map_or(owner.as_str(), |(deployment, _)| deployment)),
        _ => Some(owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Labels {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn every_kind_of_cluster_names_its_node_groups() {
        for label in GROUP_LABELS {
            assert_eq!(&*of(None, &one(label, "pool-a"), &Labels::new()), "pool-a", "{label}");
        }
        assert_eq!(&*of(None, &Labels::new(), &Labels::new()), "");
    }

    #[test]
    fn a_configured_label_comes_first() {
        let mut labels = one("karpenter.sh/nodepool", "general");
        labels.insert("site/pool".to_owned(), "h100".to_owned());
        assert_eq!(&*of(Some("site/pool"), &labels, &Labels::new()), "h100");
        assert_eq!(&*of(Some("site/other"), &labels, &Labels::new()), "general");
    }

    #[test]
    fn cluster_api_names_the_machine_set_in_an_annotation() {
        let mut annotations = one("cluster.x-k8s.io/owner-name", "gpu-workers-7d9fb");
        annotations.insert("cluster.x-k8s.io/owner-kind".to_owned(), "MachineSet".to_owned());
        assert_eq!(&*of(None, &Labels::new(), &annotations), "gpu-workers");
        annotations.insert("cluster.x-k8s.io/owner-kind".to_owned(), "KubeadmControlPlane".to_owned());
        assert_eq!(&*of(None, &Labels::new(), &annotations), "gpu-workers-7d9fb");
    }
}
