//! The model of one replica.

use serde::Serialize;

use super::{
    Bottleneck, QueueError, Workload,
    decode::Population,
    error::within,
    first_token::Prefill,
    latency::{BetaMixture, Histogram},
    seats::SeatWait,
    token_gaps::Decoding,
    work::Replica,
};
use crate::interfaces::ServiceProfile;

/// The model of one replica that serves one kind of requests.
///
/// ```
/// use wva::{analyzer::{Lengths, QueueAnalyzer, Targets, Workload}, interfaces::ServiceProfile};
///
/// // Llama 3.1 8B on one H100, in seconds.
/// let profile = ServiceProfile {
///     base: 7.0e-3, per_prefill_token: 1.9e-5, per_sequence: 6.3e-6, per_kv_token: 4.13e-8,
///     kv_cache_tokens: 372_000.0, max_batch: 256, max_batched_tokens: 2048,
/// };
/// let chat = Workload::new(Lengths::lognormal(1155.0, 1.1)?, Lengths::lognormal(211.0, 0.8)?);
/// let replica = QueueAnalyzer::new(profile, chat)?;
///
/// let at_ten = replica.analyze(10.0)?;
/// assert!(at_ten.time_to_first_token.p95 < 0.2 && at_ten.inter_token_latency.mean < 0.012);
///
/// let targets = Targets { time_to_first_token: Some(1.0), inter_token_latency: Some(0.05), ..Targets::default() };
/// let sizing = replica.size(&targets)?;
/// assert!(sizing.rate > 20.0 && sizing.rate < replica.saturation().rate);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueueAnalyzer {
    replica: Replica,
    workload: Workload,
}

/// The most that a replica can carry, whatever the latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Saturation {
    /// Requests per second.
    pub rate: f64,
    /// What bounds it.
    pub bottleneck: Bottleneck,
}

/// A latency over requests, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyStatistics {
    /// Mean.
    pub mean: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// What one replica does at some rate.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Requests per second.
    pub rate: f64,
    /// Rate over the rate of saturation, below 1.
    pub utilization: f64,
    /// Mean number of sequences that decode.
    pub concurrency: f64,
    /// Mean share of the KV cache that they use.
    pub kv_cache_usage: f64,
    /// Share of requests that wait for a seat in the batch or room in the KV cache.
    pub queueing_share: f64,
    /// Time to first token.
    pub time_to_first_token: LatencyStatistics,
    /// Time between tokens: the mean over one request's tokens, as it varies over requests. Zero without a second token.
    pub inter_token_latency: LatencyStatistics,
    first_token: Histogram,
    token_gaps: BetaMixture,
}

impl Analysis {
    /// Share of requests whose first token comes within `seconds`.
    pub fn share_within_time_to_first_token(&self, seconds: f64) -> f64 {
        self.first_token.share_within(seconds)
    }

    /// Share of requests whose mean time between tokens is within `seconds`.
    pub fn share_within_inter_token_latency(&self, seconds: f64) -> f64 {
        if self.token_gaps.is_empty() { 1.0 } else { self.token_gaps.share_within(seconds) }
    }

    pub(super) fn time_to_first_token_percentile(&self, share: f64) -> f64 {
        self.first_token.percentile(share)
    }

    pub(super) fn inter_token_latency_percentile(&self, share: f64) -> f64 {
        self.token_gaps.percentile(share)
    }
}

/// Share of the rate of saturation at which a replica counts as unloaded.
const UNLOADED: f64 = 1e-4;

impl QueueAnalyzer {
    /// The model of a replica with this profile that serves such requests.
    ///
    /// # Errors
    /// Names the value of the profile that is no number in its range, or too small for such requests.
    pub fn new(profile: ServiceProfile, workload: Workload) -> Result<Self, QueueError> {
        Ok(Self { replica: Replica::new(profile, &workload)?, workload })
    }

    /// The most it can carry.
    pub fn saturation(&self) -> Saturation {
        let (rate, bottleneck) = self.replica.saturation();
        Saturation { rate, bottleneck }
    }

    /// Mean output length in tokens.
    pub(super) fn output_tokens(&self) -> f64 {
        self.workload.outputs.mean()
    }

    /// What it does for a lone request.
    pub(super) fn unloaded(&self) -> Result<Analysis, QueueError> {
        self.analyze(self.saturation().rate * UNLOADED)
    }

    /// What it does at `rate` requests per second, arriving as a Poisson process.
    ///
    /// # Errors
    /// [`QueueError::Unstable`] from the rate of saturation on, [`QueueError::InvalidInput`] for what is no rate.
    pub fn analyze(&self, rate: f64) -> Result<Analysis, QueueError> {
        let Saturation { rate: limit, .. } = self.saturation();
        within("arrival rate", rate, 0.0, f64::MAX, "it must be a number of requests per second of at least 0")?;
        if rate >= limit {
            return Err(QueueError::Unstable { arrival_rate: rate, limit });
        }
        // At no load at all a request meets what it meets at next to none.
        let modelled = rate.max(limit * UNLOADED * 0.01);
        let replica = &self.replica;
        let (workload, prompts) = (&self.workload, self.workload.computed());
        let population = Population::new(replica, workload, modelled);
        if replica.work.steps <= 0.0 {
            let first_token = Prefill::new(replica, &prompts, modelled, &population).first_token(&SeatWait::default());
            return Ok(self.analysis(rate, &Population::default(), 0.0, first_token, BetaMixture::default()));
        }
        let decoding = Decoding::new(replica, workload, modelled, &population);
        // A request begins to decode when more prompts wait than usually. By how much longer it decodes, so many more
        // sequences there are (Little's law).
        let stay = modelled * decoding.time(&workload.outputs);
        let population = population.lasting((stay / population.mean).min(replica.seats() / population.mean));
        let prefill = Prefill::new(replica, &prompts, modelled, &population);
        let wait = SeatWait::new(replica, workload, modelled, &population);
        let token_gaps = decoding.token_gaps(&workload.outputs, wait.share);
        Ok(self.analysis(rate, &population, wait.share, prefill.first_token(&wait), token_gaps))
    }

    fn analysis(
        &self,
        rate: f64,
        population: &Population,
        queueing_share: f64,
        first_token: Histogram,
        token_gaps: BetaMixture,
    ) -> Analysis {
        let inter_token_latency = if token_gaps.is_empty() {
            LatencyStatistics::default()
        } else {
            statistics(token_gaps.mean(), |share| token_gaps.percentile(share))
        };
        let resident = population.mean * self.replica.work.context();
        Analysis {
            rate,
            utilization: rate / self.saturation().rate,
            concurrency: population.mean,
            kv_cache_usage: (resident / self.replica.profile.kv_cache_tokens).min(1.0),
            queueing_share: queueing_share.min(1.0),
            time_to_first_token: statistics(first_token.mean(), |share| first_token.percentile(share)),
            inter_token_latency,
            first_token,
            token_gaps,
        }
    }
}

fn statistics(mean: f64, percentile: impl Fn(f64) -> f64) -> LatencyStatistics {
    LatencyStatistics { mean, p95: percentile(0.95), p99: percentile(0.99) }
}
