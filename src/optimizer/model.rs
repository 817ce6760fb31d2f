//! What the optimizer is asked and what it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CapacityCurve;
use crate::interfaces::{Growth, Inventory, Limit, ModelKey, ReplicaBounds, Role, SaturationPolicy, VariantKey};

/// One model's demand and the variants that can carry it. A disaggregated model makes one of these per role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDemand {
    /// The model.
    pub model: ModelKey,
    /// The part its variants play.
    #[serde(default)]
    pub role: Role,
    /// Work to be carried, in the unit of the variants' capacity curves. NaN is unknown: the variants then stay as they
    /// are, within their bounds.
    pub demand: f64,
    /// Importance: 1 is the highest, 100 the lowest.
    pub priority: u32,
    /// The variants, in any order.
    pub variants: Vec<Offer>,
}

/// What one variant offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The variant.
    pub variant: VariantKey,
    /// Cost of one replica; only ratios within a model matter.
    pub cost: f64,
    /// What its replicas carry.
    pub capacity: CapacityCurve,
    /// Bounds: ours and the HPA's.
    pub bounds: ReplicaBounds,
    /// Least replicas that the caller wants left this cycle (make before break, signals that are not settled). Not a
    /// limit: it is part of the unconstrained number too.
    #[serde(default)]
    pub keep: u32,
    /// `spec.replicas`: what is set.
    pub spec: u32,
    /// Ready replicas.
    pub ready: u32,
    /// Replicas that are not ready and still count as anticipated supply.
    pub pending: u32,
    /// Whether more replicas can be had.
    #[serde(default)]
    pub growth: Growth,
    /// Demand that arrives at this variant alone, for [`Choice::EachVariantAlone`]; `None` takes its share of the
    /// model's demand, by what its ready replicas carry.
    #[serde(default)]
    pub own_demand: Option<f64>,
    /// Accelerator type; `None` while unknown.
    #[serde(default)]
    pub accelerator: Option<Arc<str>>,
    /// Accelerators that one replica holds; `None` while unknown.
    #[serde(default)]
    pub accelerators_per_replica: Option<u32>,
}

impl Offer {
    /// Replicas that serve or are about to.
    pub fn supply(&self) -> u32 {
        self.ready.saturating_add(self.pending)
    }

    /// Bounds with an empty range closed at its maximum.
    pub fn range(&self) -> (u32, u32) {
        let max = self.bounds.max.unwrap_or(u32::MAX);
        (self.bounds.min.min(max), max)
    }
}

/// How demand is spread over the variants of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Choice {
    /// The cheapest set of replicas, over all variants of a model, that carries its demand.
    #[default]
    CheapestCover,
    /// Each variant carries what arrives at it, whatever it costs elsewhere (the package reference's unlimited mode).
    EachVariantAlone,
}

/// How to optimize.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OptimizerSettings {
    /// How demand is spread over the variants of a model.
    pub choice: Choice,
    /// Price of starting a replica, in replicas' cost: both are paid for while the new one starts. Upstream charges 0.1
    /// for a move.
    pub switching_cost: f64,
    /// Who gets what is left when accelerators do not suffice.
    pub saturation_policy: SaturationPolicy,
    /// Whether replicas must fit on single nodes, rather than into the total per accelerator type.
    pub fit_nodes: bool,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            choice: Choice::default(),
            switching_cost: 0.1,
            saturation_policy: SaturationPolicy::default(),
            fit_nodes: false,
        }
    }
}

/// What one variant gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allotment {
    /// The variant.
    pub variant: VariantKey,
    /// Replicas within all limits.
    pub desired: u32,
    /// Replicas before limits.
    pub unconstrained: u32,
    /// The limit that kept `desired` from `unconstrained`, if one did.
    pub bound_by: Option<Bound>,
}

/// What binds an allotment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// The minimum of [`Offer::bounds`].
    Min,
    /// The maximum of [`Offer::bounds`].
    Max,
    /// Accelerators or quota.
    Inventory(Limit),
}

/// What one model gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelAllotment {
    /// Per variant, in the order of the offers.
    pub variants: Vec<Allotment>,
    /// Whether the demand is carried.
    pub is_sufficient: bool,
    /// Whether it is certain that nothing cheaper carries it; the search is cut short where there are too many ways.
    pub is_exact: bool,
}

/// What accelerators there are to have.
#[derive(Clone, Copy, Debug)]
pub enum Supply<'a> {
    /// As many as anybody wants: a node autoscaler adds what is missing.
    Unlimited,
    /// Limited, but nobody knows to what: nothing grows.
    Unknown,
    /// These, beside those that our own replicas hold.
    Limited(&'a Inventory),
}
