//! Which accelerator a variant runs on, under one short name per product.
//!
//! Variants, inventory and labels on the wire are joined by that name, so every way in goes through [`short_name`].

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorTerm};

use super::inventory::{Labels, product_labels};

/// Words of a product name that say who made it or which brand it is, not which product.
const BRANDS: [&str; 9] = ["nvidia", "amd", "intel", "habana", "tesla", "instinct", "geforce", "quadro", "radeon"];

/// Where the name of an RTX product ends: what follows is the generation, the case or the sharing mode.
const RTX_TAIL: [&str; 7] = ["generation", "blackwell", "server", "workstation", "edition", "shared", "mig"];

/// What NVIDIA's labeller puts behind the name of a GPU that several pods share.
const SHARED: &str = "SHARED";

/// The short name of an accelerator product: `NVIDIA-A100-PCIE-80GB` is an `A100`.
///
/// Form factor and memory size are dropped; a MIG profile and sharing (time-slicing, MPS) are kept, because a unit is then
/// a different amount of hardware. A short name is its own short name. A name without a known pattern is returned as it
/// is.
pub fn short_name(product: &str) -> String {
    let words: Vec<&str> = product.split(['-', '_', ' ']).filter(|word| !word.is_empty()).collect();
    let unbranded = words.iter().position(|word| !BRANDS.contains(&word.to_ascii_lowercase().as_str()));
    let Some((head, tail)) = unbranded.and_then(|first| words[first..].split_first()) else {
        return product.to_owned();
    };
    let lower = head.to_ascii_lowercase();
    let next = tail.first().copied().unwrap_or_default();
    let name = if lower == "rtx" {
        rtx(tail)
    } else if let Some(name) = neuron(&lower) {
        name
    } else if let Some(generation) = lower.strip_prefix("gaudi") {
        let generation = if generation.is_empty() { next } else { generation };
        format!("Gaudi-{}", if generation.starts_with(|c: char| c.is_ascii_digit()) { generation } else { "1" })
    } else if let Some(version) = lower.strip_prefix("tpu") {
        tpu(version, tail)
    } else if ["max", "flex"].contains(&lower.as_str()) && !next.is_empty() {
        format!("{head}-{next}")
    } else if is_model_number(head) {
        head.to_ascii_uppercase()
    } else if words.len() > 1 + tail.len() {
        (*head).to_owned()
    } else {
        return product.to_owned();
    };
    let name = match tail.iter().position(|word| word.eq_ignore_ascii_case("mig")).and_then(|mig| tail.get(mig + 1)) {
        Some(profile) => format!("{name}-MIG-{profile}"),
        None => name,
    };
    if tail.iter().any(|word| word.eq_ignore_ascii_case(SHARED)) { shared(&name) } else { name }
}

/// The name of an accelerator that several pods share: a unit is a turn on it, not the whole.
pub(crate) fn shared(name: &str) -> String {
    if name.ends_with(SHARED) { name.to_owned() } else { format!("{name}-{SHARED}") }
}

/// Whether `name` looks like the short name of a product: `A100` does, `NC24ads` and `v4` do not.
pub(crate) fn is_known(name: &str) -> bool {
    let letters = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = name.bytes().skip(letters).take_while(u8::is_ascii_digit).count();
    (1..=2).contains(&letters)
        && digits >= 1
        && matches!(&name.as_bytes()[letters + digits..], [] | [b'S' | b'X' | b'G'])
}

/// The accelerator that a pod's node selector or required node affinity pins, if they pin exactly one.
pub(crate) fn of_pod(node_selector: Option<&Labels>, affinity: Option<&Affinity>) -> Option<Arc<str>> {
    let selected = product_labels().find_map(|label| node_selector?.get(label));
    if let Some(product) = selected {
        return Some(short_name(product).into());
    }
    let affinity = affinity?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    // Terms are alternatives: one that names no product admits any.
    let alternatives: Option<Vec<BTreeSet<String>>> = terms.iter().map(products_of).collect();
    let mut names = alternatives?.into_iter().flatten().collect::<BTreeSet<_>>().into_iter();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.into()),
        _ => None,
    }
}

