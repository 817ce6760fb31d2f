//! Which resources are accelerators, and what those of a node are called: the one table of vendors, and the rules that
//! the configuration puts before it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    discovery::accelerator::{self, short_name},
    interfaces::InventorySettings,
};

/// A maker of accelerators, as Kubernetes sees them.
#[derive(Debug)]
struct Vendor {
    /// Name, for metrics and where a node does not say which product it has.
    name: &'static str,
    /// Extended resources that count whole accelerators; one that ends in `*` is a prefix.
    resources: &'static [&'static str],
    /// Node labels whose value is the product, the vendor's own labeller first.
    products: &'static [&'static str],
    /// DRA drivers, and the device classes that select their devices.
    drivers: &'static [&'static str],
}

const VENDORS: [Vendor; 6] = [
    Vendor {
        name: "NVIDIA",
        resources: &["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-*"],
        products: &[
            "nvidia.com/gpu.product",
            "cloud.google.com/gke-accelerator",
            "k8s.amazonaws.com/accelerator",
            "karpenter.k8s.aws/instance-gpu-name",
        ],
        drivers: &["gpu.nvidia.com", "mig.nvidia.com"],
    },
    Vendor {
        name: "AMD",
        resources: &["amd.com/gpu"],
        products: &[
            "amd.com/gpu.product-name",
            "beta.amd.com/gpu.product-name",
            "k8s.amazonaws.com/accelerator",
            "karpenter.k8s.aws/instance-gpu-name",
        ],
        drivers: &["gpu.amd.com"],
    },
    Vendor {
        name: "Habana",
        resources: &["habana.ai/gaudi"],
        products: &["habana.ai/product.name", "karpenter.k8s.aws/instance-gpu-name"],
        drivers: &["gaudi.intel.com"],
    },
    Vendor {
        name: "Intel",
        resources: &["gpu.intel.com/i915", "gpu.intel.com/xe"],
        products: &["gpu.intel.com/product"],
        drivers: &["gpu.intel.com"],
    },
    Vendor {
        name: "Google",
        resources: &["google.com/tpu"],
        products: &["cloud.google.com/gke-tpu-accelerator"],
        drivers: &["tpu.google.com"],
    },
    Vendor {
        name: "AWS",
        resources: &[NEURON],
        products: &["karpenter.k8s.aws/instance-accelerator-name", "k8s.amazonaws.com/accelerator"],
        drivers: &["neuron.aws.com"],
    },
];

/// A whole Neuron device. The same device is advertised a second time under an older name, and a third as its cores.
pub(crate) const NEURON: &str = "aws.amazon.com/neuron";
/// A core of a Neuron device: a part of what [`NEURON`] counts.
pub(crate) const NEURON_CORE: &str = "aws.amazon.com/neuroncore";
/// How many pods share one GPU, where time-slicing or MPS is on.
const SHARING_REPLICAS: &str = "nvidia.com/gpu.replicas";
/// The machine type of a cloud: the last hint at what a node has.
const INSTANCE_TYPE: [&str; 2] = ["node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"];

/// Families of AWS instance types that have one kind of accelerator.
const AWS_FAMILIES: [(&str, &str); 19] = [
    ("p3", "V100"),
    ("p3dn", "V100"),
    ("p4d", "A100"),
    ("p4de", "A100"),
    ("p5", "H100"),
    ("p5e", "H200"),
    ("p5en", "H200"),
    ("p6-b200", "B200"),
    ("g4dn", "T4"),
    ("g5", "A10G"),
    ("g6", "L4"),
    ("g6e", "L40S"),
    ("dl1", "Gaudi-1"),
    ("inf1", "Inferentia1"),
    ("inf2", "Inferentia2"),
    ("trn1", "Trainium1"),
    ("trn1n", "Trainium1"),
    ("trn2", "Trainium2"),
    ("trn2u", "Trainium2"),
];

/// Labels of a node or a pod's selector.
pub(crate) type Labels = BTreeMap<String, String>;

/// The built-in rules with those of the configuration before them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    settings: Arc<InventorySettings>,
}

