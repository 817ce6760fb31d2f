//! From a gateway's answer to one reading per model.

use std::collections::BTreeMap;

use super::table::{GATEWAY_MODEL_LABELS, GATEWAY_QUEUE, GATEWAY_REQUESTS};
use crate::{
    collector::exposition::{Line, name},
    interfaces::GatewayReading,
};

/// What a gateway says in exposition `text` of each model. Both generations of names may stand side by side: of each
/// quantity the newest name that is there counts. Priorities, tenants and target pods are added up.
pub fn gateway_readings(text: &str) -> Vec<GatewayReading> {
    let mut sums: BTreeMap<String, [Sum; 2]> = BTreeMap::new();
    let mut line = Line::default();
    for text in text.lines() {
        let Some((quantity, priority)) = name(text.trim_ascii_start()).and_then(meaning) else { continue };
        if !line.read(text) || !line.value.is_finite() || line.value < 0.0 {
            continue;
        }
        let Some(model) = GATEWAY_MODEL_LABELS.into_iter().find_map(|label| line.label(label)) else { continue };
        if let Some(sums) = sums.get_mut(model) {
            sums[quantity].add(priority, line.value);
        } else {
            sums.entry(model.to_owned()).or_default()[quantity].add(priority, line.value);
        }
    }
    let readings = sums.into_iter().map(|(model, [queue, requests])| GatewayReading {
        model: model.into(),
        queue: queue.value,
        requests: requests.value,
    });
    readings.collect()
}

/// Which quantity a name is, and how new the name is.
fn meaning(name: &str) -> Option<(usize, usize)> {
    let base = name.strip_suffix("_total").unwrap_or(name);
    let find = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
    find(&GATEWAY_QUEUE, name)
        .map(|priority| (0, priority))
        .or_else(|| find(&GATEWAY_REQUESTS, base).map(|priority| (1, priority)))
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    priority: usize,
    value: Option<f64>,
}

impl Sum {
    fn add(&mut self, priority: usize, value: f64) {
        match self.value {
            Some(_) if priority > self.priority => {}
            Some(sum) if priority == self.priority => self.value = Some(sum + value),
            _ => *self = Self { priority, value: Some(value) },
        }
    }
}