/// Short names of the products that a term admits; `None` when it does not restrict the product.
fn products_of(term: &NodeSelectorTerm) -> Option<BTreeSet<String>> {
    let requirements = term.match_expressions.iter().flatten();
    product_labels().find_map(|label| {
        let requirement = requirements.clone().find(|r| r.key == label && r.operator == "In")?;
        Some(requirement.values.iter().flatten().map(|product| short_name(product)).collect())
    })
}

fn rtx(tail: &[&str]) -> String {
    let kept = tail.iter().take_while(|word| {
        let lower = word.to_ascii_lowercase();
        !RTX_TAIL.contains(&lower.as_str()) && !is_memory_size(&lower)
    });
    std::iter::once("RTX".to_owned()).chain(kept.map(ToString::to_string)).collect::<Vec<_>>().join("-")
}

/// Cloud TPUs: `tpu-v5-lite-podslice` is sold as v5e.
fn tpu(version: &str, tail: &[&str]) -> String {
    let generation = if version.is_empty() { tail.first().copied().unwrap_or_default() } else { version };
    let lite = if tail.iter().any(|word| word.eq_ignore_ascii_case("lite")) { "e" } else { "" };
    format!("TPU-v{}{lite}", generation.trim_start_matches('v'))
}

/// AWS' own accelerators; the first generation is sold without a number.
fn neuron(lower: &str) -> Option<String> {
    let (name, generation) = match (lower.strip_prefix("inferentia"), lower.strip_prefix("trainium")) {
        (Some(generation), _) => ("Inferentia", generation),
        (_, Some(generation)) => ("Trainium", generation),
        _ => return None,
    };
    let generation = if generation.is_empty() { "1" } else { generation };
    generation.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{name}{generation}"))
}

/// Letters, digits, and perhaps letters again: `A100`, `L40S`, `MI300X`.
fn is_model_number(word: &str) -> bool {
    let letters = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = word.bytes().skip(letters).take_while(u8::is_ascii_digit).count();
    let rest = &word.as_bytes()[letters + digits..];
    (1..=3).contains(&letters) && digits >= 1 && rest.len() <= 2 && rest.iter().all(u8::is_ascii_alphabetic)
}

