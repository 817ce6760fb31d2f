//! Accelerators, models and service classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{interfaces::ServiceProfile, optimizer::CapacityCurve};

/// A type of accelerator, as it is sold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accelerator {
    /// Name of the offer, such as `H100` or `2xA100`.
    pub name: String,
    /// Type that is counted in a system's capacity; the name where several offers do not share one.
    #[serde(default)]
    pub kind: Option<String>,
    /// Accelerators of that type in one unit of the offer.
    #[serde(default = "one")]
    pub multiplicity: u32,
    /// Cost of one accelerator, in any unit; only ratios matter.
    pub cost: f64,
}

fn one() -> u32 {
    1
}

impl Accelerator {
    /// Single accelerators of the type `name`.
    pub fn new(name: impl Into<String>, cost: f64) -> Self {
        Self { name: name.into(), kind: None, multiplicity: 1, cost }
    }

    /// The type that is counted.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.name)
    }
}

/// A model and how it does on accelerators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Per accelerator, by the accelerator's name. On others it does not run.
    #[serde(default)]
    pub profiles: BTreeMap<String, ModelProfile>,
}

impl Model {
    /// A model that runs nowhere yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), profiles: BTreeMap::new() }
    }

    /// The same, running on `accelerator`.
    #[must_use]
    pub fn with_profile(mut self, accelerator: impl Into<String>, profile: ModelProfile) -> Self {
        self.profiles.insert(accelerator.into(), profile);
        self
    }
}

/// How a model does on one accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelProfile {
    /// Units of the accelerator that one replica takes.
    #[serde(default = "one")]
    pub units_per_replica: u32,
    /// Requests per second that n replicas carry within the service class's targets, where that is known.
    #[serde(default)]
    pub capacity: Option<CapacityCurve>,
    /// Service times, from which a queueing model derives the capacity.
    #[serde(default)]
    pub service: Option<ServiceProfile>,
}

impl ModelProfile {
    /// One unit per replica, with a known capacity.
    pub fn carrying(capacity: CapacityCurve) -> Self {
        Self { units_per_replica: 1, capacity: Some(capacity), service: None }
    }

    /// One unit per replica, with service times from which [`crate::modelanalyzer`] derives the capacity.
    pub fn serving(service: ServiceProfile) -> Self {
        Self { units_per_replica: 1, capacity: None, service: Some(service) }
    }

    /// The same with `units` per replica.
    #[must_use]
    pub fn with_units(mut self, units: u32) -> Self {
        self.units_per_replica = units;
        self
    }
}

/// What requests of a class are owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceClass {
    /// Its name.
    pub name: String,
    /// Importance: 1 is the highest, 100 the lowest.
    pub priority: u32,
    /// Per model, by its name.
    #[serde(default)]
    pub targets: BTreeMap<String, ServiceTarget>,
}

/// The class of servers that name none: the lowest priority, no targets.
pub const DEFAULT_SERVICE_CLASS: &str = "Free";

impl ServiceClass {
    /// A class without targets.
    pub fn new(name: impl Into<String>, priority: u32) -> Self {
        Self { name: name.into(), priority, targets: BTreeMap::new() }
    }

    /// The same with a target for `model`.
    #[must_use]
    pub fn with_target(mut self, model: impl Into<String>, target: ServiceTarget) -> Self {
        self.targets.insert(model.into(), target);
        self
    }
}

/// Targets of a class for one model; an absent one is not aimed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceTarget {
    /// Greatest time to first token, in seconds.
    pub time_to_first_token: Option<f64>,
    /// Greatest time between tokens, in seconds.
    pub inter_token_latency: Option<f64>,
    /// Least tokens per second.
    pub tokens_per_second: Option<f64>,
}
