//! What a policy achieved: attainment and cost, always together.

use serde::Serialize;

use super::{
    lag::{DecisionLag, LagTracker},
    timeline::Timeline,
    world::World,
};
use crate::fleet::{Attainment, Picoseconds};

/// The outcome of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Per model, in the scenario's order.
    pub models: Vec<ModelOutcome>,
    /// What happened over time.
    pub timeline: Timeline,
}

/// The outcome for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOutcome {
    /// How its requests fared, all of them.
    pub requests: Attainment,
    /// Those that arrived within the first 15 minutes or ended by then; `None` in a shorter run.
    pub learning: Option<Attainment>,
    /// Replica hours times price until the last arrival, replicas that start or drain included.
    pub cost: f64,
    /// Replicas in any state, averaged over that time.
    pub average_replicas: f64,
    /// Greatest number of replicas set, over all variants at once.
    pub max_replicas: u32,
    /// Changes of `spec.replicas`, over all variants.
    pub scale_actions: u64,
    /// 99th percentile of the time to first token, of requests that ended.
    pub ttft_p99_seconds: Option<f64>,
    /// 99th percentile of the mean time between tokens of a request, likewise.
    pub itl_p99_seconds: Option<f64>,
    /// Where the time from demand to supply went.
    pub decision_lag: DecisionLag,
    /// Requests that arrived and that met the objective, by five minutes of arrival.
    pub segments: Vec<(u64, u64)>,
}

impl ModelOutcome {
    /// Share of requests within the objective; what did not end has missed it.
    pub fn slo_attainment(&self) -> f64 {
        self.requests.ratio().unwrap_or(0.0)
    }

    /// The same for the time after the first 15 minutes.
    pub fn attainment_after_learning(&self) -> Option<f64> {
        let learning = self.learning?;
        let arrived = self.requests.arrived - learning.arrived;
        (arrived > 0).then(|| (self.requests.met - learning.met) as f64 / arrived as f64)
    }

    /// Requests that did not run to their end.
    pub fn unfinished(&self) -> u64 {
        self.requests.arrived - self.requests.completed
    }
}

impl Outcome {
    pub(super) fn new(
        world: &World,
        end: Picoseconds,
        costs: &[f64],
        replica_hours: &[f64],
        learning: Option<&[Attainment]>,
        lag: &LagTracker,
        timeline: Timeline,
    ) -> Self {
        let hours = (end.as_secs_f64() / 3600.0).max(f64::MIN_POSITIVE);
        let models = world.models.iter().enumerate().map(|(index, model)| {
            let of_model = || world.variants.iter().filter(|variant| variant.model == index);
            ModelOutcome {
                requests: model.pool.attainment(),
                learning: learning.map(|attainments| attainments[index]),
                cost: costs[index],
                average_replicas: replica_hours[index] / hours,
                max_replicas: world.greatest[index],
                scale_actions: of_model().map(|variant| variant.actions).sum(),
                ttft_p99_seconds: model.ttft.quantile(0.99),
                itl_p99_seconds: model.itl.quantile(0.99),
                decision_lag: lag.means(index),
                segments: model.segments.clone(),
            }
        });
        Self { models: models.collect(), timeline }
    }
}

/// A row of the result, as `--output json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The policy.
    pub policy: String,
    /// The model, where a scenario has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Share of requests within the objective.
    pub slo_attainment: f64,
    /// Replica hours times price.
    pub cost: f64,
    /// Cost over that of the best-known plan; `null` when there is none.
    pub cost_ratio: Option<f64>,
    /// Replicas, averaged over time.
    pub average_replicas: f64,
    /// Greatest number of replicas.
    pub max_replicas: u32,
    /// Changes of the number of replicas.
    pub scale_actions: u64,
    /// 99th percentile of the time to first token.
    pub ttft_p99_seconds: Option<f64>,
    /// 99th percentile of the mean time between tokens of a request.
    pub itl_p99_seconds: Option<f64>,
    /// Requests that did not run to their end.
    pub unfinished: u64,
    /// Where the time from demand to supply went.
    pub decision_lag: DecisionLag,
}

impl Row {
    /// The row of `policy` for one model; `best_known` is the cost to compare with.
    pub fn new(policy: &str, model: Option<&str>, outcome: &ModelOutcome, best_known: Option<f64>) -> Self {
        Self {
            policy: policy.to_owned(),
            model: model.map(str::to_owned),
            slo_attainment: outcome.slo_attainment(),
            cost: outcome.cost,
            cost_ratio: best_known.filter(|cost| *cost > 0.0).map(|cost| outcome.cost / cost),
            average_replicas: outcome.average_replicas,
            max_replicas: outcome.max_replicas,
            scale_actions: outcome.scale_actions,
            ttft_p99_seconds: outcome.ttft_p99_seconds,
            itl_p99_seconds: outcome.itl_p99_seconds,
            unfinished: outcome.unfinished(),
            decision_lag: outcome.decision_lag,
        }
    }
}
