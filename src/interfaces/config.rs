//! Parameters of the decision, resolved: every value set and checked.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long an observation counts (defaults of the package contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AgeLimits {
    /// A signal sampled longer ago is missing.
    pub signal: Duration,
    /// A decision made longer ago is refused.
    pub decision: Duration,
    /// A replica pending for longer no longer counts as anticipated supply.
    pub pending: Duration,
    /// For this long after a model's replica count changed it is not scaled down: signals are one-minute peaks and
    /// still show the load as it was spread before.
    #[serde(default = "default_settle")]
    pub settle: Duration,
}

fn default_settle() -> Duration {
    Duration::from_secs(60)
}

impl Default for AgeLimits {
    fn default() -> Self {
        Self {
            signal: Duration::from_secs(60),
            decision: Duration::from_secs(120),
            pending: Duration::from_secs(600),
            settle: default_settle(),
        }
    }
}

/// Who scales workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActuationMode {
    /// HPAs alone: `wva` has no write verb on workloads.
    #[default]
    Hpa,
    /// HPAs, but `wva` wakes targets that stand at zero, for clusters whose HPAs cannot.
    FromZero,
    /// `wva` also scales every target that no HPA reads its metric for.
    Direct,
}

/// What the SLO engine makes use of. All is on by default; each switch exists so that an ablation can tell what its part
/// is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not a state")]
pub struct EngineOptions {
    /// The SLO engine as a whole; without it the saturation engine decides, objective or not.
    pub slo: bool,
    /// Percentile capacity by simulation; without it the closed form of means.
    pub percentile_capacity: bool,
    /// Capacity that grows with the pool, C(N); without it that of a pool of four, whatever the size.
    pub pooling: bool,
    /// The distribution of rates to come, learned from those that came; without it a constant headroom of 1.2.
    pub outlook: bool,
    /// Memory of the last quarter of an hour's peak.
    pub peak_memory: bool,
    /// Requests in flight against those of a full replica, where arrivals cannot be seen.
    pub in_flight: bool,
    /// Parameters learned from latencies while serving; without it a profile is believed as given.
    pub learning: bool,
    /// Pending replicas as supply that is on its way.
    pub anticipated_supply: bool,
    /// Replacements are ready before what they replace goes.
    pub make_before_break: bool,
    /// Larger steps up where an HPA's tolerance would swallow smaller ones. Off by default: not part of an ablation.
    pub compensate_tolerance: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slo: true,
            percentile_capacity: true,
            pooling: true,
            outlook: true,
            peak_memory: true,
            in_flight: true,
            learning: true,
            anticipated_supply: true,
            make_before_break: true,
            compensate_tolerance: false,
        }
    }
}

/// Parameters of the percentage-based saturation engine (`SaturationConfig` of the package reference). Fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SaturationScalingConfig {
    /// A replica whose KV-cache usage is at or over this fraction is saturated.
    pub kv_cache_threshold: f64,
    /// A replica with at least this many waiting requests is saturated.
    pub queue_depth_threshold: f64,
    /// Scale up when the average spare capacity is below this fraction of the threshold.
    pub spare_capacity_target: f64,
    /// Scale down only when the spare capacity afterwards exceeds the target by this fraction.
    pub safety_margin: f64,
    /// Upstream's absolute spare triggers; when set, upstream's arithmetic replaces the two relative ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_triggers: Option<SpareTriggers>,
    /// When set, KV-cache tokens are counted instead of percentages, where replicas tell the size of their caches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenThresholds>,
    /// When set, this version of upstream decides as it does there, defects included, and no objective is aimed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamVersion>,
}

/// A version of upstream's saturation analyzer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamVersion {
    /// Percentages: one replica at a time.
    V1,
    /// KV-cache tokens with the cost-aware optimizer.
    V2,
}

/// Utilisation at which the token analyzer acts: tokens that requests hold and wait for, over those that replicas carry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenThresholds {
    /// Above it replicas are added.
    pub scale_up: f64,
    /// Replicas are removed as long as it is not exceeded without them.
    pub scale_down: f64,
}

impl Default for TokenThresholds {
    /// Upstream's 85 % and 70 %.
    fn default() -> Self {
        Self { scale_up: 0.85, scale_down: 0.70 }
    }
}

/// Upstream's spare triggers (`kvSpareTrigger`, `queueSpareTrigger`), absolute in the signal's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpareTriggers {
    /// Scale up when the average of threshold − usage is below this fraction.
    pub kv_cache: f64,
    /// Scale up when the average of threshold − waiting requests is below this number.
    pub queue_depth: f64,
}

impl Default for SaturationScalingConfig {
    /// The reference's 80 %, 5, 20 %, 10 %.
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.80,
            queue_depth_threshold: 5.0,
            spare_capacity_target: 0.20,
            safety_margin: 0.10,
            spare_triggers: None,
            tokens: None,
            upstream: None,
        }
    }
}

/// A threshold outside its range.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{key} is {value}, but {rule}")]
pub struct InvalidThreshold {
    /// Configuration key.
    pub key: &'static str,
    /// Value found.
    pub value: f64,
    /// What it must be.
    pub rule: &'static str,
}

impl SaturationScalingConfig {
    /// Checks ranges and the relations between the values.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), InvalidThreshold> {
        let check = |ok: bool, key, value, rule| if ok { Ok(()) } else { Err(InvalidThreshold { key, value, rule }) };
        check(
            self.kv_cache_threshold > 0.0 && self.kv_cache_threshold <= 1.0,
            "kvCacheThreshold",
            self.kv_cache_threshold,
            "it must be a fraction in (0, 1] or a percentage in (1, 100]",
        )?;
        check(
            self.queue_depth_threshold > 0.0 && self.queue_depth_threshold.is_finite(),
            "queueDepthThreshold",
            self.queue_depth_threshold,
            "it must be a number of requests above 0",
        )?;
        check(
            (0.0..1.0).contains(&self.spare_capacity_target),
            "spareCapacityTarget",
            self.spare_capacity_target,
            "it must be below 100 %",
        )?;
        check(
            self.safety_margin >= 0.0 && self.spare_capacity_target + self.safety_margin < 1.0,
            "safetyMargin",
            self.safety_margin,
            "together with spareCapacityTarget it must stay below 100 %",
        )?;
        let tokens = self.tokens.unwrap_or_default();
        check(
            tokens.scale_up > 0.0 && tokens.scale_up <= 1.0,
            "scaleUpThreshold",
            tokens.scale_up,
            "it must be a fraction in (0, 1] or a percentage in (1, 100]",
        )?;
        check(
            tokens.scale_down > 0.0 && tokens.scale_down < tokens.scale_up,
            "scaleDownBoundary",
            tokens.scale_down,
            "it must be above 0 and below scaleUpThreshold",
        )?;
        let Some(triggers) = self.spare_triggers else { return Ok(()) };
        check(
            (0.0..=self.kv_cache_threshold).contains(&triggers.kv_cache),
            "kvSpareTrigger",
            triggers.kv_cache,
            "it must lie between 0 and kvCacheThreshold",
        )?;
        check(
            triggers.queue_depth >= 0.0 && triggers.queue_depth.is_finite(),
            "queueSpareTrigger",
            triggers.queue_depth,
            "it must be a number of requests of at least 0",
        )
    }
}
