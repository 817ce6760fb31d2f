//! Tokens that requests hold and wait for.

use serde::{Deserialize, Serialize};

use crate::interfaces::Role;

/// Tokens of one engine instance's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenLoad {
    /// KV-cache tokens in use.
    pub in_use: f64,
    /// KV-cache tokens that the waiting requests will need.
    pub waiting: f64,
}

impl TokenLoad {
    /// The load of an instance whose cache of `capacity` tokens is used by `usage` (a fraction of 1).
    pub fn new(capacity: f64, usage: f64, waiting: f64) -> Self {
        Self { in_use: (usage * capacity).round().clamp(0.0, capacity.max(0.0)), waiting }
    }

    /// Both together.
    pub fn demand(&self) -> f64 {
        self.in_use + self.waiting
    }
}

/// Tokens that `queue` waiting requests will need, with mean prompt and output lengths. A prefill instance never holds
/// the output. Nonsense (not a number, not positive, beyond 2⁶³) counts as nothing, as upstream has it.
pub fn waiting_tokens(queue: f64, prompt_tokens: f64, output_tokens: f64, role: Role) -> f64 {
    let output = if role == Role::Prefill { 0.0 } else { output_tokens };
    let tokens = queue * (prompt_tokens + output);
    if tokens > 0.0 && tokens < 2f64.powi(63) { tokens } else { 0.0 }
}

/// What a cache of `capacity` tokens holds before it counts as saturated (`k1` upstream).
pub fn memory_bound(capacity: f64, kv_cache_threshold: f64) -> f64 {
    (capacity * kv_cache_threshold).trunc()
}

/// Shape of a workload by its mean output length, with upstream's bounds: capacity learned under one says little of
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkloadShape {
    /// Fewer than 100 output tokens.
    Short,
    /// Fewer than 500.
    Medium,
    /// 500 or more.
    Long,
}

impl WorkloadShape {
    /// The shape of requests with `output_tokens` on average.
    pub fn of(output_tokens: f64) -> Self {
        if output_tokens < 100.0 {
            Self::Short
        } else if output_tokens < 500.0 {
            Self::Medium
        } else {
            Self::Long
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's vector 34.
    #[test]
    fn waiting_requests_are_charged_by_role() {
        assert_eq!(waiting_tokens(4.0, 100.0, 50.0, Role::Prefill), 400.0);
        assert_eq!(waiting_tokens(4.0, 100.0, 50.0, Role::Decode), 600.0);
        assert_eq!(waiting_tokens(4.0, 100.0, 50.0, Role::Both), 600.0);
    }

    #[test]
    fn nonsense_waits_for_nothing() {
        for (queue, prompt) in [(f64::NAN, 100.0), (-1.0, 100.0), (1e30, 1e30), (2.0, f64::NAN), (1.0, f64::INFINITY)] {
            assert_eq!(waiting_tokens(queue, prompt, 50.0, Role::Both), 0.0, "{queue} {prompt}");
        }
    }

    #[test]
    fn usage_is_rounded_and_never_exceeds_the_cache() {
        assert_eq!(TokenLoad::new(16_000.0, 0.3125, 0.0).in_use, 5_000.0);
        assert_eq!(TokenLoad::new(16_000.0, 1.2, 0.0).in_use, 16_000.0);
        assert_eq!(TokenLoad::new(16_000.0, 0.5, 600.0).demand(), 8_600.0);
    }

    #[test]
    fn shapes_have_upstreams_bounds() {
        use WorkloadShape::{Long, Medium, Short};
        let shapes = [99.9, 100.0, 499.0, 500.0].map(WorkloadShape::of);
        assert_eq!(shapes, [Short, Medium, Medium, Long]);
    }
}
