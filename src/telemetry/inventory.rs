//! Metrics of the accelerators of the cluster, read when they are scraped.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::MetricsRegistry;
use crate::{
    constants::{WVA_ACCELERATORS, WVA_AVAILABLE_GPUS, WVA_GPU_DISCOVERY_UP},
    interfaces::{AcceleratorPool, Inventory},
};

/// Registers the metrics of the inventory that `inventory` gives; `None` is an inventory that is not known.
pub fn register_inventory(
    registry: &mut MetricsRegistry,
    inventory: impl Fn() -> Option<Arc<Inventory>> + Send + Sync + 'static,
) {
    registry.registry_mut().register_collector(Box::new(Accelerators(Box::new(inventory))));
}

struct Accelerators(Box<dyn Fn() -> Option<Arc<Inventory>> + Send + Sync>);

impl fmt::Debug for Accelerators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accelerators").finish_non_exhaustive()
    }
}

/// One number of a pool.
type Count = fn(&AcceleratorPool) -> u32;

/// What is told of a pool, by the value of the label `state`.
const STATES: [(&str, Count); 6] = [
    ("total", |pool| pool.total),
    ("allocatable", |pool| pool.allocatable),
    ("used", |pool| pool.used),
    ("free", |pool| pool.free),
    ("largest_free_block", |pool| pool.largest_free_block),
    ("provisionable", |pool| pool.provisionable),
];

impl Collector for Accelerators {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let inventory = (self.0)();
        let help = "1 while the accelerators of the cluster are known, 0 while nodes or pods cannot be listed";
        let up = encoder.encode_descriptor(WVA_GPU_DISCOVERY_UP, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(inventory.is_some())).encode(up)?;
        let Some(inventory) = inventory else { return Ok(()) };

        let help = "Accelerators that are allocatable and not used, by product";
        let mut family = encoder.encode_descriptor(WVA_AVAILABLE_GPUS, help, None, MetricType::Gauge)?;
        for product in &inventory.products {
            let labels = [
                ("accelerator_vendor", &*product.vendor),
                ("accelerator_model", &*product.product),
                ("accelerator_type", &*product.accelerator),
            ];
            ConstGauge::new(i64::from(product.free)).encode(family.encode_family(&labels)?)?;
        }

        let help = "Accelerators by node group, type and state";
        let mut family = encoder.encode_descriptor(WVA_ACCELERATORS, help, None, MetricType::Gauge)?;
        for pool in &inventory.pools {
            for (state, count) in STATES {
                let labels =
                    [("node_group", &*pool.node_group), ("accelerator_type", &*pool.accelerator), ("state", state)];
                ConstGauge::new(i64::from(count(pool))).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::AcceleratorProduct;

    fn text(inventory: Option<Inventory>) -> String {
        let mut registry = MetricsRegistry::new();
        let inventory = inventory.map(Arc::new);
        register_inventory(&mut registry, move || inventory.clone());
        registry.encode().unwrap()
    }

    fn pool(group: &str, free: u32) -> AcceleratorPool {
        AcceleratorPool {
            node_group: group.into(),
            accelerator: "H100".into(),
            total: 16,
            allocatable: 15,
            used: 15 - free,
            free,
            largest_free_block: free.min(8),
            free_blocks: Vec::new(),
            provisionable: 8,
            provisionable_block: Some(8),
        }
    }

    #[test]
    fn pools_are_told_by_state_and_free_accelerators_by_product() {
        let product = |product: &str, free| AcceleratorProduct {
            vendor: "NVIDIA".into(),
            product: product.into(),
            accelerator: "H100".into(),
            free,
        };
        let products = vec![product("NVIDIA-H100-80GB-HBM3", 9), product("NVIDIA-H100-PCIe", 2)];
        let pools = vec![pool("a", 9), pool("b", 2)];
        let text = text(Some(Inventory { pools, quotas: Vec::new(), products }));
        for line in [
            "wva_gpu_discovery_up 1",
            "wva_available_gpus{accelerator_vendor=\"NVIDIA\",accelerator_model=\"NVIDIA-H100-80GB-HBM3\",\
             accelerator_type=\"H100\"} 9",
            "wva_available_gpus{accelerator_vendor=\"NVIDIA\",accelerator_model=\"NVIDIA-H100-PCIe\",\
             accelerator_type=\"H100\"} 2",
            "wva_accelerators{node_group=\"a\",accelerator_type=\"H100\",state=\"total\"} 16",
            "wva_accelerators{node_group=\"b\",accelerator_type=\"H100\",state=\"used\"} 13",
            "wva_accelerators{node_group=\"a\",accelerator_type=\"H100\",state=\"largest_free_block\"} 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn an_unknown_inventory_shows_no_numbers() {
        let text = text(None);
        assert!(text.contains("wva_gpu_discovery_up 0\n"), "{text}");
        assert!(!text.contains("wva_accelerators") && !text.contains("wva_available_gpus"), "{text}");
    }
}
