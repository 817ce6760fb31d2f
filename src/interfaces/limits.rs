//! Limits of accelerators: whether there are any, and who gets what is left.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far decisions are held to the accelerators that there are. Left at its default, nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AcceleratorLimits {
    /// Whether accelerators are limited to the inventory.
    pub accelerators: AcceleratorMode,
    /// Who gets what is left when accelerators do not suffice.
    pub saturation_policy: SaturationPolicy,
    /// Whether replicas must fit on single nodes.
    pub fit_nodes: bool,
}

/// Whether accelerators are limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AcceleratorMode {
    /// A node autoscaler adds what is missing.
    #[default]
    Unlimited,
    /// There is what the inventory says. While it is unknown nothing grows.
    Limited,
}

/// Who gets what is left when accelerators do not suffice for all (upstream's saturation policies). Minimums and, in the
/// order of priority, models whose whole demand can still be met come first in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub enum SaturationPolicy {
    /// Nobody: a model whose demand cannot be met grows no further than it stands.
    None,
    /// In the order of priority, each as much as it can use.
    PriorityExhaustive,
    /// Models of equal priority share, replica by replica, the least satisfied first.
    #[default]
    PriorityRoundRobin,
    /// All models share, whatever their priority.
    RoundRobin,
}

impl SaturationPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::None, Self::PriorityExhaustive, Self::PriorityRoundRobin, Self::RoundRobin];
}

impl fmt::Display for SaturationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::PriorityExhaustive => "PriorityExhaustive",
            Self::PriorityRoundRobin => "PriorityRoundRobin",
            Self::RoundRobin => "RoundRobin",
        })
    }
}
