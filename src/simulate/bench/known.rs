//! What searches found: the best-known plan of each scenario and the best setting of each rival. Stored with the project,
//! so that a benchmark takes minutes and everybody compares with the same.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::simulate::scenario::Scenario;

/// Searches by scenario key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct Known {
    pub(in crate::simulate) scenarios: BTreeMap<String, Searched>,
}

/// What a search found on one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct Searched {
    /// Name of the scenario, for readers.
    pub(in crate::simulate) name: String,
    /// Seed of the search.
    pub(in crate::simulate) seed: u64,
    pub(in crate::simulate) best_known: BestKnown,
    /// No plan can cost less.
    pub(in crate::simulate) lower_bound: f64,
    /// Attainment of as many replicas as are allowed: a scenario counts only from 0.999 up.
    pub(in crate::simulate) static_max_attainment: f64,
    /// Best setting per rival.
    pub(in crate::simulate) tunings: BTreeMap<String, Tuning>,
}

/// The cheapest plan found that reaches the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct BestKnown {
    /// Replica hours times price.
    pub(in crate::simulate) cost: f64,
    pub(in crate::simulate) attainment: f64,
    /// How it was found.
    pub(in crate::simulate) method: String,
    /// The plan itself, where it is one: ready replicas per variant and segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::simulate) plan: Option<StoredPlan>,
}

/// A plan as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct StoredPlan {
    pub(in crate::simulate) segment_seconds: u64,
    pub(in crate::simulate) replicas: Vec<Vec<u32>>,
}

/// A setting and what it achieved on the seed of the search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct Tuning {
    pub(in crate::simulate) knob: f64,
    pub(in crate::simulate) attainment: f64,
    pub(in crate::simulate) cost: f64,
}

impl Known {
    /// What the project ships.
    pub(in crate::simulate) fn shipped() -> Self {
        serde_json::from_str(include_str!("../../../scenarios/known.json")).unwrap_or_default()
    }

    pub(in crate::simulate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} makes no sense", file.display()))
    }

    pub(in crate::simulate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
    }

    pub(in crate::simulate) fn of(&self, scenario: &Scenario) -> Option<&Searched> {
        self.scenarios.get(&scenario.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read() {
        let text = include_str!("../../../scenarios/known.json");
        let known: Known = serde_json::from_str(text).unwrap();
        for (key, searched) in &known.scenarios {
            assert!(searched.lower_bound <= searched.best_known.cost, "{key}");
        }
    }
}
