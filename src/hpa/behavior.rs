//! `spec.behavior`: windows, tolerances, and policies that limit the rate.

use std::{cmp::Ordering, time::Duration};

use jiff::Timestamp;

use crate::interfaces::age;

/// `--horizontal-pod-autoscaler-tolerance`.
pub(super) const DEFAULT_TOLERANCE: f64 = 0.1;
/// `--horizontal-pod-autoscaler-downscale-stabilization`.
pub(super) const DEFAULT_DOWN_WINDOW: Duration = Duration::from_secs(300);

/// `spec.behavior` with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// `scaleUp`.
    pub scale_up: ScalingRules,
    /// `scaleDown`.
    pub scale_down: ScalingRules,
}

/// Rules of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingRules {
    /// `stabilizationWindowSeconds`.
    pub window: Duration,
    /// `tolerance`, a fraction.
    pub tolerance: f64,
    /// `policies`.
    pub policies: Vec<Policy>,
    /// `selectPolicy`.
    pub select: Select,
}

/// One policy: at most `value` per `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unit of `value`.
    pub kind: PolicyKind,
    /// How many.
    pub value: u32,
    /// Per how long.
    pub period: Duration,
}

/// Unit of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Per cent of the replicas at the start of the period.
    Percent,
}

/// Which policy counts where several apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the greatest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

impl Default for Behavior {
    /// What the API server fills in when `behavior` is present but empty.
    fn default() -> Self {
        let period = Duration::from_secs(15);
        let double = Policy { kind: PolicyKind::Percent, value: 100, period };
        let four = Policy { kind: PolicyKind::Pods, value: 4, period };
        let rules =
            |window, policies| ScalingRules { window, tolerance: DEFAULT_TOLERANCE, policies, select: Select::Max };
        Self {
            scale_up: rules(Duration::ZERO, vec![double, four]),
            scale_down: rules(DEFAULT_DOWN_WINDOW, vec![double]),
        }
    }
}

impl Behavior {
    /// No tolerance, no rate limit, and only a scale-down window: the value served is the value adopted.
    pub fn adopting(scale_down_window: Duration) -> Self {
        let unlimited = Policy { kind: PolicyKind::Pods, value: 1000, period: Duration::from_secs(15) };
        let rules = |window| ScalingRules { window, tolerance: 0.0, policies: vec![unlimited], select: Select::Max };
        Self { scale_up: rules(Duration::ZERO), scale_down: rules(scale_down_window) }
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    pub(super) fn limited(
        &self,
        now: Timestamp,
        spec: u32,
        desired: u32,
        (min, max): (u32, u32),
        events: &Events,
    ) -> u32 {
        match desired.cmp(&spec) {
            Ordering::Greater => desired.min(max.min(self.scale_up.limit_up(now, spec, events).max(spec))),
            Ordering::Less => desired.max(min.max(self.scale_down.limit_down(now, spec, events).min(spec))),
            Ordering::Equal => desired,
        }
    }
}

impl ScalingRules {
    fn limit_up(&self, now: Timestamp, spec: u32, events: &Events) -> u32 {
        let limits = self.policies.iter().map(|policy| {
            let (added, removed) = events.within(now, policy.period);
            let start = (spec + removed).saturating_sub(added);
            match policy.kind {
                PolicyKind::Pods => start.saturating_add(policy.value),
                PolicyKind::Percent => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as u32,
            }
        });
        match self.select {
            Select::Disabled => Some(spec),
            Select::Max => limits.max(),
            Select::Min => limits.min(),
        }
        .unwrap_or(spec)
    }

    fn limit_down(&self, now: Timestamp, spec: u32, events: &Events) -> u32 {
        let limits = self.policies.iter().map(|policy| {
            let (added, removed) = events.within(now, policy.period);
            let start = (spec + removed).saturating_sub(added);
            match policy.kind {
                PolicyKind::Pods => start.saturating_sub(policy.value),
                // The controller truncates.
                PolicyKind::Percent => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as u32,
            }
        });
        match self.select {
            Select::Disabled => Some(spec),
            // The greatest change downwards is the lowest limit.
            Select::Max => limits.min(),
            Select::Min => limits.max(),
        }
        .unwrap_or(spec)
    }
}

/// Past scale events, for the rate limits.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Vec<(Timestamp, i64)>);

impl Events {
    pub(super) fn record(&mut self, now: Timestamp, from: u32, to: u32) {
        // No policy period may exceed 30 minutes.
        self.0.retain(|(then, _)| age(now, *then) <= Duration::from_secs(1800));
        self.0.push((now, i64::from(to) - i64::from(from)));
    }

    /// Replicas added and removed in the last `period`.
    fn within(&self, now: Timestamp, period: Duration) -> (u32, u32) {
        let recent = self.0.iter().filter(|(then, _)| age(now, *then) < period).map(|(_, change)| *change);
        let (added, removed) = recent.partition::<Vec<i64>, _>(|change| *change > 0);
        let sum = |changes: Vec<i64>| u32::try_from(changes.iter().sum::<i64>().abs()).unwrap_or(u32::MAX);
        (sum(added), sum(removed))
    }
}