fn is_memory_size(lower: &str) -> bool {
    lower.strip_suffix("gb").is_some_and(|size| !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Values that labellers and clouds write.
    const PRODUCTS: [(&str, &str); 51] = [
        ("NVIDIA-A100-PCIE-80GB", "A100"),
        ("NVIDIA-A100-SXM4-40GB", "A100"),
        ("NVIDIA-A100-SXM4-40GB-SHARED", "A100-SHARED"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED", "A100-MIG-1g.5gb-SHARED"),
        ("h100", "H100"),
        ("H100", "H100"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100-MIG-1g.5gb"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", "H100-MIG-3g.40gb"),
        ("NVIDIA-H100-PCIe", "H100"),
        ("NVIDIA-H100-NVL", "H100"),
        ("NVIDIA-H200", "H200"),
        ("NVIDIA-GH200-480GB", "GH200"),
        ("NVIDIA-B200", "B200"),
        ("NVIDIA-GB200", "GB200"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA-A10G", "A10G"),
        ("Tesla-T4", "T4"),
        ("Tesla-V100-SXM2-16GB", "V100"),
        ("NVIDIA-RTX-A6000", "RTX-A6000"),
        ("NVIDIA-RTX-6000-Ada-Generation", "RTX-6000-Ada"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"),
        ("AMD-MI300X-192G", "MI300X"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("AMD-Instinct-MI325X-OAM", "MI325X"),
        ("Intel-Gaudi-2-96GB", "Gaudi-2"),
        ("Gaudi3", "Gaudi-3"),
        ("HABANA-GAUDI", "Gaudi-1"),
        ("Max_1550", "Max-1550"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-tesla-a100", "A100"),
        ("nvidia-a100-80gb", "A100"),
        ("nvidia-l4", "L4"),
        ("nvidia-h100-80gb", "H100"),
        ("nvidia-h100-mega-80gb", "H100"),
        ("nvidia-h200-141gb", "H200"),
        ("tpu-v4-podslice", "TPU-v4"),
        ("tpu-v5-lite-podslice", "TPU-v5e"),
        ("tpu-v5p-slice", "TPU-v5p"),
        ("tpu-v6e-slice", "TPU-v6e"),
        ("tpu7x", "TPU-v7x"),
        ("a10g", "A10G"),
        ("inferentia2", "Inferentia2"),
        ("trainium", "Trainium1"),
        ("A100", "A100"),
        ("NVIDIA-TITAN-V", "TITAN"),
        ("house-special", "house-special"),
        ("NVIDIA", "NVIDIA"),
        ("", ""),
    ];

    #[test]
    fn products_have_one_short_name() {
        for (product, expected) in PRODUCTS {
            assert_eq!(short_name(product), expected, "{product}");
        }
    }

    #[test]
    fn a_short_name_is_its_own_short_name() {
        for (product, _) in PRODUCTS {
            let once = short_name(product);
            assert_eq!(short_name(&once), once, "{product}");
        }
    }

    proptest! {
        #[test]
        fn any_label_value_has_a_short_name(product in "[A-Za-z0-9]([A-Za-z0-9_. -]{0,40}[A-Za-z0-9])?") {
            prop_assert!(!short_name(&product).is_empty());
        }
    }

    fn accelerator(pod: Value) -> Option<String> {
        let pod: k8s_openapi::api::core::v1::PodSpec = serde_json::from_value(pod).unwrap();
        of_pod(pod.node_selector.as_ref(), pod.affinity.as_ref()).map(|name| name.to_string())
    }

    fn affinity(terms: &Value) -> Value {
        json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    fn one_of(label: &str, products: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": label, "operator": "In", "values": products}]})
    }

    #[test]
    fn the_node_selector_names_the_accelerator() {
        let pod = json!({"containers": [], "nodeSelector": {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-H100-NVL"}});
        assert_eq!(accelerator(pod).as_deref(), Some("H100"));
        let both = json!({"containers": [], "nodeSelector": {
            "cloud.google.com/gke-accelerator": "nvidia-l4", "nvidia.com/gpu.product": "NVIDIA-L40S"}});
        assert_eq!(accelerator(both).as_deref(), Some("L40S"), "the vendor's own labeller comes first");
    }

    #[test]
    fn required_affinity_names_the_accelerator_when_every_alternative_is_the_same_one() {
        let label = "nvidia.com/gpu.product";
        let (pcie, sxm, h100) = ("NVIDIA-A100-PCIE-80GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-NVL");
        for (terms, expected, why) in [
            (json!([one_of(label, &[pcie])]), Some("A100"), "one product"),
            (json!([one_of(label, &[pcie, sxm])]), Some("A100"), "two forms of one product"),
            (json!([one_of(label, &[pcie]), one_of(label, &[sxm])]), Some("A100"), "two terms, one product"),
            (json!([one_of(label, &[pcie, h100])]), None, "two products"),
            (json!([one_of(label, &[pcie]), one_of("zone", &["a"])]), None, "one term admits any product"),
            (json!([one_of("zone", &["a"])]), None, "no product"),
            (json!([]), None, "no term"),
        ] {
            assert_eq!(accelerator(affinity(&terms)).as_deref(), expected, "{why}");
        }
    }

    #[test]
    fn exclusion_names_no_accelerator() {
        let term = json!([{"matchExpressions": [
            {"key": "nvidia.com/gpu.product", "operator": "NotIn", "values": ["Tesla-T4"]}]}]);
        assert_eq!(accelerator(affinity(&term)), None);
    }
}