impl Rules {
    pub(crate) fn new(settings: InventorySettings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    pub(crate) fn settings(&self) -> &InventorySettings {
        &self.settings
    }

    /// Whether units of `resource` are whole accelerators (or the slices in which pods ask for them).
    pub(crate) fn is_accelerator(&self, resource: &str) -> bool {
        let is_of = |vendor: &Vendor| vendor.resources.iter().any(|pattern| matches(pattern, resource));
        self.settings.rules.iter().any(|rule| matches(&rule.resource, resource)) || VENDORS.iter().any(is_of)
    }

    /// Whether the devices of a DRA driver, or of a device class, are accelerators.
    pub(crate) fn is_driver(&self, driver: &str) -> bool {
        self.settings.rules.iter().any(|rule| matches(&rule.resource, driver))
            || VENDORS.iter().any(|vendor| vendor.drivers.contains(&driver))
    }

    /// Whether to keep what a pod requests of `resource`.
    pub(crate) fn is_counted(&self, resource: &str) -> bool {
        resource == NEURON_CORE || self.is_accelerator(resource)
    }

    /// Whether a taint with this key keeps no inference pod off: those named like an accelerator resource are put on its
    /// nodes to keep all other pods off, and the rest is for the configuration to say.
    pub(crate) fn is_tolerated(&self, taint: &str) -> bool {
        self.settings.tolerated_taints.iter().any(|key| key == taint) || self.is_accelerator(taint)
    }

    /// The product that the labels of a node name for the accelerators it offers as `resource`, in full.
    pub(crate) fn product<'l>(&self, resource: &str, labels: &'l Labels) -> Option<&'l String> {
        let mut configured = self.settings.rules.iter().filter(|rule| matches(&rule.resource, resource));
        let named = configured.find_map(|rule| labels.get(rule.label.as_ref()?));
        named.or_else(|| product_of(vendor_of(resource)?, resource, labels))
    }

    /// Canonical type of the accelerators that a node with these labels offers as `resource`.
    pub(crate) fn accelerator(&self, resource: &str, labels: &Labels) -> Option<Arc<str>> {
        let configured = self.settings.rules.iter().filter(|rule| matches(&rule.resource, resource));
        let named = configured.filter_map(|rule| {
            let label = rule.label.as_ref().and_then(|label| labels.get(label));
            rule.accelerator.as_ref().or(label)
        });
        if let Some(name) = named.map(|name| short_name(name)).next() {
            return Some(name.into());
        }
        let vendor = vendor_of(resource)?;
        let profile = mig_profile(resource);
        let product = product_of(vendor, resource, labels);
        let name = product.map(|product| short_name(product)).filter(|name| *name != vendor.name);
        let name = name.or_else(|| of_instance_type(labels)).unwrap_or_else(|| vendor.name.to_owned());
        let name = match profile {
            Some(profile) if !name.contains("-MIG-") => format!("{name}-MIG-{profile}"),
            _ => name,
        };
        let is_shared = resource.ends_with(".shared") || (vendor.name == "NVIDIA" && is_shared(labels, profile));
        Some(if is_shared { accelerator::shared(&name) } else { name }.into())
    }
}

/// The size of a slice that is offered as a resource of its own.
fn mig_profile(resource: &str) -> Option<&str> {
    resource.strip_prefix("nvidia.com/mig-")
}

fn product_of<'l>(vendor: &Vendor, resource: &str, labels: &'l Labels) -> Option<&'l String> {
    let own_label = mig_profile(resource).and_then(|profile| labels.get(&format!("nvidia.com/mig-{profile}.product")));
    own_label.or_else(|| vendor.products.iter().find_map(|label| labels.get(*label)))
}

/// Name of who makes the accelerators behind a resource; `custom` for one that only the configuration knows.
pub(crate) fn vendor_name(resource: &str) -> &'static str {
    vendor_of(resource).map_or("custom", |vendor| vendor.name)
}

/// Node labels that name an accelerator product, in the order in which they are believed.
pub(crate) fn product_labels() -> impl Iterator<Item = &'static str> + Clone {
    VENDORS.iter().flat_map(|vendor| vendor.products.iter().copied())
}

fn vendor_of(resource: &str) -> Option<&'static Vendor> {
    let is_of = |vendor: &&Vendor| {
        vendor.resources.iter().any(|pattern| matches(pattern, resource)) || vendor.drivers.contains(&resource)
    };
    VENDORS.iter().find(is_of)
}

fn matches(pattern: &str, resource: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => resource.starts_with(prefix),
        None => pattern == resource,
    }
}

/// Whether several pods get one GPU (or MIG slice): a unit of the resource is then less than an accelerator.
fn is_shared(labels: &Labels, profile: Option<&str>) -> bool {
    let replicas = match profile {
        Some(profile) => labels.get(&format!("nvidia.com/mig-{profile}.replicas")),
        None => labels.get(SHARING_REPLICAS),
    };
    replicas.and_then(|replicas| replicas.parse::<u32>().ok()).is_some_and(|replicas| replicas > 1)
}

/// What a cloud's machine type says of its accelerators: `p5.48xlarge` has H100s, `Standard_NC24ads_A100_v4` A100s.
fn of_instance_type(labels: &Labels) -> Option<String> {
    let machine = INSTANCE_TYPE.iter().find_map(|label| labels.get(*label))?;
    if let Some((family, _)) = machine.split_once('.') {
        return AWS_FAMILIES.iter().find(|(name, _)| *name == family).map(|(_, product)| (*product).to_owned());
    }
    let mut words = machine.strip_prefix("Standard_")?.split('_');
    words.rfind(|word| accelerator::is_known(word)).map(short_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interfaces::AcceleratorRule;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Resource, labels of the node, accelerator type.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

    const CASES: [Case; 26] = [
        ("nvidia.com/gpu", &[("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3")], "H100"),
        ("nvidia.com/gpu", &[("cloud.google.com/gke-accelerator", "nvidia-h100-80gb")], "H100"),
        ("nvidia.com/gpu", &[("karpenter.k8s.aws/instance-gpu-name", "h100")], "H100"),
        ("nvidia.com/gpu", &[("k8s.amazonaws.com/accelerator", "nvidia-tesla-v100")], "V100"),
        ("nvidia.com/gpu", &[("node.kubernetes.io/instance-type", "p5.48xlarge")], "H100"),
        ("nvidia.com/gpu", &[("node.kubernetes.io/instance-type", "g6e.12xlarge")], "L40S"),
        ("nvidia.com/gpu", &[("node.kubernetes.io/instance-type", "Standard_NC24ads_A100_v4")], "A100"),
        ("nvidia.com/gpu", &[("node.kubernetes.io/instance-type", "Standard_ND96isr_H100_v5")], "H100"),
        ("nvidia.com/gpu", &[("node.kubernetes.io/instance-type", "m7i.large")], "NVIDIA"),
        ("nvidia.com/gpu", &[], "NVIDIA"),
        (
            "nvidia.com/gpu",
            &[("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB-SHARED"), ("nvidia.com/gpu.replicas", "4")],
            "A100-SHARED",
        ),
        ("nvidia.com/gpu", &[("nvidia.com/gpu.product", "Tesla-T4"), ("nvidia.com/gpu.replicas", "10")], "T4-SHARED"),
        ("nvidia.com/gpu", &[("nvidia.com/gpu.product", "Tesla-T4"), ("nvidia.com/gpu.replicas", "1")], "T4"),
        ("nvidia.com/gpu.shared", &[("nvidia.com/gpu.product", "Tesla-T4")], "T4-SHARED"),
        ("nvidia.com/gpu", &[("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb")], "A100-MIG-1g.5gb"),
        ("nvidia.com/mig-1g.5gb", &[("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB")], "A100-MIG-1g.5gb"),
        (
            "nvidia.com/mig-3g.40gb",
            &[("nvidia.com/mig-3g.40gb.product", "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb")],
            "H100-MIG-3g.40gb",
        ),
        ("amd.com/gpu", &[("amd.com/gpu.product-name", "AMD_Instinct_MI300X_OAM")], "MI300X"),
        ("amd.com/gpu", &[("beta.amd.com/gpu.product-name", "AMD-MI300X-192G")], "MI300X"),
        ("habana.ai/gaudi", &[("habana.ai/product.name", "Gaudi3")], "Gaudi-3"),
        ("habana.ai/gaudi", &[("node.kubernetes.io/instance-type", "dl1.24xlarge")], "Gaudi-1"),
        ("gpu.intel.com/i915", &[("gpu.intel.com/product", "Flex_170")], "Flex-170"),
        ("gpu.intel.com/xe", &[("gpu.intel.com/product", "Max_1550")], "Max-1550"),
        ("google.com/tpu", &[("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice")], "TPU-v5e"),
        ("aws.amazon.com/neuron", &[("node.kubernetes.io/instance-type", "inf2.48xlarge")], "Inferentia2"),
        ("aws.amazon.com/neuron", &[("karpenter.k8s.aws/instance-accelerator-name", "trainium2")], "Trainium2"),
    ];

    #[test]
    fn the_accelerators_of_a_node_are_called_by_one_name() {
        for (resource, pairs, expected) in CASES {
            let name = Rules::default().accelerator(resource, &labels(pairs));
            assert_eq!(name.as_deref(), Some(expected), "{resource} {pairs:?}");
        }
    }

    #[test]
    fn what_is_no_accelerator_is_not_counted() {
        for resource in [
            "cpu",
            "memory",
            "hugepages-2Mi",
            "gpu.intel.com/i915_monitoring",
            "rdma/hca",
            "aws.amazon.com/neurondevice",
        ] {
            assert!(!Rules::default().is_counted(resource), "{resource}");
        }
    }

    #[test]
    fn configured_rules_come_first() {
        let rule = |resource: &str, accelerator: Option<&str>, label: Option<&str>| AcceleratorRule {
            resource: resource.to_owned(),
            accelerator: accelerator.map(ToOwned::to_owned),
            label: label.map(ToOwned::to_owned),
        };
        let rules = Rules::new(InventorySettings {
            rules: vec![
                rule("example.com/npu-*", Some("NPU-9"), None),
                rule("nvidia.com/gpu", None, Some("site/card")),
            ],
            ..InventorySettings::default()
        });
        assert!(rules.is_accelerator("example.com/npu-large"));
        let name = |resource, pairs| rules.accelerator(resource, &labels(pairs));
        assert_eq!(name("example.com/npu-large", &[]).as_deref(), Some("NPU-9"));
        let both = &[("site/card", "nvidia-a100-80gb"), ("nvidia.com/gpu.product", "Tesla-T4")];
        assert_eq!(name("nvidia.com/gpu", both).as_deref(), Some("A100"));
        assert_eq!(name("nvidia.com/gpu", &both[1..]).as_deref(), Some("T4"), "where the label is absent");
    }

    #[test]
    fn taints_that_keep_other_pods_off_do_not_keep_inference_pods_off() {
        let settings = InventorySettings { tolerated_taints: vec!["sku".to_owned()], ..InventorySettings::default() };
        let rules = Rules::new(settings);
        for (taint, expected) in
            [("nvidia.com/gpu", true), ("google.com/tpu", true), ("sku", true), ("dedicated", false)]
        {
            assert_eq!(rules.is_tolerated(taint), expected, "{taint}");
        }
    }

    proptest! {
        /// Inventory and variants are joined by name: whatever the product, a selector that a node matches names the type
        /// that the inventory counts the node under.
        #[test]
        fn a_selector_and_the_node_it_selects_have_one_name(product in "[A-Za-z0-9][A-Za-z0-9_.-]{0,30}[A-Za-z0-9]") {
            let node = labels(&[("nvidia.com/gpu.product", &product)]);
            let counted = Rules::default().accelerator("nvidia.com/gpu", &node);
            let selected = short_name(&product);
            prop_assert_eq!(counted.as_deref(), Some(selected.as_str()));
        }
    }
}
